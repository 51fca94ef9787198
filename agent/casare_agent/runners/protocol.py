"""What does a runner get, what does it give, and how does it say that it can't?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from casare_agent.process import Command, Exit
from casare_agent.venvs import VenvCache
from casare_api.kinds import Object


class TaskError(Exception):
    """The attempt fails, and why: `reason` is a CamelCase word, the message one line for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True, slots=True)
class Task:
    """A job as a runner sees it, its files in place.

    `spec` is the workflow's, `args` are rendered with the job's parameters, `script` is the file of `source` where it
    has one, `env` the whole environment. `run` carries out a step before the job itself, its output goes to the job's
    log; `pause` waits some seconds. Both raise when the job is stopped meanwhile: let that pass.
    """

    spec: Object
    args: tuple[str, ...]
    script: Path | None
    work: Path
    env: Mapping[str, str]
    venvs: VenvCache
    run: Callable[[Command], Exit]
    pause: Callable[[float], None]


class Runner(Protocol):
    """Turns a task into the command to run. One instance serves all jobs, from many threads."""

    inline_name: str
    """The file name that `source.inline` gets in the work directory."""

    def command(self, task: Task) -> Command:
        """The command. Raises TaskError where the task can't be run here."""
