"""Which robot runs which job?

Always true of ``place``: no robot gets more jobs than it has free slots; a job gets a robot that matches; no namespace
has more jobs running than its ``max_running``, no concurrency key more than the job that is next allows; within a
namespace jobs are served in the order of their ranks, and the next slot is for the namespace that has the least for its
weight; while a robot that matches has a free slot, no job stays behind that may run; and the answer does not depend on
the order of the arguments.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from casare_api.decisions.fleet import Fleet, Pool
from casare_api.decisions.reasons import Reason, reasons, reasons_for
from casare_api.decisions.requirements import (
    Requirements,
    Robot,
    Taint,
    Toleration,
    matches,
    serves,
)

__all__ = [
    "Assignment",
    "Fleet",
    "Queue",
    "Reason",
    "Requirements",
    "Robot",
    "Share",
    "Taint",
    "Toleration",
    "matches",
    "place",
    "place_on",
    "reasons",
    "reasons_for",
    "serves",
]

Job = TypeVar("Job")
Key = tuple[str, str]  # a namespace and a concurrency key in it


@dataclass(frozen=True, slots=True)
class Queue(Generic[Job]):
    """Jobs of one namespace that ask for the same: ``(rank, job)``, the lowest rank first.

    Ranks are compared over all queues. A namespace and its requirements make one queue, not two. ``keyed`` has the
    concurrency key and its limit of those jobs that have one, ``last`` the uid of the robot that a job was with. With
    ``more`` there are jobs behind these: nothing is placed that might have to wait for one of them.
    """

    namespace: str
    requirements: Requirements
    jobs: Sequence[tuple[Any, Job]]
    keyed: Mapping[Job, tuple[str, int]] = field(default_factory=dict)
    last: Mapping[Job, str] = field(default_factory=dict)
    more: bool = False

    @property
    def asked(self) -> tuple[str, Requirements]:
        return self.namespace, self.requirements


@dataclass(frozen=True, slots=True)
class Share:
    """What a namespace may have (`weight`, `max_running`: its quota) and has: jobs that robots have now."""

    weight: int = 1
    running: int = 0
    max_running: int | None = None


@dataclass(frozen=True, slots=True)
class Assignment(Generic[Job]):
    job: Job
    robot: Robot


def place(
    queues: Sequence[Queue[Job]],
    robots: Iterable[Robot],
    shares: Mapping[str, Share] | None = None,
    live: Mapping[Key, int] | None = None,
    most: int | None = None,
) -> list[Assignment[Job]]:
    """Who gets what, in the order in which it is decided; at most `most`.

    The next slot is for the namespace with the smallest (running + placed) / weight of those that have a job that can
    be placed, of those for the one whose job has the lowest rank, of those for the first by name; without a share a
    namespace has weight 1 and nothing running. In it the job with the lowest rank is next; at equal ranks queues go by
    requirements. A job whose key is full (`live` says how many run; none where it says nothing) is passed over. The
    robot is the one that the job prefers, of those the least capable that fits, of those the least loaded, of those the
    first by name. Queues that nobody can serve cost nothing and hold nobody up.
    """
    waiting = [each for each in queues if each.jobs]
    return place_on(Fleet((each.asked for each in waiting), robots), waiting, shares, live, most)


def place_on(
    fleet: Fleet,
    queues: Sequence[Queue[Job]],
    shares: Mapping[str, Share] | None = None,
    live: Mapping[Key, int] | None = None,
    most: int | None = None,
) -> list[Assignment[Job]]:
    """The same with a fleet that was made for these queues or for more of them; what is placed is taken from it."""
    lines = _lines(fleet, queues, shares or {}, dict(live or {}))
    turns = [(line.load(), line.heads[0][0], namespace) for namespace, line in lines.items() if line.heads]
    heapq.heapify(turns)
    placed: list[Assignment[Job]] = []
    while turns and (most is None or len(placed) < most):
        load, rank, namespace = turns[0]
        line = lines[namespace]
        if not line.settle():
            if line.is_cut:
                break
            heapq.heappop(turns)
        elif line.heads[0][0] != rank:  # what was in front can't be placed: others may come before the next
            heapq.heapreplace(turns, (load, line.heads[0][0], namespace))
        else:
            placed.append(line.take())
            if line.heads:
                heapq.heapreplace(turns, (line.load(), line.heads[0][0], namespace))
            else:
                heapq.heappop(turns)
    return placed


class _Line(Generic[Job]):
    """The queues of one namespace: `heads` is a heap of (rank, queue, place in the queue)."""

    __slots__ = ("_live", "_pools", "_queues", "_running", "_share", "heads", "is_cut")

    def __init__(self, share: Share, live: dict[Key, int]) -> None:
        self._share, self._running, self._live = share, share.running, live
        self.heads: list[tuple[Any, int, int]] = []
        self.is_cut = False  # what comes next is not known: no more can be decided
        self._queues: list[Queue[Job]] = []
        self._pools: list[Pool] = []

    def add(self, queue: Queue[Job], pool: Pool) -> None:
        heapq.heappush(self.heads, (queue.jobs[0][0], len(self._queues), 0))
        self._queues.append(queue)
        self._pools.append(pool)

    def load(self) -> float:
        return self._running / self._share.weight

    def settle(self) -> bool:
        """Brings the first job that can be placed to the front; false when there is none, or none that is known."""
        if self._share.max_running is not None and self._running >= self._share.max_running:
            self.heads.clear()
        while self.heads:
            _, number, at = self.heads[0]
            if not self._pools[number].has_room():
                heapq.heappop(self.heads)
            elif at == len(self._queues[number].jobs):
                self.is_cut = True
                return False
            elif self._is_full(self._queues[number], at):
                self._step()
            else:
                return True
        return False

    def take(self) -> Assignment[Job]:
        """Places the job in front."""
        _, number, at = self.heads[0]
        queue = self._queues[number]
        job = queue.jobs[at][1]
        robot = self._pools[number].take(queue.last.get(job) if queue.last else None)
        self._running += 1
        if queue.keyed and job in queue.keyed:
            key = queue.namespace, queue.keyed[job][0]
            self._live[key] = self._live.get(key, 0) + 1
        self._step()
        return Assignment(job, robot)

    def _is_full(self, queue: Queue[Job], at: int) -> bool:
        if not queue.keyed:
            return False
        key, limit = queue.keyed.get(queue.jobs[at][1], ("", 0))
        return limit > 0 and self._live.get((queue.namespace, key), 0) >= limit

    def _step(self) -> None:
        """The next job of the queue in front; where that is not known, its place is kept."""
        rank, number, at = self.heads[0]
        queue = self._queues[number]
        if at + 1 < len(queue.jobs):
            heapq.heapreplace(self.heads, (queue.jobs[at + 1][0], number, at + 1))
        elif queue.more:
            heapq.heapreplace(self.heads, (rank, number, at + 1))
        else:
            heapq.heappop(self.heads)


def _lines(
    fleet: Fleet, queues: Iterable[Queue[Job]], shares: Mapping[str, Share], live: dict[Key, int]
) -> dict[str, _Line[Job]]:
    lines: dict[str, _Line[Job]] = {}
    for queue in sorted(queues, key=lambda each: (each.namespace, each.requirements.canonical())):
        pool = fleet.pool(queue.asked) if queue.jobs else None
        if pool is not None:
            line = lines.setdefault(queue.namespace, _Line(shares.get(queue.namespace, _SHARE), live))
            line.add(queue, pool)
    return lines


_SHARE = Share()
