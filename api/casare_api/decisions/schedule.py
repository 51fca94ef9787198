"""When does a schedule fire, and what becomes of the fires that nobody was there for?

A schedule's spec is the plain dict of its manifest (see ``resources``): one of ``cron``, ``every``, ``at``. Times are
aware datetimes and come out in UTC, in whole seconds; the present is an argument, never looked up. The next fire is
always later than the time asked about, so that walking from fire to fire ends. What makes a fire is kept apart:
``next_fire`` knows when, ``plan_fires`` which of the times that are due still fire, ``admit_fire`` whether there is
room for one more job. Wall clocks and daylight saving are ``cron``'s to know; ``every`` and ``at`` know no wall clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, takewhile
from typing import Any, Literal

from casare_api.decisions.cron import check_cron, check_time_zone, cron_times
from casare_api.machinery import durations, times

__all__ = [
    "FireDecision",
    "Plan",
    "Verdict",
    "admit_fire",
    "check_cron",
    "check_every",
    "check_time_zone",
    "fires_after",
    "jitter_delay",
    "next_fire",
    "plan_fires",
]

Spec = Mapping[str, Any]

SECOND = timedelta(seconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime.max.replace(microsecond=0, tzinfo=UTC)  # of the calendar

# A fire that comes no later than this is on time; beyond it, it is a misfire and the misfirePolicy decides.
ON_TIME = timedelta(seconds=60)
DEFAULT_CATCH_UP = 10
MAX_RECORDS = 100
MAX_WALK = 10_000

# -- what a schedule says -------------------------------------------------------------------------------------------


def check_every(text: str) -> str | None:
    """The problem with an interval, in words that follow the field's path, or None."""
    try:
        return _interval_problem(durations.parse_duration(text))
    except ValueError as problem:
        return str(problem)


def next_fire(spec: Spec, after: datetime, *, anchor: datetime = EPOCH) -> datetime | None:
    """The first time later than ``after``, or None if there is none any more.

    ``anchor`` is what ``every`` counts from: it fires at the anchor plus one interval, two, and so on. ValueError
    in words for a spec that admission should have refused.
    """
    if spec.get("cron") is not None:
        return next(_cron(spec, after), None)
    if spec.get("every") is not None:
        return _next_interval(durations.parse_duration(spec["every"]), after, anchor)
    if spec.get("at") is not None:
        moment = times.from_text(spec["at"]).replace(microsecond=0)
        return moment if moment > after else None
    raise ValueError("a schedule needs one of cron, every, at")


def fires_after(spec: Spec, after: datetime, *, anchor: datetime = EPOCH) -> Iterator[datetime]:
    """All times later than ``after``, in order, lazily: a preview, or a walk over what was missed."""
    if spec.get("cron") is not None:
        yield from _cron(spec, after)
        return
    moment = next_fire(spec, after, anchor=anchor)
    while moment is not None:
        yield moment
        moment = next_fire(spec, moment, anchor=anchor)


def jitter_delay(spec: Spec, uid: str, moment: datetime) -> timedelta:
    """How long after its time a fire starts: less than ``jitter``, always the same for one schedule and time."""
    span = durations.parse_duration(spec.get("jitter") or "0") // timedelta(milliseconds=1)
    if not span:
        return timedelta()
    seed = hashlib.sha256(f"{uid}|{times.to_text(moment, micro=True)}".encode()).digest()
    return timedelta(milliseconds=int.from_bytes(seed[:8], "big") % span)


# -- what becomes of the times that are due -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FireDecision:
    """One time that came due: fired or missed, with a word for programs and a sentence for people."""

    time: datetime
    outcome: Literal["Fired", "Missed"]
    reason: Literal["OnTime", "CaughtUp", "Suspended", "DeadlinePassed", "Superseded", "Misfired"]
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now.

    ``fires`` are in order of time. ``omitted`` counts further missed times that get no record of their own; after an
    outage of more than 10,000 times it is only the least there were. ``next`` is the next time still to come (None:
    never again), ``wake`` when to plan again, jitter included.
    """

    fires: tuple[FireDecision, ...]
    next: datetime | None
    wake: datetime | None
    omitted: int = 0


def plan_fires(
    spec: Spec, next_fire_time: datetime | None, now: datetime, *, anchor: datetime = EPOCH, uid: str = ""
) -> Plan:
    """What fires now and what is recorded as missed, given the next time that was stored (None: a new schedule).

    A time that is late by no more than ``ON_TIME`` fires whatever the policy. Of those later than that, ``Skip`` fires
    none; ``FireOnce`` the latest, to stand for them all, unless one fires on time anyway; ``CatchUp`` the latest
    ``catchUp.max``, oldest first. What is later than ``startDeadline`` never fires; nothing does while suspended. At
    most 100 times are recorded as missed, the latest.
    """
    if next_fire_time is None:
        upcoming = next_fire(spec, now, anchor=anchor)
        return Plan((), upcoming, _wake(spec, uid, upcoming))
    due, omitted, upcoming = _due(spec, next_fire_time, now, anchor, uid)
    decided = _decide(spec, due, now, uid)
    missed = [each for each in decided if each.outcome == "Missed"]
    unrecorded = {each.time for each in missed[:-MAX_RECORDS]}
    fires = tuple(each for each in decided if each.time not in unrecorded)
    return Plan(fires, upcoming, _wake(spec, uid, upcoming), omitted + len(unrecorded))


def _wake(spec: Spec, uid: str, moment: datetime | None) -> datetime | None:
    return None if moment is None else _start(spec, uid, moment)


def _start(spec: Spec, uid: str, moment: datetime) -> datetime:
    """When the fire of that time starts: later by its jitter, as far as the calendar goes."""
    return moment + min(jitter_delay(spec, uid, moment), max(END - moment, timedelta()))


def _due(
    spec: Spec, first: datetime, now: datetime, anchor: datetime, uid: str
) -> tuple[list[datetime], int, datetime | None]:
    """The times that are due, how many more there were at least, and the first that is not due yet."""

    def walk(moments: Iterator[datetime]) -> tuple[list[datetime], datetime | None]:
        found: list[datetime] = []
        for moment in moments:
            if len(found) == MAX_WALK or _start(spec, uid, moment) > now:
                return found, moment
            found.append(moment)
        return found, None

    due, upcoming = walk(chain([first], fires_after(spec, first, anchor=anchor)))
    if len(due) < MAX_WALK or upcoming is None:
        return due, 0, upcoming
    start = _recently(spec, due[-1], now, anchor)
    recent, upcoming = walk(fires_after(spec, start, anchor=anchor))
    return recent, len(due), upcoming


def _recently(spec: Spec, walked: datetime, now: datetime, anchor: datetime) -> datetime:
    """A moment after ``walked`` with enough times between it and now to choose and record the latest from."""
    enough, window = MAX_RECORDS + _catch_up(spec), timedelta(minutes=15)
    while window < now - walked:  # not `now - window`, which may lie before the calendar's beginning
        later = fires_after(spec, now - window, anchor=anchor)
        if sum(1 for _ in takewhile(lambda moment: moment <= now, later)) > enough:
            return now - window
        window *= 2
    return walked


def _decide(spec: Spec, due: list[datetime], now: datetime, uid: str) -> list[FireDecision]:
    """One decision a time."""
    late = {moment: now - moment - jitter_delay(spec, uid, moment) for moment in due}
    if spec.get("suspend"):
        return [FireDecision(moment, "Missed", "Suspended", "the schedule is suspended") for moment in due]
    deadline = durations.parse_duration(spec["startDeadline"]) if spec.get("startDeadline") else timedelta.max
    misfires = [moment for moment in due if ON_TIME < late[moment] <= deadline]
    on_time = any(late[moment] <= min(ON_TIME, deadline) for moment in due)
    chosen = set(_chosen(spec, misfires, on_time))
    return [_decision(spec, moment, late[moment], deadline, moment in chosen) for moment in due]


def _chosen(spec: Spec, misfires: list[datetime], on_time: bool) -> list[datetime]:
    """The misfires that are made up for."""
    policy = spec.get("misfirePolicy") or "FireOnce"
    if policy == "CatchUp":
        return misfires[-_catch_up(spec) :]
    return misfires[-1:] if policy == "FireOnce" and not on_time else []


def _catch_up(spec: Spec) -> int:
    return int((spec.get("catchUp") or {}).get("max") or DEFAULT_CATCH_UP)


def _decision(spec: Spec, moment: datetime, late: timedelta, deadline: timedelta, chosen: bool) -> FireDecision:
    if late > deadline:
        return FireDecision(moment, "Missed", "DeadlinePassed", f"later than startDeadline {spec['startDeadline']}")
    if late <= ON_TIME:
        return FireDecision(moment, "Fired", "OnTime", "on time")
    ago = f"{durations.human(late)} late"
    if chosen:
        return FireDecision(moment, "Fired", "CaughtUp", ago)
    if spec.get("misfirePolicy") == "Skip":
        return FireDecision(moment, "Missed", "Misfired", f"{ago}, and misfirePolicy Skip makes up for nothing")
    return FireDecision(moment, "Missed", "Superseded", f"{ago}; a later fire stands for it")


# -- room for one more -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a due fire does: start a job, be skipped (``reason`` says why), or replace what runs."""

    action: Literal["Fire", "Skip", "Replace"]
    reason: str = ""


def admit_fire(policy: str, unfinished: int) -> Verdict:
    """The ``concurrencyPolicy``'s word on one more fire, with that many of the schedule's jobs unfinished."""
    if policy == "Allow" or not unfinished:
        return Verdict("Fire")
    why = f"{unfinished} earlier job{' is' if unfinished == 1 else 's are'} not finished"
    match policy:
        case "Forbid":
            return Verdict("Skip", why)
        case "Replace":
            return Verdict("Replace", why)
    raise ValueError(f"'{policy}' is not a concurrencyPolicy: Allow, Forbid or Replace")


# -- intervals ----------------------------------------------------------------------------------------------


def _cron(spec: Spec, after: datetime) -> Iterator[datetime]:
    return cron_times(spec["cron"], spec.get("timeZone") or "UTC", spec.get("dst") or "Once", after)


def _interval_problem(every: timedelta) -> str | None:
    return None if every >= SECOND and not every % SECOND else "must be at least 1s, in whole seconds"


def _next_interval(every: timedelta, after: datetime, anchor: datetime) -> datetime | None:
    if problem := _interval_problem(every):
        raise ValueError(f"every {problem}")
    anchor = anchor.replace(microsecond=0)
    try:
        return (anchor + max((after - anchor) // every + 1, 1) * every).astimezone(UTC)
    except OverflowError:
        return None
