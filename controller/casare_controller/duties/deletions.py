"""What becomes of what hangs on an object that is deleted? Foreground: dependents go first. Orphan: they are let go.

One look at a table that is almost always empty, every second. What a dependent waits for itself is finished in the same
run, as far as nobody else's finalizer is in the way. Background: dependents go after it; one look at what the log tells
of deletions since the last run. What that misses (the time before the first run) the garbage duty finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casare_api.decisions import deletion
from casare_api.decisions.deletion import Propagation
from casare_api.kinds import Object
from casare_store import admission, dependents, objects
from casare_store.batch import Batch
from casare_store.dependents import Named
from casare_store.store import Store

PER_BATCH = 500  # objects


@dataclass(slots=True)
class Deletions:
    """The duty."""

    store: Store
    name: str = "deletions"
    every: float = 1.0
    watches: frozenset[str] = frozenset()
    _seen: int | None = None  # the revision up to which deletions were looked at

    async def run_once(self) -> dict[str, int]:
        total = 0
        while changed := await self._round() + await self._collect():
            total += changed
        return {"deletions": total}

    async def _collect(self) -> int:
        """Deletes what belonged to nobody but objects that were deleted since; how many objects changed."""
        async with self.store.pool.connection() as connection:
            deleted, seen = await dependents.deleted(connection, self._seen)
            found = [one for owners in _chunks(deleted) for one in await dependents.of(connection, owners)]
        changed = sum([await self._collect_part(chunk) for chunk in _chunks(found)])
        self._seen = seen
        return changed

    async def _collect_part(self, found: Sequence[Named]) -> int:
        async with self.store.batch({one.key for one in found}) as batch:
            known = _there(batch, found)
            alive = await dependents.alive(batch, (uid for _, obj in known for uid in deletion.owners_of(obj)))
            for one, obj in known:
                if not deletion.owners_there(obj, alive) and dependents.is_clear(obj):
                    _stage(batch, one, obj, admission.going(one.kind, obj, batch.now))
            await batch.commit()
        return len(batch.changes)

    async def _round(self) -> int:
        """A step for all that waits; how many objects changed."""
        async with self.store.pool.connection() as connection:
            waiting = await dependents.waiting(connection)
        changed = 0
        for owners in _chunks(waiting):
            async with self.store.pool.connection() as connection:
                found = await dependents.of(connection, owners)
            for chunk in _chunks(found):
                changed += await self._part(owners, chunk)
            changed += await self._finish(owners)
        return changed

    async def _part(self, owners: Sequence[Named], found: Sequence[Named]) -> int:
        """Deletes dependents, or lets them go."""
        async with self.store.batch({one.key for one in (*owners, *found)}) as batch:
            policies = {uid: policy for uid, (_, policy) in _waiting(batch, owners).items()}
            known = _there(batch, found)
            alive = await dependents.alive(batch, (uid for _, obj in known for uid in deletion.owners_of(obj)))
            parents = await dependents.parents(batch, (one for one, _ in known))
            for one, obj in known:
                _stage(batch, one, obj, _after(batch, one, obj, policies, alive, one.uid in parents))
            await batch.commit()
        return len(batch.changes)

    async def _finish(self, owners: Sequence[Named]) -> int:
        """Takes the finalizer from owners that nothing hangs on any more."""
        async with self.store.batch(one.key for one in owners) as batch:
            waiting = _waiting(batch, owners)
            in_the_way = await dependents.blockers(
                batch, {one: waiting[one.uid][1] == "Foreground" for one in owners if one.uid in waiting}
            )
            held = deletion.held({uid: obj for uid, (obj, _) in waiting.items()}, in_the_way)
            for one in owners:
                if one.uid in waiting and one.uid not in held:
                    obj, _ = waiting[one.uid]
                    _stage(batch, one, obj, deletion.let_go(obj))
            dependents.settled(batch, [one.uid for one in owners if one.uid not in held])
            await batch.commit()
        return len(batch.changes)


def _waiting(batch: Batch, owners: Sequence[Named]) -> dict[str, tuple[Object, Propagation]]:
    """Those of the owners that still wait, by uid."""
    found: dict[str, tuple[Object, Propagation]] = {}
    for one, obj in _there(batch, owners):
        policy = deletion.policy(obj)
        if policy is not None:
            found[one.uid] = (obj, policy)
    return found


def _there(batch: Batch, named: Sequence[Named]) -> list[tuple[Named, Object]]:
    """The objects that are still the same, as the batch read them."""
    found = [(one, batch.known.get(one.key)) for one in named]
    return [(one, obj) for one, obj in found if obj is not None and obj["metadata"]["uid"] == one.uid]


def _after(
    batch: Batch, one: Named, obj: Object, policies: dict[str, Propagation], alive: dict[str, str], is_parent: bool
) -> Object | None:
    """A dependent when its owners are deleted like this: one that goes takes its own dependents along."""
    left = deletion.dependent(obj, policies, alive)
    if left is not None or obj["metadata"].get("deletionTimestamp"):
        return left or obj
    return admission.going(one.kind, deletion.with_policy(obj, "Foreground") if is_parent else obj, batch.now)


def _stage(batch: Batch, one: Named, obj: Object, new: Object | None) -> None:
    changed = new and objects.changed(one.kind, obj, new)
    if changed != obj:
        batch.stage(one.kind, obj, changed)


def _chunks(named: Sequence[Named]) -> list[Sequence[Named]]:
    return [named[start : start + PER_BATCH] for start in range(0, len(named), PER_BATCH)]
