"""What ran out of time? Every phase of a job has an exit timer in one indexed column; keys and events expire here too.

The rules are `lifecycle.due` and `lifecycle.on_due`; a job that is due moves on, is held no longer, or (its time to
live is over) is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from casare_api.decisions import enrolment, lifecycle
from casare_api.kinds import Kind, Object
from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.core import EVENT
from casare_api.kinds.job import JOB
from casare_api.kinds.jointoken import JOINTOKEN
from casare_api.machinery import times
from casare_controller.isolating import Aside
from casare_store import admission, objects, queues
from casare_store.events import Recorder
from casare_store.store import Store

PER_RUN = 500  # objects in one transaction
Over = Callable[[Object, datetime], Object | None]


@dataclass(slots=True)
class Timers:
    """The duty."""

    store: Store
    events: Recorder
    name: str = "timers"
    every: float = 0.5
    watches: frozenset[str] = frozenset()
    clock: Callable[[], float] = time.monotonic
    _aside: Aside = field(init=False)

    def __post_init__(self) -> None:
        self._aside = Aside(self.events, self.name, self.clock)

    async def run_once(self) -> dict[str, int]:
        return {
            "jobs": await self._each_due(JOB, _moved),
            "events": await self._each_due(EVENT, _forgotten),
            "keys": await self._each_due(APIKEY, _expired),
            "tokens": await self._each_due(JOINTOKEN, _token_over),
        }

    async def _each_due(self, kind: Kind, over: Over) -> int:
        """Gives every object whose time is over to `over`: the object as it is now, None where it goes; how many moved.

        One that can't be written stops no other.
        """
        moved = 0
        while True:
            async with self.store.pool.connection() as connection:
                uids = await queues.due(connection, kind, PER_RUN, self._aside.uids)
            seen: dict[str, Object] = {}
            count = await self._aside.write(uids, partial(self._move, kind, over, seen), seen)
            moved += count
            if len(uids) < PER_RUN or not count:
                return moved

    async def _move(self, kind: Kind, over: Over, seen: dict[str, Object], uids: Sequence[str]) -> int:
        told, moved = [], 0
        async with self.store.batch() as batch:
            found = await batch.objects(
                kind, "t.uid = ANY(%s::uuid[]) AND t.due <= clock_timestamp() ORDER BY t.due", (list(uids),)
            )
            seen.update((obj["metadata"]["uid"], obj) for obj in found)
            for obj in found:
                new = over(obj, batch.now)
                if new is obj or new == obj:
                    continue
                batch.stage(kind, obj, new)
                moved += 1
                if kind is JOB and new is not None and lifecycle.phase(new) is not lifecycle.phase(obj):
                    told.append(new)
            await batch.commit()
        for job in told:
            self._tell(job)
        return moved

    def _tell(self, job: Object) -> None:
        status = job["status"]
        attempts = status.get("attempts") or [{}]
        reason = str(status.get("reason") or attempts[-1].get("reason") or lifecycle.phase(job))
        message = str(status.get("message") or attempts[-1].get("message") or "")
        self.events.tell(job, reason, message, "Warning")


def _moved(job: Object, now: datetime) -> Object | None:
    new = lifecycle.on_due(job, now)
    if new is None:
        new = admission.going(JOB, job, now)
        new = new and objects.changed(JOB, job, new)
    return new


def _forgotten(event: Object, now: datetime) -> Object | None:
    gone = admission.going(EVENT, event, now)
    return gone if gone is None or gone is event else objects.changed(EVENT, event, gone)


def _token_over(token: Object, now: datetime) -> Object:
    return enrolment.settled(token, times.from_text(token["metadata"]["creationTimestamp"]), now)


def _expired(key: Object, now: datetime) -> Object:
    return {**key, "status": {**(key.get("status") or {}), "phase": "Expired"}}
