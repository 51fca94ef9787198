"""On what was it measured? Cores, processor, versions, how busy it was, how fast it is just now, what one fsync costs.

A shared machine is not always as fast: the same loop is timed before, on one core and on all of them at once, so that
figures of two days can be held against each other.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import psutil
import psycopg

from measuring import median

_BLOCK = os.urandom(8192)  # as Postgres writes its log
_LOOP = """
from time import perf_counter
def loop():
    begun, total = perf_counter(), 0
    for number in range(1_000_000):
        total += number * number
    return perf_counter() - begun
print(min(loop() for _ in range(5)) * 1e3)
"""


def facts(database_url: str) -> dict[str, str | int | float]:
    """The machine and the server, in words and numbers."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')"
        ).fetchone()
    assert row is not None
    return {
        "cores": psutil.cpu_count() or 0,
        "processor": _processor(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "postgres": f"{row[0].split()[0]}, fsync {row[1]}, synchronous_commit {row[2]}",
        "loop_ms": f"{loop_ms(1):.0f} alone, {loop_ms(psutil.cpu_count() or 1):.0f} on all cores at once",
        "idle_before": f"{psutil.cpu_times_percent(1.0).idle:.0f} % of the processor time",
    }


def _processor() -> str:
    """The processor's name as the kernel tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def loop_ms(at_once: int) -> float:
    """Median milliseconds for a million additions in Python, in so many processes at a time."""
    running = [subprocess.Popen([sys.executable, "-c", _LOOP], stdout=subprocess.PIPE) for _ in range(at_once)]
    return median([float(one.communicate(timeout=60)[0]) for one in running])


def fsync_ms(directory: Path, times: int = 20) -> float:
    """Median milliseconds to append 8 kB to a file in `directory` and have it on disk."""
    sync = getattr(os, "fdatasync", os.fsync)
    taken = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(times):
            file.write(_BLOCK)
            begun = perf_counter()
            sync(file.fileno())
            taken.append((perf_counter() - begun) * 1e3)
    return median(taken)
