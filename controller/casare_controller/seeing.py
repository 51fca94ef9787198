"""What does placement keep in mind while it works? Robots as they were read, and how far it has come round the queues.

None of it is true for long: the guarded write looks again. It only saves reading and grouping robots at every tick.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from casare_api.decisions.fleet import Memo
from casare_api.decisions.placement import Assignment, Fleet, Requirements, Robot
from casare_store import placing
from casare_store.placing import Connection, Observed, Place

Uid = str
Asked = tuple[str, Requirements]


@dataclass(slots=True)
class Roster:
    """All robots as they were read last. Only what has changed since is read, and worked out, again."""

    revisions: dict[Uid, int] = field(default_factory=dict)
    _idle: dict[Uid, Robot] = field(default_factory=dict)  # as if nobody had a job and all were online
    _robots: dict[Uid, Robot] = field(default_factory=dict)
    _observed: Observed = field(default_factory=Observed)

    async def read(self, connection: Connection) -> list[Robot]:
        """The robots as they are now."""
        now = await placing.observed(connection)
        changed = now.differing(self._observed)
        if now.stamp != self._observed.stamp:
            changed |= await self._learn(connection, now.stamp[1])
        for uid in changed & self._idle.keys():
            self._robots[uid] = self._idle[uid].observed(now.used.get(uid, 0), uid not in now.offline)
        self._observed = now
        return list(self._robots.values())

    async def _learn(self, connection: Connection, newest: int) -> set[Uid]:
        """Reads robots that are new or other ones, and forgets those that are gone; who was read.

        One that has changed since it was seen how they fare is left out: the next look has it.
        """
        there = await placing.robot_revisions(connection)
        same = {uid for uid, rv in self.revisions.items() if there.get(uid) == rv}
        read = [(Robot.from_object(obj), int(obj["metadata"]["resourceVersion"]))
                for obj in await placing.robot_objects(connection, there.keys() - same)]  # fmt: skip
        self._idle = {uid: self._idle[uid] for uid in same}
        self._robots = {uid: self._robots[uid] for uid in same}
        self.revisions = {uid: self.revisions[uid] for uid in same}
        for robot, rv in read:
            if rv <= newest:
                self._idle[robot.uid], self.revisions[robot.uid] = robot, rv
        return self._idle.keys() - same


@dataclass(slots=True)
class View:
    """The robots as they were read, less what was placed since. It serves for a while: the write looks again."""

    robots: list[Robot]
    read_at: float
    memo: Memo
    room: int = field(init=False)  # free slots
    _fleet: Fleet | None = None
    _asked: frozenset[Asked] = frozenset()
    _taken: Counter[Uid] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.room = sum(one.free_slots for one in self.robots if one.schedulable)

    def fleet(self, asked: list[Asked]) -> Fleet:
        """The robots for those who ask for this: the same as the last time, if they asked then."""
        if self._fleet is None or not self._asked.issuperset(asked):
            self._fleet, self._asked = Fleet(asked, self.left(), self.memo), frozenset(asked)
        return self._fleet

    def take(self, chosen: list[Assignment[Uid]]) -> None:
        self.room -= len(chosen)
        self._taken.update(one.robot.uid for one in chosen)

    def left(self) -> list[Robot]:
        """The robots once they have what was chosen."""
        taken = self._taken
        return [one.with_room(one.free_slots - taken[one.uid]) if one.uid in taken else one for one in self.robots]


@dataclass(slots=True)
class Rounds:
    """How often a run must still come to the start of the queues, and of the keys, until it has seen all of them."""

    queues: int
    keys: int

    @classmethod
    def begin(cls, queue: Place, key: Place) -> Rounds:
        """One that begins in the middle has to come by the start and to go on to where it began."""
        return cls(1 + (queue != placing.START), 1 + (key != placing.FIRST_KEY))

    def looked(self, began: Place, queue: Place, key: Place, promoted: int) -> None:
        """After a look from `began` on that came as far as `queue` and `key`."""
        self.queues -= queue == placing.START
        if promoted and not began == queue == placing.START:
            self.queues = 2  # what was promoted may have joined queues that were looked at before
        self.keys -= key == placing.FIRST_KEY

    @property
    def have_seen_all(self) -> bool:
        return max(self.queues, self.keys) <= 0
