"""What happens after so many seconds, however many?

One wait may not be longer than `threading.TIMEOUT_MAX`, 49.7 days on Windows: a `threading.Timer` beyond it dies of an
OverflowError in its thread, and what it should have ended never ends. So a long time is waited for in pieces.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LONGEST = 3600.0  # seconds of one wait


class Timer(threading.Timer):
    """A `threading.Timer` of any length, which keeps no process alive."""

    def __init__(self, seconds: float, act: Callable[[], None]) -> None:
        super().__init__(seconds, act)
        self.daemon = True

    def run(self) -> None:
        until = time.monotonic() + self.interval
        while not self.finished.wait(min(max(0.0, until - time.monotonic()), _LONGEST)):
            if time.monotonic() >= until:
                self.finished.set()
                self.function()
