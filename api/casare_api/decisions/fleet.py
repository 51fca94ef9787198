"""Which of the robots with room are the best for whom?

Sets of requirements are compared with groups of robots, never a job with a robot. Always true of a pool: it gives only
robots that match and have a free slot, the ones that its jobs prefer before others, of those the least capable (fewest
capabilities and tags, so that scarce robots stay free), of those the least loaded (share of slots used), of those the
first by name.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby
from typing import Any

from casare_api.decisions.requirements import Preference, Requirements, Robot, likeness, serves, tolerated

MOST_PREFERENCES = 16  # of one job, the most important ones; what is beyond them is not looked at
FEW_KEYS = 8  # labels that are looked up without asking first whether any robot has them
Asked = tuple[str, Requirements]  # a namespace and what its jobs ask for
_Entry = tuple[float, str, str, str, int, "Robot"]  # share of slots used, name, namespace, uid, free slots, robot
_Term = tuple[str, Any]  # a rule and what it asks for, or what a group has


class Fleet:
    """The robots with room, in groups, and for each thing that somebody asks for the set of groups that have it.

    A set of groups is an int with a bit for each, so that matching is a few ANDs. What nobody asks about is left out of
    the grouping: a label that is different on each robot makes no groups unless somebody selects by it. Slots that are
    taken from a pool are gone from all of them. `memo` saves work where a fleet like this was made before.
    """

    def __init__(self, asked: Iterable[Asked], robots: Iterable[Robot], memo: Memo | None = None) -> None:
        free, everybody = [each for each in robots if each.schedulable and each.free_slots > 0], list(asked)
        wanted = _Wanted(everybody, free)
        self._groups = sorted(_grouped(wanted, free, memo or Memo()), key=lambda group: group.capable)
        self._having = self._index()
        self._levels = self._bounds()
        self._slots: dict[int, int] = {}
        self._pools: dict[Any, Pool] = {}
        self._homes: dict[str, tuple[int, Robot]] = {}
        if any(each.prefers_same_robot for _, each in everybody):
            self._keep_track()

    def pool(self, asked: Asked) -> Pool | None:
        """The robots that these jobs may have, None for none; whoever may and would like the same shares one."""
        chosen = self._matching(asked)
        prefer = asked[1].prefer[:MOST_PREFERENCES]
        if chosen and (chosen, prefer) not in self._pools:
            self._pools[chosen, prefer] = Pool(self, self._by_liking(chosen, prefer))
        return self._pools.get((chosen, prefer))

    def slots(self, asked: Asked) -> int:
        """How many slots these jobs may have at the most; 0 exactly when there is none."""
        pool = self.pool(asked)
        if pool is None or not pool.has_room():
            return 0
        chosen = self._matching(asked)
        if chosen not in self._slots:
            self._slots[chosen] = sum(self._groups[number].slots for number in _numbers(chosen))
        return self._slots[chosen]

    def _keep_track(self) -> None:
        """Where each robot is, for jobs that would like a certain one."""
        for number, group in enumerate(self._groups):
            group.taken = {}
            for *_, uid, _, robot in group.free:
                self._homes[uid] = number, robot

    def take_again(self, uid: str, near: int) -> Robot | None:
        """A slot of this very robot, if it has one and its group is one of `near`."""
        number, robot = self._homes.get(uid, (None, None))
        if number is None or robot is None or not near >> number & 1:
            return None
        return self._groups[number].take_this(robot)

    def _matching(self, asked: Asked) -> int:
        chosen = (1 << len(self._groups)) - 1
        for term in _terms(*asked):
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

    def _by_liking(self, chosen: int, prefer: Sequence[Preference]) -> Iterator[tuple[int, list[_Group]]]:
        for near, part in self._parts(chosen, prefer, 0):
            for start, size in self._levels:
                if level := part >> start & (1 << size) - 1:
                    yield near, [self._groups[start + number] for number in _numbers(level)]

    def _parts(self, part: int, prefer: Sequence[Preference], near: int) -> Iterator[tuple[int, int]]:
        """The groups in the order of liking, as sets.

        With each the groups that are liked as much by what counts for more than the same robot: in these it is taken.
        """
        if not prefer:
            yield near, part
            return
        first, rest = prefer[0], prefer[1:]
        if first.same_robot:
            yield from self._parts(part, rest, near or part)
            return
        liked = part
        for label in first.labels:
            liked &= self._having.get(("label", label), 0)
        for smaller in (liked, part & ~liked):
            if smaller:
                yield from self._parts(smaller, rest, near)


class Pool:
    """The groups that some jobs may draw from, the one with the best robot on top.

    ``levels`` holds the groups from the most liked and least capable on, each level looked at only when those before
    are used up. ``heads`` holds the top of each group of the level as it last was: what is no longer true is put right,
    and sinks.
    """

    __slots__ = ("_fleet", "_heads", "_levels", "_near")

    def __init__(self, fleet: Fleet, levels: Iterator[tuple[int, list[_Group]]]) -> None:
        self._fleet, self._levels, self._near = fleet, levels, 0
        self._heads: list[tuple[float, str, str, str, int, _Group]] = []

    def has_room(self) -> bool:
        """Whether a robot has a free slot; once false, it stays so."""
        while self._heads or self._climb():
            *_, number, group = self._heads[0]
            if not group.free:
                heapq.heappop(self._heads)
            elif (head := _head(number, group)) != self._heads[0]:
                heapq.heapreplace(self._heads, head)
            else:
                return True
        return False

    def take(self, last: str | None = None) -> Robot:
        """A slot of the best robot, of which there must be one; `last` is the robot to have again, if liked."""
        if last is not None and self._near:
            again = self._fleet.take_again(last, self._near)
            if again is not None:
                return again
        return self._heads[0][-1].take()

    def _climb(self) -> bool:
        """Goes on to the next level that has room; false when there is none."""
        for near, level in self._levels:
            self._heads = [_head(number, group) for number, group in enumerate(level) if group.free]
            if self._heads:
                self._near = near
                heapq.heapify(self._heads)
                return True
        return False


class _Group:
    """Robots that nobody who asks can tell apart: as capable as each other, the best to take on top.

    ``free`` is a heap of (share of slots used, name, namespace, uid, free slots, robot). Its top only ever gets worse,
    which is what lets pools look at it lazily. ``taken`` counts slots by robot where single robots may be asked for:
    entries that it belies are dropped when they come to the top.
    """

    __slots__ = ("capable", "free", "model", "slots", "taken", "terms")

    def __init__(self, model: Robot, terms: Sequence[_Term]) -> None:
        self.model = model  # any of them, to ask the rules about
        self.terms = terms
        self.capable = len(model.capabilities) + len(model.tags)
        self.slots = 0
        self.free: list[_Entry] = []
        self.taken: dict[str, int] | None = None

    def take(self) -> Robot:
        *_, free, robot = self.free[0]
        if free > 1:
            heapq.heapreplace(self.free, _entry(robot, free - 1))
        else:
            heapq.heappop(self.free)
        if self.taken is not None:
            self._note(robot)
        return robot

    def take_this(self, robot: Robot) -> Robot | None:
        left = self._left(robot)
        if left < 1:
            return None
        if left > 1:
            heapq.heappush(self.free, _entry(robot, left - 1))
        self._note(robot)
        return robot

    def _left(self, robot: Robot) -> int:
        assert self.taken is not None
        return robot.free_slots - self.taken.get(robot.uid, 0)

    def _note(self, robot: Robot) -> None:
        assert self.taken is not None
        self.taken[robot.uid] = self.taken.get(robot.uid, 0) + 1
        while self.free and self.free[0][4] != self._left(self.free[0][5]):
            heapq.heappop(self.free)


def _entry(robot: Robot, free: int) -> _Entry:
    return 1 - free / (robot.total_slots or 1), robot.name, robot.namespace, robot.uid, free, robot


def _head(number: int, group: _Group) -> tuple[float, str, str, str, int, _Group]:
    share, name, namespace, uid, _, _ = group.free[0]
    return share, name, namespace, uid, number, group


class Memo:
    """How robots looked the last time, for a fleet that is made again and again: it only saves work."""

    __slots__ = ("_asked", "_known", "_marks")

    def __init__(self) -> None:
        self._asked: Any = None
        self._known: dict[str, tuple[Robot, int, _Entry]] = {}
        self._marks: dict[Any, int] = {}

    def begin(self, wanted: _Wanted, robots: int) -> None:
        """Forgets what others asked about, and robots that are gone."""
        if self._asked != wanted.signature or len(self._known) > 2 * robots:
            self._asked, self._known, self._marks = wanted.signature, {}, {}

    def see(self, wanted: _Wanted, robot: Robot) -> tuple[Robot, int, _Entry]:
        """The robot, the number of its mark, and its entry."""
        known = self._known.get(robot.uid)
        if known is None or known[0] is not robot:
            mark = self._marks.setdefault(wanted.mark(robot), len(self._marks))
            known = self._known[robot.uid] = (robot, mark, _entry(robot, robot.free_slots))
        return known


def _grouped(wanted: _Wanted, robots: Sequence[Robot], memo: Memo) -> Iterable[_Group]:
    groups: dict[Any, _Group] = {}
    seen: dict[int, _Group] = {}
    memo.begin(wanted, len(robots))
    for robot in robots:
        _, mark, entry = memo.see(wanted, robot)
        group = seen.get(mark)
        if group is None:
            traits = wanted.traits(robot)
            if traits not in groups:
                groups[traits] = _Group(robot, wanted.terms(robot))
            group = seen[mark] = groups[traits]
        group.slots += robot.free_slots
        group.free.append(entry)
    for group in groups.values():
        heapq.heapify(group.free)
    return groups.values()


class _Wanted:
    """What the jobs of a tick ask about at all."""

    def __init__(self, asked: Sequence[Asked], robots: Sequence[Robot]) -> None:
        wanted = [each for _, each in asked]
        self._namespaces = {namespace for namespace, _ in asked}
        self._environments = {each.environment for each in wanted}
        self._capabilities = frozenset().union(*(each.capabilities for each in wanted))
        self._tags = frozenset().union(*(each.tags for each in wanted))
        self._liked = {key for each in wanted for liked in each.prefer for key, _ in liked.labels}
        self._keys = _present({term.key for each in wanted for term in each.selector} | self._liked, robots)
        self._names = {each.robot_name for each in wanted}
        self._served: dict[Any, frozenset[str]] = {}

    @property
    def signature(self) -> Any:
        """All that `mark` goes by, beside the robot."""
        return self._keys, self._names

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
        """What the robot has of the things that jobs ask for and that are looked up."""
        return [
            *(("namespace", each) for each in self._serves(robot)),
            *(("capabilities", each) for each in robot.capabilities & self._capabilities),
            *(("tags", each) for each in robot.tags & self._tags),
            *([("environment", robot.environment)] if robot.environment in self._environments else ()),
            *([("robotName", robot.name)] if robot.name in self._names else ()),
            *(("label", label) for label in robot.labels.items() if label[0] in self._liked),
        ]

    def _serves(self, robot: Robot) -> frozenset[str]:
        key = robot.serves or robot.namespace
        if key not in self._served:
            self._served[key] = frozenset(each for each in self._namespaces if serves(robot, each))
        return self._served[key]


def _present(keys: set[str], robots: Sequence[Robot]) -> list[str]:
    """The labels to tell robots apart by: those that no robot has tell nothing, however many are asked about."""
    if len(keys) > FEW_KEYS:
        keys = keys & set().union(*(robot.labels for robot in robots))
    return sorted(keys)


def _terms(namespace: str, wanted: Requirements) -> Iterator[_Term]:
    """All that must be true of a group, each by itself."""
    yield "namespace", namespace
    if wanted.robot_name is not None:
        yield "robotName", wanted.robot_name
    if wanted.environment is not None:
        yield "environment", wanted.environment
    yield from (("capabilities", each) for each in wanted.capabilities)
    yield from (("tags", each) for each in wanted.tags)
    yield from (("selector", each) for each in wanted.selector)
    yield "taints", wanted.tolerations


def _bits(numbers: Iterable[int]) -> int:
    found = list(numbers)
    bits = bytearray(max(found, default=0) // 8 + 1)
    for number in found:
        bits[number // 8] |= 1 << number % 8
    return int.from_bytes(bits, "little")


def _numbers(bits: int) -> list[int]:
    return [number for number, bit in enumerate(reversed(f"{bits:b}")) if bit == "1"]
