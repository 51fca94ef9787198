"""How does a job move? Pure functions from a job and the time to the job as it should be next.

Always holds: a final phase absorbs; an attempt's number only grows; a report counts only for the current attempt of
the robot that has it; every phase that is not final has a time at which `on_due` moves it on, or a robot whose
presence is watched. An attempt's process starts only once the server has recorded Running, so an attempt that is
Assigned has done nothing yet; a Running job with `onRobotLost` Fail or Wait goes back to the queue for nothing but a
failure that its robot itself reported. One that is to be cancelled never goes back; where it is being deleted, its end
is what its deletion waited for. Jobs come in and go out as plain dicts; what comes in is never changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from casare_api.decisions import deletion
from casare_api.kinds.job import FINAL, JOB, LIVE, TRANSITIONS, JobPhase
from casare_api.kinds.kind import Object, dig
from casare_api.machinery import times
from casare_api.machinery.durations import format_duration, parse_duration
from casare_api.machinery.errors import ApiError

ASSIGN_TIMEOUT = timedelta(seconds=30)  # a robot that has not said Running by then does not have the job
TIMEOUT_SLACK = timedelta(seconds=60)  # the agent enforces timeouts; the server steps in this much later
AGING_INTERVAL = timedelta(minutes=5)  # one step of priority is worth this much waiting
MAX_ATTEMPTS_KEPT = 20  # with all they say; those before them are only counted
END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_PER_ATTEMPT = (
    "robotName", "robotUID", "assignedTime", "startedTime", "progress", "exitCode", "outputs", "cancelTime", "drainTime"
)
NOT_ACKNOWLEDGED = "NotAcknowledged"
NOT_STARTED = "NotStarted"  # among the earlier attempts: lost before they ran
_PHASES = {each.value: each for each in JobPhase}
_NOTHING: Object = {}
_FINAL_OUTCOMES = {"Succeeded": JobPhase.SUCCEEDED, "Failed": JobPhase.FAILED, "Cancelled": JobPhase.CANCELLED}
_OUTCOMES = frozenset(("Running", "Lost", "Drained", *_FINAL_OUTCOMES))


def phase(job: Object) -> JobPhase:
    """The phase of a job; a job without a status is Queued."""
    said = (job.get("status") or _NOTHING).get("phase") or "Queued"
    return _PHASES.get(said) or JobPhase(said)


def is_final(job: Object) -> bool:
    return phase(job) in FINAL


def queue(job: Object, now: datetime, aging: str | None = None) -> Object:
    """A new job as it enters the queue; `aging` is the agingInterval of its namespace's Quota."""
    status: Object = {"phase": JobPhase.QUEUED.value, "attempt": 0, "queuedTime": _text(now)}
    if aging is not None and parse_duration(aging) != AGING_INTERVAL:
        status["agingInterval"] = aging
    not_before = job["spec"].get("notBefore")
    if not_before and times.from_text(not_before) > now:
        status["heldUntil"] = _text(times.from_text(not_before))
    queued = {**job, "status": status}
    return cancel(queued, now) if job["spec"].get("cancel") else queued


def rank(job: Object, aging: timedelta | None = None) -> datetime:
    """The static place of a job in its queue, smaller first: queued time plus priority times `aging`.

    `aging` is what the job was submitted under (`status.agingInterval`, 5 minutes where it says nothing) unless it is
    given. Static, so that it can be indexed. With aging > 0 no job submitted later than 20 intervals after mine can
    overtake it. Zero turns ageing off: a step of priority then outweighs any wait (ten years).
    """
    queued = times.from_text(job["status"]["queuedTime"])
    aging = aging_interval(job) if aging is None else aging
    priority = int(job["spec"].get("priority") or 0)
    step = aging if aging > timedelta(0) else timedelta(days=3650)
    return _later(queued, priority * step) if priority else queued


def aging_interval(job: Object) -> timedelta:
    """How long this job waits to make up for one step of priority."""
    said = job["status"].get("agingInterval")
    return AGING_INTERVAL if said is None else parse_duration(said)


def assign(job: Object, robot_name: str, robot_uid: str, now: datetime) -> Object:
    """Queued -> Assigned: a new attempt on a robot."""
    attempt = int(dig(job, "status", "attempt") or 0) + 1
    return _move(
        job, JobPhase.ASSIGNED, attempt=attempt, robotName=robot_name, robotUID=robot_uid, assignedTime=_text(now)
    )


def report(job: Object, robot_uid: str, said: Mapping[str, Any], now: datetime) -> Object:
    """The job after what its robot says of an attempt; the same object where that changes nothing.

    `said` has attempt, phase (Running, Succeeded, Failed, Cancelled, Lost, Drained) and may have startedTime,
    finishedTime, exitCode, message, reason, outputs, progress. Raises ApiError 409 where the attempt is not (or no
    longer) this robot's, 422 for a phase that there is not.
    """
    outcome = str(said.get("phase"))
    if outcome not in _OUTCOMES:
        raise ApiError(422, "Invalid", f'phase "{outcome}": a report says Running, Succeeded, Failed, Cancelled, '
                                       "Lost or Drained")
    if _is_repeated(job, robot_uid, said):
        return job
    _check_fence(job, robot_uid, said)
    if outcome == "Running":
        return _running(job, said, now)
    if outcome in ("Lost", "Drained"):
        return lose(job, str(said.get("reason") or outcome), str(said.get("message") or ""), now, outcome)
    return _finished(job, said, now)


def lose(
    job: Object, reason: str, message: str, now: datetime, outcome: str = "Lost", *, may_return: bool = False
) -> Object:
    """The job after its robot lost the current attempt: requeued, failed or left waiting, as its retry policy says.

    An attempt that had not started yet always goes back to the queue: nothing can have happened twice. One that had
    started goes back with `Requeue` alone: up to robotLostLimit times, and however often its robot gives it back on
    purpose (Drained). `may_return` says that the robot is only silent: a job that waits for its robot (`Wait`) fails
    when the robot itself gave up or is gone for good.
    """
    if phase(job) not in LIVE:
        return job
    if dig(job, "spec", "cancel"):
        return _end(job, JobPhase.CANCELLED, reason, "cancelled; its robot is gone", now, outcome)
    if phase(job) is JobPhase.ASSIGNED:
        return _requeue(job, reason, message, now, outcome)
    policy = dig(job, "spec", "retry") or {}
    on_lost = policy.get("onRobotLost", "Requeue")
    if on_lost == "Wait" and may_return:
        return job
    if on_lost == "Requeue" and (outcome == "Drained" or _lost(job) < int(policy.get("robotLostLimit", 3))):
        return _requeue(job, reason, message, now, outcome)
    return _end(job, JobPhase.FAILED, reason, message or "its robot was lost", now, outcome)


def cancel(job: Object, now: datetime) -> Object:
    """The job after somebody asked to cancel it: at once before it runs, else by its robot or, late, by the timers.

    What is Assigned has no process, and never gets one: its robot's Running comes too late for this attempt.
    """
    if phase(job) in (JobPhase.QUEUED, JobPhase.ASSIGNED):
        outcome = "Cancelled" if phase(job) is JobPhase.ASSIGNED else None
        return _end(job, JobPhase.CANCELLED, "Cancelled", "cancelled before it started", now, outcome)
    if phase(job) is JobPhase.RUNNING and not dig(job, "status", "cancelTime"):
        return _with(job, cancelTime=_text(now))
    return job


def give_back(job: Object, now: datetime) -> Object:
    """A running job whose robot is asked to end it and give it back."""
    if phase(job) is not JobPhase.RUNNING or dig(job, "status", "drainTime"):
        return job
    return _with(job, drainTime=_text(now))


def keep(job: Object) -> Object:
    """A job that its robot may go on with after all, unless it has given it back already."""
    return _without(job, "drainTime")


def end_cancelled(job: Object, reason: str, message: str, now: datetime) -> Object:
    """A live job as cancelled at once, whatever its robot does: nobody will hear of it any more."""
    return _end(job, JobPhase.CANCELLED, reason, message, now, "Cancelled") if phase(job) in LIVE else job


def due(job: Object) -> datetime | None:
    """When the timers must look at this job again: the exit timer of its phase. None: only its robot moves it."""
    spec, status = job.get("spec") or _NOTHING, job.get("status") or _NOTHING
    current = phase(job)
    moments: list[datetime] = []
    if current is JobPhase.QUEUED:
        moments += [times.from_text(status["heldUntil"])] if status.get("heldUntil") else []
        deadline = _start_deadline(job)
        moments += [deadline] if deadline is not None else []
    elif current is JobPhase.ASSIGNED:
        moments.append(_later(times.from_text(status["assignedTime"]), ASSIGN_TIMEOUT))
    elif current is JobPhase.RUNNING and spec.get("timeout"):
        moments.append(_later(times.from_text(status["startedTime"]), parse_duration(spec["timeout"]) + _grace(job)))
    elif current in FINAL and spec.get("ttlAfterFinished") and not job["metadata"].get("deletionTimestamp"):
        moments.append(_later(times.from_text(status["finishedTime"]), parse_duration(spec["ttlAfterFinished"])))
    if status.get("cancelTime") and current in LIVE:
        moments.append(_later(times.from_text(status["cancelTime"]), _grace(job)))
    return min(moments, default=None)


def on_due(job: Object, now: datetime) -> Object | None:
    """The job after its exit timer ran out: moved on, or None when its time to live is over."""
    at = due(job)
    if at is None or at > now:
        return job
    current = phase(job)
    if current in FINAL:
        return None
    if current in LIVE and dig(job, "status", "cancelTime"):
        return _end(job, JobPhase.CANCELLED, "Cancelled", "cancelled; its robot did not confirm it", now, "Cancelled")
    if current is JobPhase.ASSIGNED:
        return _not_acknowledged(job, now)
    if current is JobPhase.RUNNING:  # its robot, which should have ended it, is as good as lost
        why = f"timed out after {job['spec']['timeout']}, and its robot did not end it"
        return lose(job, "Timeout", why, now)
    deadline = _start_deadline(job)
    if deadline is not None and deadline <= now:
        waited = format_duration(parse_duration(job["spec"]["startDeadline"]))
        return _end(job, JobPhase.EXPIRED, "StartDeadline", f"no robot could start it within {waited}", now, None)
    return _without(job, "heldUntil")


def backoff(policy: Mapping[str, Any], failures: int, uid: str = "") -> timedelta:
    """How long a job waits after its `failures`-th failure: initial x factor^(failures-1), at most max, with jitter.

    The jitter takes off up to a half, so that jobs that failed together do not come back together. It comes from the
    job's uid and the number of the failure: whoever asks again gets the same.
    """
    rule = policy.get("backoff") or {}
    initial, most = parse_duration(rule.get("initial", "10s")), parse_duration(rule.get("max", "5m"))
    factor = float(rule.get("factor", 2)) ** min(failures - 1, 50)  # at most 1e100, which no timedelta holds
    seconds = initial.total_seconds() * factor
    wait = timedelta(seconds=seconds) if seconds < most.total_seconds() else most
    return wait * _share(uid, failures)


# -- the steps -------------------------------------------------------------------------------------------------


def _share(uid: str, failures: int) -> float:
    """Between a half and the whole, always the same for one failure of one job."""
    digest = hashlib.blake2b(f"{uid}|{failures}".encode(), digest_size=4).digest()
    return 1 - int.from_bytes(digest, "big") / 2**33


def _is_repeated(job: Object, robot_uid: str, said: Mapping[str, Any]) -> bool:
    """Whether this final report was recorded already: the same attempt of the same robot with the same outcome.

    The attempt's own outcome counts: a job that failed because its robot was lost did not hear that it failed. What is
    said of an attempt that is still live is news, whatever the list of those that are over says.
    """
    status = job.get("status") or _NOTHING
    past = status.get("attempts")
    if not past or (phase(job) in LIVE and status.get("attempt") == said.get("attempt")):
        return False
    said_of = said.get("attempt"), robot_uid, said.get("phase")
    return any((one.get("number"), one.get("robotUID"), one.get("phase")) == said_of for one in past)


def _check_fence(job: Object, robot_uid: str, said: Mapping[str, Any]) -> None:
    status = job.get("status") or {}
    if phase(job) in LIVE and status.get("attempt") == said.get("attempt") and status.get("robotUID") == robot_uid:
        return
    now_at = f"{phase(job)}, attempt {status.get('attempt')}"
    raise ApiError.conflict(JOB, dig(job, "metadata", "name"), f"attempt {said.get('attempt')} is over ({now_at})")


def _running(job: Object, said: Mapping[str, Any], now: datetime) -> Object:
    changes: dict[str, Any] = {}
    if phase(job) is JobPhase.ASSIGNED:
        changes["startedTime"] = _started(job, said, now)
    if said.get("progress") and said["progress"] != dig(job, "status", "progress"):
        changes["progress"] = said["progress"]
    if not changes:
        return job
    return _move(job, JobPhase.RUNNING, **changes) if "startedTime" in changes else _with(job, **changes)


def _finished(job: Object, said: Mapping[str, Any], now: datetime) -> Object:
    final = _FINAL_OUTCOMES[str(said["phase"])]
    facts = {key: said[key] for key in ("exitCode", "outputs", "progress") if said.get(key) is not None}
    job = _with(job, startedTime=dig(job, "status", "startedTime") or _started(job, said, now), **facts)
    message, reason = str(said.get("message") or ""), str(said.get("reason") or final.value)
    if final is JobPhase.FAILED and not dig(job, "spec", "cancel"):
        policy = dig(job, "spec", "retry") or {}
        failures = 1 + _count(job, "Failed")
        if failures <= int(policy.get("limit", 0)):
            again = _requeue(job, reason, message, now, "Failed")
            wait = backoff(policy, failures, str(dig(job, "metadata", "uid")))
            return _with(again, heldUntil=_text(_later(now, wait)))
    return _end(job, final, reason, message, now, final.value)


def _requeue(job: Object, reason: str, message: str, now: datetime, outcome: str) -> Object:
    job = _record_attempt(job, reason, message, now, outcome)
    return _move(_without(job, *_PER_ATTEMPT), JobPhase.QUEUED)


def _not_acknowledged(job: Object, now: datetime) -> Object:
    """Back to the queue; from the second time on after a pause, so that a robot that takes jobs and does not begin them
    does not have this one over and over."""
    again = _requeue(job, NOT_ACKNOWLEDGED, "the robot did not start it in time", now, "Lost")
    reasons = [one.get("reason") for one in again["status"]["attempts"]]
    times_in_a_row = next((n for n, reason in enumerate(reversed(reasons)) if reason != NOT_ACKNOWLEDGED), len(reasons))
    if times_in_a_row < 2:
        return again
    wait = backoff(dig(job, "spec", "retry") or {}, times_in_a_row - 1, str(dig(job, "metadata", "uid")))
    return _with(again, heldUntil=_text(_later(now, wait)))


def _end(
    job: Object, final: JobPhase, reason: str, message: str, now: datetime, outcome: str | None
) -> Object:
    """The job in a final phase; `outcome` is what becomes of the current attempt, None where there is none."""
    if "deletionTimestamp" in job["metadata"]:
        job = deletion.ended(job)
    if outcome is not None:
        job = _record_attempt(job, reason, message, now, outcome)
    if final is JobPhase.FAILED and int(dig(job, "status", "attempt") or 0) > 1:
        message = f"failed after {job['status']['attempt']} attempts: {message or reason}"
    condition = {
        "type": "Complete" if final is JobPhase.SUCCEEDED else "Failed",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": times.to_text(now),
    }
    job = _without(job, "heldUntil")
    return _move(
        job, final, finishedTime=_text(now), reason=reason, message=message, conditions=[condition]
    )


def _record_attempt(job: Object, reason: str, message: str, now: datetime, outcome: str) -> Object:
    status = job["status"]
    past = {"number": status.get("attempt"), "phase": outcome, "reason": reason}
    past |= {"message": message} if message else {}
    past |= {key: status[key] for key in ("robotName", "robotUID", "startedTime", "exitCode") if key in status}
    attempts = [*(status.get("attempts") or []), {**past, "finishedTime": _text(now)}]
    forgotten = dict(status.get("earlierAttempts") or {})
    for one in attempts[:-MAX_ATTEMPTS_KEPT]:
        how = NOT_STARTED if one["phase"] == "Lost" and not one.get("startedTime") else one["phase"]
        forgotten[how] = forgotten.get(how, 0) + 1
    more = {"earlierAttempts": forgotten} if forgotten else {}
    return _with(job, attempts=attempts[-MAX_ATTEMPTS_KEPT:], **more)


def _count(job: Object, outcome: str) -> int:
    """How many attempts ended so, those that are no longer listed too."""
    listed = sum(1 for one in dig(job, "status", "attempts") or [] if one.get("phase") == outcome)
    return listed + int(dig(job, "status", "earlierAttempts", outcome) or 0)


def _lost(job: Object) -> int:
    """How many running attempts were lost with their robots; those that had not started cost nothing."""
    idle = sum(
        1 for one in dig(job, "status", "attempts") or [] if one.get("phase") == "Lost" and not one.get("startedTime")
    )
    return _count(job, "Lost") - idle


def _started(job: Object, said: Mapping[str, Any], now: datetime) -> str:
    """When the attempt started: as its robot says, but within what the database's clock knows; robots' clocks err."""
    if not said.get("startedTime"):
        return _text(now)
    earliest = times.from_text(job["status"]["assignedTime"])
    return _text(max(min(times.from_text(said["startedTime"]), now), earliest))


def _move(job: Object, to: JobPhase, **changes: Any) -> Object:
    """The job in another phase. A move that the table does not have is a bug, never a person's mistake."""
    current = phase(job)
    if to not in TRANSITIONS[current]:
        raise AssertionError(f"job {dig(job, 'metadata', 'name')}: {current} -> {to} is not a transition")
    return _with(job, phase=to.value, **changes)


def _with(job: Object, **changes: Any) -> Object:
    return {**job, "status": {**(job.get("status") or {}), **changes}}


def _without(job: Object, *keys: str) -> Object:
    if job["status"].keys().isdisjoint(keys):
        return job
    return {**job, "status": {key: value for key, value in job["status"].items() if key not in keys}}


def _start_deadline(job: Object) -> datetime | None:
    """When a job must have started; None where nothing was said of it, or it did start once."""
    spec, status = job.get("spec") or {}, job["status"]
    if not spec.get("startDeadline") or any(one.get("startedTime") for one in status.get("attempts") or []):
        return None
    begin = times.from_text(status["queuedTime"])
    if spec.get("notBefore"):
        begin = max(begin, times.from_text(spec["notBefore"]))
    return _later(begin, parse_duration(spec["startDeadline"]))


def _later(moment: datetime, span: timedelta) -> datetime:
    """The sum, or the last moment there is: what lies beyond it comes to nobody."""
    return moment + span if span < END_OF_TIME - moment else END_OF_TIME


def _grace(job: Object) -> timedelta:
    return parse_duration(dig(job, "spec", "gracePeriod") or "20s") + TIMEOUT_SLACK


def _text(moment: datetime) -> str:
    return times.to_text(moment, micro=True)
