"""How is a process started so that it, and everything it starts, can be ended?

Each child leads its own session and process group. Ending it means the whole tree: SIGTERM to the group and to the
descendants that left it (on Windows CTRL_BREAK, to the group alone), then after the grace period SIGKILL, and in the
end SIGKILL to every process that still carries the attempt's mark in its environment (`leftovers`). When `wait`
returns, nothing of it runs any more.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from casare_agent import leftovers
from casare_agent.leftovers import Mark
from casare_agent.timer import Timer

_PIECE = 65536  # bytes read at a time
_PIPE_WAIT = 2.0  # seconds for the output to end after the process did; somebody else may hold the pipe open
_POLL = 0.02  # seconds between two looks at a group that has lost its leader


@dataclass(frozen=True, slots=True)
class Command:
    """What to start. `argv[0]` is a path that exists."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its exit code, or 128 plus the signal that killed it and the signal's name."""

    code: int
    signal: str | None = None


class Child:
    """A running process. `wait` is called once, by the thread that made it; `stop` by any."""

    def __init__(self, command: Command, mark: Mark, output: Callable[[bytes], None]) -> None:
        """Raises OSError where it can't be started."""
        self._mark, self._output = mark, output
        self._process = _spawn(command)
        self.pid = self._process.pid
        self.created = leftovers.created(self.pid)
        self._lock = threading.Lock()
        self._ended = False
        self._kill_at: float | None = None
        self._killer: Timer | None = None
        self._tree: list[psutil.Process] = []
        self._reader = threading.Thread(target=self._read, name=f"output-{self.pid}", daemon=True)
        self._reader.start()

    def wait(self) -> Exit:
        """Until it has ended and its tree with it. Nothing that was printed comes after this."""
        code = self._process.wait()
        with self._lock:
            self._ended = True
            if self._killer is not None:
                self._killer.cancel()
        self._await_tree()
        self._kill_tree()
        self._reader.join(_PIPE_WAIT)
        return _exit(code)

    def stop(self, grace: float) -> None:
        """Asks the tree to end and kills it after `grace` seconds. Said again, the earlier end counts."""
        kill_at = time.monotonic() + grace
        with self._lock:
            first = self._kill_at is None
            if self._kill_at is not None and self._kill_at <= kill_at:
                return
            self._kill_at = kill_at
            if self._ended:
                return  # `wait` looks at the new time by itself
            self._set_killer(grace)
        if first and grace > 0:
            self._ask()

    # -- steps ---------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with stream, contextlib.suppress(OSError, ValueError):
            while piece := os.read(stream.fileno(), _PIECE):
                self._output(piece)

    def _set_killer(self, grace: float) -> None:
        if self._killer is not None:
            self._killer.cancel()
        self._killer = Timer(grace, self._kill)
        self._killer.start()

    def _ask(self) -> None:
        self._remember_tree()
        _signal_group(self.pid, _TERM)
        for one in self._tree:
            _ask_outsider(one)

    def _kill(self) -> None:
        """Runs when the grace period is over and the process is not."""
        self._remember_tree()
        self._kill_tree()

    def _remember_tree(self) -> None:
        """Descendants outside the group: found while their parents live, for orphans have no parent to find them by."""
        with contextlib.suppress(psutil.Error, OSError):
            family = psutil.Process(self.pid).children(recursive=True)
            known = set(self._tree)
            self._tree += [one for one in family if one not in known and not _in_group(one.pid, self.pid)]

    def _await_tree(self) -> None:
        """The rest of a tree that was asked to end has its grace period too, when the leader is the first to go."""
        while self._kill_at is not None and time.monotonic() < self._kill_at:
            if not _group_lives(self.pid) and not any(_lives(one) for one in self._tree):
                return
            time.sleep(_POLL)

    def _kill_tree(self) -> None:
        _signal_group(self.pid, _KILL)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        for one in self._tree:
            with contextlib.suppress(psutil.Error, OSError):
                one.kill()
        leftovers.kill_marked(self._mark)


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


# -- the operating system --------------------------------------------------------------------------------------------

if sys.platform == "win32":  # A Job Object will own the tree here; until then it is found by parentage.
    _TERM, _KILL = signal.CTRL_BREAK_EVENT, signal.SIGTERM

    def _spawn(command: Command) -> subprocess.Popen[bytes]:
        return _popen(command, list(command.argv), creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)

    def _signal_group(group: int, number: int) -> None:
        with contextlib.suppress(OSError, psutil.Error):
            if number == _TERM:
                os.kill(group, number)
            else:
                for one in psutil.Process(group).children(recursive=True):
                    one.kill()

    def _ask_outsider(process: psutil.Process) -> None:
        """Nothing: CTRL_BREAK reaches groups, not processes, and TerminateProcess does not ask."""

    def _in_group(pid: int, group: int) -> bool:
        return False

    def _group_lives(group: int) -> bool:
        return False
else:
    _TERM, _KILL = signal.SIGTERM, signal.SIGKILL

    def _spawn(command: Command) -> subprocess.Popen[bytes]:
        return _popen(command, [*_dying_with_us(), *command.argv], start_new_session=True)

    def _signal_group(group: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)

    def _ask_outsider(process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error, OSError):
            process.terminate()

    def _in_group(pid: int, group: int) -> bool:
        with contextlib.suppress(ProcessLookupError):
            return os.getpgid(pid) == group
        return True

    def _group_lives(group: int) -> bool:
        try:
            with contextlib.suppress(ChildProcessError):  # as init of a container we inherit orphans: bury them
                os.waitpid(-group, os.WNOHANG)
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


@functools.cache
def _dying_with_us() -> tuple[str, ...]:
    """Words before a command that make Linux kill it when we die (PR_SET_PDEATHSIG), where util-linux has them.

    Not a preexec_fn: that runs Python between fork and exec, which may deadlock in a process with threads, and a
    child that hangs there hangs its job for ever. The signal comes when the *thread* that started the child ends,
    which is why that thread is the one that waits for it. It reaches the leader only, and not in the millisecond before
    the tool has run; for the rest, and where there is no `setpriv`, the next agent finds what is left.
    """
    tool = shutil.which("setpriv") if sys.platform == "linux" else None
    if tool is None:
        return ()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        helped = subprocess.run([tool, "--help"], capture_output=True, timeout=10, check=False)
        if b"--pdeathsig" in helped.stdout:
            return (tool, "--pdeathsig", "KILL", "--")
    return ()


def _popen(
    command: Command, argv: list[str], start_new_session: bool = False, creationflags: int = 0
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        bufsize=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=command.cwd,
        env=dict(command.env),
        start_new_session=start_new_session,
        creationflags=creationflags,
    )


def _exit(code: int) -> Exit:
    if code >= 0:
        return Exit(code)
    with contextlib.suppress(ValueError):
        return Exit(128 - code, signal.Signals(-code).name)
    return Exit(128 - code, f"signal {-code}")
