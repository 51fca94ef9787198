"""Which jobs does the server want here now? One watch, followed by one thread, kept as a dictionary.

Always holds: what `wanted` gives is the server's state at some moment not long ago, whole; after an outage it is
brought up to date from where it stopped, or listed anew. Whatever goes wrong, the thread goes on: without it the robot
would look idle and take jobs that it never starts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from casare_agent.assignment import Assignment
from casare_api.kinds import Object
from casare_api.kinds.job import FINAL
from casare_api.machinery.errors import ApiError
from casare_client import RELIST, Client, Unreachable, WatchEvent
from casare_client.backoff import Backoff

_log = logging.getLogger("casare.agent")
SLOW = 30.0  # seconds between tries that the server refuses


def fields_of(robot_uid: str) -> str:
    """Selects the jobs of a robot that are not over."""
    return ",".join([f"status.robotUID={robot_uid}", *(f"status.phase!={phase}" for phase in sorted(FINAL))])


def after(wanted: Mapping[str, Assignment], event: WatchEvent) -> dict[str, Assignment]:
    """What is wanted once an event has happened."""
    if event.type == RELIST:
        return {one.uid: one for one in map(Assignment.of, event.object.get("items") or [])}
    uid = event.object["metadata"]["uid"]
    rest = {known: one for known, one in wanted.items() if known != uid}
    return rest if event.type == "DELETED" else {**rest, uid: Assignment.of(event.object)}


class Assignments:
    """Follows a robot's jobs."""

    def __init__(
        self, client: Client, changed: Callable[[], None], closed: threading.Event, longest: Callable[[], float]
    ) -> None:
        """`changed` is called from the watching thread after each change. `closed`: the agent ends.

        `longest` is the longest wait between tries, in seconds.
        """
        self._client, self._changed, self._closed, self._longest = client, changed, closed, longest
        self._wanted: dict[str, Assignment] = {}

    def start(self, robot: Object) -> None:
        """Follows from now on, until the agent ends."""
        uid = robot["metadata"]["uid"]
        threading.Thread(target=self._follow, args=(uid,), name="watch", daemon=True).start()

    def wanted(self) -> Mapping[str, Assignment]:
        """The jobs by uid. The mapping never changes; ask again for a newer one."""
        return self._wanted

    def renew(self, since: float) -> None:
        """Nobody answered since a moment of `time.monotonic`: a watch from before may be dead, and not know it."""
        self._client.renew(since)

    def _follow(self, robot_uid: str) -> None:
        backoff = Backoff(first=1.0, limit=SLOW)
        while True:
            try:
                events = self._client.follow(
                    "Job", all_namespaces=True, fields=fields_of(robot_uid), longest=self._longest
                )
                for event in events:
                    self._wanted = after(self._wanted, event)
                    self._changed()
                    backoff.reset()
                return  # the client was closed
            except (ApiError, Unreachable) as error:  # a refusal; the report hears the same and says it to people
                _log.debug("the watch on this robot's jobs: %s", error)
            except Exception:
                if not self._closed.is_set():  # else it is what httpx2 says of a client that was closed
                    _log.exception("the watch on this robot's jobs failed; they are listed anew")
            if self._closed.wait(backoff.next()):
                return
