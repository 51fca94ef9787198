"""How does an agent that was told to end get there? First what runs may finish, then it goes back to the queue.

One signal: nothing new; after the grace, or as soon as nothing runs, whatever is left is given back. A second signal:
given back at once. The first method may be called from a signal handler.
"""

from __future__ import annotations

import logging
import time

from casare_agent.plan import Intake

_log = logging.getLogger("casare.agent")
LAST_WORDS = 5.0  # seconds to deliver what is left to say; it is on disk for the next agent


class Drain:
    """Keeps the state of ending. `grace` in seconds."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._signals = 0
        self._until: float | None = None
        self._give_up: float | None = None

    def ask(self) -> None:
        """One more wish that the agent ends."""
        self._signals += 1

    @property
    def asked(self) -> bool:
        """Whether this agent is ending."""
        return self._signals > 0

    @property
    def at_once(self) -> bool:
        """Whether nobody wants to wait any more."""
        return self._signals > 1

    def intake(self, live: int) -> Intake:
        """What becomes of new jobs, while `live` attempts run."""
        if self._signals == 0:
            return Intake.OPEN
        if self._until is None:
            self._until = time.monotonic() + self._grace
            left = f"; {live} running, {self._grace:.0f} s to finish" if live else ""
            _log.info("ending: nothing new is taken%s", left)
        if live and not self.at_once and time.monotonic() < self._until:
            return Intake.CLOSED
        return Intake.RETURNED

    def pause(self) -> float:
        """Seconds until time alone changes something, infinity where it does not."""
        left = [each - time.monotonic() for each in (self._until, self._give_up) if each is not None]
        return min((each for each in left if each > 0), default=float("inf"))

    def may_leave(self, undelivered: int) -> bool:
        """Whether an agent in which nothing runs any more may end with so many results undelivered."""
        if not undelivered:
            return True
        if self._give_up is None:
            self._give_up = time.monotonic() + LAST_WORDS
        return time.monotonic() >= self._give_up
