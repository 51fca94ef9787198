"""What is one program of the system to its supervisor?

Something with a name that can be started, looked at, asked to end and killed. Its output goes to a file of the data
directory; secrets reach it through its environment or files, never on its command line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from casare_store import embedded_child

# Windows has neither: there a break asks, and ending is killing.
STOP: int = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)
KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)


class Child(Protocol):
    """What the supervisor needs of a program."""

    @property
    def name(self) -> str: ...

    @property
    def stage(self) -> int:
        """Those of the highest stage are ended first, all of a stage together."""

    @property
    def grace(self) -> float:
        """Seconds that it may take to end before it is killed."""

    @property
    def pid(self) -> int | None:
        """None while it does not run."""

    @property
    def finished(self) -> bool:
        """Whether it ended in a way that means: do not start me again."""

    def start(self) -> None:
        """Raises OSError or EmbeddedError where it can't be started."""

    def last_words(self) -> str:
        """What it ended of, as far as it is known: a signal, else the last line it has printed since it was started."""

    def end(self) -> None: ...

    def kill(self) -> None: ...


@dataclass(slots=True, eq=False)
class Process:
    """A program in a process of its own."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    log: Path
    cwd: Path
    stage: int = 0
    grace: float = 10.0
    death_signal: int = signal.SIGTERM  # what the kernel sends it when we die
    final_codes: frozenset[int] = frozenset()
    looked_up: Callable[[], Mapping[str, str]] = dict  # what of its environment may be another each time it is started
    code: int | None = None  # how it ended last
    _process: subprocess.Popen[bytes] | None = None
    _log_start: int = 0

    @property
    def pid(self) -> int | None:
        if self._process is None:
            return None
        self.code = self._process.poll()  # reaps it, so that its id can't be taken for alive
        return self._process.pid if self.code is None else None

    @property
    def finished(self) -> bool:
        return self.code is not None and self.code in self.final_codes

    def start(self) -> None:
        env = {**self.env, **self.looked_up()}
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = embedded_child.spawn(
                self.argv, env=env, log=log, death_signal=self.death_signal, cwd=str(self.cwd)
            )
        self.code = None

    def last_words(self) -> str:
        if self.code is not None and self.code < 0:  # what it printed last says nothing of the cause
            return f"killed by signal {-self.code}"
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(self._log_start, self.log.stat().st_size - 65536))
            lines = log.read().decode(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""

    def end(self) -> None:
        if self._process is not None and self.pid is not None:
            self._process.send_signal(STOP)

    def kill(self) -> None:
        """Its process group as well: what it started itself must not stay behind."""
        if self._process is None or self.pid is None:
            return
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, KILL)
        self._process.kill()
