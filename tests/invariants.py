"""What must hold of jobs, whatever happened? Seen from outside: every change of the history in order, and the rows.

`History` replays the change log and holds every change against the states before it; `Book` is what the robots did.
Both raise AssertionError with the job and what is wrong with it.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from casare_api.kinds import Object, dig
from casare_api.kinds.job import FINAL, LIVE, MUTABLE, TRANSITIONS, JobPhase

# Everything since a revision, in order; texts only of what is replayed.
CHANGES = """
SELECT rv, kind, type, CASE WHEN kind IN ('Job', 'Robot', 'Quota') THEN object END
FROM changes WHERE rv > %s ORDER BY rv"""
ROWS = "SELECT head || tail, rv, phase, robot_uid::text, ready, parked, ckey, idempotency FROM jobs ORDER BY uid"

ROBOTS_WORDS = frozenset({"Succeeded", "Failed", "Drained"})  # ends of attempts that only their robots can know
Name = tuple[str, str]  # namespace, name


def phase(job: Object) -> JobPhase:
    return JobPhase(job["status"]["phase"])


@dataclass
class History:
    """The change log since `rv`, replayed."""

    rv: int = 0
    jobs: dict[str, Object] = field(default_factory=dict)  # that exist, by uid
    gone: dict[str, Object] = field(default_factory=dict)  # jobs that were deleted, as they were last
    robots: dict[str, Object] = field(default_factory=dict)
    quotas: dict[str, Object] = field(default_factory=dict)  # by namespace
    ran: set[tuple[str, int]] = field(default_factory=set)  # attempts (uid, number) that were Running
    ended: Counter[str] = field(default_factory=Counter)  # how often each job came to a final phase
    _names: dict[Name, str] = field(default_factory=dict)
    _keys: dict[Name, str] = field(default_factory=dict)  # by namespace and idempotencyKey
    _live: dict[tuple[str, ...], set[str]] = field(default_factory=lambda: defaultdict(set))

    def follow(self, changes: Iterable[tuple[int, str, str, str]]) -> None:
        """Replays rows of CHANGES."""
        for rv, kind, type_, text in changes:
            assert rv == self.rv + 1, f"history has a hole: {self.rv} is followed by {rv}"
            self.rv = rv
            if kind == "Job":
                self._job(type_, orjson.loads(text))
            elif kind == "Robot":
                _keep(self.robots, type_, orjson.loads(text), "uid")
            elif kind == "Quota":
                _keep(self.quotas, type_, orjson.loads(text), "namespace")

    def check_rows(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Holds rows of ROWS, read when history was where it is now, against what history says."""
        found = {}
        for text, rv, phase_, robot, ready, parked, key, idempotency in rows:
            job = orjson.loads(text)
            meta, status, uid = job["metadata"], job["status"], job["metadata"]["uid"]
            found[uid] = job
            assert job == self.jobs.get(uid), f"row and history differ: {job} is not {self.jobs.get(uid)}"
            assert str(rv) == meta["resourceVersion"] and phase_ == status["phase"], f"columns differ: {job}"
            assert robot == status.get("robotUID"), f"robot_uid is {robot}: {job}"
            waits = phase_ == "Queued" and not status.get("heldUntil")
            assert waits == (ready or parked) and not (ready and parked), f"ready {ready}, parked {parked}: {job}"
            assert key == dig(job, "spec", "concurrency", "key") and (key or not parked), f"ckey is {key}: {job}"
            assert idempotency == job["spec"].get("idempotencyKey"), f"idempotency is {idempotency}: {job}"
        assert found.keys() == self.jobs.keys(), f"no row: {[self.jobs[uid] for uid in self.jobs.keys() - found.keys()]}"

    def job(self, uid: str) -> Object:
        """A job as it is, or was last."""
        return self.jobs.get(uid) or self.gone[uid]

    def live(self, *place: str) -> int:
        """How many jobs robots have now: of ("robot", uid), ("namespace", name) or ("key", namespace, key)."""
        return len(self._live[place])

    def quota(self, namespace: str, field: str) -> Any:
        """What its Quota says, None where it has none or that says nothing."""
        return dig(self.quotas.get(namespace) or {}, "spec", field)

    # -- one change of a job -----------------------------------------------------------------------------------------

    def _job(self, type_: str, job: Object) -> None:
        uid, old = job["metadata"]["uid"], self.jobs.get(job["metadata"]["uid"])
        assert (type_ == "ADDED") == (old is None) and uid not in self.gone, f"{type_} of {job}, before: {old}"
        if type_ == "DELETED":
            assert old is not None
            assert phase(old) is not JobPhase.RUNNING or _is_deleted(old), f"gone while it may run: {old}"
            self._deleted(old)
            return
        if old is None:
            _check_new(job)
            _take(self._names, (job["metadata"]["namespace"], job["metadata"]["name"]), uid, "name")
            key = job["spec"].get("idempotencyKey")
            if key is not None:
                _take(self._keys, (job["metadata"]["namespace"], key), uid, "idempotencyKey")
        else:
            _check_step(old, job)
        _check_whole(job)
        self._note(old, job)

    def _deleted(self, job: Object) -> None:
        meta = job["metadata"]
        self._leave(job)
        self._names.pop((meta["namespace"], meta["name"]))
        self._keys.pop((meta["namespace"], job["spec"].get("idempotencyKey")), None)
        self.gone[meta["uid"]] = self.jobs.pop(meta["uid"])

    def _note(self, old: Object | None, job: Object) -> None:
        uid, was, is_ = job["metadata"]["uid"], old and phase(old), phase(job)
        if is_ is JobPhase.ASSIGNED and was is JobPhase.QUEUED:
            assert old is not None
            self._check_assignment(old, job)
            for place in _places(job):
                self._live[place].add(uid)
        elif was in LIVE and is_ not in LIVE:
            assert old is not None
            self._leave(old)
        if is_ is JobPhase.RUNNING:
            self.ran.add((uid, job["status"]["attempt"]))
        if is_ in FINAL and was not in FINAL:
            self.ended[uid] += 1
        self.jobs[uid] = job

    def _leave(self, job: Object) -> None:
        for place in _places(job) if phase(job) in LIVE else ():
            self._live[place].remove(job["metadata"]["uid"])

    def _check_assignment(self, old: Object, job: Object) -> None:
        """A robot that may have it takes it, and there is room: on the robot, in the key, in the namespace."""
        meta, spec, robot = job["metadata"], job["spec"], self.robots.get(job["status"]["robotUID"])
        assert robot is not None, f"placed on a robot that there is not: {job}"
        assert not old["status"].get("heldUntil") and not spec.get("cancel"), f"placed though it may not start: {old}"
        _check_fits(job, robot)
        used = self.live("robot", robot["metadata"]["uid"])
        assert used < (robot["spec"].get("maxConcurrentJobs") or 1), f"over-committed, {used} are there: {job}"
        shared = spec.get("concurrency")
        if shared:
            others = self.live("key", meta["namespace"], shared["key"])
            assert others < shared.get("limit", 1), f"{others} of its key are live: {job}"
        most = self.quota(meta["namespace"], "maxRunning")
        running = self.live("namespace", meta["namespace"])
        assert most is None or running < most, f"maxRunning {most}, {running} are live: {job}"


@dataclass
class Book:
    """What robots did, in their own book: processes they started, what they said of attempts, what was acknowledged."""

    started: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # attempts by job
    said: set[tuple[str, int, str]] = field(default_factory=set)  # uid, attempt, phase
    heard: dict[tuple[str, int], str] = field(default_factory=dict)  # the end that the server has
    alive: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # attempts whose processes run, by job

    def start(self, uid: str, attempt: int, *, alone: bool = False) -> None:
        """A process of this attempt starts; `alone`: never beside another one of its job."""
        assert attempt not in self.started[uid], f"attempt {attempt} of {uid} was started twice"
        assert not (alone and self.alive[uid]), f"{attempt} of {uid} runs beside attempts {self.alive[uid]}"
        self.started[uid].append(attempt)
        self.alive[uid].add(attempt)

    def over(self, uid: str, attempt: int) -> None:
        """That process does not run any more, or it is nobody's fault if it does."""
        self.alive[uid].discard(attempt)

    def check(self, history: History) -> None:
        """History says of attempts what robots said, and jobs that may run only once did."""
        unsaid = {key for key in history.ran if (*key, "Running") not in self.said}
        assert not unsaid, f"nobody said that these run: {unsaid}"
        for uid in self.started:
            self._check_starts(history, history.job(uid))
        for job in (*history.jobs.values(), *history.gone.values()):
            for one in job["status"].get("attempts") or ():
                if one["phase"] == "Drained" and one["reason"] == "RobotDrained":
                    continue  # the server says this of robots that are away, too
                words = (job["metadata"]["uid"], one["number"], one["phase"])
                assert one["phase"] not in ROBOTS_WORDS or words in self.said, f"nobody said {words}: {job}"
        for (uid, number), phase_ in self.heard.items():
            job = history.job(uid)
            if uid in history.gone and _is_deleted(job) and number == job["status"]["attempt"]:
                continue  # its end was what its deletion waited for: it went with it
            found = {one["number"]: one["phase"] for one in job["status"].get("attempts") or ()}
            assert len(found) >= 20 or found.get(number) == phase_, f"{phase_} of attempt {number} was lost: {job}"

    def _check_starts(self, history: History, job: Object) -> None:
        """What ran was Running before; an at-most-once job is started again only when its robot said that it failed."""
        uid = job["metadata"]["uid"]
        early = [number for number in self.started[uid] if (uid, number) not in history.ran]
        assert not early, f"attempts {early} were started before they were Running: {job}"
        if dig(job, "spec", "retry", "onRobotLost") in ("Fail", "Wait"):
            failed = {one["number"] for one in job["status"].get("attempts") or [] if one["phase"] == "Failed"}
            again = [number for number in sorted(self.started[uid])[:-1] if number not in failed]
            assert not again, f"started again after attempts {again}: {job}"


def _keep(kept: dict[str, Object], type_: str, obj: Object, by: str) -> None:
    if type_ == "DELETED":
        kept.pop(obj["metadata"][by], None)
    else:
        kept[obj["metadata"][by]] = obj


def _take(kept: dict[Name, str], key: Name, uid: str, what: str) -> None:
    assert key not in kept, f"two jobs have the {what} {key}: {kept[key]} and {uid}"
    kept[key] = uid


def _places(job: Object) -> Iterable[tuple[str, ...]]:
    """Everything of which a live job takes a share."""
    namespace, key = job["metadata"]["namespace"], dig(job, "spec", "concurrency", "key")
    yield "robot", job["status"]["robotUID"]
    yield "namespace", namespace
    if key is not None:
        yield "key", namespace, key


def _is_deleted(job: Object) -> bool:
    """Whether its deletion has begun."""
    return "deletionTimestamp" in job["metadata"]


def _check_new(job: Object) -> None:
    is_over = bool(job["spec"].get("cancel"))
    assert phase(job) is (JobPhase.CANCELLED if is_over else JobPhase.QUEUED), f"a new job: {job}"
    assert job["status"]["attempt"] == 0, f"a new job: {job}"


def _check_step(old: Object, job: Object) -> None:
    was, is_, before, after = phase(old), phase(job), old["status"], job["status"]
    story = f"{before} -> {after} of {job['metadata']['name']}"
    assert is_ is was or is_ in TRANSITIONS[was], f"no transition: {story}"
    assert is_ is not JobPhase.QUEUED or not _is_deleted(old), f"deleted, and back in the queue: {story}"
    grows = was is JobPhase.QUEUED and is_ is JobPhase.ASSIGNED
    assert after["attempt"] == before["attempt"] + grows, f"attempt: {story}"
    if was in FINAL:
        assert after == before, f"changed after its end: {story}"
    if was in LIVE and is_ not in (JobPhase.QUEUED,):
        assert after["robotUID"] == before["robotUID"], f"in two places: {story}"
    changed = {key for key in old["spec"].keys() | job["spec"].keys() if old["spec"].get(key) != job["spec"].get(key)}
    assert changed <= MUTABLE, f"spec changed in {changed}: {story}"
    past, now = before.get("attempts") or [], after.get("attempts") or []
    assert len(now) >= 20 or now[: len(past)] == past, f"the past changed: {story}"


def _check_whole(job: Object) -> None:
    """Every attempt but the current one is recorded, once, in order."""
    status = job["status"]
    numbers = [one["number"] for one in status.get("attempts") or []]
    assert all(one < other for one, other in itertools.pairwise(numbers)), f"attempts: {job}"
    forgotten = sum((status.get("earlierAttempts") or {}).values())
    assert len(numbers) + forgotten == status["attempt"] - (phase(job) in LIVE), f"attempts are missing: {job}"
    assert (phase(job) in FINAL) == ("finishedTime" in status), f"finishedTime: {job}"


def _check_fits(job: Object, robot: Object) -> None:
    why = misfit(job, robot)
    assert why is None, f"{why}: {job} on {robot}"


# -- which robot fits, in this file's own words ------------------------------------------------------------------------


def misfit(job: Object, robot: Object) -> str | None:
    """What keeps the job from the robot, None where nothing does. Slots and signs of life are no part of it."""
    spec, wanted, where = robot["spec"], job["spec"].get("requirements") or {}, job["metadata"]["namespace"]
    if spec.get("desiredState", "Active") != "Active" or "deletionTimestamp" in robot["metadata"]:
        return "it takes no jobs"
    if not {where, "*"} & set(spec.get("serves") or [robot["metadata"]["namespace"]]):
        return "it does not serve that namespace"
    for key, has in (("environment", spec.get("environment")), ("robotName", robot["metadata"]["name"])):
        if wanted.get(key) not in (None, has):
            return key
    for key in ("capabilities", "tags"):
        if not set(wanted.get(key) or ()) <= set(spec.get(key) or ()):
            return key
    labels = robot["metadata"].get("labels") or {}
    if not all(_selects(one, labels.get(one["key"])) for one in wanted.get("robotSelector") or ()):
        return "robotSelector"
    for taint in spec.get("taints") or ():
        if not any(_tolerates(one, taint) for one in wanted.get("tolerations") or ()):
            return f"taint {taint}"
    return None


def _selects(condition: Object, value: str | None) -> bool:
    values = condition.get("values") or []
    match condition["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(values[0])
        case "Lt":
            return value is not None and int(value) < int(values[0])
    raise ValueError(condition)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, taint["key"])
    return (toleration.get("key"), toleration.get("value")) == (taint["key"], taint.get("value"))
