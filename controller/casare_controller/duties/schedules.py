"""Which schedules fire now? Exactly once each: the Job, the Fire and the schedule's next time are one transaction.

A fire is named by its schedule and its time, so even a bug could not make two of it; what was missed becomes a Fire
too, for people to see and to replay.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import structlog

from casare_api.decisions import lifecycle
from casare_api.decisions.schedule import FireDecision, admit_fire, plan_fires
from casare_api.kinds import Object, dig
from casare_api.kinds.fire import FIRE
from casare_api.kinds.job import JOB
from casare_api.kinds.schedule import SCHEDULE
from casare_api.machinery import templates, times
from casare_api.machinery.errors import ApiError
from casare_store import admission, objects
from casare_store.batch import Batch, Change, Key
from casare_store.connection import DatabaseError
from casare_store.events import Recorder
from casare_store.store import Store
from casare_store.writer import Context

PER_RUN = 50  # schedules in one transaction
_TIMES = ("nextFireTime", "wakeTime")
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Schedules:
    """The duty."""

    store: Store
    events: Recorder
    name: str = "schedules"
    every: float = 0.5
    watches: frozenset[str] = frozenset({"Schedule"})

    async def run_once(self) -> dict[str, int]:
        told: list[tuple[Object, Object]] = []
        async with self.store.pool.connection() as connection:
            cursor = await connection.execute("SELECT 1 FROM schedules WHERE due <= clock_timestamp() LIMIT 1")
            found = await cursor.fetchone()
        if found is None:
            return {"fires": 0}
        async with self.store.batch() as batch:
            due = await batch.objects(SCHEDULE, "t.due <= clock_timestamp() ORDER BY t.due LIMIT %s", (PER_RUN,))
            for schedule in due:
                told += [(schedule, fire) for fire in await self._fire(batch, schedule)]
            await batch.commit()
        for schedule, fire in told:
            outcome, reason = fire["status"]["outcome"], fire["status"].get("reason") or ""
            self.events.tell(
                schedule,
                outcome,
                f"{fire['spec']['scheduledTime']}: {reason}",
                "Normal" if outcome == "Fired" else "Warning",
            )
        return {"fires": len(told)}

    async def _fire(self, batch: Batch, schedule: Object) -> list[Object]:
        """The fires of one schedule; one that can't fire is set aside and keeps none of the others from theirs."""
        mark = batch.mark()
        try:
            return await fire_due(batch, schedule)
        except DatabaseError:
            raise
        except Exception as error:
            log.exception("a schedule can't fire", namespace=schedule["metadata"]["namespace"],
                          schedule=schedule["metadata"]["name"])
            batch.back_to(mark)
            set_aside(batch, schedule, str(error))
            self.events.tell(schedule, "Broken", f"it can't fire: {error}", "Warning")
            return []


def set_aside(batch: Batch, schedule: Object, why: str) -> None:
    """Stages a schedule that fires no more until its spec is changed, and says so in its Ready condition."""
    status = {key: value for key, value in (schedule.get("status") or {}).items() if key not in _TIMES}
    message = f"it can't fire: {why}; change its spec to try again"
    ready = {"type": "Ready", "status": "False", "reason": "Broken", "message": message,
             "lastTransitionTime": times.to_text(batch.now)}
    batch.stage(SCHEDULE, schedule, {**schedule, "status": {**status, "conditions": [ready]}})


async def fire_due(batch: Batch, schedule: Object) -> list[Object]:
    """Stages everything a due schedule does now; the Fires it made."""
    spec, meta = schedule["spec"], schedule["metadata"]
    stored = dig(schedule, "status", "nextFireTime")
    plan = plan_fires(
        spec,
        times.from_text(stored) if stored else None,
        batch.now,
        anchor=times.from_text(meta["creationTimestamp"]),
        uid=meta["uid"],
    )
    last = max((decision.time for decision in plan.fires if decision.outcome == "Fired"), default=None)
    fires = [await _carry_out(batch, schedule, decision, decision.time == last) for decision in plan.fires]
    done = [fire for fire in fires if fire is not None]
    status = {
        key: value for key, value in (schedule.get("status") or {}).items() if key not in _TIMES
    }
    if plan.next is not None:
        status["nextFireTime"] = times.to_text(plan.next)
        status["wakeTime"] = times.to_text(plan.wake or plan.next)
    fired = [fire for fire in done if fire["status"]["outcome"] == "Fired"]
    if fired:
        status |= {"lastFireTime": fired[-1]["spec"]["scheduledTime"], "lastJobName": fired[-1]["status"]["jobName"]}
    missed = plan.omitted + sum(fire["status"]["outcome"] == "Missed" for fire in done)
    status["missed"] = int(status.get("missed") or 0) + missed
    batch.stage(SCHEDULE, schedule, {**schedule, "status": status})
    return done


async def _carry_out(batch: Batch, schedule: Object, decision: FireDecision, is_last: bool) -> Object | None:
    """One fire: its job when it has one, and the record of it. None when it was recorded before."""
    meta = schedule["metadata"]
    name = fire_name(meta["name"], decision.time)
    keys: list[Key] = [("Fire", meta["namespace"], name), ("Job", meta["namespace"], name)]
    known = await batch.read(keys)
    if keys[0] in known:
        return None
    status: Object = {"outcome": decision.outcome, "reason": decision.message}
    if decision.outcome == "Fired" and schedule["spec"].get("concurrencyPolicy") == "Replace" and not is_last:
        status = {"outcome": "Skipped", "reason": "a later fire, due by now, replaces it"}
    elif decision.outcome == "Fired":
        status = await _make_job(batch, schedule, decision, name, keys[1] in known)
    fire = {
        "apiVersion": FIRE.api_version,
        "kind": "Fire",
        "metadata": {"name": name, "namespace": meta["namespace"], "ownerReferences": [_owner(schedule)]},
        "spec": {"scheduleName": meta["name"], "scheduledTime": times.to_text(decision.time)},
        "status": status,
    }
    return batch.stage(FIRE, None, objects.born(FIRE, fire, batch.now))


async def _make_job(batch: Batch, schedule: Object, decision: FireDecision, name: str, exists: bool) -> Object:
    """The job of a fire, as the concurrency policy allows; what the Fire says of it."""
    meta, spec = schedule["metadata"], schedule["spec"]
    active, queued = await _jobs_of(batch, meta["uid"])
    verdict = admit_fire(spec.get("concurrencyPolicy", "Allow"), len(active) + len(queued))
    if verdict.action == "Skip" or exists:
        return {"outcome": "Skipped", "reason": verdict.reason or "a job of this name is there already"}
    if verdict.action == "Replace":
        _cancel(batch, [*active, *queued])
    try:
        job = await _job(batch, schedule, decision.time, name)
    except (ApiError, ValueError) as error:
        return {"outcome": "Skipped", "reason": f"the job can't be made: {getattr(error, 'message', error)}"}
    batch.stage(JOB, None, objects.born(JOB, job, batch.now))
    return {"outcome": "Fired", "jobName": name, "reason": decision.message}


async def _job(batch: Batch, schedule: Object, moment: datetime, name: str) -> Object:
    """The job a schedule's template makes, admitted like any other. Raises ApiError, ValueError."""
    meta, template = schedule["metadata"], schedule["spec"]["jobTemplate"]
    given = template.get("metadata") or {}
    labels = {**(given.get("labels") or {}), "fleet.casare.net/schedule": meta["name"]}
    job = {
        "apiVersion": JOB.api_version,
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": labels,
            **({"annotations": given["annotations"]} if given.get("annotations") else {}),
            "ownerReferences": [_owner(schedule)],
        },
        "spec": _rendered(template["spec"], moment.astimezone(ZoneInfo(schedule["spec"].get("timeZone", "UTC")))),
    }
    reads = await batch.read(admission.reads(JOB, job))
    return admission.settle(JOB, None, job, Context(batch.now, reads, batch.also))


def _rendered(spec: Object, moment: datetime) -> Object:
    """The template's spec with `{{ scheduledTime }}` (local to the schedule's zone) filled into its parameters."""
    if not spec.get("parameters"):
        return spec
    return {**spec, "parameters": templates.render_tree(spec["parameters"], {"scheduledTime": moment})}


async def _jobs_of(batch: Batch, uid: str) -> tuple[list[Object], list[Object]]:
    """The live and the queued jobs that a schedule owns."""
    owned = "t.owners @> ARRAY[%s]::uuid[] AND t.phase = ANY(%s)"
    live = await batch.objects(JOB, owned, (uid, ["Assigned", "Running"]))
    queued = await batch.objects(JOB, owned, (uid, ["Queued"]))
    return live, [*queued, *(change.state for change in batch.changes if _is_new_job_of(change, uid))]


def _is_new_job_of(change: Change, uid: str) -> bool:
    """Whether a change of this very batch makes a job of the schedule: no query sees that yet."""
    owners = change.state["metadata"].get("ownerReferences") or []
    return change.kind is JOB and change.old is None and any(owner["uid"] == uid for owner in owners)


def _cancel(batch: Batch, jobs: list[Object]) -> None:
    for job in jobs:
        asked = {**job, "spec": {**job["spec"], "cancel": True}}
        batch.stage(JOB, job, objects.changed(JOB, job, lifecycle.cancel(asked, batch.now)))


def _owner(schedule: Object) -> Object:
    meta = schedule["metadata"]
    return {
        "apiVersion": SCHEDULE.api_version,
        "kind": "Schedule",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }


def fire_name(schedule: str, moment: datetime) -> str:
    """A fire's and its job's name: the schedule and the scheduled time, so that there can be only one."""
    return f"{schedule[:200]}-{moment:%Y%m%d%H%M%S}"
