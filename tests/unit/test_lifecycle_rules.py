"""What a job is promised: budgets of its own for each kind of trouble, a bound on its wait, an end at once before it
runs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.decisions import lifecycle
from casare_api.decisions.diagram import state_diagram
from casare_api.kinds import job as kind
from casare_api.kinds.job import FINAL, TRANSITIONS, JobPhase
from casare_api.machinery.errors import ApiError

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
ROBOT = "00000000-0000-4000-8000-000000000000"
DOCS = Path(__file__).parents[2] / "docs" / "jobs.md"
Job = dict[str, Any]


def job(at: datetime = NOW, **spec: Any) -> Job:
    return lifecycle.queue({"metadata": {"name": "j", "uid": "u"}, "spec": spec}, at)


def running(of: Job) -> Job:
    return say(lifecycle.assign(of, "pc-01", ROBOT, NOW), "Running")


def say(of: Job, phase: str, **facts: Any) -> Job:
    return lifecycle.report(of, ROBOT, {"attempt": of["status"]["attempt"], "phase": phase, **facts}, NOW)


def ready(of: Job) -> Job:
    """The job once the wait before its retry is over."""
    due = lifecycle.due(of)
    freed = lifecycle.on_due(of, due) if due is not None else of
    assert freed is not None
    return freed


def phase(of: Job) -> str:
    return str(of["status"]["phase"])


# -- the table and what is made of it --------------------------------------------------------------------------------


def test_the_diagram_in_the_documents_is_the_table() -> None:
    (drawn,) = re.findall(r"```mermaid\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    assert drawn == state_diagram(TRANSITIONS, JobPhase.QUEUED)


def test_the_words_beside_each_phase_are_the_table() -> None:
    source = Path(str(kind.__file__)).read_text(encoding="utf-8")
    beside = re.findall(r'^    [A-Z]+ = "(\w+)"  # (.*)$', source, re.M)
    assert [name for name, _ in beside] == [each.value for each in JobPhase]
    for name, words in beside:
        said = {each for each in JobPhase if re.search(rf"\b{each}\b", words)}
        assert said == TRANSITIONS[JobPhase(name)] and (words == "final") == (JobPhase(name) in FINAL), name


# -- order -----------------------------------------------------------------------------------------------------------

AGES = st.timedeltas(timedelta(0), timedelta(days=400))
AGINGS = st.timedeltas(timedelta(seconds=1), timedelta(days=30))


@given(mine=st.integers(0, 20), other=st.integers(0, 20), aging=AGINGS, beyond=AGES)
def test_no_job_that_comes_more_than_20_intervals_later_overtakes(
    mine: int, other: int, aging: timedelta, beyond: timedelta
) -> None:
    later = NOW + 20 * aging + beyond + timedelta(microseconds=1)
    assert lifecycle.rank(job(priority=mine), aging) < lifecycle.rank(job(later, priority=other), aging)


@given(mine=st.integers(0, 20), aging=AGINGS)
def test_the_bound_is_as_small_for_a_job_as_its_priority_is(mine: int, aging: timedelta) -> None:
    """`mine` intervals later nothing overtakes it, and a moment before something urgent still does."""
    at, moment = NOW + mine * aging, timedelta(microseconds=1)
    assert lifecycle.rank(job(priority=mine), aging) < lifecycle.rank(job(at + moment, priority=0), aging)
    assert mine == 0 or lifecycle.rank(job(priority=mine), aging) > lifecycle.rank(job(at - moment, priority=0), aging)


@given(priority=st.integers(0, 20), aging=AGINGS, apart=AGES)
def test_jobs_of_one_priority_go_in_the_order_in_which_they_came(
    priority: int, aging: timedelta, apart: timedelta
) -> None:
    later = job(NOW + apart, priority=priority)
    assert lifecycle.rank(job(priority=priority), aging) <= lifecycle.rank(later, aging)


@given(mine=st.integers(1, 20), days=st.integers(0, 3000))
def test_without_ageing_a_more_urgent_job_overtakes_however_late(mine: int, days: int) -> None:
    urgent = job(NOW + timedelta(days=days), priority=mine - 1)
    assert lifecycle.rank(urgent, timedelta(0)) < lifecycle.rank(job(priority=mine), timedelta(0))


def test_a_job_is_ranked_by_the_interval_that_it_was_submitted_under() -> None:
    quick = job(priority=2)
    quick["status"]["agingInterval"] = "1h"
    assert lifecycle.rank(quick) == NOW + timedelta(hours=2)
    assert lifecycle.rank(job(priority=2)) == NOW + timedelta(minutes=10)


def test_a_job_that_goes_back_to_the_queue_keeps_its_place() -> None:
    first = job(priority=5)
    back = say(running(first), "Lost")
    assert phase(back) == "Queued" and lifecycle.rank(back) == lifecycle.rank(first)


# -- budgets ---------------------------------------------------------------------------------------------------------


def test_failures_and_lost_robots_have_budgets_of_their_own() -> None:
    current = job(retry={"limit": 2, "robotLostLimit": 2, "backoff": {"initial": "0s"}})
    for trouble in ("Lost", "Failed", "Lost", "Failed"):
        current = ready(say(running(current), trouble))
        assert phase(current) == "Queued", trouble
    assert phase(say(running(current), "Lost")) == "Failed"
    assert phase(say(running(current), "Failed")) == "Failed"


def test_a_robot_that_never_began_costs_no_budget() -> None:
    current = job(retry={"robotLostLimit": 1})
    for _ in range(30):
        idle = lifecycle.assign(current, "pc-01", ROBOT, NOW)
        moved = lifecycle.on_due(idle, NOW + lifecycle.ASSIGN_TIMEOUT)
        assert moved is not None and phase(moved) == "Queued"
        current = moved
    assert current["status"]["earlierAttempts"] == {"NotStarted": 10}
    current = say(running(current), "Lost")
    assert phase(current) == "Queued"
    assert phase(say(running(current), "Lost")) == "Failed"


def not_begun(of: Job) -> Job:
    back = lifecycle.on_due(lifecycle.assign(of, "pc-01", ROBOT, NOW), NOW + lifecycle.ASSIGN_TIMEOUT)
    assert back is not None and phase(back) == "Queued"
    return back


def test_a_robot_that_takes_a_job_and_does_not_begin_it_gets_it_ever_more_rarely() -> None:
    moved, pauses = job(), []
    for _ in range(5):
        back = not_begun(moved)
        pauses.append(back["status"].get("heldUntil"))
        moved = ready(back)
    assert pauses[0] is None, "the first time may be anybody's bad luck"
    assert pauses[1:] == sorted(pauses[1:]) and pauses[1] < pauses[4]
    once_begun = say(running(moved), "Lost")
    assert "heldUntil" not in not_begun(once_begun)["status"]


@pytest.mark.parametrize("policy", ["Fail", "Wait"])
def test_a_reported_failure_is_tried_again_though_a_lost_robot_ends_the_job(policy: str) -> None:
    current = job(retry={"limit": 5, "onRobotLost": policy, "backoff": {"initial": "0s"}})
    current = ready(say(running(current), "Failed", exitCode=1))
    assert phase(current) == "Queued"
    current = say(running(current), "Lost", message="the agent that ran it was restarted")
    assert phase(current) == "Failed"
    assert current["status"]["message"] == "failed after 2 attempts: the agent that ran it was restarted"


@pytest.mark.parametrize(("policy", "then"), [("Requeue", "Queued"), ("Fail", "Failed"), ("Wait", "Failed")])
def test_a_timeout_that_no_robot_enforced_is_a_lost_robot(policy: str, then: str) -> None:
    current = running(job(timeout="10s", retry={"onRobotLost": policy, "limit": 3}))
    due = lifecycle.due(current)
    assert due == NOW + timedelta(seconds=10 + 20) + lifecycle.TIMEOUT_SLACK
    ended = lifecycle.on_due(current, due)
    assert ended is not None and phase(ended) == then
    (attempt,) = ended["status"]["attempts"]
    assert (attempt["phase"], attempt["reason"]) == ("Lost", "Timeout")
    assert attempt["message"] == "timed out after 10s, and its robot did not end it"


def test_a_job_that_used_up_its_retries_says_so_and_keeps_its_last_error() -> None:
    current = job(retry={"limit": 2, "backoff": {"initial": "0s"}})
    for _ in range(3):
        current = say(running(ready(current)), "Failed", exitCode=3, message="exited with code 3: no such sheet")
    status = current["status"]
    assert phase(current) == "Failed" and status["exitCode"] == 3
    assert status["message"] == "failed after 3 attempts: exited with code 3: no such sheet"
    assert [one["message"] for one in status["attempts"]] == ["exited with code 3: no such sheet"] * 3
    once = say(running(job()), "Failed", message="exited with code 3")
    assert once["status"]["message"] == "exited with code 3"


# -- cancelling ------------------------------------------------------------------------------------------------------


def asked(of: Job, at: datetime = NOW) -> Job:
    return lifecycle.cancel({**of, "spec": {**of["spec"], "cancel": True}}, at)


def test_a_job_that_is_only_assigned_is_cancelled_at_once() -> None:
    cancelled = asked(lifecycle.assign(job(), "pc-01", ROBOT, NOW))
    assert phase(cancelled) == "Cancelled"
    (attempt,) = cancelled["status"]["attempts"]
    assert attempt["phase"] == "Cancelled" and "startedTime" not in attempt


@pytest.mark.parametrize("late", ["Running", "Succeeded", "Failed", "Lost", "Drained"])
def test_what_its_robot_says_after_that_comes_too_late(late: str) -> None:
    cancelled = asked(lifecycle.assign(job(), "pc-01", ROBOT, NOW))
    with pytest.raises(ApiError) as refused:
        say(cancelled, late)
    assert refused.value.status == 409
    assert say(cancelled, "Cancelled") is cancelled


def test_a_running_job_has_its_grace_before_it_is_cancelled_without_its_robot() -> None:
    asked_for = asked(running(job(gracePeriod="45s")))
    assert phase(asked_for) == "Running"
    assert asked(asked_for, NOW + timedelta(seconds=9))["status"] == asked_for["status"], "the first word counts"
    due = lifecycle.due(asked_for)
    assert due == NOW + timedelta(seconds=45) + lifecycle.TIMEOUT_SLACK
    assert lifecycle.on_due(asked_for, due - timedelta(seconds=1)) is asked_for
    ended = lifecycle.on_due(asked_for, due)
    assert ended is not None and phase(ended) == "Cancelled"
    assert phase(say(asked_for, "Succeeded")) == "Succeeded", "what is done before the word arrives is done"
