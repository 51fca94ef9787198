"""What is no longer needed? Dependents without owners, the old end of the log, logs and files of what is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from casare_api.kinds import KINDS, Kind
from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.job import JOB
from casare_api.kinds.robot import ROBOT
from casare_store import admission, dependents, objects, partitions, queues
from casare_store.columns import table
from casare_store.store import Store

PER_RUN = 500  # objects of a kind
SWEEP_EVERY = 60.0  # seconds
SEARCH_EVERY = 3600.0
# What is in a namespace, jobs before those by which robots say that they have ended: see `queues.content`.
_CONTENT = sorted((kind for kind in KINDS.values() if kind.namespaced), key=lambda kind: kind in (ROBOT, APIKEY))


@dataclass(slots=True)
class Garbage:
    """The duty."""

    store: Store
    clock: Callable[[], float] = time.monotonic
    name: str = "garbage"
    every: float = 5.0
    watches: frozenset[str] = frozenset({"Namespace"})
    _swept_at: float = -1e9
    _searched_at: float = -1e9

    async def run_once(self) -> dict[str, int]:
        collected = await self._collect() + await self._empty_namespaces()
        async with self.store.pool.connection() as connection:
            compacted = await partitions.compact(connection)
            swept, left_over = 0, []
            if self.clock() - self._swept_at >= SWEEP_EVERY:
                swept = await queues.sweep(connection)
                self._swept_at = self.clock()
            if self.clock() - self._searched_at >= SEARCH_EVERY:
                swept += await queues.search(connection)
                left_over = await queues.left_over(connection)
                self._searched_at = self.clock()
        collected += await self._delete(JOB, left_over)
        return {"dependents": collected, "compacted": compacted, "swept": swept}

    async def _collect(self) -> int:
        """Deletes objects whose owners are all gone; those held by finalizers are marked."""
        total = 0
        tables = [table(kind) for kind in KINDS.values()]
        for kind in KINDS.values():
            async with self.store.pool.connection() as connection:
                found = await queues.orphans(connection, table(kind), tables, PER_RUN)
            total += await self._delete(kind, found)
        return total

    async def _empty_namespaces(self) -> int:
        """Deletes what is in namespaces that are being deleted, and those that are empty."""
        async with self.store.pool.connection() as connection:
            going = await queues.namespaces_to_empty(connection)
        return sum([await self._empty(namespace) for namespace in going])

    async def _empty(self, namespace: str) -> int:
        total = 0
        while True:
            left = changed = 0
            for kind in _CONTENT:
                async with self.store.pool.connection() as connection:
                    found = await queues.content(connection, table(kind), namespace, PER_RUN)
                left += len(found)
                changed += await self._delete(kind, found)
            total += changed
            if not left:
                await self.store.writer.write(admission.emptied(namespace))
            if not changed:  # it is empty, or finalizers hold what is left
                return total

    async def _delete(self, kind: Kind, found: list[tuple[str, str, str]]) -> int:
        """Deletes objects (namespace, name, uid), or marks them where finalizers hold them; how many changed."""
        if not found:
            return 0
        uids = {(kind.kind, namespace, name): uid for namespace, name, uid in found}
        async with self.store.batch(uids) as batch:
            for key, uid in uids.items():
                obj = batch.known.get(key)
                if obj is None or obj["metadata"]["uid"] != uid or not dependents.is_clear(obj):
                    continue
                new = admission.going(kind, obj, batch.now)
                new = new and objects.changed(kind, obj, new)
                if new != obj:
                    batch.stage(kind, obj, new)
            await batch.commit()
        return len(batch.changes)
