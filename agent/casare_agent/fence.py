"""When must a job end because nobody hears of this robot? For jobs with `retry.selfFence`, before the server gives them
to another robot.

The server counts a robot's silence from when a report came, this file from when the last one that got through was sent:
that is earlier. Silence is counted while the computer sleeps, too, as far as its system tells.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOK_EVERY = 5.0  # seconds: a computer that slept notices within that time how late it is
MOST_MARGIN = 5.0  # seconds by which this computer may be late
LEASE_INTERVALS, LEASE_EXTRA = 3, 1.0  # the server calls a robot offline after so many heartbeats and seconds
FIRST_INTERVAL = 3.0  # seconds between heartbeats, until the server has said its own
_SLEEPS_COUNT: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def clock() -> float:
    """Seconds that only grow, those in which the computer slept included."""
    return time.monotonic() if _SLEEPS_COUNT is None else time.clock_gettime(_SLEEPS_COUNT)


def limits(lost_after: float, grace: float, lease: float) -> tuple[float, float]:
    """After how much silence to end a job, and the grace it gets: both are over before the server calls it lost.

    All in seconds. The server calls nobody lost whose lease is still running. A long grace period is cut to a third.
    """
    patience = max(lost_after, lease)
    allowed = min(grace, patience / 3)
    return patience - allowed - min(MOST_MARGIN, patience / 10), allowed


class Contact:
    """When the server last heard of this robot. Written by the one who reports, read by anybody."""

    def __init__(self, now: Callable[[], float] = clock) -> None:
        self.now = now
        self._last = now()
        self.interval = FIRST_INTERVAL
        self.lease = LEASE_EXTRA

    def heard(self, sent: float, interval: float) -> None:
        """A report that was sent then got through; the next heartbeat is due after `interval` seconds."""
        self._last, self.interval, self.lease = sent, interval, LEASE_INTERVALS * interval + LEASE_EXTRA

    def silence(self) -> float:
        """Seconds since it was sent."""
        return self.now() - self._last


class Fence(threading.Thread):
    """Calls `act(grace)` once, when the server has not heard of this robot for too long. `cancel` ends it."""

    def __init__(self, contact: Contact, lost_after: float, grace: float, act: Callable[[float], None]) -> None:
        super().__init__(name="fence", daemon=True)
        self._contact, self._lost_after, self._grace, self._act = contact, lost_after, grace, act
        self._over = threading.Event()

    def begin(self) -> None:
        """Looks at once, so that nothing is started where it is too late already, and from then on by itself."""
        if self._look() > 0:
            self.start()

    def run(self) -> None:
        while (left := self._look()) > 0:
            if self._over.wait(min(left, LOOK_EVERY)):
                return

    def _look(self) -> float:
        """Seconds that are left; acts when there are none."""
        most, grace = limits(self._lost_after, self._grace, self._contact.lease)
        left = most - self._contact.silence()
        if left <= 0:
            self._act(grace)
        return left

    def cancel(self) -> None:
        self._over.set()
