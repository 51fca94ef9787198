"""The server does not answer, or refuses us: what do people hear of it, and when is it tried again?

Said once when it begins, once when what is wrong changes, and once when it is over; never once a try. Waits are
spread, so that a fleet does not come back all at once, and bounded, so that each robot is back before its lease is
over: the server counts a robot's silence anew from when it is there again.
"""

from __future__ import annotations

import logging
import random
import time

from casare_api.machinery.errors import ApiError
from casare_client import Unreachable
from casare_client.backoff import Backoff
from casare_client.watch import passing

_log = logging.getLogger("casare.agent")
FIRST = 2.0  # seconds that the first wait may take
LONGEST = 15.0  # seconds between tries of a robot that no server knows yet: it has no lease to lose
LONGEST_INTERVALS = 2.0  # the same for one that is known, in heartbeat intervals; its lease has three, and a second
SLOW = 30.0  # seconds between tries that the server refuses; people have to change something first


def longest(interval: float) -> float:
    """The longest wait in seconds between tries to reach a server that gave this heartbeat interval."""
    return LONGEST_INTERVALS * interval


def wait(drawn: float, took: float, asked: float, most: float) -> float:
    """Seconds from a try that failed to the next one.

    The wait that was drawn (no more than `most`) counts from when the try began, `took` seconds ago: one that nobody
    answered has waited already, but a tenth of it is left, so that tries that end together do not begin together. A
    server that is too busy may ask for a wait before it, as far as all that is no more than `most`.
    """
    return max(drawn - took, drawn / 10) + min(asked, max(most - max(drawn, took), 0.0))


class Outage:
    """Tells of one outage after another."""

    def __init__(self) -> None:
        self._backoff = Backoff(first=FIRST, limit=LONGEST)
        self._said: str | None = None
        self._since = 0.0

    def failed(
        self, error: ApiError | Unreachable, running: int = 0, most: float = LONGEST, took: float = 0.0
    ) -> float:
        """Notes a failed try that took some seconds; the seconds until the next one."""
        refused = not passing(error)
        what = _refusal(error) if refused else _away(error)
        if self._said is None:
            self._since = time.monotonic()
        if self._said != what:
            _log.warning("%s; trying on%s", what, f", {running} running meanwhile" if running else "")
            self._said = what
        if refused:
            return SLOW * random.uniform(0.5, 1)
        return wait(self._backoff.next(most), took, float(getattr(error, "retry_after", None) or 0), most)

    def over(self) -> None:
        """Notes that it works."""
        self._backoff.reset()
        if self._said is not None:
            _log.warning("the server is back after %.0f s", time.monotonic() - self._since)
            self._said = None


def _refusal(error: Exception) -> str:
    if isinstance(error, ApiError) and error.status == 401:
        return "the server does not accept this robot's API key (CASARE_ORCHESTRATOR_API_KEY)"
    return f"the server refuses this robot: {error}"


def _away(error: Exception) -> str:
    if isinstance(error, ApiError):
        return f"the server is not ready: {error}"
    return str(error)
