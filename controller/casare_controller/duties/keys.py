"""What follows from a key that is not good any more, or not for long?

A robot whose last key was taken back is cut off: its lease ends, and its jobs come to what the key's onRevoke says
(`decisions.revoking`). A deleted key is held until that is done: it is done also if nobody was here at the time.
Overlaps that are over leave the status, and people are told of keys that are due to be rotated; nobody is cut by that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from casare_api.decisions import keys, lifecycle, revoking
from casare_api.decisions.revoking import Lockout
from casare_api.kinds import Object
from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.job import JOB
from casare_api.kinds.robot import ROBOT
from casare_controller.duties.presence import with_ready
from casare_controller.isolating import Aside
from casare_store import lockouts
from casare_store.batch import Batch
from casare_store.events import Recorder
from casare_store.store import Store

PER_WRITE = 500  # objects in one transaction
QUIET, BUSY = 10.0, 1.0  # seconds between looks: a heartbeat from just before may still bring a robot back
BUSY_FOR = 5.0  # seconds after something was done
TIDY_EVERY = 10.0  # seconds
_LIVE_OF = "t.robot_uid = ANY(%s::uuid[]) AND t.phase IN ('Assigned', 'Running')"


@dataclass(slots=True)
class Keys:
    """The duty."""

    store: Store
    events: Recorder
    name: str = "keys"
    every: float = QUIET
    watches: frozenset[str] = frozenset({APIKEY.kind})
    clock: Callable[[], float] = time.monotonic
    _aside: Aside = field(init=False)
    _busy_at: float = -1e9
    _tidied_at: float = -1e9

    def __post_init__(self) -> None:
        self._aside = Aside(self.events, self.name, self.clock)

    async def run_once(self) -> dict[str, int]:
        robots = await self._locked_out()
        ended = await self._end_leases(robots)
        jobs = await self._move_jobs(list(robots))
        gone = await self._let_go()
        if ended or jobs or gone:
            self._busy_at = self.clock()
        self.every = BUSY if self.clock() - self._busy_at < BUSY_FOR else QUIET
        return {"offline": ended, "jobs": jobs, "deleted": gone, "tidied": await self._tidy()}

    async def _locked_out(self) -> dict[str, Lockout]:
        """Robots (uid) without a good key that are online or have live jobs, and how they came to that."""
        async with self.store.pool.connection() as connection:
            robots = await lockouts.suspects(connection)
            found, now = await lockouts.keys_of(connection, robots) if robots else ({}, None)
        outs = {uid: revoking.lockout(of_robot, now) for uid, of_robot in found.items() if now is not None}
        return {uid: out for uid, out in outs.items() if out is not None}

    async def _end_leases(self, robots: dict[str, Lockout]) -> int:
        if not robots:
            return 0
        async with self.store.pool.connection() as connection:
            return await lockouts.end_leases(connection, {uid: out.at for uid, out in robots.items()})

    # -- jobs --------------------------------------------------------------------------------------------------------

    async def _move_jobs(self, robots: Sequence[str]) -> int:
        """Moves what the robots' keys say of their jobs; one that can't be written stops no other."""
        moved = 0
        for start in range(0, len(robots), PER_WRITE):
            some = robots[start : start + PER_WRITE]
            async with self.store.batch() as batch:
                ripe = await self._ripe(batch, some)
            aside, seen = set(self._aside.uids), {job["metadata"]["uid"]: job for job, _ in ripe}
            uids = [uid for uid in seen if uid not in aside]
            for at in range(0, len(uids), PER_WRITE):
                moved += await self._aside.write(uids[at : at + PER_WRITE], partial(self._move, some), seen)
        return moved

    async def _move(self, robots: Sequence[str], uids: Sequence[str]) -> int:
        """Moves jobs, and takes their robots offline in the same transaction: or else they may get them again."""
        async with self.store.batch() as batch:
            gone = await lockouts.take_offline(batch, robots)
            for robot in await batch.objects(ROBOT, "t.uid = ANY(%s::uuid[])", (gone,)):
                batch.stage(ROBOT, robot, with_ready(robot, False, batch.now))
            wanted = set(uids)
            changed = [
                batch.stage(JOB, job, after) or after
                for job, after in await self._ripe(batch, robots)
                if job["metadata"]["uid"] in wanted
            ]
            await batch.commit()
        for job in changed:
            words = f"its robot has no good key any more; the job is {lifecycle.phase(job)}"
            self.events.tell(job, revoking.REASON, words, "Warning")
        return len(changed)

    async def _ripe(self, batch: Batch, robots: Sequence[str]) -> list[tuple[Object, Object]]:
        """The live jobs of robots that are to be moved, before and after: as things stand under the lock."""
        found = await lockouts.keys_now(batch, robots)
        outs = {uid: revoking.lockout(of_robot, batch.now) for uid, of_robot in found.items()}
        jobs = await batch.objects(JOB, _LIVE_OF, (list(outs),))
        pairs = []
        for job in jobs:
            out = outs[job["status"]["robotUID"]]
            after = job if out is None else revoking.fate(job, out, batch.now)
            if after is not job:
                pairs.append((job, after))
        return pairs

    # -- keys --------------------------------------------------------------------------------------------------------

    async def _let_go(self) -> int:
        """Deleted keys go when none of their jobs waits to be looked after."""
        async with self.store.pool.connection() as connection:
            found = await lockouts.held(connection, PER_WRITE)
        if not found:
            return 0
        async with self.store.batch() as batch:
            ripe = await self._ripe(batch, [robot for robot in found.values() if robot is not None])
            waiting = {job["status"]["robotUID"] for job, _ in ripe}
            free = [uid for uid, robot in found.items() if robot not in waiting]
            gone = await batch.objects(APIKEY, "t.uid = ANY(%s::uuid[])", (free,))
            for key in gone:
                batch.stage(APIKEY, key, revoking.let_go(key))
            await batch.commit()
        return len(gone)

    async def _tidy(self) -> int:
        """Says of keys what is true by now."""
        if self.clock() - self._tidied_at < TIDY_EVERY:
            return 0
        async with self.store.pool.connection() as connection:
            uids = await lockouts.untidy(connection, PER_WRITE, self._aside.uids)
        seen: dict[str, Object] = {}
        tidied = await self._aside.write(uids, partial(self._say, seen), seen)
        if len(uids) < PER_WRITE or not tidied:
            self._tidied_at = self.clock()
        return tidied

    async def _say(self, seen: dict[str, Object], uids: Sequence[str]) -> int:
        async with self.store.batch() as batch:
            found = await batch.objects(APIKEY, "t.uid = ANY(%s::uuid[])", (list(uids),))
            seen.update((key["metadata"]["uid"], key) for key in found)
            changed = [(key, new) for key in found if (new := keys.tidied(key, batch.now)) is not key]
            for key, new in changed:
                batch.stage(APIKEY, key, new)
            await batch.commit()
        for key, new in changed:
            if keys.says_due(new) and not keys.says_due(key):
                self.events.tell(new, keys.DUE, keys.due_message(new), "Warning")
        return len(changed)
