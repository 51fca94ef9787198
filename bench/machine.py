"""On what was it measured? Cores, processor, versions, how busy it was, and what one fsync costs here."""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path
from time import perf_counter

import psutil
import psycopg

from measuring import median

_BLOCK = os.urandom(8192)  # as Postgres writes its log


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
        "idle_before": f"{psutil.cpu_times_percent(1.0).idle:.0f} % of the processor time",
    }


def _processor() -> str:
    """The processor's name as the kernel tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


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
