"""Was it the right job that got a slot, and the right robot for it? In this file's own words, one assignment at a time.

It holds where nothing else happens while placement works: then what it knew is what history says.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from casare_api.kinds import Object, dig
from casare_api.kinds.job import JobPhase
from casare_api.machinery import times

from ..invariants import History, misfit, phase

AGING = timedelta(minutes=5)


def check(history: History, online: set[str], job: Object, uid: str) -> None:
    """A job that waited gets a slot of the robot with this uid; history is as it was before."""
    story = f"{job} got a slot of {history.robots.get(uid)}"
    robots = list(_able(history, online, job))
    best = min(robots, key=lambda robot: _order(history, job, robot))
    assert best["metadata"]["uid"] == uid, f"{best} would be better: {story}"
    here, rank = job["metadata"]["namespace"], _rank(job)
    load = _load(history, here)
    for other in history.jobs.values():
        where = other["metadata"]["namespace"]
        if not _may_start(history, other) or not any(_able(history, online, other)):
            continue
        assert where != here or _rank(other) >= rank, f"{other} came before it: {story}"
        assert where == here or _load(history, where) >= load, f"{where} has less than {here}, {other} waits: {story}"


def _able(history: History, online: set[str], job: Object) -> Iterable[Object]:
    """The robots that fit and have a free slot."""
    for robot in history.robots.values():
        if robot["metadata"]["uid"] in online and _used(history, robot) < 1 and misfit(job, robot) is None:
            yield robot


def _used(history: History, robot: Object) -> float:
    """The share of its slots."""
    return history.live("robot", robot["metadata"]["uid"]) / (robot["spec"].get("maxConcurrentJobs") or 1)


def _order(history: History, job: Object, robot: Object) -> tuple[Any, ...]:
    """The first is the best: the most liked, the least capable, the least loaded, by name."""
    spec, meta = robot["spec"], robot["metadata"]
    liked = [not _likes(one, job, robot) for one in dig(job, "spec", "requirements", "prefer") or ()]
    return liked, len(spec.get("capabilities") or ()) + len(spec.get("tags") or ()), _used(history, robot), meta["name"]


def _likes(preference: Object, job: Object, robot: Object) -> bool:
    if preference.get("sameRobot"):
        attempts = job["status"].get("attempts") or [{}]
        return bool(attempts[-1].get("robotUID") == robot["metadata"]["uid"])
    return preference["labels"].items() <= (robot["metadata"].get("labels") or {}).items()


def _may_start(history: History, job: Object) -> bool:
    """What has a start deadline may be left to the timers, so nobody has to wait for it."""
    spec, where = job["spec"], job["metadata"]["namespace"]
    if phase(job) is not JobPhase.QUEUED or job["status"].get("heldUntil") or spec.get("startDeadline"):
        return False
    most, shared = history.quota(where, "maxRunning"), spec.get("concurrency")
    if most is not None and history.live("namespace", where) >= most:
        return False
    return not shared or history.live("key", where, shared["key"]) < shared.get("limit", 1)


def _load(history: History, namespace: str) -> float:
    return history.live("namespace", namespace) / (history.quota(namespace, "weight") or 1)


def _rank(job: Object) -> datetime:
    return times.from_text(job["status"]["queuedTime"]) + job["spec"]["priority"] * AGING
