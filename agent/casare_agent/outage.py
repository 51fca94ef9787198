"""The server does not answer, or refuses us: what do people hear of it, and when is it tried again?

Said once when it begins, once when what is wrong changes, and once when it is over; never once a try. Waits are
jittered, so that a fleet does not come back all at once.
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
LONGEST = 15.0  # seconds between tries to reach a server that is away
SLOW = 30.0  # seconds between tries that the server refuses; people have to change something first


class Outage:
    """Tells of one outage after another."""

    def __init__(self) -> None:
        self._backoff = Backoff(first=0.5, limit=LONGEST)
        self._said: str | None = None
        self._since = 0.0

    def failed(self, error: ApiError | Unreachable, running: int = 0) -> float:
        """Notes a failed try; the seconds until the next one."""
        refused = not passing(error)
        what = _refusal(error) if refused else _away(error)
        if self._said is None:
            self._since = time.monotonic()
        if self._said != what:
            _log.warning("%s; trying on%s", what, f", {running} running meanwhile" if running else "")
            self._said = what
        if refused:
            return SLOW * random.uniform(0.5, 1)
        return max(self._backoff.next(), float(getattr(error, "retry_after", None) or 0))

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
