"""How much of the writer's queue may one robot have? So many reports at a time, however many connections send them.

An agent sends one report after the other; it has another under way only where it gave one up that waits here still. A
report has at most 500 writes waiting, and 8 of one job: so one robot has a tenth of the queue at most, and never so
many changes of one object that the writer gets to nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from casare_api.machinery.errors import ApiError

MOST = 4  # reports of one robot that have something to write


@dataclass(slots=True)
class Shares:
    """The reports under way in this process, by their robot's uid."""

    most: int = MOST
    _under_way: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def one(self, robot_uid: str, name: str) -> Iterator[str]:
        """While a report is written; gives the robot's uid. Raises ApiError 429 where enough of its reports wait."""
        if self._under_way[robot_uid] >= self.most:
            why = f'robot "{name}" has {self.most} reports waiting to be written already: try again in a second'
            raise ApiError.too_many_requests(why)
        self._under_way[robot_uid] += 1
        try:
            yield robot_uid
        finally:
            self._under_way[robot_uid] -= 1
            if not self._under_way[robot_uid]:
                del self._under_way[robot_uid]
