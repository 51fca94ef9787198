"""What may end an attempt before it is done, and how does every step of it hear of that?

One supervisor an attempt: its steps (building an environment, the job itself) run one after another through `run`,
and whoever wants the attempt to end calls `stop`. The first reason counts; a later one can only shorten the grace.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum

from casare_agent.leftovers import Mark
from casare_agent.process import Child, Command, Exit


class StopReason(StrEnum):
    """Why an attempt ends early."""

    CANCELLED = "Cancelled"  # somebody cancelled the job
    TIMEOUT = "Timeout"  # it ran too long
    DRAINED = "Drained"  # the agent ends
    RETURNED = "RobotDrained"  # its robot is drained, and the deadline is over
    FENCED = "Fenced"  # the server could not be reached and would have given it to another
    WITHDRAWN = "Withdrawn"  # the server has given it to another, or the robot is gone


class Stopped(Exception):
    """The attempt was stopped; `exit` is how its process ended, None where none was running."""

    def __init__(self, reason: StopReason, exit: Exit | None = None) -> None:
        super().__init__(reason)
        self.reason, self.exit = reason, exit


class Supervisor:
    """Runs the processes of one attempt, one at a time. `grace` is in seconds."""

    def __init__(
        self,
        mark: Mark,
        output: Callable[[bytes], None],
        grace: float,
        started: Callable[[Child], None] = lambda child: None,
    ) -> None:
        self._mark, self._output, self._grace, self._started = mark, output, grace, started
        self._lock = threading.Lock()
        self._asked = threading.Event()
        self._reason: StopReason | None = None
        self._child: Child | None = None

    @property
    def reason(self) -> StopReason | None:
        """Why it was told to stop, None while it was not."""
        return self._reason

    def run(self, command: Command) -> Exit:
        """Runs a process to its end. Raises Stopped when the attempt was stopped, OSError where it can't start."""
        with self._lock:
            if self._reason is not None:
                raise Stopped(self._reason)
            self._child = child = Child(command, self._mark, self._output)
        self._started(child)
        ended = child.wait()
        with self._lock:
            self._child = None
            if self._reason is not None:
                raise Stopped(self._reason, ended)
        return ended

    def pause(self, seconds: float) -> None:
        """Waits. Raises Stopped as soon as the attempt is stopped."""
        self._asked.wait(seconds)
        if self._reason is not None:
            raise Stopped(self._reason)

    def stop(self, reason: StopReason, grace: float | None = None) -> None:
        """Ends what runs, within `grace` seconds (its own grace period where none is given)."""
        with self._lock:
            self._reason = self._reason or reason
            child = self._child
        self._asked.set()
        if child is not None:
            child.stop(self._grace if grace is None else grace)
