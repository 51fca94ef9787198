"""Who is to be told to end, and how often was that asked? By signals, and by the process that started this one.

An agent that is one of several (`crew`) hears it on its standard input: a line for each wish, and the end of the input
when the process behind it is gone. A service manager may tell the whole family at once: what comes by two ways at the
same time is one wish. There is one `Ending` in a process, also where an agent is made anew in it: what was asked in
between is for the second one.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable


class Ending:
    """Passes wishes to end on to whoever does the work at that time; those that came before are not lost."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._told = 0
        self._tell: Callable[[], None] | None = None
        self._reading = threading.Lock()
        self._has_input = False

    @property
    def is_asked(self) -> bool:
        """Whether anybody has asked, at any time."""
        return bool(self._asked)

    def tell(self, end: Callable[[], None]) -> None:
        """From now on `end` is called for each wish; it may be called from a signal handler."""
        self._tell, self._told = end, 0
        self._pass_on()

    def ask(self, way: str) -> None:
        """One more wish, by one of the ways."""
        self._asked[way] += 1
        self._pass_on()

    def listen(self, to_input: bool = False) -> None:
        """Hears signals from now on, and the process that started this one. Only for the main thread; twice is once."""
        for number in ending_signals():
            signal.signal(number, lambda number, frame: self.ask("signal"))
        if to_input and not self._has_input:
            self._has_input = True
            threading.Thread(target=self._read, name="ending", daemon=True).start()

    def leave_to_next(self) -> None:
        """Hears nothing any more, for good: another program takes this process over.

        What comes on the input from now on is that one's to read; a signal ends the process at once.
        """
        for number in ending_signals():
            signal.signal(number, signal.SIG_DFL)
        self._reading.acquire()

    def _read(self) -> None:
        while True:
            if sys.platform != "win32":
                select.select([0], [], [])  # takes nothing: what is not wanted here is the next program's
            with self._reading:
                is_wish = bool(os.read(0, 1))
                if is_wish or not self._asked["input"]:
                    self.ask("input")
            if not is_wish:
                return

    def _pass_on(self) -> None:
        while self._tell is not None and self._told < max(self._asked.values(), default=0):
            self._told += 1
            self._tell()


def ending_signals() -> list[signal.Signals]:
    """The signals by which this system asks a process to end."""
    if sys.platform == "win32":
        return [signal.SIGTERM, signal.SIGINT, signal.SIGBREAK]
    return [signal.SIGTERM, signal.SIGINT]
