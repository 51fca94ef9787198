"""Which robots take no work now, and what becomes of the work they have?

Drains that people asked for and maintenance windows alike: what has not begun goes back at once, what still runs at the
deadline is given back or cancelled, and the robot says of itself how far that is. The rules are `decisions.draining`;
what is kept here between two runs only saves reading: a controller that starts sees all of it again.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import structlog

from casare_api.decisions import draining, lifecycle, revoking
from casare_api.decisions.draining import Judged
from casare_api.decisions.revoking import Lockout
from casare_api.kinds import Object, dig
from casare_api.kinds.job import JOB, LIVE
from casare_api.kinds.robot import ROBOT
from casare_controller.isolating import Aside
from casare_store import drains, lockouts, objects
from casare_store.drains import Connection, Hands
from casare_store.events import Recorder
from casare_store.store import Store

log = structlog.get_logger(__name__)
READ = 1000  # robots at a time
PER_RUN = 500  # robots that are written in a run
PER_WRITE = 50  # robots in one transaction, with up to 100 jobs each
JOBS = 2000  # that are looked at in a run
RETURN = timedelta(seconds=60)  # that an agent is given to find that its key is good again
NOTHING_SAID: tuple[dict[str, Lockout], set[str]] = ({}, set())
NOBODY = "00000000-0000-0000-0000-000000000000"
Uid = str


@dataclass(slots=True)
class Watched:
    """A robot as it was read last, and what a moment made of it."""

    robot: Object
    judged: Judged
    changes_at: datetime | None

    @property
    def is_alive(self) -> bool:
        """Whether it may have to be written without being changed by others before."""
        return self.judged.drains or self.changes_at is not None


@dataclass(slots=True)
class Draining:
    """The duty. `server` is the version of this release."""

    store: Store
    events: Recorder
    server: str
    name: str = "draining"
    every: float = 1.0
    watches: frozenset[str] = frozenset({"Robot"})
    clock: Callable[[], float] = time.monotonic
    _after: int = 0  # the revision up to which robots were read
    _watched: dict[Uid, Watched] = field(default_factory=dict)
    _again: set[Uid] = field(default_factory=set)  # have changed, and may have to be written
    _looked: Uid = NOBODY  # the job that was looked at last; the next run goes on behind it
    _aside: Aside = field(init=False)

    def __post_init__(self) -> None:
        self._aside = Aside(self.events, self.name, self.clock)

    async def run_once(self) -> dict[str, int]:
        async with self.store.pool.connection() as connection:
            now = await drains.now(connection)
            await self._learn(connection, now)
            todo = await self._todo(connection, now)
        seen: dict[Uid, Object] = {}
        done = {"robots": 0, "jobs": 0}
        for start in range(0, len(todo), PER_WRITE):
            await self._aside.write(todo[start : start + PER_WRITE], partial(self._write, seen, done), seen)
        return done

    # -- what there is ---------------------------------------------------------------------------------------------

    async def _learn(self, connection: Connection, now: datetime) -> None:
        """Reads what has changed, and judges what time has changed."""
        while found := await drains.changed(connection, self._after, READ):
            for rv, robot in found:
                self._after = rv
                self._watch(robot, now)
        for one in [*self._watched.values()]:
            if one.changes_at is not None and one.changes_at <= now:
                self._watch(one.robot, now)

    def _watch(self, robot: Object, now: datetime) -> None:
        uid = robot["metadata"]["uid"]
        try:
            judged = draining.judge(robot, now)
        except Exception:  # a rule that an older release let in, or a time zone that this computer has not
            log.exception("it can't be told whether a robot is drained", robot=robot["metadata"]["name"])
            self._forget(uid)
            return
        if _is_plain(robot, judged):
            self._forget(uid)
            return
        self._watched[uid] = Watched(robot, judged, judged.changes_at(now))
        self._again.add(uid)

    def _forget(self, uid: Uid) -> None:
        self._watched.pop(uid, None)
        self._again.discard(uid)

    async def _todo(self, connection: Connection, now: datetime) -> list[Uid]:
        """The robots that have to be written, or one of their jobs."""
        aside = set(self._aside.uids)
        drained = {uid for uid, one in self._watched.items() if one.judged.drains} - aside
        hands = await drains.hands(connection, drained) if drained else {}
        for uid in drained - hands.keys():
            self._forget(uid)
        look = hands | dict.fromkeys(self._again - aside - hands.keys(), Hands())  # whose jobs don't matter
        moving = await self._moving(connection, hands, now)
        todo = [uid for uid, has in look.items() if uid in moving or self._differs(uid, has, now)]
        self._again = (self._again & aside) | set(todo)  # until it is seen that they are as they are to be
        for uid in look.keys() - self._again:
            if not self._watched[uid].is_alive:
                self._forget(uid)
        return todo[:PER_RUN]

    def _differs(self, uid: Uid, has: Hands, now: datetime) -> bool:
        one = self._watched[uid]
        return draining.observed(one.robot, one.judged, has.live, self.server, now) is not one.robot

    async def _moving(self, connection: Connection, hands: Mapping[Uid, Hands], now: datetime) -> set[Uid]:
        """The robots of which a job is to be moved; where there are many jobs, a part of them in each run."""
        found = {uid for uid, has in hands.items() if has.assigned and self._watched[uid].judged.drains}
        over = [uid for uid, has in hands.items() if has.live and self._watched[uid].judged.is_over]
        if not over:
            return found
        jobs = await drains.live_jobs(connection, over, self._looked, JOBS)
        self._looked = jobs[-1]["metadata"]["uid"] if len(jobs) == JOBS else NOBODY
        there = await drains.there(connection, over)
        away = {uid for job in jobs if not there.get(uid := job["status"]["robotUID"])}
        outs, returning = _keys_say(*await lockouts.keys_of(connection, sorted(away))) if away else NOTHING_SAID
        there_or_soon = there.keys() | returning
        for job in jobs:
            uid = job["status"]["robotUID"]
            if draining.moved(job, self._watched[uid].judged, uid in there_or_soon, now, outs.get(uid)) is not job:
                found.add(uid)
        return found

    # -- what is written -------------------------------------------------------------------------------------------

    async def _write(self, seen: dict[Uid, Object], done: dict[str, int], uids: Sequence[Uid]) -> int:
        """Robots and their jobs, decided again under the lock."""
        robots, jobs = [], []
        async with self.store.batch() as batch:
            found = await batch.objects(ROBOT, "t.uid = ANY(%s::uuid[])", (list(uids),))
            seen.update((robot["metadata"]["uid"], robot) for robot in found)
            for uid in set(uids) - seen.keys():
                self._forget(uid)
            of_robot = _by_robot(await batch.objects(
                JOB, "t.robot_uid = ANY(%s::uuid[]) AND t.phase IN ('Assigned', 'Running')", (list(uids),)
            ))  # fmt: skip
            there = await drains.there_now(batch, uids)
            away = [uid for uid in of_robot if not there.get(uid)]
            outs, returning = _keys_say(await lockouts.keys_now(batch, away), batch.now) if away else NOTHING_SAID
            there_or_soon = there.keys() | returning
            for robot in found:
                uid, judged = robot["metadata"]["uid"], draining.judge(robot, batch.now)
                left = 0
                for job in of_robot[uid]:
                    new = draining.moved(job, judged, uid in there_or_soon, batch.now, outs.get(uid))
                    left += new is job or not _is_rid_of(new)
                    if new is not job:
                        staged = batch.stage(JOB, job, objects.changed(JOB, job, new))
                        jobs.append((job, staged or new))
                told = draining.observed(robot, judged, left, self.server, batch.now)
                if told is not robot:
                    batch.stage(ROBOT, robot, told)
                    robots.append((robot, told))
            await batch.commit()
        done["robots"], done["jobs"] = done["robots"] + len(robots), done["jobs"] + len(jobs)
        self._tell(robots, jobs)
        return len(robots) + len(jobs)

    def _tell(self, robots: Iterable[tuple[Object, Object]], jobs: Iterable[tuple[Object, Object]]) -> None:
        for old, new in robots:
            for type_ in ("Schedulable", "Drained"):
                before, after = _condition(old, type_), _condition(new, type_)
                if after and before.get("reason") != after["reason"] and (before or after["reason"] != "Active"):
                    self.events.tell(new, after["reason"], after["message"])
        for old, new in jobs:
            if lifecycle.phase(old) is not lifecycle.phase(new):
                robot = dig(old, "status", "robotName")
                self.events.tell(new, "RobotDrained", f"robot {robot} is drained; the job is {lifecycle.phase(new)}")


def _is_plain(robot: Object, judged: Judged) -> bool:
    """Whether there is nothing to say of it, now or later: nobody wants anything of it and it was never seen."""
    spec, status = robot.get("spec") or {}, robot.get("status") or {}
    has_said = status.get("conditions") or status.get("agent") or status.get("drain") or status.get("maintenance")
    is_wanted = judged.drains or spec.get("maintenanceWindows") or spec.get("desiredState", "Active") != "Active"
    return not has_said and not is_wanted


def _keys_say(robots_keys: lockouts.Keys, now: datetime) -> tuple[dict[Uid, Lockout], set[Uid]]:
    """Which robots have no good key any more and how they came to that; and which have one again since just now."""
    outs = {uid: revoking.lockout(of_robot, now) for uid, of_robot in robots_keys.items()}
    backs = {uid: revoking.back_since(of_robot, now) for uid, of_robot in robots_keys.items()}
    returning = {uid for uid, at in backs.items() if at is not None and now - at < RETURN}
    return {uid: out for uid, out in outs.items() if out is not None}, returning


def _is_rid_of(job: Object) -> bool:
    return lifecycle.phase(job) not in LIVE


def _by_robot(jobs: Iterable[Object]) -> dict[Uid, list[Object]]:
    found: dict[Uid, list[Object]] = defaultdict(list)
    for job in jobs:
        found[job["status"]["robotUID"]].append(job)
    return found


def _condition(robot: Object, type_: str) -> Object:
    found = dig(robot, "status", "conditions") or ()
    return next((one for one in found if one.get("type") == type_), {})
