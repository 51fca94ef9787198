"""How are many measurements told as one figure? Percentiles, medians over rounds, CPU seconds of processes.

Always holds: a figure that comes out of here went in as measurements; nothing is estimated or filled in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import psutil

__all__ = ["CpuClock", "Round", "median", "memory", "over_rounds", "percentile"]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest measured value that `share` (0 to 1) of all values do not exceed. Raises ValueError without any."""
    if not values:
        raise ValueError("there is no percentile of nothing")
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of requests or writes gave: how many, in how many seconds, and how long each took (seconds)."""

    done: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Done per second."""
        return self.done / self.seconds

    @classmethod
    def of(cls, latencies: Sequence[float], seconds: float) -> Round:
        return cls(len(latencies), seconds, percentile(latencies, 0.5), percentile(latencies, 0.99))


def over_rounds(rounds: Sequence[Round]) -> tuple[float, float, float]:
    """The medians of rate (per second), p50 and p99 (milliseconds) over rounds."""
    return (
        median(one.rate for one in rounds), median(one.p50 for one in rounds) * 1e3,
        median(one.p99 for one in rounds) * 1e3,
    )  # fmt: skip


@dataclass(slots=True)
class CpuClock:
    """CPU seconds that processes used between laps; a process counts with its children, also those that ended."""

    pids: Mapping[str, int]
    _before: dict[str, float] = field(default_factory=dict)

    def lap(self) -> dict[str, float]:
        """CPU seconds by name since the last lap; the first one counts from the processes' start."""
        now = {name: _cpu_seconds(pid) for name, pid in self.pids.items()}
        passed = {name: seconds - self._before.get(name, 0.0) for name, seconds in now.items()}
        self._before = now
        return passed


def _cpu_seconds(pid: int) -> float:
    root = psutil.Process(pid)
    times = root.cpu_times()
    total = times.user + times.system + getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    for child in root.children(recursive=True):
        try:
            used = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system
    return float(total)


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(psutil.Process(pid).memory_info().rss)
