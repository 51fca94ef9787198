"""Which queued job goes to which robot? In memory over queue heads and robots, then one guarded write.

What was read may be stale by the time it is written, so the write looks again under the history lock: the job is still
to be placed, the robot still has room and may take work. What no longer fits simply waits for the next tick.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import orjson

from casare_api.decisions import lifecycle
from casare_api.decisions.placement import Assignment, Queue, Requirements, Robot, place
from casare_api.decisions.reasons import reasons_for
from casare_api.kinds import Object
from casare_api.kinds.job import JOB, JobPhase
from casare_store import queues
from casare_store.batch import Batch
from casare_store.events import Recorder
from casare_store.queues import QueueHead, RobotState
from casare_store.store import Store

PER_TICK = 1000  # jobs
PER_WRITE = 500  # jobs in one transaction, so that other writers get their turn
MAX_REASONS = 20
TELL_EVERY = 5.0  # seconds after which reasons are written again: another controller may have written in between

Name = tuple[str, str]  # namespace, name


@dataclass(slots=True)
class Placement:
    """The duty. It keeps robots as it last parsed them, by all that can change, which only saves parsing."""

    store: Store
    events: Recorder
    name: str = "placement"
    every: float = 1.0
    watches: frozenset[str] = frozenset({"Job", "Robot"})
    _robots: dict[str, tuple[RobotState, Robot]] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    _told: str = ""
    _told_at: float = -1e9

    async def run_once(self) -> dict[str, int]:
        placed = 0
        while True:
            waiting, fleet, chosen = await self._decide()
            written = await self._write(chosen)
            placed += written
            if not written or len(chosen) < PER_TICK:
                await self._explain(waiting, fleet)
                return {"placed": placed}

    async def _decide(self) -> tuple[list[QueueHead], list[Robot], list[Assignment[Name]]]:
        """Reads the queues' heads and the robots, and lets the pure function choose."""
        async with self.store.pool.connection() as connection:
            waiting = await queues.queues(connection)
            if not waiting:
                return [], [], []
            fleet = await self._fleet(await queues.robots(connection))
            room = sum(robot.free_slots for robot in fleet if robot.schedulable)
            if not room:
                return waiting, fleet, []
            heads = await queues.heads(connection, waiting, min(room, PER_TICK))
        wanted = [
            Queue(
                one.namespace,
                _requirements(one.requirements),
                [(rank, (one.namespace, name)) for rank, name in heads.get((one.namespace, one.class_), [])],
            )
            for one in waiting
        ]
        return waiting, fleet, place(wanted, fleet)[:PER_TICK]

    async def _fleet(self, states: list[RobotState]) -> list[Robot]:
        """The robots as they are now; only those that changed are read and parsed again."""
        now = {one.uid: one for one in states}
        changed = [uid for uid, state in now.items() if uid not in self._robots or self._robots[uid][0] != state]
        if changed:
            async with self.store.pool.connection() as connection:
                for obj in await queues.robot_objects(connection, changed):
                    state = now[obj["metadata"]["uid"]]
                    robot = Robot.from_object(obj, used_slots=state.used, online=state.online)
                    self._robots[state.uid] = (state, robot)
        self._robots = {uid: self._robots[uid] for uid in now if uid in self._robots}
        return [robot for _, robot in self._robots.values()]

    async def _write(self, chosen: list[Assignment[Name]]) -> int:
        written = 0
        for start in range(0, len(chosen), PER_WRITE):
            written += await self._write_some(chosen[start : start + PER_WRITE])
        return written

    async def _write_some(self, chosen: list[Assignment[Name]]) -> int:
        """The guarded write of some assignments; how many still held."""
        placed: list[Object] = []
        async with self.store.batch() as batch:
            room = await queues.room(batch, sorted({one.robot.uid for one in chosen}))
            known = await batch.read(("Job", *one.job) for one in chosen)
            for one in chosen:
                job, uid = known.get(("Job", *one.job)), one.robot.uid
                rv, free = room.get(uid, (0, 0))
                # Another revision than the one that was looked at: it may have been paused in between.
                if job is not None and free > 0 and rv == self._robots[uid][0].rv and _is_placeable(job):
                    room[uid] = rv, free - 1
                    placed.append(_assign(batch, job, one.robot))
            await batch.commit()
        for job in placed:
            status = job["status"]
            self.events.tell(job, "Assigned", f"attempt {status['attempt']} goes to {status['robotName']}")
        return len(placed)

    async def _explain(self, waiting: list[QueueHead], fleet: list[Robot]) -> None:
        """Keeps one plain reason per rule for every queue that waits; nothing is written when nothing changed."""
        why = reasons_for([(one.namespace, _requirements(one.requirements)) for one in waiting], fleet)
        said = {
            (one.namespace, one.class_): f'"reasons":{orjson.dumps(found[:MAX_REASONS]).decode()},'
            for one, found in zip(waiting, why, strict=True)
        }
        digest = hashlib.sha256(repr(sorted(said.items())).encode()).hexdigest()
        if digest != self._told or self.clock() - self._told_at > TELL_EVERY:
            async with self.store.pool.connection() as connection:
                await queues.save_reasons(connection, said)
            self._told, self._told_at = digest, self.clock()


@lru_cache(maxsize=10_000)
def _requirements(canonical: str) -> Requirements:
    return Requirements.from_dict(orjson.loads(canonical))


def _is_placeable(job: Object) -> bool:
    return lifecycle.phase(job) is JobPhase.QUEUED and not job["status"].get("heldUntil")


def _assign(batch: Batch, job: Object, robot: Robot) -> Object:
    new = batch.stage(JOB, job, lifecycle.assign(job, robot.name, robot.uid, batch.now))
    assert new is not None
    return new
