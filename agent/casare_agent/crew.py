"""How do several robots live on one computer? `casare agent --config a.yaml --config b.yaml`: one process each.

Nothing is shared between them, so nothing can be mixed: each has its settings, key, directory and log lines of its own.
This process only starts them, passes on that they shall end, and ends with the last of them, with the worst of their
exit codes. One that fails ends no other, one that restarts does that by itself. When this process is gone, they end by
themselves.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from casare_agent import ending
from casare_agent.config import ConfigError, Settings, load

_log = logging.getLogger("casare.agent")
MEMBER = "--member"  # says to an agent that it is one of several
NEW_GROUP = 0x200 if sys.platform == "win32" else 0
News = tuple[str, int] | None  # who has ended and how, or None: somebody wishes that all end
LOOK_EVERY = 1.0  # seconds; where a signal does not interrupt waiting


@dataclass(slots=True)
class Crew:
    """The agents of these files; `more` are arguments that each of them gets."""

    files: Sequence[Path]
    more: Sequence[str] = ()
    _members: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _news: queue.SimpleQueue[News] = field(default_factory=queue.SimpleQueue)
    _is_ending: bool = False

    def run(self) -> int:
        """Until all of them have ended; the worst of their exit codes. Raises ConfigError before any is started."""
        settings = [load(file) for file in self.files]
        check_apart(self.files, settings)
        for number in ending.ending_signals():
            signal.signal(number, lambda number, frame: self.end())
        for file, one in zip(self.files, settings, strict=True):
            if not self._is_ending:
                self._start(file, one.name)
        worst = 0
        while self._members:
            with contextlib.suppress(queue.Empty):
                news = self._news.get(timeout=LOOK_EVERY)
                worst = max(worst, self._tell_all() if news is None else self._has_ended(*news))
        return worst

    def end(self) -> None:
        """Asks all of them to end, also those that are only being started; may be called from a signal handler."""
        self._is_ending = True
        self._news.put(None)

    def _tell_all(self) -> int:
        for member in self._members.values():
            if member.stdin is not None:
                with contextlib.suppress(OSError, ValueError):  # it is gone already
                    member.stdin.write(b"\n")
                    member.stdin.flush()
        return 0

    def _has_ended(self, name: str, code: int) -> int:
        """How bad that is."""
        self._members.pop(name)
        if self._members:
            _log.log(logging.ERROR if code else logging.INFO, "the agent of %s has ended (%d); %d go on",
                     name, code, len(self._members))  # fmt: skip
        return severity(code)

    def _start(self, file: Path, name: str) -> None:
        command = [sys.executable, "-m", "casare_agent", "--config", str(file), MEMBER, *self.more]
        # A group of its own: what is typed in a terminal comes from here, and not twice.
        member = subprocess.Popen(
            command, stdin=subprocess.PIPE, start_new_session=True, creationflags=NEW_GROUP
        )
        self._members[name] = member
        threading.Thread(target=lambda: self._news.put((name, member.wait())), daemon=True).start()


def check_apart(files: Sequence[Path], settings: Sequence[Settings]) -> None:
    """No two of them may be the same robot. Raises ConfigError."""
    seen: dict[Path, Path] = {}
    for file, one in zip(files, settings, strict=True):
        other = seen.setdefault(one.directory.absolute(), file)
        if other is not file:
            raise ConfigError([f"{other} and {file} are both robot {one.name}: set another CASARE_ROBOT_ID in one"])


def severity(code: int) -> int:
    """An exit code such that the larger one is worse; one that was killed counts as shells count it."""
    return code if code >= 0 else 128 - code
