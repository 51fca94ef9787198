"""What ran out of time? Every phase of a job has an exit timer in one indexed column; keys and events expire here too.

The rules are `lifecycle.due` and `lifecycle.on_due`; a job that is due moves on, is held no longer, or (its time to
live is over) is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass

from casare_api.decisions import lifecycle
from casare_api.kinds import Kind
from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.core import EVENT
from casare_api.kinds.job import JOB
from casare_store import admission, objects, queues
from casare_store.events import Recorder
from casare_store.store import Store

PER_RUN = 500  # objects in one transaction


@dataclass(slots=True)
class Timers:
    """The duty."""

    store: Store
    events: Recorder
    name: str = "timers"
    every: float = 0.5
    watches: frozenset[str] = frozenset()

    async def run_once(self) -> dict[str, int]:
        moved = 0
        while True:
            count = await self._jobs()
            moved += count
            if count < PER_RUN:
                break
        return {"jobs": moved, "events": await self._forget(EVENT), "keys": await self._expire_keys()}

    async def _jobs(self) -> int:
        told, moved = [], 0
        async with self.store.pool.connection() as connection:
            wait = await queues.next_due(connection)
        if wait is None or wait > 0:
            return 0
        async with self.store.batch() as batch:
            jobs = await queues.due_jobs(batch, PER_RUN)
            for job in jobs:
                new = lifecycle.on_due(job, batch.now)
                if new is None:
                    new = admission.going(JOB, job, batch.now)
                    new = new and objects.changed(JOB, job, new)
                if new is job or new == job:
                    continue
                batch.stage(JOB, job, new)
                moved += 1
                if new is not None and lifecycle.phase(new) is not lifecycle.phase(job):
                    told.append(new)
            await batch.commit()
        for job in told:
            status = job["status"]
            attempts = status.get("attempts") or [{}]
            reason = str(status.get("reason") or attempts[-1].get("reason") or lifecycle.phase(job))
            message = str(status.get("message") or attempts[-1].get("message") or "")
            self.events.tell(job, reason, message, "Warning")
        return moved

    async def _forget(self, kind: Kind) -> int:
        """Deletes objects whose time is over."""
        async with self.store.pool.connection() as connection:
            cursor = await connection.execute(f"SELECT 1 FROM {kind.plural} WHERE due <= clock_timestamp() LIMIT 1")
            due = await cursor.fetchone()
        if due is None:
            return 0
        async with self.store.batch() as batch:
            found = await batch.objects(kind, "t.due <= clock_timestamp() LIMIT %s", (PER_RUN,))
            for obj in found:
                new = admission.going(kind, obj, batch.now)
                if new is not obj:
                    batch.stage(kind, obj, new and objects.changed(kind, obj, new))
            await batch.commit()
        return len(found)

    async def _expire_keys(self) -> int:
        async with self.store.pool.connection() as connection:
            cursor = await connection.execute("SELECT 1 FROM apikeys WHERE due <= clock_timestamp() LIMIT 1")
            due = await cursor.fetchone()
        if due is None:
            return 0
        async with self.store.batch() as batch:
            found = await batch.objects(APIKEY, "t.due <= clock_timestamp() LIMIT %s", (PER_RUN,))
            for key in found:
                batch.stage(APIKEY, key, {**key, "status": {**(key.get("status") or {}), "phase": "Expired"}})
            await batch.commit()
        return len(found)
