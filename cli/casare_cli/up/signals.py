"""Has the person asked us to end, and has a child ended?

A signal handler only puts a number into a queue; the loop takes it out when it is its turn. So nothing is ever
interrupted half-way, and the loop sleeps until there is something to do.
"""

from __future__ import annotations

import contextlib
import queue
import signal
from collections.abc import Iterator

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class Signals:
    """What has arrived. `wishes` counts how often we were asked to end."""

    def __init__(self) -> None:
        self._arrived: queue.SimpleQueue[int] = queue.SimpleQueue()  # safe to be put into by a handler
        self.wishes = 0

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Takes the signals over while the block runs."""
        numbers = [getattr(signal, name) for name in (*_ENDING, "SIGCHLD") if hasattr(signal, name)]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            numbers.remove(signal.SIGHUP)  # somebody said nohup
        before = {number: signal.signal(number, self._put) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self, seconds: float) -> None:
        """Sleeps until a signal arrives, at most `seconds`."""
        with contextlib.suppress(queue.Empty):
            self._note(self._arrived.get(timeout=max(seconds, 0.001)))
            while True:
                self._note(self._arrived.get_nowait())

    def _put(self, number: int, frame: object) -> None:
        self._arrived.put(number)

    def _note(self, number: int) -> None:
        if signal.Signals(number).name in _ENDING:
            self.wishes += 1
