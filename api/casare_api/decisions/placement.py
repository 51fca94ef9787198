"""Which robot runs which job?

Sets of requirements are compared with groups of robots, never a job with a robot. Always true of ``place``: no robot
gets more jobs than it has free slots; a job gets a robot that matches; while a robot that matches has a free slot, no
job of that queue stays behind; jobs are served in the order of their ranks, over all queues; and the answer does not
depend on the order of the arguments.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, Generic, TypeVar

from casare_api.decisions.reasons import Reason, reasons, reasons_for
from casare_api.decisions.requirements import (
    Requirements,
    Robot,
    Taint,
    Toleration,
    likeness,
    matches,
    serves,
    tolerated,
)

__all__ = [
    "Assignment",
    "Queue",
    "Reason",
    "Requirements",
    "Robot",
    "Taint",
    "Toleration",
    "matches",
    "place",
    "reasons",
    "reasons_for",
    "serves",
]

Job = TypeVar("Job")
_Term = tuple[str, Any]  # a rule and what it asks for, or what a group has


@dataclass(frozen=True, slots=True)
class Queue(Generic[Job]):
    """Jobs of one namespace that ask for the same: ``(rank, job)``, the lowest rank first.

    Ranks are compared over all queues. A namespace and its requirements make one queue, not two.
    """

    namespace: str
    requirements: Requirements
    jobs: Sequence[tuple[Any, Job]]


@dataclass(frozen=True, slots=True)
class Assignment(Generic[Job]):
    job: Job
    robot: Robot


def place(queues: Sequence[Queue[Job]], robots: Iterable[Robot]) -> list[Assignment[Job]]:
    """Who gets what, in order of rank.

    A job goes to the least capable robot that fits (fewest capabilities and tags, so that scarce robots stay free),
    of those to the least loaded (share of slots used), of those to the first by name. At equal ranks, queues go by
    namespace and requirements. Queues that nobody can serve cost nothing and hold nobody up.
    """
    waiting = sorted((each for each in queues if each.jobs), key=lambda q: (q.namespace, q.requirements.canonical()))
    fleet = _Fleet(waiting, (each for each in robots if each.schedulable and each.free_slots > 0))
    pools = [fleet.pool(each) for each in waiting]
    heads = [(waiting[number].jobs[0][0], number, 0) for number, pool in enumerate(pools) if pool]
    heapq.heapify(heads)
    placed: list[Assignment[Job]] = []
    while heads:
        _, number, at = heads[0]
        jobs, pool = waiting[number].jobs, pools[number]
        robot = pool.take() if pool else None
        if robot is not None:
            placed.append(Assignment(jobs[at][1], robot))
        if robot is not None and at + 1 < len(jobs):
            heapq.heapreplace(heads, (jobs[at + 1][0], number, at + 1))
        else:
            heapq.heappop(heads)
    return placed


class _Group:
    """Robots that no queue of this tick can tell apart: as capable as each other, the best to take on top.

    ``free`` is a heap of (share of slots used, name, namespace, uid, free slots, robot). Its top only ever gets worse,
    which is what lets pools look at it lazily.
    """

    __slots__ = ("capable", "free", "model", "terms")

    def __init__(self, model: Robot, terms: Sequence[_Term]) -> None:
        self.model = model  # any of them, to ask the rules about
        self.terms = terms
        self.capable = len(model.capabilities) + len(model.tags)
        self.free: list[tuple[float, str, str, str, int, Robot]] = []

    def add(self, robot: Robot) -> None:
        free = robot.free_slots
        self.free.append((_share(robot, free), robot.name, robot.namespace, robot.uid, free, robot))

    def take(self) -> Robot:
        _, name, namespace, uid, free, robot = self.free[0]
        if free > 1:
            heapq.heapreplace(self.free, (_share(robot, free - 1), name, namespace, uid, free - 1, robot))
        else:
            heapq.heappop(self.free)
        return robot


class _Pool:
    """The groups that a queue may draw from, the one with the best robot on top.

    ``levels`` holds the groups from the least capable up, each level looked at only when those below are used up.
    ``heads`` holds the top of each group of the level as it last was: what is no longer true is put right, and sinks.
    """

    __slots__ = ("_heads", "_levels")

    def __init__(self, levels: Iterator[list[_Group]]) -> None:
        self._levels = levels
        self._heads: list[tuple[float, str, str, str, int, _Group]] = []

    def take(self) -> Robot | None:
        while self._heads or self._climb():
            *_, number, group = self._heads[0]
            if not group.free:
                heapq.heappop(self._heads)
            elif (head := _head(number, group)) != self._heads[0]:
                heapq.heapreplace(self._heads, head)
            else:
                return group.take()
        return None

    def _climb(self) -> bool:
        """Goes on to the next level that has room; false when there is none."""
        for level in self._levels:
            self._heads = [_head(number, group) for number, group in enumerate(level) if group.free]
            if self._heads:
                heapq.heapify(self._heads)
                return True
        return False


def _head(number: int, group: _Group) -> tuple[float, str, str, str, int, _Group]:
    share, name, namespace, uid, _, _ = group.free[0]
    return share, name, namespace, uid, number, group


class _Fleet:
    """The robots with room, in groups, and for each thing that a queue asks for the set of groups that have it.

    A set of groups is an int with a bit for each, so that matching a queue is a few ANDs. What no queue asks about is
    left out of the grouping: a label that is different on each robot makes no groups unless somebody selects by it.
    """

    def __init__(self, queues: Sequence[Queue[Any]], robots: Iterable[Robot]) -> None:
        self._groups = sorted(_grouped(_Asked(queues), robots), key=lambda group: group.capable)
        self._having = self._index()
        self._levels = self._bounds()
        self._pools: dict[int, _Pool] = {}

    def pool(self, queue: Queue[Any]) -> _Pool | None:
        """The robots that the queue may have, None for none; queues that may have the same share one."""
        chosen = self._matching(queue)
        if chosen and chosen not in self._pools:
            self._pools[chosen] = _Pool(self._by_level(chosen))
        return self._pools.get(chosen)

    def _matching(self, queue: Queue[Any]) -> int:
        chosen = (1 << len(self._groups)) - 1
        for term in _terms(queue):
            if term not in self._having:
                self._having[term] = self._search(*term)
            chosen &= self._having[term]
            if not chosen:
                break
        return chosen

    def _index(self) -> dict[_Term, int]:
        found: dict[_Term, list[int]] = defaultdict(list)
        for number, group in enumerate(self._groups):
            for term in group.terms:
                found[term].append(number)
        return {term: _bits(having) for term, having in found.items()}

    def _search(self, rule: str, wanted: Any) -> int:
        """For what can't be looked up: each group is asked, once a tick."""
        if rule == "selector":
            return _bits(number for number, group in enumerate(self._groups) if wanted.matches(group.model.labels))
        if rule == "taints":
            return _bits(number for number, group in enumerate(self._groups) if tolerated(wanted, group.model.taints))
        return 0

    def _bounds(self) -> list[tuple[int, int]]:
        """Where each level of equally capable groups begins, and how many they are."""
        sizes = [(capable, len(list(level))) for capable, level in groupby(self._groups, lambda group: group.capable)]
        ends = list(accumulate(size for _, size in sizes))
        return [(end - size, size) for end, (_, size) in zip(ends, sizes, strict=True)]

    def _by_level(self, chosen: int) -> Iterator[list[_Group]]:
        for start, size in self._levels:
            if level := chosen >> start & (1 << size) - 1:
                yield [self._groups[start + number] for number in _numbers(level)]


def _grouped(asked: _Asked, robots: Iterable[Robot]) -> Iterable[_Group]:
    groups: dict[Any, _Group] = {}
    seen: dict[Any, _Group] = {}
    for robot in robots:
        mark = asked.mark(robot)
        group = seen.get(mark)
        if group is None:
            traits = asked.traits(robot)
            if traits not in groups:
                groups[traits] = _Group(robot, asked.terms(robot))
            group = seen[mark] = groups[traits]
        group.add(robot)
    for group in groups.values():
        heapq.heapify(group.free)
    return groups.values()


class _Asked:
    """What the queues of a tick ask about at all."""

    def __init__(self, queues: Sequence[Queue[Any]]) -> None:
        wanted = [each.requirements for each in queues]
        self._namespaces = {each.namespace for each in queues}
        self._environments = {each.environment for each in wanted}
        self._capabilities = frozenset().union(*(each.capabilities for each in wanted))
        self._tags = frozenset().union(*(each.tags for each in wanted))
        self._keys = sorted({term.key for each in wanted for term in each.selector})
        self._names = {each.robot_name for each in wanted}
        self._served: dict[Any, frozenset[str]] = {}

    def mark(self, robot: Robot) -> tuple[Any, ...]:
        """Cheap to compute; robots that have the same one have the same traits."""
        return likeness(robot, self._keys, self._names)

    def traits(self, robot: Robot) -> tuple[Any, ...]:
        """All that this tick can tell of the robot; robots that have the same ones are in one group."""
        return (
            self._serves(robot),
            robot.environment if robot.environment in self._environments else None,
            robot.capabilities & self._capabilities,
            robot.tags & self._tags,
            len(robot.capabilities) + len(robot.tags),
            robot.taints,
            robot.name if robot.name in self._names else None,
            tuple(map(robot.labels.get, self._keys)),
        )

    def terms(self, robot: Robot) -> list[_Term]:
        """What the robot has of the things that queues ask for and that are looked up."""
        return [
            *(("namespace", each) for each in self._serves(robot)),
            *(("capabilities", each) for each in robot.capabilities & self._capabilities),
            *(("tags", each) for each in robot.tags & self._tags),
            *([("environment", robot.environment)] if robot.environment in self._environments else ()),
            *([("robotName", robot.name)] if robot.name in self._names else ()),
        ]

    def _serves(self, robot: Robot) -> frozenset[str]:
        key = robot.serves or robot.namespace
        if key not in self._served:
            self._served[key] = frozenset(each for each in self._namespaces if serves(robot, each))
        return self._served[key]


def _terms(queue: Queue[Any]) -> Iterator[_Term]:
    """All that must be true of a group, each by itself."""
    wanted = queue.requirements
    yield "namespace", queue.namespace
    if wanted.robot_name is not None:
        yield "robotName", wanted.robot_name
    if wanted.environment is not None:
        yield "environment", wanted.environment
    yield from (("capabilities", each) for each in wanted.capabilities)
    yield from (("tags", each) for each in wanted.tags)
    yield from (("selector", each) for each in wanted.selector)
    yield "taints", wanted.tolerations


def _share(robot: Robot, free: int) -> float:
    return 1 - free / (robot.total_slots or 1)


def _bits(numbers: Iterable[int]) -> int:
    found = list(numbers)
    bits = bytearray(max(found, default=0) // 8 + 1)
    for number in found:
        bits[number // 8] |= 1 << number % 8
    return int.from_bytes(bits, "little")


def _numbers(bits: int) -> list[int]:
    return [number for number, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"]
