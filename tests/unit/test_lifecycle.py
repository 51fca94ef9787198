"""A job moves along its table and nowhere else, whatever is said, and never stays where nothing moves it on."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import casare_migrations
from casare_api.decisions import lifecycle
from casare_api.kinds.job import FINAL, LIVE, TRANSITIONS, JobPhase, JobStatus
from casare_api.machinery import times
from casare_api.machinery.errors import ApiError

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
ROBOTS = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(3)]
Job = dict[str, Any]
SECOND = timedelta(seconds=1)


def job(**spec: Any) -> Job:
    """A job in the queue."""
    body = {"metadata": {"name": "j", "namespace": "default"}, "spec": {"gracePeriod": "20s", **spec}}
    return lifecycle.queue(body, NOW)


def assigned(now: datetime = NOW, robot: str = ROBOTS[0], **spec: Any) -> Job:
    return lifecycle.assign(job(**spec), "pc-01", robot, now)


def running(now: datetime = NOW, **spec: Any) -> Job:
    return say(assigned(now, **spec), "Running", now)


def say(
    of: Job, phase: str, now: datetime = NOW, attempt: int | None = None, robot: str = ROBOTS[0], **facts: Any
) -> Job:
    said = {"attempt": of["status"]["attempt"] if attempt is None else attempt, "phase": phase, **facts}
    return lifecycle.report(of, robot, said, now)


def phase(of: Job) -> str:
    return str(of["status"]["phase"])


# -- the table -------------------------------------------------------------------------------------------------------


def test_the_databases_constraint_is_the_table() -> None:
    (first,) = (Path(casare_migrations.__file__).parent / "versions").glob("v0001*.py")
    jobs = first.read_text().split('"jobs"')[1]
    (listed,) = re.findall(r"phase text NOT NULL CHECK \(phase IN\s*\(([^)]*)\)", jobs)[:1]
    assert (
        set(re.findall(r"'(\w+)'", listed)) == {each.value for each in JobPhase} == {each.value for each in TRANSITIONS}
    )


def test_final_phases_lead_nowhere_and_all_others_lead_to_one() -> None:
    assert {each for each in JobPhase if not TRANSITIONS[each]} == FINAL
    assert FINAL.isdisjoint(LIVE)
    for each in set(JobPhase) - FINAL:
        assert TRANSITIONS[each] & FINAL


# -- one step at a time ----------------------------------------------------------------------------------------------


def test_a_new_job_forgets_what_it_was_born_with() -> None:
    forged = {"metadata": {"name": "j"}, "spec": {}, "status": {"phase": "Succeeded", "attempt": 7}}
    assert lifecycle.queue(forged, NOW)["status"] == {
        "phase": "Queued",
        "attempt": 0,
        "queuedTime": "2026-11-22T20:00:00.000000Z",
    }


def test_a_job_for_later_is_held_until_then() -> None:
    held = job(notBefore="2026-11-22T21:00:00Z")
    assert lifecycle.due(held) == NOW + timedelta(hours=1)
    assert lifecycle.on_due(held, NOW) is held
    freed = lifecycle.on_due(held, NOW + timedelta(hours=1))
    assert freed is not None and "heldUntil" not in freed["status"] and lifecycle.due(freed) is None
    assert "heldUntil" not in job(notBefore="2026-11-22T19:00:00Z")["status"]


def test_rank_is_the_queued_time_moved_by_priority() -> None:
    assert lifecycle.rank(job(priority=0)) == NOW
    assert lifecycle.rank(job(priority=2)) == NOW + timedelta(minutes=10)
    later = lifecycle.queue(job(priority=0), NOW + timedelta(minutes=101))
    assert lifecycle.rank(job(priority=20)) < lifecycle.rank(later), "no later job overtakes beyond 20 intervals"
    much_later = lifecycle.queue(job(priority=0), NOW + timedelta(days=3000))
    assert lifecycle.rank(much_later, timedelta(0)) < lifecycle.rank(job(priority=1), timedelta(0)), "without ageing"


@pytest.mark.parametrize("said", ["Succeeded", "Failed", "Cancelled"])
def test_an_end_is_reported_once_or_often(said: str) -> None:
    ended = say(running(), said)
    assert phase(ended) == said
    assert say(ended, said) is ended
    for other in {"Running", "Succeeded", "Failed", "Cancelled", "Lost", "Drained"} - {said}:
        with pytest.raises(ApiError) as refused:
            say(ended, other)
        assert refused.value.status == 409


def test_a_job_that_failed_with_its_robot_has_not_heard_that_its_attempt_failed() -> None:
    lost = lifecycle.lose(running(retry={"onRobotLost": "Fail"}), "RobotOffline", "", NOW)
    assert phase(lost) == "Failed" and lost["status"]["attempts"][-1]["phase"] == "Lost"
    with pytest.raises(ApiError) as refused:
        say(lost, "Failed")
    assert refused.value.status == 409


def test_only_the_current_attempt_of_its_robot_counts() -> None:
    for attempt, robot in ((1, ROBOTS[1]), (0, ROBOTS[0]), (2, ROBOTS[0])):
        with pytest.raises(ApiError) as refused:
            say(running(), "Succeeded", attempt=attempt, robot=robot)
        assert refused.value.status == 409
    with pytest.raises(ApiError) as refused:
        say(job(), "Running")
    assert refused.value.status == 409
    with pytest.raises(ApiError) as refused:
        say(running(), "Sleeping")
    assert refused.value.status == 422


def test_a_failed_job_is_tried_again_after_growing_pauses_up_to_the_limit() -> None:
    now, current, pauses = NOW, job(retry={"limit": 3, "backoff": {"initial": "10s", "factor": 3, "max": "1m"}}), []
    while phase(current) == "Queued":
        current = lifecycle.assign(current, "pc-01", ROBOTS[0], now)
        current = say(say(current, "Running", now), "Failed", now, exitCode=1)
        if phase(current) == "Queued":
            until = lifecycle.due(current)
            assert until is not None
            pauses.append((until - now).total_seconds())
            now = until
            freed = lifecycle.on_due(current, now)
            assert freed is not None
            current = freed
    for pause, most in zip(pauses, [10, 30, 60], strict=True):
        assert most / 2 <= pause <= most
    assert current["status"]["attempt"] == 4
    assert [one["number"] for one in current["status"]["attempts"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("factor", [1, 1.5, 100])
@pytest.mark.parametrize("failures", [1, 2, 50, 1000])
def test_no_backoff_is_too_great_for_a_clock(factor: float, failures: int) -> None:
    for initial, most in (("0s", "5m"), ("1ms", "36500d"), ("36500d", "36500d"), ("10s", "0s")):
        pause = lifecycle.backoff({"backoff": {"initial": initial, "factor": factor, "max": most}}, failures)
        assert timedelta(0) <= pause <= timedelta(days=36500)


def test_jobs_that_failed_together_do_not_come_back_together() -> None:
    policy = {"backoff": {"initial": "100s", "factor": 1, "max": "100s"}}
    pauses = [lifecycle.backoff(policy, failures, uid) for uid in map(str, range(50)) for failures in (1, 2)]
    assert pauses == [lifecycle.backoff(policy, failures, uid) for uid in map(str, range(50)) for failures in (1, 2)]
    assert all(timedelta(seconds=50) <= pause <= timedelta(seconds=100) for pause in pauses)
    assert len(set(pauses)) == len(pauses) and max(pauses) - min(pauses) > timedelta(seconds=40)


@pytest.mark.parametrize("limit", [0, 5, 20, 30])
@pytest.mark.parametrize("how", ["Failed", "Lost"])
def test_limits_hold_beyond_the_attempts_that_are_listed(limit: int, how: str) -> None:
    current = job(retry={"limit": limit, "robotLostLimit": limit, "backoff": {"initial": "0s"}})
    count = 0
    while phase(current) == "Queued":
        current = say(lifecycle.assign(current, "pc-01", ROBOTS[0], NOW), "Running")
        current = say(current, how)
        count += 1
        assert count <= limit + 1
    assert phase(current) == "Failed" and count == limit + 1
    status = current["status"]
    assert len(status["attempts"]) == min(count, lifecycle.MAX_ATTEMPTS_KEPT)
    assert sum(status.get("earlierAttempts", {}).values()) == count - len(status["attempts"])


@pytest.mark.parametrize(
    ("policy", "gave_up", "silent"),
    [("Requeue", "Queued", "Queued"), ("Fail", "Failed", "Failed"), ("Wait", "Failed", "Running")],
)
def test_a_lost_attempt_ends_as_the_policy_says(policy: str, gave_up: str, silent: str) -> None:
    current = running(retry={"onRobotLost": policy})
    assert phase(say(current, "Lost")) == gave_up
    assert phase(lifecycle.lose(current, "RobotDeleted", "", NOW)) == gave_up
    assert phase(lifecycle.lose(current, "RobotOffline", "", NOW, may_return=True)) == silent
    not_started = assigned(retry={"onRobotLost": policy})
    assert phase(lifecycle.lose(not_started, "RobotOffline", "", NOW)) == "Queued", "nothing can have happened twice"
    assert phase(say(not_started, "Drained")) == "Queued"
    assert phase(say(current, "Drained")) == gave_up, "it had started"
    cancelled = lifecycle.cancel({**current, "spec": {**current["spec"], "cancel": True}}, NOW)
    assert phase(lifecycle.lose(cancelled, "RobotOffline", "", NOW)) == "Cancelled"


def test_a_robots_clock_moves_no_timer() -> None:
    for clock in ("1990-01-01T00:00:00Z", "2999-01-01T00:00:00Z"):
        started = say(assigned(timeout="1h"), "Running", NOW + 5 * SECOND, startedTime=clock)
        moment = times.from_text(started["status"]["startedTime"])
        assert NOW <= moment <= NOW + 5 * SECOND
        due = lifecycle.due(started)
        assert due is not None and timedelta(hours=1) <= due - NOW <= timedelta(hours=1, minutes=2)
    honest = say(assigned(), "Running", NOW + 5 * SECOND, startedTime="2026-11-22T20:00:03Z")
    assert times.from_text(honest["status"]["startedTime"]) == NOW + 3 * SECOND


def test_a_start_deadline_is_for_the_first_start() -> None:
    waiting = job(startDeadline="1h")
    assert lifecycle.due(waiting) == NOW + timedelta(hours=1)
    expired = lifecycle.on_due(waiting, NOW + timedelta(hours=1))
    assert expired is not None and phase(expired) == "Expired"
    started = say(running(startDeadline="1h", retry={"limit": 1, "backoff": {"initial": "0s"}}), "Failed")
    later = lifecycle.on_due(started, NOW + timedelta(hours=2))
    assert later is not None and phase(later) == "Queued" and lifecycle.due(later) is None
    never_started = lifecycle.lose(assigned(startDeadline="1h"), "RobotOffline", "", NOW)
    assert lifecycle.due(never_started) == NOW + timedelta(hours=1)


def test_the_end_of_time_is_no_overflow() -> None:
    last = "9999-12-31T23:59:59Z"
    far = job(notBefore=last, startDeadline="36500d")
    assert lifecycle.due(far) == times.from_text(last)
    end = datetime(9999, 12, 31, tzinfo=UTC)
    late = lifecycle.queue({"metadata": {"name": "j"}, "spec": {"priority": 20, "ttlAfterFinished": "36500d"}}, end)
    assert lifecycle.rank(late, timedelta(0)) == lifecycle.END_OF_TIME
    assert lifecycle.due(lifecycle.cancel(late, end)) == lifecycle.END_OF_TIME


# -- anything at all -------------------------------------------------------------------------------------------------

DURATIONS = st.sampled_from(["0s", "1s", "30s", "10m", "2h"])
POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "limit": st.integers(0, 3),
        "onRobotLost": st.sampled_from(["Requeue", "Fail", "Wait"]),
        "robotLostLimit": st.integers(0, 3),
        "backoff": st.fixed_dictionaries(
            {}, optional={"initial": DURATIONS, "max": DURATIONS, "factor": st.floats(1, 100)}
        ),
    },
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "timeout": DURATIONS,
        "gracePeriod": DURATIONS,
        "startDeadline": DURATIONS,
        "ttlAfterFinished": DURATIONS,
        "notBefore": st.sampled_from(["2026-11-22T20:05:00Z", "2020-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]),
        "priority": st.integers(0, 20),
        "retry": POLICIES,
        "cancel": st.booleans(),
    },
)
SAID = st.sampled_from(["Running", "Succeeded", "Failed", "Cancelled", "Lost", "Drained"])
CLOCKS = st.sampled_from([None, "1990-01-01T00:00:00Z", "2026-11-22T20:00:30Z", "2999-01-01T00:00:00Z"])


class Life(RuleBasedStateMachine):
    """One job, a clock that only goes on, and robots and people who say anything in any order."""

    @initialize(spec=SPECS)
    def first_is_submitted(self, spec: Job) -> None:
        self.submit(spec)

    def submit(self, spec: Job) -> None:
        self.now = NOW
        self.given: list[tuple[int, str]] = []  # attempts there have been, and whose they were
        self.ended = 0
        self.job: Job | None = lifecycle.queue({"metadata": {"name": "j"}, "spec": spec}, NOW)

    def move(self, step: Callable[[Job], Job | None]) -> bool:
        """One step; whether it was taken. Whatever it is, it keeps the rules."""
        assert self.job is not None
        before, untouched = self.job, copy.deepcopy(self.job)
        try:
            after = step(before)
        except ApiError as refused:
            assert refused.status in (409, 422)
            after = before
        assert before == untouched, "what comes in is never changed"
        if after is None:
            assert lifecycle.is_final(before), "only what is over is forgotten"
            self.job = None
            return True
        was, is_ = lifecycle.phase(before), lifecycle.phase(after)
        assert was is is_ or is_ in TRANSITIONS[was]
        assert after["status"]["attempt"] >= before["status"]["attempt"]
        if was in FINAL:
            assert after == before, "the end absorbs"
        if was in LIVE and is_ not in LIVE:
            self.ended += 1
        if was is JobPhase.RUNNING and is_ is JobPhase.QUEUED:
            policy = (before["spec"].get("retry") or {}).get("onRobotLost", "Requeue")
            assert policy == "Requeue" or after["status"]["attempts"][-1]["phase"] == "Failed", "started twice"
        self.job = after
        return after is not before

    @precondition(lambda self: self.job and phase(self.job) == "Queued" and "heldUntil" not in self.job["status"])
    @rule(robot=st.sampled_from(ROBOTS))
    def assign(self, robot: str) -> None:
        self.move(lambda current: lifecycle.assign(current, f"pc-{robot[-1]}", robot, self.now))
        assert self.job is not None
        self.given.append((self.job["status"]["attempt"], robot))

    @precondition(lambda self: self.job and self.given)
    @rule(said=SAID, clock=CLOCKS)
    def hear_from_the_one_who_has_it(self, said: str, clock: str | None) -> None:
        attempt, robot = self.given[-1]
        facts = {"attempt": attempt, "phase": said, **({"startedTime": clock} if clock else {})}
        self.move(lambda current: lifecycle.report(current, robot, facts, self.now))

    @precondition(lambda self: self.job and self.given)
    @rule(said=SAID, data=st.data(), robot=st.sampled_from(ROBOTS))
    def hear_from_anybody_about_anything(self, said: str, data: st.DataObject, robot: str) -> None:
        """Late, duplicated, reordered, of an attempt of somebody else or of none."""
        attempt = data.draw(st.integers(0, len(self.given) + 1))
        assert self.job is not None
        is_current = lifecycle.phase(self.job) in LIVE and (attempt, robot) == self.given[-1]
        moved = self.move(
            lambda current: lifecycle.report(current, robot, {"attempt": attempt, "phase": said}, self.now)
        )
        assert is_current or not moved, "who does not have it moves nothing"

    @precondition(lambda self: self.job)
    @rule(seconds=st.sampled_from([0, 1, 29, 31, 90, 700, 8000]))
    def time_goes_on(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.move(lambda current: lifecycle.on_due(current, self.now))

    @precondition(lambda self: self.job and lifecycle.due(self.job) and lifecycle.due(self.job).year < 3000)
    @rule()
    def its_timer_runs_out(self) -> None:
        assert self.job is not None
        due = lifecycle.due(self.job)
        assert due is not None
        self.now = max(self.now, due)
        before = self.job
        assert self.move(lambda current: lifecycle.on_due(current, self.now)), f"a timer that does nothing: {before}"

    @precondition(lambda self: self.job)
    @rule()
    def somebody_cancels(self) -> None:
        self.move(lambda current: lifecycle.cancel({**current, "spec": {**current["spec"], "cancel": True}}, self.now)
                  if not lifecycle.is_final(current) else current)  # fmt: skip

    @precondition(lambda self: self.job)
    @rule(may_return=st.booleans())
    def its_robot_is_lost(self, may_return: bool) -> None:
        self.move(lambda current: lifecycle.lose(current, "RobotOffline", "", self.now, may_return=may_return))

    @precondition(lambda self: self.job is None)
    @rule(spec=SPECS)
    def another_is_submitted(self, spec: Job) -> None:
        self.submit(spec)

    @invariant()
    def it_is_whole(self) -> None:
        if getattr(self, "job", None) is None:
            return
        status = self.job["status"]
        JobStatus.model_validate(status)
        assert lifecycle.rank(self.job) >= NOW
        listed, earlier = status.get("attempts", []), status.get("earlierAttempts", {})
        assert len(listed) + sum(earlier.values()) == self.ended

    @invariant()
    def it_has_an_exit(self) -> None:
        """A timer, a robot whose presence is watched, or (queued and ready) the next free robot."""
        if getattr(self, "job", None) is None:
            return
        status, due = self.job["status"], lifecycle.due(self.job)
        current = lifecycle.phase(self.job)
        if current is JobPhase.ASSIGNED or "heldUntil" in status or (current in LIVE and "cancelTime" in status):
            assert due is not None
        if current is JobPhase.RUNNING and self.job["spec"].get("timeout"):
            assert due is not None
        if current in LIVE:
            assert status["robotUID"] in ROBOTS
            assert phase(lifecycle.lose(self.job, "RobotDeleted", "", self.now)) in ("Queued", "Failed", "Cancelled")
        if current in FINAL:
            assert status["finishedTime"] and bool(due) == bool(self.job["spec"].get("ttlAfterFinished"))


TestAnyLife = Life.TestCase
TestAnyLife.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
