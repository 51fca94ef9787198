"""What ran out of time? Every phase of a job has an exit timer in one indexed column; keys and events expire here too.

The rules are `lifecycle.due` and `lifecycle.on_due`; a job that is due moves on, is held no longer, or (its time to
live is over) is deleted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from casare_api.decisions import lifecycle
from casare_api.kinds import Kind, Object
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
        events, keys = await self._each_due(EVENT, _forgotten), await self._each_due(APIKEY, _expired)
        return {"jobs": moved, "events": events, "keys": keys}

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

    async def _each_due(self, kind: Kind, over: Callable[[Object, datetime], Object | None]) -> int:
        """Gives every object whose time is over to `over`: the object as it is now, None where it goes."""
        async with self.store.pool.connection() as connection:
            cursor = await connection.execute(f"SELECT 1 FROM {kind.plural} WHERE due <= clock_timestamp() LIMIT 1")
            if await cursor.fetchone() is None:
                return 0
        async with self.store.batch() as batch:
            found = await batch.objects(kind, "t.due <= clock_timestamp() LIMIT %s", (PER_RUN,))
            for obj in found:
                new = over(obj, batch.now)
                if new is not obj:
                    batch.stage(kind, obj, new)
            await batch.commit()
        return len(found)


def _forgotten(event: Object, now: datetime) -> Object | None:
    gone = admission.going(EVENT, event, now)
    return gone if gone is None or gone is event else objects.changed(EVENT, event, gone)


def _expired(key: Object, now: datetime) -> Object:
    return {**key, "status": {**(key.get("status") or {}), "phase": "Expired"}}
