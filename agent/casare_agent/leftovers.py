"""Which processes belong to an attempt, whoever started them, and how are they ended?

Every process of an attempt inherits two variables that name it. That finds what left the process group (a browser
that made its own session, a daemon), and what a killed agent left behind. A process that throws its environment away
is not found by the mark; its process group still is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import psutil

from casare_agent.files import write_whole

FILE = "process.json"
_PASSES, _BETWEEN = 10, 0.01  # looks, and seconds between them
_CLOCK_SLACK = 2.0  # seconds; a start time read twice differs by rounding, and by clock corrections on some systems


class Mark(NamedTuple):
    """What the processes of an attempt carry in their environment."""

    uid: str
    attempt: int

    def variables(self) -> dict[str, str]:
        return {"CASARE_JOB_UID": self.uid, "CASARE_ATTEMPT": str(self.attempt)}


def kill_marked(mark: Mark) -> int:
    """Kills every process that carries the mark; how many there were.

    Looks again as long as it finds some: one that was just being started shows its environment a moment later.
    """
    killed = 0
    for _ in range(_PASSES):
        found = [pid for pid, environment in _environments() if _carries(environment, mark)]
        for pid in found:
            with contextlib.suppress(psutil.Error, OSError):
                psutil.Process(pid).kill()
        killed += len(found)
        if not found:
            break
        time.sleep(_BETWEEN)
    return killed


def record(directory: Path, pid: int, started: float | None) -> None:
    """Writes down which process group an attempt's process leads, for the agent that comes after this one."""
    write_whole(directory / FILE, orjson.dumps({"pid": pid, "created": started}))


def kill_recorded(directory: Path, mark: Mark) -> int:
    """Kills what an earlier agent left of an attempt; how many processes or groups there were."""
    killed = 0
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = orjson.loads((directory / FILE).read_bytes())
        killed += _kill_group(int(kept["pid"]), kept["created"])
    return killed + kill_marked(mark)


def created(pid: int) -> float | None:
    """When a process started (seconds since the epoch); tells it from a later one with the same number."""
    with contextlib.suppress(psutil.Error, OSError):
        return psutil.Process(pid).create_time()
    return None


def _kill_group(pid: int, started: float | None) -> int:
    """Kills the group only while its leader is the process that was recorded: numbers are used again."""
    now = created(pid)
    if now is None or started is None or abs(now - started) > _CLOCK_SLACK:
        return 0
    with contextlib.suppress(psutil.Error, OSError):
        if sys.platform == "win32":
            for one in psutil.Process(pid).children(recursive=True):
                one.kill()
            psutil.Process(pid).kill()
        else:
            os.killpg(pid, signal.SIGKILL)
        return 1
    return 0


def _carries(environment: bytes, mark: Mark) -> bool:
    lines = environment.split(b"\0")
    return all(f"{name}={value}".encode() in lines for name, value in mark.variables().items())


def _environments() -> Iterator[tuple[int, bytes]]:
    """The environment of every process that we may look into, NUL-separated."""
    if sys.platform == "linux":  # a quarter of what psutil takes, and it is done at the end of every job
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb", 0) as file:
                    yield int(entry), file.read()
        return
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            pairs = psutil.Process(pid).environ().items()
            yield pid, "\0".join(f"{name}={value}" for name, value in pairs).encode("utf-8", "replace")
