"""What keeps the system running? One table of children and one loop over it.

A child that has ended is started again: at once the first time, then after 1, 2, 4 ... 30 seconds while it keeps
ending soon after its start. Nothing here knows what a child does. At the end the stages are ended one after another,
the highest first, and whoever does not end in time is killed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from casare_cli.failures import Failure
from casare_cli.up.child import Child
from casare_cli.up.signals import Signals
from casare_store.embedded_account import EmbeddedError

LONGEST_PAUSE = 30.0  # seconds between two starts of a child that keeps ending
STEADY_AFTER = 60.0  # seconds that a child must have run to start with a clean slate
TRIES = 2  # starts of a child before the whole start-up is given up
LOOK = 0.05  # seconds between two looks at what is waited for


T = TypeVar("T")


class Ending(Exception):
    """The person wants it to end before it has started."""


@dataclass(slots=True)
class _Row:
    child: Child
    started: float = 0.0
    failures: int = 0
    due: float = 0.0
    was_running: bool = False


class Supervisor:
    """Runs children. `say` gets a line for people, `changed` is called when process ids have changed."""

    def __init__(self, signals: Signals, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._signals, self._say, self._changed = signals, say, changed
        self._rows: list[_Row] = []

    def add(self, *children: Child) -> None:
        """Puts children into the table and starts them. Raises Failure where one can't be started."""
        for child in children:
            _first_start(child)
            self._rows.append(_Row(child, started=time.monotonic(), was_running=True))

    def once(self, child: Child, seconds: float) -> bool:
        """Runs a program to its end while the children are looked after; False when that took too long.

        However this is left, the program has ended. Raises Failure where it can't be started, Ending as `until` does.
        """
        _first_start(child)
        try:
            return self.until(lambda: child.pid is None, seconds)
        finally:
            self._end([child])

    def run(self, seconds: float) -> bool:
        """Looks after the children for some time; False when somebody wishes it to end."""
        until = time.monotonic() + seconds
        while not self._signals.wishes and time.monotonic() < until:
            self.step(1.0)
        return not self._signals.wishes

    def step(self, seconds: float) -> None:
        """Looks at every child, starts those that are due, then sleeps until a signal comes or time is up."""
        now = time.monotonic()
        for row in self._rows:
            if row.child.pid is None and row.was_running:
                self._note_end(row, now)
            if row.child.pid is None and not row.child.finished and now >= row.due:
                self._start(row)
        waits = [row.due - now for row in self._rows if row.child.pid is None and not row.child.finished]
        self._signals.wait(min([seconds, *waits]))

    def until(self, condition: Callable[[], bool], seconds: float, needs: Iterable[Child] = ()) -> bool:
        """Waits for something while the children are looked after; False when it did not come in time.

        Raises Ending when somebody wishes it to end, Failure when one of the children in `needs` keeps ending.
        """
        needed = list(needs)
        deadline = time.monotonic() + seconds
        while not condition():
            if self._signals.wishes:
                raise Ending
            for row in self._rows:
                if row.child in needed and row.failures >= TRIES:
                    self._give_up_on(row)
            if time.monotonic() > deadline:
                return False
            self.step(LOOK)
        return True

    def during(self, work: Callable[[], T]) -> T:
        """Runs something long in a thread while the children are looked after. Raises Ending as `until` does."""
        results: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(work())
            except BaseException as error:  # handed over to whoever waits
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.until(lambda: not thread.is_alive(), float("inf"))
        if errors:
            raise errors[0]
        return results[0]

    def stop(self) -> None:
        """Ends everything, stage by stage. A further wish to end is passed on to those that are ending."""
        for stage in sorted({row.child.stage for row in self._rows}, reverse=True):
            children = [row.child for row in self._rows if row.child.stage == stage and row.child.pid is not None]
            self._end(children)
        self._rows.clear()

    def _end(self, children: list[Child]) -> None:
        for child in children:
            child.end()
        deadline = time.monotonic() + max((child.grace for child in children), default=0)
        wishes = self._signals.wishes
        while any(child.pid is not None for child in children) and time.monotonic() < deadline:
            self._signals.wait(LOOK)
            if self._signals.wishes > wishes:
                wishes, deadline = self._signals.wishes, min(deadline, time.monotonic() + 10)
                for child in children:
                    child.end()
        for child in children:
            if child.pid is not None:
                self._say(f"{child.name} does not end (pid {child.pid}): killed")
            child.kill()
        while any(child.pid is not None for child in children):
            self._signals.wait(LOOK)

    def _start(self, row: _Row) -> None:
        row.started = time.monotonic()
        try:
            row.child.start()
            row.was_running = True
        except (OSError, EmbeddedError) as error:
            row.failures += 1
            row.due = row.started + _pause(row.failures)
            self._say(f"{row.child.name} can't be started: {error}")
        self._changed()

    def _note_end(self, row: _Row, now: float) -> None:
        row.was_running = False
        row.failures = 1 if now - row.started > STEADY_AFTER else row.failures + 1
        row.due = now + _pause(row.failures)
        last = row.child.last_words()
        fate = "and stays away" if row.child.finished else "and is started again"
        self._say(f"{row.child.name} has ended {fate}" + (f": {last}" if last else ""))
        self._changed()

    def _give_up_on(self, row: _Row) -> None:
        raise Failure(f"{row.child.name} does not start: {row.child.last_words() or 'it printed nothing'}")


def _first_start(child: Child) -> None:
    """Raises Failure where it can't be started."""
    try:
        child.start()
    except EmbeddedError as error:
        raise Failure(str(error)) from None
    except OSError as error:
        raise Failure(f"{child.name} can't be started: {error}") from None


def _pause(failures: int) -> float:
    """Seconds before the next start, after so many ends in a row."""
    return 0.0 if failures <= 1 else float(min(2 ** (failures - 2), LONGEST_PAUSE))
