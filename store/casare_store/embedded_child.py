"""How does a child process start, so that it never outlives its parent?

On Linux the kernel sends the child a signal when the *thread* that started it ends, hence children start on the main
thread alone. On Windows a job object does the same for everything this process starts (`embedded_windows`). macOS has
neither: there a child that outlived a killed parent is found and adopted at the next start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from casare_store.embedded_account import Account, EmbeddedError

OPEN_FILES = 65536  # every watcher is a connection; distributions start processes with a soft limit of 1024
_PR_SET_PDEATHSIG = 1


def raise_open_files() -> None:
    """Raise the soft limit of open files as far as the hard limit lets us, for this process and its children."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def require_main_thread() -> None:
    """Refuse to start children where their life would be tied to a passing thread: a mistake of the caller's."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children start on the main thread: the kernel ties their life to the thread")


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log: IO[bytes],
    account: Account | None = None,
    death_signal: int = signal.SIGTERM,
    cwd: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own (a Ctrl-C at the terminal is ours to handle, not the child's)."""
    require_main_thread()
    return subprocess.Popen(
        list(argv),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=sys.platform != "win32",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        preexec_fn=_bind_to_parent(death_signal),
    )


def run(argv: Sequence[str], *, env: Mapping[str, str], account: Account | None = None, text: str = "") -> str:
    """Run a tool to its end with `text` on its standard input; returns what it printed.

    Raises EmbeddedError with the one line that says why when it fails or can't be started.
    """
    try:
        done = subprocess.run(
            list(argv),
            env=dict(env),
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(f"{argv[0]} can't be started: {error}") from None
    output = done.stdout.decode(errors="replace")
    if done.returncode:
        raise EmbeddedError(explain(output) or f"{argv[0]} ended with exit code {done.returncode}")
    return output


_LAST_WORDS = "terminating connection due to unexpected postmaster exit"


def explain(output: str) -> str:
    """The one line of a Postgres tool's output that says what went wrong; empty when there is none."""
    if "No space left on device" in output or "wrote only" in output:
        return "the disk is full: make room in the data directory or take another --data-dir"
    for line in output.splitlines():
        if _LAST_WORDS in line:
            continue  # of a backend whose server was killed: it writes to the same log, and says nothing of this one
        for mark in ("FATAL:", "PANIC:", "error:"):
            if mark in line:
                return line.split(mark, 1)[1].strip()
    return ""


def _bind_to_parent(death_signal: int) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def bind() -> None:  # runs in the child after it has changed its user, which would clear the setting
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before we asked
            os._exit(1)

    return bind
