"""May one more job queue in its namespace? Exact at the moment of its commit, and free where no Quota sets maxQueued.

Under the history lock the jobs that wait are counted, never kept: a change queues at most one job, so a count at some
revision with room for so many more is not repeated until history has moved on by as many. Then it is brought up to date
from the log, or repeated where that is shorter: 100,000 jobs take 20 to 50 ms. Within a batch what it has staged so far
is added. Jobs that go back to the queue are counted here and never refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from casare_api.kinds import Object, dig
from casare_api.kinds.job import JOB, JobPhase
from casare_api.kinds.quota import ONLY
from casare_api.machinery.errors import ApiError
from casare_store.batch import Batch, Change
from casare_store.known import Key

FULL_FOR = 0.2  # seconds for which a namespace that was full refuses without another count
_COUNT = """
SELECT n.namespace, (SELECT count(*) FROM jobs j WHERE j.namespace = n.namespace AND j.ready)
    + (SELECT count(*) FROM jobs j WHERE j.namespace = n.namespace AND j.phase = 'Queued' AND NOT j.ready)
FROM unnest(%s::text[]) AS n(namespace)"""

LOG_COSTS = 10  # times as much as a queued job to count: an entry of the log to read
_PHASE = JOB.selectable.index("status.phase")
# By how much the number has changed since a revision; no row where the log does not reach back to it.
_SINCE = f"""
SELECT coalesce(sum(CASE c.type WHEN 'DELETED' THEN 0 ELSE (c.fields::jsonb ->> {_PHASE} = 'Queued')::int END
    - CASE c.type WHEN 'ADDED' THEN 0
           ELSE (coalesce(c.old_fields, c.fields)::jsonb ->> {_PHASE} = 'Queued')::int END), 0)
FROM changes c WHERE c.rv > %s AND c.kind = 'Job' AND c.namespace = %s
HAVING (SELECT compacted_rv FROM heads) <= %s"""


def quota_of(namespace: str) -> Key:
    """Where a namespace's Quota is."""
    return ("Quota", namespace, ONLY)


class Room:
    """How many more jobs the namespaces of one open batch take.

    `limits` are those that have one; `waiting` how many jobs wait there, None where there is room for the whole batch.
    """

    def __init__(self, batch: Batch, limits: Mapping[str, int], waiting: Mapping[str, int | None]) -> None:
        self._batch, self._limits, self._waiting = batch, limits, dict(waiting)
        self._start = len(batch.changes) - len(batch.unsent)  # what was sent before was counted
        self._seen: list[Change] = []

    def check(self, namespace: str) -> None:
        """Raises ApiError 429 where the namespace takes no more."""
        limit = self._limits.get(namespace)
        if limit is None or self._waiting[namespace] is None:
            return
        self._catch_up()
        if (self._waiting[namespace] or 0) >= limit:
            raise _full(namespace, limit)

    def _catch_up(self) -> None:
        """Counts what the batch has staged since the last time, and no longer what it has taken back."""
        changes, seen = self._batch.changes, self._seen
        while seen and (self._start + len(seen) > len(changes) or changes[self._start + len(seen) - 1] is not seen[-1]):
            self._count(seen.pop(), -1)
        for change in changes[self._start + len(seen) :]:
            self._count(change, 1)
            seen.append(change)

    def _count(self, change: Change, sign: int) -> None:
        namespace = change.state["metadata"].get("namespace") or ""
        waiting = self._waiting.get(namespace)
        if change.kind.kind == "Job" and waiting is not None:
            self._waiting[namespace] = waiting + sign * (_waits(change.new) - _waits(change.old))


@dataclass(slots=True)
class Headroom:
    """What a process knows of the namespaces that have a limit: counts, each with the revision it was true at."""

    clock: Callable[[], float] = time.monotonic
    _counted: dict[str, tuple[int, int]] = field(default_factory=dict)
    _full_until: dict[str, float] = field(default_factory=dict)

    async def look(self, batch: Batch, known: Mapping[Key, Object], most: int) -> Room | None:
        """The room in the namespaces whose Quotas are known, for at most so many jobs; None where none has a limit."""
        quotas = {key[1]: known[key] for key in known if key[0] == "Quota"}
        limits = {namespace: limit for namespace, obj in quotas.items() if (limit := _limit(obj)) is not None}
        if not limits:
            return None
        waiting = {namespace: self._guess(namespace, limit, batch.rv, most) for namespace, limit in limits.items()}
        unsure = [namespace for namespace, count in waiting.items() if count == _UNKNOWN]
        if unsure:
            waiting |= await self._count(batch, unsure, limits)
        return Room(batch, limits, waiting)

    def _guess(self, namespace: str, limit: int, rv: int, most: int) -> int | None:
        """None where there is room for all, the limit where it was full just now, else _UNKNOWN."""
        if self.clock() < self._full_until.get(namespace, 0.0):
            return _NEVER
        at, count = self._counted.get(namespace, (rv + 1, 0))
        is_enough = at <= rv and count + (rv - at) + most <= limit
        return None if is_enough else _UNKNOWN

    async def _count(self, batch: Batch, namespaces: list[str], limits: Mapping[str, int]) -> dict[str, int]:
        rv = batch.rv - len(batch.unsent)
        counted = {one: count for one in namespaces if (count := await self._from_log(batch, one, rv)) is not None}
        unknown = [one for one in namespaces if one not in counted]
        if unknown:
            counted |= {namespace: int(count) for namespace, count in await batch.select(_COUNT, (unknown,))}
        for namespace, count in counted.items():
            self._counted[namespace] = (rv, count)
            if count >= limits[namespace]:
                self._full_until[namespace] = self.clock() + FULL_FOR
        return counted

    async def _from_log(self, batch: Batch, namespace: str, rv: int) -> int | None:
        """The last count brought up to date, None where another one is quicker, or the log is too short."""
        at, count = self._counted.get(namespace, (rv + 1, 0))
        if not at <= rv or (rv - at) * LOG_COSTS > count:
            return None
        rows = await batch.select(_SINCE, (at, namespace, at))
        return count + int(rows[0][0]) if rows else None


_UNKNOWN = -1
_NEVER = 2**62  # more than any limit


def _limit(quota: Object) -> int | None:
    limit = dig(quota, "spec", "maxQueued")
    return None if limit is None else int(limit)


def _waits(job: Object | None) -> int:
    return int(job is not None and dig(job, "status", "phase") == JobPhase.QUEUED)


def _full(namespace: str, limit: int) -> ApiError:
    why = (
        f'namespace "{namespace}" has as many jobs waiting as its Quota allows (spec.maxQueued: {limit}): '
        "submit more when some of them have begun"
    )
    return ApiError(429, "TooManyRequests", why, {"retryAfterSeconds": 1})
