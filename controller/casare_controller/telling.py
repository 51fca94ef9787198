"""Why do queued jobs wait? Placement tells it, queue by queue, where reads find it; it is no part of history.

Nobody waits for it: it is written after placing, at most once a second, some queues at a time, and only where
something has changed or some seconds are over. That it is written, be it nothing, is the sign that somebody looks after
waiting jobs: a trigger notes when (migration 0006), and once that is long ago jobs say so instead (`rendering.py`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from casare_api.decisions.reasons import told
from casare_api.decisions.requirements import Requirements, Robot
from casare_store import placing, waiting
from casare_store.placing import QueueHead
from casare_store.store import Store

MOST = 20  # reasons of a queue
AT_A_TIME = 500  # queues
EVERY = 1.0  # seconds: it takes as long as a placement
REPEAT_EVERY = 5.0  # seconds after which reasons are written again: another may have written, and it is a sign of life

Asked = Sequence[tuple[QueueHead, Requirements]]


@dataclass(slots=True)
class Telling:
    """Keeps one plain reason per rule for every queue that waits."""

    store: Store
    clock: Callable[[], float] = time.monotonic
    _next: int = 0  # the queue to go on with
    _told: str = ""
    _told_at: float = -1e9
    _looked_at: float = -1e9

    def is_due(self, *, everybody_is_placed: bool) -> bool:
        """Whether it is time again. Where nobody is left to be told it is only a sign of life, and seldom enough."""
        return self.clock() - self._looked_at >= (REPEAT_EVERY if everybody_is_placed else EVERY)

    async def tell(self, asked: Asked, robots: Sequence[Robot]) -> None:
        """Tells some of the queues how things stand with these robots, as they are after placing."""
        self._looked_at = self.clock()
        start = self._next if self._next < len(asked) else 0
        self._next = start + AT_A_TIME
        some = asked[start : self._next]
        said = await self._reasons(some, robots)
        digest = hashlib.sha256(repr(sorted(said.items())).encode()).hexdigest()
        if digest != self._told or self.clock() - self._told_at > REPEAT_EVERY:
            async with self.store.pool.connection() as connection:
                await placing.save_reasons(connection, [(one.namespace, one.class_) for one, _ in some], said)
            self._told, self._told_at = digest, self.clock()

    async def _reasons(self, some: Asked, robots: Sequence[Robot]) -> dict[tuple[str, int], str]:
        """By queue, the member of a job's status that says why it waits."""
        if not some:
            return {}
        async with self.store.pool.connection() as connection:
            shares, ends = await waiting.outlook(connection, {one.namespace for one, _ in some}, robots)
        why = told([(one.namespace, wanted) for one, wanted in some], robots, shares, ends)
        return {
            (one.namespace, one.class_): f'"reasons":{orjson.dumps(found[:MOST]).decode()},'
            for (one, _), found in zip(some, why, strict=True)
            if found
        }
