"""`casare down`: end what runs in a data directory, and wait until it has ended, but not for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from casare_cli.failures import Failure
from casare_cli.up import data_dir
from casare_cli.up.data_dir import DataDir

LOOK = 0.05  # seconds
PATIENCE = 60.0  # seconds; longer than robots give their jobs unless they are told otherwise


def down(path: Path, patience: float = PATIENCE) -> int:
    """Returns 0 when nothing runs there (any more). Raises Failure, also where that takes longer than `patience`."""
    data = DataDir(path)
    pid = data_dir.holder(data)
    if pid is None:
        print(f"nothing runs in {path}")
        return 0
    print(f"stopping (pid {pid}); running jobs may take a moment", flush=True)
    _ask(pid)
    deadline = time.monotonic() + patience
    while data_dir.holder(data) == pid:
        if time.monotonic() > deadline:
            again = "'casare down' again gives jobs no more time"
            raise Failure(f"process {pid} still runs after {patience:.0f} s: {again}")
        time.sleep(LOOK)
    print("stopped")
    return 0


def _ask(pid: int) -> None:
    try:
        with contextlib.suppress(ProcessLookupError):
            if sys.platform == "win32":
                os.kill(pid, signal.CTRL_BREAK_EVENT)
            else:
                os.kill(pid, signal.SIGTERM)
    except PermissionError:
        raise Failure(f"no permission to stop process {pid}: run this as the user who started it") from None
    except OSError as error:  # Windows: it has no console, or another one
        raise Failure(f"process {pid} can't be asked to stop: {error.strerror or error}") from None
