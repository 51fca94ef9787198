"""How are several slow streams read at once, so that Ctrl-C is heard all the while?

Each stream is read by a thread of its own; what they yield comes out of one iterator, tagged with its stream. The
threads are daemons: a program that ends does not wait for a silent server.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

TICK = ""
_SILENCE = 0.5  # seconds; on Windows nothing but the end of a wait lets Python see Ctrl-C


class Pump:
    """Merges streams. `add` may be called while the pump is being read."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[str, Any, BaseException | None]] = queue.SimpleQueue()
        self._open = 0

    def add(self, tag: str, stream: Iterable[Any]) -> None:
        """Starts to read a stream."""
        self._open += 1
        threading.Thread(target=self._read, args=(tag, stream), name=f"pump-{tag}", daemon=True).start()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Pairs of tag and item as they come, (tag, END) where a stream ends, (TICK, None) while all is silent.

        An error of a stream is raised here.
        """
        while self._open:
            tag, value, error = self._next()
            if error is not None:
                raise error
            if value is END:
                self._open -= 1
            yield tag, value

    def _next(self) -> tuple[str, Any, BaseException | None]:
        try:
            return self._queue.get(timeout=_SILENCE)
        except queue.Empty:
            return TICK, None, None

    def _read(self, tag: str, stream: Iterable[Any]) -> None:
        try:
            for item in stream:
                self._queue.put((tag, item, None))
            self._queue.put((tag, END, None))
        except BaseException as error:
            self._queue.put((tag, None, error))


class _End:
    """What a stream's end looks like."""


END = _End()


def interruptible(stream: Iterable[Any]) -> Iterator[Any]:
    """The stream, read by a thread, so that Ctrl-C is heard while it is silent."""
    pump = Pump()
    pump.add("only", stream)
    for tag, item in pump:
        if tag != TICK and item is not END:
            yield item
