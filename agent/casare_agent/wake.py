"""How is the main loop woken? By anybody, from any thread and from signal handlers.

A `threading.Event` would not do: its lock is not reentrant, and a signal handler that sets it while the main thread
is inside `wait` can block for ever. `SimpleQueue.put` is documented to be reentrant.
"""

from __future__ import annotations

import queue

_LONGEST = 3600.0  # seconds; a wait without an end would overflow


class Wake:
    """Set by many, waited for by one."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Ends the wait that goes on, or the next one."""
        self._queue.put(None)

    def wait(self, seconds: float) -> None:
        """Returns when somebody called `set` since the last wait, or after `seconds`."""
        try:
            self._queue.get(timeout=min(max(0.0, seconds), _LONGEST))
            while True:
                self._queue.get_nowait()
        except queue.Empty:
            return
