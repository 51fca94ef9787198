"""Which queued job goes to which robot? In memory over queue heads and robots, then one guarded write.

What was read may be stale by the time it is written, so the write looks again under the history lock: the job is as it
was and still to be placed, the robot still has room and may take work, its namespace and its concurrency key have room.
What no longer fits simply waits for the next tick.

A tick reads a bounded number of queues and keys, however many there are. Where there are more it goes on from where it
stopped, and a run does not end before it has been through all of them or no robot is free. The order of ranks and the
shares hold within what one tick reads: up to `placing.QUEUES` queues that is everything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

import orjson

from casare_api.decisions import lifecycle
from casare_api.decisions.fleet import Memo
from casare_api.decisions.placement import Assignment, Key, Queue, Requirements, Robot, place_on
from casare_api.kinds import Object, dig
from casare_api.kinds.job import JOB
from casare_controller.isolating import Aside
from casare_controller.seeing import Roster, Rounds, Uid, View
from casare_controller.telling import Telling
from casare_store import placing
from casare_store.batch import Batch
from casare_store.events import Recorder
from casare_store.placing import Head, Look, Place, QueueHead, Room
from casare_store.store import Store

PER_TICK = 2000  # jobs
PER_WRITE = 500  # jobs in one transaction, so that other writers get their turn
VIEW_FOR = 1.0  # seconds that robots are not read again while their slots are given out
RUN_FOR = 5.0  # seconds, then the manager looks at the lock and at whether to stop; its next run goes on from there
LATE_FOR = 5.0  # seconds that a job is left to the timers whose start deadline is past


@dataclass(slots=True)
class Tick:
    """What was read and decided at one time."""

    waiting: list[QueueHead] = field(default_factory=list)
    chosen: list[Assignment[Uid]] = field(default_factory=list)
    texts: dict[Uid, str] = field(default_factory=dict)
    has_more: bool = False  # jobs that were not looked at
    is_all: bool = False  # whether every job of these queues was chosen
    parked: int = 0  # jobs that stood in the way of others
    promoted: int = 0  # jobs whose concurrency key has room


@dataclass(slots=True)
class Placement:
    """The duty. What it keeps in memory only saves work: robots as it last parsed them, how many jobs a queue gave."""

    store: Store
    events: Recorder
    name: str = "placement"
    every: float = 1.0
    watches: frozenset[str] = frozenset({"Job", "Robot", "Quota"})
    clock: Callable[[], float] = time.monotonic
    _roster: Roster = field(default_factory=Roster)
    _memo: Memo = field(default_factory=Memo)
    _view: View | None = None
    _given: dict[tuple[str, int], int] = field(default_factory=dict)  # jobs that a queue gave in the last tick
    _queue: Place = placing.START  # where the next look at queues begins
    _key: Place = placing.FIRST_KEY  # where the next look at concurrency keys begins
    _telling: Telling = field(init=False)
    _aside: Aside = field(init=False)

    def __post_init__(self) -> None:
        self._aside = Aside(self.events, self.name, self.clock)
        self._telling = Telling(self.store, self.clock)

    async def run_once(self) -> dict[str, int]:
        placed, self._view, until = 0, None, self.clock() + RUN_FOR
        waiting: dict[tuple[str, int], QueueHead] = {}
        rounds, is_all = Rounds.begin(self._queue, self._key), True
        while True:
            began = self._queue
            tick = await self.decide()
            written = await self.write(tick)
            placed += written
            is_all = is_all and tick.is_all and written == len(tick.chosen)
            waiting |= {(one.namespace, one.class_): one for one in tick.waiting}
            rounds.looked(began, self._queue, self._key, tick.promoted)
            is_over = rounds.have_seen_all and not (tick.parked or (written and tick.has_more))
            is_full = self._view is not None and not self._view.room
            if is_over or is_full or self.clock() >= until:
                if self._telling.is_due(everybody_is_placed=is_all):
                    await self._tell(list(waiting.values()))
                return {"placed": placed}

    async def decide(self) -> Tick:
        """Reads the queues' heads and the robots, and lets the pure function choose."""
        look, promoted = await self._look()
        tick = Tick(look.queues, promoted=promoted)
        if tick.waiting:
            view = await self._current()
            if view.room:
                await self._choose(tick, view, look.has_quotas or len({one.namespace for one in tick.waiting}) > 1)
        return tick

    async def _current(self) -> View:
        if self._view is None or self.clock() - self._view.read_at > VIEW_FOR:
            now = self.clock()
            async with self.store.pool.connection() as connection:
                self._view = View(await self._roster.read(connection), now, self._memo)
        return self._view

    async def _look(self) -> tuple[Look, int]:
        """The next queues, after what may join them because its concurrency key has room; how many jobs that are."""
        async with self.store.batches.connection() as connection:
            look = await placing.queues(connection, self._queue)
            promoted, after = 0, None
            if look.has_parked:
                promoted, after = await placing.promote(connection, self._key)
                if promoted:
                    look = await placing.queues(connection, self._queue)
        self._queue, self._key = look.after or placing.START, after or placing.FIRST_KEY
        return look, promoted

    async def _choose(self, tick: Tick, view: View, with_shares: bool) -> None:
        """Reads the heads of those queues that have a free slot somewhere, and decides."""
        asked = [(one, (one.namespace, _requirements(one.requirements))) for one in tick.waiting]
        fleet = view.fleet([each for _, each in asked])
        able = [(one, each, slots) for one, each in asked if (slots := fleet.slots(each))]
        if not able:
            return
        aside = set(self._aside.uids)  # they may stand at the head of a queue: others come with them
        even = PER_TICK // len(able)
        likely = [8 + self._given.get((one.namespace, one.class_), even) * 3 // 2 for one, _, _ in able]
        wanted = [
            (one, min(slots, PER_TICK, most) + len(aside), each[1].prefers_same_robot)
            for (one, each, slots), most in zip(able, likely, strict=True)
        ]
        async with self.store.batches.connection() as connection:
            found, shares = await placing.heads(connection, wanted, with_shares)
            full = [head.uid for heads in found for head in heads if head.is_full]
            if full:
                await placing.park(connection, full)
        waiting = [
            _queue(
                each,
                [head for head in heads if head.uid not in aside],
                is_cut=len(heads) == most and (most - len(aside) < slots or any(head.key for head in heads)),
            )
            for (_, each, slots), (_, most, _), heads in zip(able, wanted, found, strict=True)
        ]
        live = {(one.namespace, head.key): head.live
                for (one, _, _), heads in zip(able, found, strict=True) for head in heads if head.key}  # fmt: skip
        tick.chosen = place_on(fleet, waiting, shares, live, PER_TICK)
        view.take(tick.chosen)
        tick.texts = {head.uid: head.text for heads in found for head in heads if head.text}
        tick.parked = len(full)
        tick.has_more = len(tick.chosen) >= PER_TICK or any(one.more for one in waiting)
        seen = sum(len(heads) for heads, (_, most, _) in zip(found, wanted, strict=True) if len(heads) < most)
        tick.is_all = len(tick.chosen) == seen == sum(map(len, found)) and len(able) == len(asked)
        self._remember(able, found, tick)

    def _remember(
        self, able: Sequence[tuple[QueueHead, object, int]], found: Sequence[Sequence[Head]], tick: Tick
    ) -> None:
        chosen = {one.job for one in tick.chosen}
        self._given = {
            (one.namespace, one.class_): sum(head.uid in chosen for head in heads)
            for (one, _, _), heads in zip(able, found, strict=True)
        }

    async def write(self, tick: Tick) -> int:
        """Writes what still holds of what was chosen; how many."""
        written = 0
        slices = [tick.chosen[start : start + PER_WRITE] for start in range(0, len(tick.chosen), PER_WRITE)]
        ahead = [asyncio.ensure_future(self._jobs(some, tick.texts)) for some in slices[:1]]
        try:
            for number, some in enumerate(slices, 1):
                jobs = await ahead.pop()
                if number < len(slices):  # the next are read while these are written
                    ahead.append(asyncio.ensure_future(self._jobs(slices[number], tick.texts)))
                written += await self._write_some(some, jobs)
        finally:
            for reading in ahead:
                reading.cancel()
        if written < len(tick.chosen):  # things are not as they were
            self._view = None
        return written

    async def _jobs(self, chosen: list[Assignment[Uid]], texts: dict[Uid, str]) -> dict[Uid, Object]:
        """The jobs as they are, by uid; those that left the queue are left out."""
        if all(one.job in texts for one in chosen):
            return {one.job: orjson.loads(texts[one.job]) for one in chosen}
        async with self.store.batches.connection() as connection:
            return await placing.texts(connection, [one.job for one in chosen])

    async def _write_some(self, chosen: list[Assignment[Uid]], jobs: dict[Uid, Object]) -> int:
        """The guarded write of some assignments; how many still held. One that is refused stops no other."""
        wanted = {one.job: one for one in chosen}

        async def write(uids: Sequence[str]) -> int:
            return await self._write_together([wanted[uid] for uid in uids], jobs)

        return await self._aside.write(list(wanted), write, jobs)

    async def _write_together(self, chosen: list[Assignment[Uid]], jobs: dict[Uid, Object]) -> int:
        """While Postgres looks again, the moves are worked out as if all still held: nearly always it does."""
        async with self.store.batch() as batch:
            looking = _look_again(batch, chosen, jobs)
            there = [one for one in chosen if one.job in jobs and not self._is_late(jobs[one.job], batch.now)]
            mark = batch.mark()
            placed = _assign(batch, there, jobs)
            room = await looking.room()
            held = [one for one in there if _take(room, jobs[one.job], one.robot, self._roster.revisions)]
            if len(held) < len(there):
                batch.back_to(mark)
                placed = _assign(batch, held, jobs)
                _note_keys(batch, {one.job for one in there} - {one.job for one in held}, jobs)
            _note_robots(batch, placed)
            await batch.commit()
        for job in placed:
            status = job["status"]
            self.events.tell(job, "Assigned", f"attempt {status['attempt']} goes to {status['robotName']}")
        return len(placed)

    def _is_late(self, job: Object, now: datetime) -> bool:
        """Whether its timer ran out: it should be Expired, and may not start any more."""
        at = lifecycle.due(job)
        if at is None or at > now:
            return False
        self._aside.skip(job["metadata"]["uid"], LATE_FOR)
        return True

    async def _tell(self, waiting: list[QueueHead]) -> None:
        left = (await self._current()).left() if waiting else []
        await self._telling.tell([(one, _requirements(one.requirements)) for one in waiting], left)


@lru_cache(maxsize=10_000)
def _requirements(canonical: str) -> Requirements:
    return Requirements.from_dict(orjson.loads(canonical))


def _queue(asked: tuple[str, Requirements], heads: Sequence[Head], is_cut: bool) -> Queue[Uid]:
    jobs = [(head.rank, head.uid) for head in heads]
    keyed = {head.uid: (head.key, head.limit) for head in heads if head.key is not None}
    return Queue(*asked, jobs, keyed, {head.uid: head.last for head in heads if head.last}, is_cut)


# -- the write -----------------------------------------------------------------------------------------------------


def _look_again(batch: Batch, chosen: list[Assignment[Uid]], jobs: dict[Uid, Object]) -> placing.Looking:
    keys = {claim[0] for job in jobs.values() if (claim := _claim(job)) is not None}
    namespaces = {job["metadata"]["namespace"] for job in jobs.values()}
    return placing.look_again(batch, list(jobs), {one.robot.uid for one in chosen}, namespaces, keys)


def _take(room: Room, job: Object, robot: Robot, revisions: Mapping[Uid, int]) -> bool:
    """Whether there is room for the assignment, which is taken then.

    Another revision of job or robot than the one that was looked at: it may have been cancelled or paused in between.
    """
    meta, claim, rv = job["metadata"], _claim(job), revisions.get(robot.uid)
    robot_rv, free = room.robots.get(robot.uid, (None, 0))
    if room.jobs.get(meta["uid"]) != int(meta["resourceVersion"]) or robot_rv != rv or free < 1:
        return False
    namespace = meta["namespace"]
    if room.namespaces.get(namespace, 1) < 1 or (claim is not None and room.live.get(claim[0], 0) >= claim[1]):
        return False
    room.robots[robot.uid] = rv or 0, free - 1
    if namespace in room.namespaces:
        room.namespaces[namespace] -= 1
    if claim is not None:
        room.live[claim[0]] = room.live.get(claim[0], 0) + 1
    return True


def _claim(job: Object) -> tuple[Key, int] | None:
    """A job's concurrency key and how many jobs of it may run."""
    shared = job["spec"].get("concurrency") or {}
    if shared.get("key") is None:
        return None
    return (job["metadata"]["namespace"], shared["key"]), int(shared.get("limit", 1))


def _assign(batch: Batch, chosen: Iterable[Assignment[Uid]], jobs: Mapping[Uid, Object]) -> list[Object]:
    placed = []
    for one in chosen:
        job, robot = jobs[one.job], one.robot
        new = batch.stage(JOB, job, lifecycle.assign(job, robot.name, robot.uid, batch.now))
        assert new is not None
        placed.append(new)
    return placed


def _note_keys(batch: Batch, uids: Iterable[Uid], jobs: Mapping[Uid, Object]) -> None:
    for uid in uids:
        if (claim := _claim(jobs[uid])) is not None:
            placing.note_key(batch, uid, claim[0][1], claim[1])


def _note_robots(batch: Batch, placed: Sequence[Object]) -> None:
    """Which robot each workflow was with last, for those that like to have the same again."""
    latest: dict[tuple[str, str], str] = {}
    for job in placed:
        prefers = (job["spec"].get("requirements") or {}).get("prefer")
        if prefers and any(one.get("sameRobot") for one in prefers):
            workflow = dig(job, "spec", "workflowRef", "name")
            if workflow:
                latest[job["metadata"]["namespace"], workflow] = job["status"]["robotUID"]
    for (namespace, workflow), robot in sorted(latest.items()):
        placing.remember(batch, namespace, workflow, robot)
