"""What does a person read while the system starts? One line per step, and on a terminal what is waited for now."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


class Narrator:
    """Writes to a stream; plain lines where that is no terminal."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out
        self._started = time.monotonic()
        self._waiting = ""

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def say(self, line: str) -> None:
        """A line of its own."""
        self._erase()
        self._write(f"{line}\n")
        self._show()

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """A step; the function it gives says how it ended, "ready" where it is not called."""
        outcome = ["ready"]
        begun = time.monotonic()
        self._waiting = name
        self._show()
        try:
            yield lambda words: outcome.__setitem__(0, words)
        finally:
            self._erase()
            self._waiting = ""
        self.say(f"  {name:<11} {outcome[0]:<18} {time.monotonic() - begun:5.1f} s")

    @property
    def _stream(self) -> TextIO:
        return self._out or sys.stdout

    def _show(self) -> None:
        if self._waiting and self._stream.isatty():
            self._write(f"  {self._waiting:<11} ...")

    def _erase(self) -> None:
        if self._waiting and self._stream.isatty():
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal has gone: no reason to leave the system half-stopped
            self._stream.write(text)
            self._stream.flush()
