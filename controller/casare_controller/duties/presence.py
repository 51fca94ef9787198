"""Which robots are there, and what becomes of the jobs of those that are not?

Offline (a lease ran out while some apiserver was listening) only stops placement. Lost (silent for `lostAfter`) ends
the attempt as the job's retry policy says. Slots and Idle or Busy are observed; watchers are told of them here, at
most 200 robots a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from casare_api.decisions import lifecycle, revoking
from casare_api.kinds import Object, dig
from casare_api.kinds.job import JOB
from casare_api.kinds.robot import ROBOT
from casare_api.machinery import times
from casare_api.machinery.durations import format_duration, parse_duration
from casare_controller.isolating import Aside
from casare_store import lockouts, queues
from casare_store.events import Recorder
from casare_store.queues import Silence
from casare_store.store import Store

PER_WRITE = 500  # jobs in one transaction
TOLD_PER_SECOND = 200  # robots


@dataclass(slots=True)
class Presence:
    """The duty."""

    store: Store
    events: Recorder
    name: str = "presence"
    every: float = 0.5
    watches: frozenset[str] = frozenset({"Lease"})
    clock: Callable[[], float] = time.monotonic
    _aside: Aside = field(init=False)

    def __post_init__(self) -> None:
        self._aside = Aside(self.events, self.name, self.clock)

    async def run_once(self) -> dict[str, int]:
        async with self.store.pool.connection() as connection:
            came, went = await queues.came_and_went(connection)
        online, offline = await self._set_all(came, True), await self._set_all(went, False)
        lost = await self._end_lost_attempts()
        told = await self._tell_watchers()
        return {"online": online, "offline": offline, "lost": lost, "told": told}

    async def _set_all(self, uids: list[str], online: bool) -> int:
        """The same for many; one that can't be written stops no other."""
        seen: dict[str, Object] = {}
        return await self._aside.write(self._without_aside(uids), partial(self._set, online, seen), seen)

    def _without_aside(self, uids: Iterable[str]) -> list[str]:
        aside = set(self._aside.uids)
        return [uid for uid in uids if uid not in aside]

    async def _set(self, online: bool, seen: dict[str, Object], uids: Sequence[str]) -> int:
        """Writes presence and the Robot's Ready condition in one transaction."""
        async with self.store.batch() as batch:
            changed = await queues.set_online(batch, list(uids), online)
            robots = await batch.objects(ROBOT, "t.uid = ANY(%s::uuid[])", (changed,))
            seen.update((robot["metadata"]["uid"], robot) for robot in robots)
            for robot in robots:
                batch.stage(ROBOT, robot, with_ready(robot, online, batch.now))
            await batch.commit()
        for robot in robots:
            reason, words = ("Online", "it sends heartbeats") if online else ("Offline", "no heartbeat in time")
            self.events.tell(robot, reason, words, "Normal" if online else "Warning")
        return len(robots)

    async def _end_lost_attempts(self) -> int:
        async with self.store.pool.connection() as connection:
            silent = [
                one
                async for one in queues.jobs_of_silent_robots(connection)
                if lost(one.job, one, one.now) is not one.job
            ]
            if not silent:
                return 0
            found, now = await lockouts.keys_of(connection, _robots_of(silent))
        jobs = {job["metadata"]["uid"]: job for job, _ in ended(silent, found, now)}
        return await self._aside.write(self._without_aside(jobs)[:PER_WRITE], self._end, jobs)

    async def _end(self, uids: Sequence[str]) -> int:
        """Ends attempts, decided again under the lock: their robots may be heard again by now, or have other keys."""
        async with self.store.batch() as batch:
            silent = await queues.still_silent(batch, uids)
            pairs = ended(silent, await lockouts.keys_now(batch, _robots_of(silent)), batch.now)
            changed = [batch.stage(JOB, job, after) or after for job, after in pairs]
            await batch.commit()
        for job in changed:
            self.events.tell(job, "RobotLost", f"its robot is lost; the job is {lifecycle.phase(job)}", "Warning")
        return len(changed)

    async def _tell_watchers(self) -> int:
        """Robots whose observed state moved get a new revision, coalesced."""
        async with self.store.pool.connection() as connection:
            aside = self._aside.uids
            found = await queues.stale_robots(connection, int(TOLD_PER_SECOND * self.every) + len(aside))
        seen: dict[str, Object] = {}

        async def write(uids: Sequence[str]) -> int:
            async with self.store.batch() as batch:
                for robot in await batch.objects(ROBOT, "t.uid = ANY(%s::uuid[])", (list(uids),)):
                    seen[robot["metadata"]["uid"]] = robot
                    batch.stage(ROBOT, robot, robot)
                await batch.commit()
            return len(uids)

        return await self._aside.write(self._without_aside(found), write, seen)


def ended(silent: Iterable[Silence], robots_keys: lockouts.Keys, now: datetime) -> list[tuple[Object, Object]]:
    """The jobs whose attempt ends now, before and after, given all keys of their robots.

    Not those that their robots may finish, though they can't say so: see `revoking.may_finish`. Of a robot that has a
    good key again the silence counts from then.
    """
    outs = {uid: revoking.lockout(of_robot, now) for uid, of_robot in robots_keys.items()}
    backs = {uid: revoking.back_since(of_robot, now) for uid, of_robot in robots_keys.items()}
    pairs = []
    for one in silent:
        robot = _robot_of(one)
        after = lost(one.job, one.not_before(backs.get(robot)), now)
        if after is not one.job and not revoking.may_finish(one.job, outs.get(robot)):
            pairs.append((one.job, after))
    return pairs


def _robot_of(silence: Silence) -> str:
    return str(silence.job["status"]["robotUID"])


def _robots_of(silent: Iterable[Silence]) -> list[str]:
    """The robots that are still there, and so may have keys."""
    return sorted({_robot_of(one) for one in silent if not one.robot_is_gone})


def with_ready(robot: Object, online: bool, now: datetime) -> Object:
    """The robot with its Ready condition and phase as they are now."""
    ready = {
        "type": "Ready",
        "status": "True" if online else "False",
        "reason": "Heartbeat" if online else "Silent",
        "message": "it sends heartbeats" if online else "no heartbeat in time; nothing is placed on it",
        "lastTransitionTime": times.to_text(now),
    }
    status = robot.get("status") or {}
    others = [one for one in status.get("conditions") or [] if one.get("type") != "Ready"]
    used = dig(robot, "status", "slots", "used") or 0
    phase = ("Busy" if used else "Idle") if online else "Offline"
    return {**robot, "status": {**status, "phase": phase, "conditions": [ready, *others]}}


def lost(job: Object, silence: Silence, now: datetime) -> Object:
    """The job after `lostAfter` of silence, or at once when its robot was deleted; unchanged before that.

    With selfFence that makes no difference: its agent goes by `lostAfter`, for it may know of no deletion; and by the
    lease it was promised, where that is longer. One that is cancelled does not wait: no second one of it can begin.
    """
    name, is_fenced = dig(job, "status", "robotName"), revoking.is_fenced(job)
    patience = parse_duration(dig(job, "spec", "lostAfter") or "2m")
    least = max(patience, silence.lease) if is_fenced else patience
    is_over = silence.since is not None and now - silence.since >= least
    if silence.robot_is_gone and (is_over or not is_fenced or dig(job, "spec", "cancel")):
        return lifecycle.lose(job, "RobotDeleted", f"robot {name} was deleted", now)
    if not is_over or silence.robot_is_gone:
        return job
    why = f"robot {name} was silent for {format_duration(patience)}"
    return lifecycle.lose(job, "RobotOffline", why, now, may_return=True)
