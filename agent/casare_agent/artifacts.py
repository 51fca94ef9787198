"""Which files does a job leave behind, and how do they get to the server before its result does?

The files in the attempt's directory `artifacts`, when its process has ended; folders, links and names that begin with
a dot are not kept. Always holds: a file is sent in pieces and never whole in memory; sending takes a bounded time, for
the result waits for it; whatever becomes of the files, the result stays what it is, and its message says what is
missing.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

from casare_agent.logs import JobLog
from casare_agent.result import Result, clean
from casare_agent.supervisor import StopReason, Supervisor
from casare_api.decisions import artifacts as rules
from casare_api.machinery.errors import ApiError
from casare_client import Unreachable
from casare_client.backoff import Backoff
from casare_client.watch import passing

MOST = 600.0  # seconds for all files of an attempt
# The same once its job was stopped, or beyond the job's timeout: the server ends such a job a minute later by itself,
# and an answer that is under way then may take some of that.
STOPPED = 20.0
INTERRUPTED = "its agent ended while it was sent"
_PIECE = 64 * 1024  # bytes
_OVER = frozenset({404, 409})  # the attempt is not ours any more
_REFUSED_KEY = frozenset({401, 403})
_SHOWN = 3  # names in a message

Send = Callable[[str, int, str, Iterable[bytes]], object]
"""`send(name, size, sha256, pieces)` raises ApiError, Unreachable and what the pieces raise."""


class Late(Exception):
    """The time for sending is over."""


class Deadline:
    """Until when files are sent; sooner once the job is stopped, and no more once it is not ours."""

    def __init__(self, seconds: float, supervisor: Supervisor, closed: threading.Event) -> None:
        self._until = time.monotonic() + seconds
        self._supervisor, self._closed = supervisor, closed
        self._hurried = False

    def left(self) -> float:
        """Seconds."""
        now, reason = time.monotonic(), self._supervisor.reason
        if reason is StopReason.WITHDRAWN or self._closed.is_set():
            return 0.0
        if reason is not None and not self._hurried:
            self._hurried, self._until = True, min(self._until, now + STOPPED)
        return max(0.0, self._until - now)

    def wait(self, seconds: float) -> bool:
        """Waits so long, or until the time is over; whether some of it is left."""
        self._closed.wait(min(seconds, self.left()))
        return self.left() > 0


@dataclass(frozen=True, slots=True)
class Left:
    """What a job left behind: the sizes of its files by name, and why the others are not kept."""

    directory: Path
    sizes: Mapping[str, int]
    refused: Mapping[str, str]

    @classmethod
    def look(cls, directory: Path) -> Left:
        """What is in the directory."""
        return cls(directory, *_found(directory))

    def __bool__(self) -> bool:
        return bool(self.sizes or self.refused)

    def within(self, most: int, text: str) -> Left:
        """What fits into so many bytes together; `text` is how people write that."""
        problems = rules.fitting(self.sizes.items(), most, text)
        kept = {name: size for name, size in self.sizes.items() if problems[name] is None}
        return replace(self, sizes=kept, refused={**self.refused, **{k: why for k, why in problems.items() if why}})

    def send(self, send: Send, deadline: Deadline, log: JobLog) -> dict[str, str]:
        """Sends the files one after another; of what is not kept, why: by name, and as lines in the log."""
        missing = dict(self.refused)
        over = ""
        for name in self.sizes:
            problem, is_over = (over, True) if over else _sent(self.directory / name, send, deadline)
            over = problem if is_over else ""
            if problem:
                missing[name] = problem
        for name, why in missing.items():
            log.say(clean(f"{name} is not kept: {why}"))
        return missing


def patience(timeout: float, elapsed: float) -> float:
    """Seconds for the files of an attempt that has run for `elapsed`; `timeout` 0 is none.

    The server ends a job that has run for longer than its timeout: its result must be there before.
    """
    return min(MOST, max(timeout - elapsed, 0.0) + STOPPED) if timeout else MOST


def noted(result: Result, missing: Mapping[str, str]) -> Result:
    """The result with a message that says which files are missing, and why where that is one thing."""
    names = [name for name in missing if not name.startswith(".")]
    if not names:
        return result
    reasons = {missing[name] for name in names}
    why = reasons.pop() if len(reasons) == 1 else "its log says why"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    shown = ", ".join(name[:60] for name in names[:_SHOWN])
    words = clean(f"not kept: {shown}{more} ({why})")
    return replace(result, message=f"{result.message[:1400]}; {words}" if result.message else words)


# -- steps -----------------------------------------------------------------------------------------------------------


def _found(directory: Path) -> tuple[dict[str, int], dict[str, str]]:
    """The sizes of the regular files, by name, and why what else is there is not kept."""
    found: dict[str, int] = {}
    refused: dict[str, str] = {}
    if directory.is_symlink():
        return {}, {directory.name: "a link stands in the place of this folder"}
    try:
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                problem = _problem(entry)
                if problem is None:
                    found[entry.name] = entry.stat(follow_symlinks=False).st_size
                else:
                    refused[entry.name] = problem
    except FileNotFoundError:
        return {}, {}
    except OSError as error:
        return {}, {directory.name: _unreadable(error)}
    return found, refused


def _problem(entry: os.DirEntry[str]) -> str | None:
    if entry.is_symlink():
        return "it is a link: leave the file itself"
    if entry.is_dir(follow_symlinks=False):
        return "it is a folder: leave its files themselves, or an archive of them"
    return None if entry.is_file(follow_symlinks=False) else "it is no regular file"


def _sent(path: Path, send: Send, deadline: Deadline) -> tuple[str, bool]:
    """Sends a file, again and again while the server is away.

    Why it is not kept ("" where it is), and whether no other file will be.
    """
    backoff, why = Backoff(first=0.5, limit=5.0), "there was no time left"
    while deadline.left() > 0:
        try:
            with open(path, "rb", opener=_no_link) as file:
                _send(file, path.name, send, deadline)
            return "", False
        except Late:
            break
        except OSError as error:
            return _unreadable(error), False
        except (ApiError, Unreachable) as error:
            if isinstance(error, ApiError) and not (passing(error) or error.status in _REFUSED_KEY):
                return error.message, error.status in _OVER
            why = str(error)
        deadline.wait(backoff.next())
    return f"it could not be sent in time: {why}", True


def _send(file: BufferedReader, name: str, send: Send, deadline: Deadline) -> None:
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size = file.seek(0, os.SEEK_CUR)
    file.seek(0)
    send(name, size, sha256, _pieces(file, deadline))


def _pieces(file: BufferedReader, deadline: Deadline) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        if deadline.left() <= 0:
            raise Late
        yield piece


def _no_link(path: str, flags: int) -> int:
    """Opens what is a file, and not what became a link or a pipe since it was looked at. Raises OSError."""
    never = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    opened = os.open(path, flags | never)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError("it is no regular file")
    return opened


def _unreadable(error: OSError) -> str:
    return f"it can't be read: {error.strerror or error}"
