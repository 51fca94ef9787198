"""When is the next report due, and what came of the last one?

A heartbeat is due in the interval that the server gave, news at once, and neither before the wait after a failure is
over. Where nobody answered for a time and now somebody does, that is told: other connections may have broken, too.
404 means that the robot was deleted, and so does a key that went with it: it is not made again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from casare_agent.fence import FIRST_INTERVAL, Contact
from casare_agent.outage import Outage, longest
from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_client import Unreachable
from casare_client.backoff import Backoff

_log = logging.getLogger("casare.agent")
MALFORMED = frozenset({400, 413, 422})  # answers to a whole report that saying it again does not change
_INTERVALS = (0.5, 60.0)

Send = Callable[[Object], Object]


class Malformed(Exception):
    """The server does not take this report at all; something in it is not as it must be."""


def is_orphaned(error: ApiError | Unreachable) -> bool:
    """Whether the server says that the key went with its robot, which was deleted."""
    return has_cause(error, "RobotDeleted")


def has_cause(error: ApiError | Unreachable, reason: str) -> bool:
    """Whether a refusal is for this reason."""
    return isinstance(error, ApiError) and any(cause.reason == reason for cause in error.causes)


class Presence:
    """Sends reports. `send(body)` raises ApiError or Unreachable."""

    def __init__(
        self, send: Send, contact: Contact | None = None, returned: Callable[[float], None] = lambda since: None
    ) -> None:
        """`contact` is told of each report that gets through, `returned` since when nobody had answered before."""
        self._send, self._returned = send, returned
        self._contact = contact or Contact()
        self._unheard_since: float | None = None
        self.robot_uid: str | None = None
        self._outage = Outage()
        self._again = Backoff(first=0.2)
        self._interval = FIRST_INTERVAL
        self._heartbeat_at = self._earliest = 0.0
        self.gone = False
        self.restart: str | None = None  # for which people asked, as the server last said
        self._is_approved = True

    def pause(self, urgent: bool) -> float:
        """Seconds until a report is due, 0 when it is; `urgent` where there is news."""
        at = self._earliest if urgent else max(self._heartbeat_at, self._earliest)
        return max(0.0, at - time.monotonic())

    def report(self, body: Object, running: int) -> list[Object] | None:
        """Sends one; the answers to its jobs, None where the report did not get through. Raises Malformed."""
        sent, begun = self._contact.now(), time.monotonic()
        try:
            answer = self._send(body)
        except (ApiError, Unreachable) as error:
            self._failed(error, running, begun)
            return None
        self._outage.over()
        self._is_heard()
        self._look_at_robot(answer.get("robotUID"))
        self.restart = answer.get("restartRequestedAt") if "protocol" in answer else None  # else it is not waited for
        self._look_at_approval(answer.get("approved") is not False)
        low, high = _INTERVALS
        self._interval = min(high, max(low, float(answer.get("intervalSeconds") or FIRST_INTERVAL)))
        self._heartbeat_at, self._earliest = time.monotonic() + self._interval, 0.0
        self._contact.heard(sent, self._interval)
        return list(answer.get("jobs") or [])

    def hurry(self) -> None:
        """The next report is due now: there is something about this agent itself to say."""
        self._heartbeat_at = 0.0

    def settled(self, all_answered: bool) -> None:
        """Says whether every entry that was sent got its answer; one that did not is not sent again at once."""
        if all_answered:
            self._again.reset()
        else:
            self._earliest = time.monotonic() + self._again.next()

    def _look_at_robot(self, uid: str | None) -> None:
        """Another robot of the same name is not this one: ours was deleted, and what we watch is nobody's."""
        if uid is not None and self.robot_uid is not None and uid != self.robot_uid:
            self.gone = True

    def _is_heard(self) -> None:
        since, self._unheard_since = self._unheard_since, None
        if since is not None:
            self._returned(since)

    def _look_at_approval(self, is_approved: bool) -> None:
        if is_approved is self._is_approved:
            return
        self._is_approved = is_approved
        waits = "this robot waits until somebody approves it: casare approve robot/NAME"
        _log.warning("%s", "this robot was approved" if is_approved else waits)

    def _failed(self, error: ApiError | Unreachable, running: int, begun: float) -> None:
        if isinstance(error, Unreachable) and self._unheard_since is None:
            self._unheard_since = begun
        if isinstance(error, ApiError) and (error.status == 404 or is_orphaned(error)):
            self.gone = True
            return
        if has_cause(error, "AgentUnknown"):
            self._earliest = time.monotonic() + self._again.next()
            return
        if isinstance(error, ApiError) and error.status in MALFORMED:
            raise Malformed(str(error))
        now = time.monotonic()
        self._earliest = now + self._outage.failed(error, running, longest(self._interval), now - begun)
