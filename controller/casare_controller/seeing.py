"""What does placement keep in mind while it works? Robots as they were read, and how far it has come round the queues.

None of it is true for long: the guarded write looks again. It only saves reading and grouping robots at every tick.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from casare_api.decisions.fleet import Memo
from casare_api.decisions.placement import Assignment, Fleet, Requirements, Robot
from casare_store import placing
from casare_store.placing import Place

Uid = str
Asked = tuple[str, Requirements]


@dataclass(frozen=True, slots=True)
class Known:
    """A robot as it was read last: idle, and as it is."""

    rv: int
    idle: Robot
    robot: Robot


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
        return [
            replace(one, free_slots=one.free_slots - taken[one.uid]) if one.uid in taken else one for one in self.robots
        ]


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
