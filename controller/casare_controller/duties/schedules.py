"""Which schedules fire now? Exactly once each: the Job, the Fire and the schedule's next time are one transaction.

A fire is named by its schedule and its time, so even a bug could not make two of it; what was missed becomes a Fire
too, for people to see and to replay. No schedule keeps others from firing: those due fire in one batch, and when the
database does not take it, each in its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from casare_api.decisions import lifecycle
from casare_api.decisions.schedule import FireDecision, admit_fire, plan_fires
from casare_api.kinds import Object, dig
from casare_api.kinds.fire import FIRE
from casare_api.kinds.job import JOB
from casare_api.kinds.schedule import SCHEDULE
from casare_api.machinery import names, templates, times
from casare_api.machinery.admission import admit
from casare_api.machinery.errors import ApiError
from casare_store import admission, objects
from casare_store.batch import IDEMPOTENCY, Batch, Change, OutcomeUnknown
from casare_store.connection import DatabaseError
from casare_store.events import Recorder
from casare_store.headroom import Headroom
from casare_store.known import Key
from casare_store.operations import Context, Found, Operation, apply
from casare_store.store import Store

PER_RUN = 50  # schedules in one transaction
LONGEST_IN_NAME = 200  # characters of a schedule's name in those of its fires
LONGEST_WHY = 500
_TIMES = ("nextFireTime", "wakeTime")
# Classes of SQLSTATE that speak of what was written: cardinality, data, integrity, check option, limits. Whatever else
# fails (a lock, a full disk, a server that may only be read) is no schedule's fault.
_OF_DATA = ("21", "22", "23", "44", "54")
log = structlog.get_logger(__name__)


class BatchFailed(Exception):
    """The database did not take what these schedules, by uid, do now."""

    def __init__(self, uids: Sequence[str], error: Exception, is_lost: bool) -> None:
        super().__init__(_one_line(error))
        self.uids, self.error = uids, error
        self.is_lost = is_lost  # the connection, with it


@dataclass(slots=True)
class Schedules:
    """The duty."""

    store: Store
    events: Recorder
    name: str = "schedules"
    every: float = 0.5
    watches: frozenset[str] = frozenset({"Schedule"})

    async def run_once(self) -> dict[str, int]:
        async with self.store.pool.connection() as connection:
            cursor = await connection.execute("SELECT 1 FROM schedules WHERE due <= clock_timestamp() LIMIT 1")
            found = await cursor.fetchone()
        if found is None:
            return {"fires": 0}
        try:
            return {"fires": await self._run("ORDER BY t.due LIMIT %s", (PER_RUN,))}
        except BatchFailed as failed:
            log.warning("schedules that are due go one by one", count=len(failed.uids), why=str(failed))
            return {"fires": await self._one_by_one(failed.uids)}

    async def _run(self, which: str, args: Sequence[Any]) -> int:
        """One batch for those of the due schedules; the number of fires. Raises BatchFailed."""
        async with self.store.batch() as batch:
            due = await batch.objects(SCHEDULE, f"t.due <= clock_timestamp() {which}", args)
            try:
                told = [(schedule, fire) for schedule in due for fire in await self._fire(batch, schedule)]
                await batch.commit()
            except (DatabaseError, OutcomeUnknown) as error:
                is_lost = batch.connection.closed or isinstance(error, OutcomeUnknown)
                raise BatchFailed([one["metadata"]["uid"] for one in due], error, is_lost) from error
        for schedule, fire in told:
            self._tell(schedule, fire)
        return len(told)

    async def _one_by_one(self, uids: Sequence[str]) -> int:
        """Each schedule in its own batch, and whichever fails alone set aside once the others have fired."""
        count, failures = 0, []
        for uid in uids:
            try:
                count += await self._run("AND t.uid = %s", (uid,))
            except BatchFailed as failed:
                if failed.is_lost:
                    raise failed.error from None
                failures.append(failed)
        for alone in failures:
            await self._refused(alone)
        return count

    async def _refused(self, failed: BatchFailed) -> None:
        """Sets a schedule aside that the database refuses; one that met a passing trouble is tried again."""
        sqlstate = getattr(failed.error, "sqlstate", None)
        if sqlstate is not None and sqlstate[:2] not in _OF_DATA:  # None: refused by the driver
            log.warning("a schedule has to wait", uids=failed.uids, why=str(failed))
            return
        async with self.store.batch() as batch:
            for schedule in await batch.objects(
                SCHEDULE, "t.due <= clock_timestamp() AND t.uid = ANY(%s::uuid[])", (list(failed.uids),)
            ):
                self._set_aside(batch, schedule, failed.error)
            await batch.commit()

    async def _fire(self, batch: Batch, schedule: Object) -> list[Object]:
        """The fires of one schedule; one that can't fire is set aside and keeps none of the others from theirs."""
        mark = batch.mark()
        try:
            return await fire_due(batch, schedule)
        except DatabaseError:
            raise
        except Exception as error:
            batch.back_to(mark)
            self._set_aside(batch, schedule, error)
            return []

    def _set_aside(self, batch: Batch, schedule: Object, error: Exception) -> None:
        meta = schedule["metadata"]
        log.error("a schedule can't fire", namespace=meta["namespace"], schedule=meta["name"], exc_info=error)
        set_aside(batch, schedule, _one_line(error))
        self.events.tell(schedule, "Broken", f"it can't fire: {_one_line(error)}", "Warning")

    def _tell(self, schedule: Object, fire: Object) -> None:
        outcome, reason = fire["status"]["outcome"], fire["status"].get("reason") or ""
        message = f"{fire['spec']['scheduledTime']}: {reason}"
        self.events.tell(schedule, outcome, message, "Normal" if outcome == "Fired" else "Warning")


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
    taken = await _taken(batch, meta["namespace"], [fire_name(meta["name"], each.time) for each in plan.fires])
    fires = [await _carry_out(batch, schedule, decision, decision.time == last, taken) for decision in plan.fires]
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


async def _taken(batch: Batch, namespace: str, fires: Iterable[str]) -> set[Key]:
    """Which Fires and Jobs of these names there are, those that this very batch makes too: no query sees them yet."""
    keys = {(kind, namespace, name) for name in fires for kind in ("Fire", "Job")}
    staged = {_key(change) for change in batch.changes if change.new is not None}
    return (keys & staged) | (await batch.read(keys)).keys()


def _key(change: Change) -> Key:
    meta = change.state["metadata"]
    return change.kind.kind, meta.get("namespace") or "", meta["name"]


async def _carry_out(
    batch: Batch, schedule: Object, decision: FireDecision, is_last: bool, taken: set[Key]
) -> Object | None:
    """One fire: its job when it has one, and the record of it. None when it was recorded before."""
    meta = schedule["metadata"]
    name = fire_name(meta["name"], decision.time)
    if ("Fire", meta["namespace"], name) in taken:
        return None
    status: Object = {"outcome": decision.outcome, "reason": decision.message}
    if decision.outcome == "Fired" and schedule["spec"].get("concurrencyPolicy") == "Replace" and not is_last:
        status = {"outcome": "Skipped", "reason": "a later fire, due by now, replaces it"}
    elif decision.outcome == "Fired":
        status = await _make_job(batch, schedule, decision, name, ("Job", meta["namespace"], name) in taken)
    fire = {
        "apiVersion": FIRE.api_version,
        "kind": "Fire",
        "metadata": {"name": name, "namespace": meta["namespace"], "ownerReferences": [_owner(schedule)]},
        "spec": {"scheduleName": meta["name"], "scheduledTime": times.to_text(decision.time)},
        "status": status,
    }
    return batch.stage(FIRE, None, objects.born(FIRE, fire, batch.now))


async def _make_job(batch: Batch, schedule: Object, decision: FireDecision, name: str, exists: bool) -> Object:
    """The job of a fire, admitted like any other, as the concurrency policy allows; what the Fire says of it."""
    meta, spec = schedule["metadata"], schedule["spec"]
    active, queued = await _jobs_of(batch, meta["namespace"], meta["uid"])
    verdict = admit_fire(spec.get("concurrencyPolicy", "Allow"), len(active) + len(queued))
    if verdict.action == "Skip" or exists:
        return {"outcome": "Skipped", "reason": verdict.reason or "a job of this name is there already"}
    try:
        made = await _create(batch, admission.create(JOB, admit(JOB, _job(schedule, decision.time, name))[0]))
    except (ApiError, ValueError) as error:
        return {"outcome": "Skipped", "reason": f"the job can't be made: {getattr(error, 'message', error)}"}
    if isinstance(made, Found):
        return {"outcome": "Skipped", "reason": f"job {made['metadata']['name']} has the same spec.idempotencyKey"}
    if verdict.action == "Replace":
        _cancel(batch, [*active, *queued])
    return {"outcome": "Fired", "jobName": name, "reason": decision.message}


async def _create(batch: Batch, creation: Operation) -> Object | None:
    """Stages the job, or finds the one that has its idempotencyKey. Raises ApiError."""
    known = await batch.read(creation.reads if creation.instead is None else (*creation.reads, creation.instead))
    for change in batch.unsent:  # no query sees it yet
        if creation.instead == (IDEMPOTENCY, *_key(change)[1:2], dig(change.new or {}, "spec", "idempotencyKey")):
            known[creation.instead] = change.state
    room = await Headroom().look(batch, known, 1)
    return apply(batch, creation, Context(batch.now, known, batch.also, room=room))


def _job(schedule: Object, moment: datetime, name: str) -> Object:
    """The job a schedule's template makes, not admitted yet. Raises ValueError."""
    meta, template = schedule["metadata"], schedule["spec"]["jobTemplate"]
    given = template.get("metadata") or {}
    labels = {**(given.get("labels") or {}), "fleet.casare.net/schedule": _shortened(meta["name"], names.LONGEST_LABEL)}
    return {
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


def _rendered(spec: Object, moment: datetime) -> Object:
    """The template's spec with `{{ scheduledTime }}` (local to the schedule's zone) filled into its parameters."""
    if not spec.get("parameters"):
        return spec
    return {**spec, "parameters": templates.render_tree(spec["parameters"], {"scheduledTime": moment})}


async def _jobs_of(batch: Batch, namespace: str, uid: str) -> tuple[list[Object], list[Object]]:
    """The live and the queued jobs that a schedule owns: those in its namespace."""
    owned = "t.owners @> ARRAY[%s]::uuid[] AND t.namespace = %s AND t.phase = ANY(%s)"
    live = await batch.objects(JOB, owned, (uid, namespace, ["Assigned", "Running"]))
    queued = await batch.objects(JOB, owned, (uid, namespace, ["Queued"]))
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
    return f"{_shortened(schedule, LONGEST_IN_NAME)}-{moment:%Y%m%d%H%M%S}"


def _shortened(name: str, most: int) -> str:
    """The name in at most so many characters: of a longer one the beginning, and a hash to tell it from others."""
    if len(name) <= most:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: most - 17].rstrip('.')}-{digest}"


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:LONGEST_WHY]
