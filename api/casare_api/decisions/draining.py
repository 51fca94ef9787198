"""May a robot take work, and what becomes of the work it has? From its spec, its status and the time.

A robot is drained because people want it (`desiredState: Drained`) or because a maintenance window holds. Always holds:
what has not begun goes back at once; what runs may go on until `drain.deadline` has passed since the drain was asked
for, a moment of the database's clock that is kept in `status.drain.since`; after that `drain.then` decides. What people
wrote into `spec` is never changed. Robots and jobs come in and go out as plain dicts; what comes in is never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from casare_api.decisions import approval, lifecycle, revoking, skew
from casare_api.decisions.maintenance import NOTHING, Found, Stretch, window_at
from casare_api.decisions.revoking import Lockout
from casare_api.kinds.job import JobPhase
from casare_api.kinds.kind import Object, dig
from casare_api.machinery import times
from casare_api.machinery.durations import parse_duration

DEADLINE, THEN = "15m", "Requeue"  # where `spec.drain` says nothing
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_UNCONFIRMED = timedelta(seconds=60)  # beyond its grace period: an agent that has not given a job back by then will not


class State(NamedTuple):
    """Why a robot takes no new jobs, in one word (empty: it takes them), and until when, where that is known."""

    word: str = ""
    until: str = ""


def state(robot: Mapping[str, Any]) -> State:
    """As its spec and its status say; there is no clock in it. Offline and full robots are no part of it."""
    if not approval.is_approved(robot):
        return State(approval.WHY_NOT)
    spec, status = robot.get("spec") or {}, robot.get("status") or {}
    agent = status.get("agent")
    if skew.refusal(agent) is not None:
        return State("refused")
    wanted = str(spec.get("desiredState") or "Active")
    if wanted != "Active":
        return State(wanted.lower())
    if status.get("maintenance"):
        return State("maintenance", str(dig(status, "maintenance", "until") or ""))
    return State("restarting" if skew.is_restarting(spec.get("restartRequestedAt"), agent) else "")


@dataclass(frozen=True, slots=True)
class Judged:
    """What a moment makes of a robot. `since` is None where it is not to be drained; `deadline` None: there is none."""

    found: Found = NOTHING
    since: datetime | None = None
    deadline: datetime | None = None
    then: str = THEN
    is_over: bool = False  # the deadline has passed

    @property
    def drains(self) -> bool:
        """Whether what it has is to go."""
        return self.since is not None

    def changes_at(self, now: datetime) -> datetime | None:
        """When time alone makes something else of it."""
        current, following = self.found.current, self.found.next
        edges = [current.end] if current else [following.start] if following else []
        edges += [self.found.again, self.deadline]
        return min((at for at in edges if at is not None and at > now), default=None)


def judge(robot: Object, now: datetime) -> Judged:
    """What its spec asks for at a moment."""
    spec = robot.get("spec") or {}
    found = window_at(spec.get("maintenanceWindows") or (), now)
    if not _is_asked(spec, found):
        return Judged(found)
    then, patience = _fate(spec)
    since = _since(robot, found.current, now)
    deadline = None if then == "Wait" else since + min(patience, _END_OF_TIME - since)
    return Judged(found, since, deadline, then, deadline is not None and deadline <= now)


def settled(old: Object | None, new: Object, now: datetime) -> Object:
    """A robot as people write it: the moment they ask for a drain is the moment of the write."""
    before, after = (old or {}).get("spec") or {}, new.get("spec") or {}
    if all(before.get(field) == after.get(field) for field in ("desiredState", "maintenanceWindows")):
        return new
    status = dict(new.get("status") or {})
    was, is_ = (_is_asked(each, window_at(each.get("maintenanceWindows") or (), now)) for each in (before, after))
    if was and is_:
        return new
    status.pop("drain", None)
    kept = [one for one in status.get("conditions") or [] if one.get("type") != "Drained"]
    status = {key: value for key, value in {**status, "conditions": kept}.items() if key != "conditions" or value}
    if is_:
        status["drain"] = {"since": times.to_text(now, micro=True)}
    return {**new, "status": status} if status != (new.get("status") or {}) else new


def observed(robot: Object, judged: Judged, live: int, server: str, now: datetime) -> Object:
    """The robot with what is to be seen of all this in its status; the same object where that is so already.

    `live`: how many jobs it has. `server`: the version of this release.
    """
    status = dict(robot.get("status") or {})
    _put(status, "maintenance", _window(judged.found.current))
    _put(status, "nextMaintenance", _window(judged.found.next))
    _put(status, "drain", _drain(judged))
    conditions = list(status.get("conditions") or [])
    for type_, said in _conditions({**robot, "status": status}, judged, live, server).items():
        conditions = with_condition(conditions, type_, said, now)
    _put(status, "conditions", conditions)
    return robot if status == (robot.get("status") or {}) else {**robot, "status": status}


def moved(job: Object, judged: Judged, is_there: bool, now: datetime, out: Lockout | None = None) -> Object:
    """One of its jobs, as it is to be now; the same object where nothing is to be done.

    An attempt that started is told to its agent (`drainTime`), which ends it with its grace period. One whose agent is
    not there to be told, or has lost its key (`out`), ends here, and so does one that is not given back. A job with
    selfFence does not: it is not known to have ended, and `lostAfter` is what its agent goes by. Nor does one that the
    robot may finish without that key: it is known to run, so that to give it to another robot would be to run it twice.
    """
    name = dig(job, "status", "robotName")
    current = lifecycle.phase(job)
    if judged.drains and current is JobPhase.ASSIGNED:
        return lifecycle.lose(job, "RobotDrained", f"robot {name} is being drained", now, "Drained")
    if current is not JobPhase.RUNNING or dig(job, "status", "cancelTime"):
        return job
    if not judged.is_over or (judged.then != "Cancel" and revoking.may_finish(job, out)):
        return lifecycle.keep(job)
    if judged.then == "Cancel":
        return lifecycle.cancel({**job, "spec": {**job["spec"], "cancel": True}}, now)
    is_cut_off = out is not None and out.covers(job)
    if (_is_unconfirmed(job, now) or not is_there or is_cut_off) and not revoking.is_fenced(job):
        why = f"robot {name} was drained, and it still ran at the deadline"
        return lifecycle.lose(job, "RobotDrained", why, now, "Drained")
    return lifecycle.give_back(job, now)


# -- the parts ---------------------------------------------------------------------------------------------------------


def _is_asked(spec: Mapping[str, Any], found: Found) -> bool:
    return spec.get("desiredState") == "Drained" or found.current is not None


def _fate(spec: Mapping[str, Any]) -> tuple[str, timedelta]:
    said = spec.get("drain") or {}
    return said.get("then") or THEN, parse_duration(said.get("deadline") or DEADLINE)


def _since(robot: Object, window: Stretch | None, now: datetime) -> datetime:
    """When the drain was asked for: as it is kept, unless that is of a window before this one."""
    kept = _moment(dig(robot, "status", "drain", "since"))
    is_wanted = dig(robot, "spec", "desiredState") == "Drained"
    begin = window.start if window is not None else None
    if kept is not None and (is_wanted or begin is None or kept >= begin):
        return kept
    return begin if begin is not None and not is_wanted else now


def _moment(text: Any) -> datetime | None:
    """None for what is no time: a release in which it meant nothing let anybody write anything there."""
    try:
        return times.from_text(text) if text else None
    except ValueError:
        return None


def _window(stretch: Stretch | None) -> Object | None:
    if stretch is None:
        return None
    said: Object = {"name": stretch.name}
    said |= {"start": times.to_text(stretch.start)} if stretch.start is not None else {}
    return said | ({"until": times.to_text(stretch.end)} if stretch.end is not None else {})


def _drain(judged: Judged) -> Object | None:
    if judged.since is None:
        return None
    said = {"since": times.to_text(judged.since, micro=True), "then": judged.then}
    return said | ({"deadline": times.to_text(judged.deadline)} if judged.deadline is not None else {})


Said = tuple[str, str, str]  # status, reason, message


def _conditions(robot: Object, judged: Judged, live: int, server: str) -> dict[str, Said | None]:
    """What is to be said under each type; None: nothing."""
    skewed = skew.difference(dig(robot, "status", "agent"), server)
    return {
        "Schedulable": _schedulable(robot, live),
        "Drained": _drained(judged, live),
        "VersionSkew": ("True", *skewed) if skewed else None,
    }


def _schedulable(robot: Object, live: int) -> Said:
    word, until = state(robot)
    ends = f" until {until}" if until else ""
    match word:
        case "":
            return "True", "Active", "it takes jobs"
        case approval.WHY_NOT:
            return "False", "AwaitingApproval", "it takes no jobs until somebody approves it"
        case "refused":
            return "False", "AgentRefused", skew.refusal(dig(robot, "status", "agent")) or ""
        case "drained" if live:
            return "False", "Draining", f"it takes no new jobs and is being drained{_left(live)}"
        case "drained":
            return "False", "Drained", "it takes no new jobs: it is drained until it is resumed"
        case "maintenance":
            name = dig(robot, "status", "maintenance", "name")
            return "False", "Maintenance", f"it takes no new jobs: it is in maintenance ({name}){ends}"
        case "restarting":
            return "False", "Restarting", "it takes no new jobs until its agent has restarted"
    return "False", "Paused", "it takes no new jobs: it is paused until it is resumed"


def _drained(judged: Judged, live: int) -> Said | None:
    if not judged.drains:
        return None
    if not live:
        return "True", "Drained", "nothing runs on it"
    if judged.is_over:
        return "False", "DeadlineOver", f"its deadline is over{_left(live)}"
    if judged.deadline is None:
        return "False", "Draining", f"it is drained when its jobs have ended{_left(live)}"
    fates = {"Requeue": "go back to the queue", "Cancel": "are cancelled"}
    what = fates.get(judged.then, judged.then)
    return "False", "Draining", f"those that run at {times.to_text(judged.deadline)} {what}{_left(live)}"


def _left(live: int) -> str:
    return f"; {live} {'job is' if live == 1 else 'jobs are'} left" if live else ""


def with_condition(conditions: list[Object], type_: str, said: Said | None, now: datetime) -> list[Object]:
    """The conditions with one as it is now; since when it holds stays while its status does."""
    before = next((one for one in conditions if one.get("type") == type_), None)
    if said is None:
        return [one for one in conditions if one is not before]
    status, reason, message = said
    is_same = before is not None and before.get("status") == status
    since = (before or {}).get("lastTransitionTime") if is_same else None
    made = {"type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since or times.to_text(now)}  # fmt: skip
    if before is None:
        return [*conditions, made]
    return [made if one is before else one for one in conditions]


def _put(status: dict[str, Any], key: str, value: Any) -> None:
    if value:
        status[key] = value
    else:
        status.pop(key, None)


def _is_unconfirmed(job: Object, now: datetime) -> bool:
    asked = dig(job, "status", "drainTime")
    grace = parse_duration(dig(job, "spec", "gracePeriod") or "20s")
    return bool(asked) and times.from_text(asked) + min(grace + _UNCONFIRMED, _END_OF_TIME - now) <= now

