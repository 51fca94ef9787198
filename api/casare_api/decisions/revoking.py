"""What becomes of the jobs that a robot runs when the last of its keys is taken back?

Always holds: nothing as long as the robot has another good key; and nothing of an attempt that it was given after that
moment, under whatever name it called then. With `Finish` an attempt is its robot's for as long as it takes: nobody else
gets it because its robot is silent. Pure rules on ApiKeys and Jobs as plain dicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from casare_api.decisions import keys, lifecycle
from casare_api.kinds.job import LIVE, JobPhase
from casare_api.kinds.kind import Object, dig
from casare_api.machinery import times

REASON = "KeyRevoked"
HELD = "fleet.casare.net/on-revoke"  # of a deleted key: the jobs that run under it have to be looked after first
_A_SECOND = timedelta(seconds=1)  # what is known to the second was some time within it


@dataclass(frozen=True, slots=True)
class Lockout:
    """A robot without a good key: the one that was taken back last, when, how, and what that means for its jobs."""

    key: str
    at: datetime
    how: str  # revoked, expired, deleted
    on_revoke: str

    def covers(self, job: Object) -> bool:
        """Whether an attempt was the robot's when it was locked out."""
        text = dig(job, "status", "assignedTime")
        return lifecycle.phase(job) in LIVE and bool(text) and times.from_text(text) <= self.at


def lockout(robots_keys: Sequence[Object], now: datetime) -> Lockout | None:
    """How a robot was locked out, given all of its keys; None where it was not, or never had one."""
    if any(keys.opens(key, now) for key in robots_keys):
        return None
    found = [one for key in robots_keys if (one := _taken_back(key, now)) is not None]
    return max(found, key=lambda one: (one.at, one.key), default=None)


def back_since(robots_keys: Sequence[Object], now: datetime) -> datetime | None:
    """Since when a robot has had a good key, given all of its keys; None where it has none.

    It was not to be heard before, and its agent comes some seconds after.
    """
    return min((keys.good_since(key) for key in robots_keys if keys.opens(key, now)), default=None)


def fate(job: Object, out: Lockout, now: datetime) -> Object:
    """A job of a robot that was locked out, as its key's onRevoke says; the same object where that is nothing.

    `Requeue` follows the job's own policy: one that may run once at most fails, or waits for its robot to get a key.
    One that runs with selfFence is left to `lostAfter`, which its agent goes by: no second one begins before it ended.
    """
    if out.on_revoke == "Finish" or not out.covers(job):
        return job
    if is_fenced(job):
        wants_end = out.on_revoke == "Cancel" and not dig(job, "spec", "cancel")
        return {**job, "spec": {**job["spec"], "cancel": True}} if wants_end else job
    why = f"key {out.key} of robot {dig(job, 'status', 'robotName')} was {out.how}"
    if out.on_revoke == "Cancel":
        return lifecycle.end_cancelled(job, REASON, why, now)
    return lifecycle.lose(job, REASON, why, now, may_return=True)


def may_finish(job: Object, out: Lockout | None) -> bool:
    """Whether a job stays with its robot, however long that is silent."""
    return out is not None and out.on_revoke == "Finish" and out.covers(job) and not is_fenced(job)


def is_fenced(job: Object) -> bool:
    """Whether it runs, and its agent ends it by itself before the server calls it lost."""
    return lifecycle.phase(job) is JobPhase.RUNNING and bool(dig(job, "spec", "retry", "selfFence"))


def held(key: Object) -> Object:
    """A key as its deletion begins: it waits until its jobs are looked after, where there may be any."""
    spec, meta = key["spec"], key["metadata"]
    is_done = meta.get("deletionTimestamp") or HELD in (meta.get("finalizers") or ())
    if is_done or spec.get("role") != "robot" or not spec.get("hash") or spec.get("onRevoke") == "Finish":
        return key
    return {**key, "metadata": {**meta, "finalizers": [*(meta.get("finalizers") or ()), HELD]}}


def let_go(key: Object) -> Object:
    """A key whose deletion waits for its jobs no more."""
    left = [one for one in key["metadata"].get("finalizers") or () if one != HELD]
    meta = {name: value for name, value in key["metadata"].items() if name != "finalizers"}
    return {**key, "metadata": meta | {"finalizers": left} if left else meta}


def _taken_back(key: Object, now: datetime) -> Lockout | None:
    """The earliest way in which the key went bad; None for one that is good, or never was."""
    meta, spec, status = key["metadata"], key["spec"], key.get("status") or {}
    if not spec.get("hash"):
        return None
    moments: list[tuple[datetime, str]] = []
    if status.get("revokedTime"):
        moments.append((times.from_text(status["revokedTime"]), "revoked"))
    if spec.get("expiresAt") and times.from_text(spec["expiresAt"]) <= now:
        moments.append((times.from_text(spec["expiresAt"]), "expired"))
    if meta.get("deletionTimestamp"):
        moments.append((times.from_text(meta["deletionTimestamp"]) + _A_SECOND, "deleted"))
    if not moments:
        return None
    at, how = min(moments)
    return Lockout(meta["name"], at, how, spec.get("onRevoke") or "Requeue")
