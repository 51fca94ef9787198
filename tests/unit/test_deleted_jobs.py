"""A running job whose deletion is under way goes on to its end alone, and lets go of its deletion there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.decisions import deletion, lifecycle
from casare_api.decisions.deletion import RUNNING
from casare_api.kinds.job import FINAL, JOB, JobPhase

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
ROBOT = "00000000-0000-4000-8000-000000000000"
HOLD = "example.com/hold"
Job = dict[str, Any]


def running(*finalizers: str, **spec: Any) -> Job:
    """A job that runs."""
    meta = {"name": "j", "namespace": "default", "uid": "u"} | ({"finalizers": list(finalizers)} if finalizers else {})
    queued = lifecycle.queue({"metadata": meta, "spec": spec}, NOW)
    return say(lifecycle.assign(queued, "pc-01", ROBOT, NOW), "Running")


def deleted(job: Job) -> Job:
    """The same, as its deletion begins."""
    held = deletion.until_ended(job)
    marked = {**held, "metadata": {**held["metadata"], "deletionTimestamp": "2026-11-22T20:00:00Z"}}
    return lifecycle.cancel({**marked, "spec": {**marked["spec"], "cancel": True}}, NOW)


def say(job: Job, phase: str) -> Job:
    return lifecycle.report(job, ROBOT, {"attempt": job["status"]["attempt"], "phase": phase}, NOW)


def finalizers(job: Job) -> list[str]:
    return list(job["metadata"].get("finalizers") or ())


def test_it_is_put_on_once_and_behind_those_of_others() -> None:
    once = deletion.until_ended(running(HOLD))
    assert finalizers(once) == [HOLD, RUNNING] and deletion.until_ended(once) is once
    assert finalizers(deletion.ended(once)) == [HOLD]
    assert "finalizers" not in deletion.ended(deletion.until_ended(running()))["metadata"], "as if there had been none"
    untouched = running(HOLD)
    assert deletion.ended(untouched) is untouched


@pytest.mark.parametrize("policy", ["Foreground", "Orphan", "Background", None])
def test_policies_for_dependents_leave_it_on(policy: Any) -> None:
    assert RUNNING in finalizers(deletion.with_policy(deleted(running()), policy))
    assert deletion.let_go(deletion.with_policy(deleted(running()), policy))["metadata"]["finalizers"] == [RUNNING]


def test_what_is_not_deleted_keeps_its_metadata_to_the_end() -> None:
    """The very same object: a job that only moves is written in a shorter way."""
    job = running(HOLD)
    assert say(job, "Succeeded")["metadata"] is job["metadata"]


ENDS = st.sampled_from(["Succeeded", "Failed", "Cancelled", "Lost", "Drained", "silent", "gone", "late"])
POLICIES = st.fixed_dictionaries({
    "onRobotLost": st.sampled_from(["Requeue", "Fail", "Wait"]), "limit": st.integers(0, 5),
    "robotLostLimit": st.integers(0, 5),
})  # fmt: skip


def after(job: Job, how: str) -> Job | None:
    match how:
        case "silent" | "gone":
            return lifecycle.lose(job, "RobotOffline", "", NOW, may_return=how == "silent")
        case "late":
            due = lifecycle.due(job)
            assert due is not None, "somebody moves it on, whatever its robot does"
            return lifecycle.on_due(job, due)
        case _:
            return say(job, how)


@given(policy=POLICIES, how=ENDS, held=st.booleans(), timeout=st.sampled_from([None, "1s", "1d"]))
def test_whatever_happens_next_it_has_ended_and_is_let_go(
    policy: Job, how: str, held: bool, timeout: str | None
) -> None:
    spec = {"retry": policy} | ({"timeout": timeout} if timeout else {})
    ended = after(deleted(running(*([HOLD] if held else []), **spec)), how)
    assert ended is not None and lifecycle.phase(ended) in FINAL
    assert finalizers(ended) == ([HOLD] if held else [])


@given(policy=POLICIES)
def test_progress_is_no_end(policy: Job) -> None:
    job = deleted(running(retry=policy))
    assert say(job, "Running") is job and finalizers(job) == [RUNNING]
    assert lifecycle.phase(job) is JobPhase.RUNNING


def test_its_timer_is_that_of_a_cancelled_job() -> None:
    due = lifecycle.due(deleted(running(gracePeriod="45s")))
    assert due == NOW + timedelta(seconds=45 + 60)


@pytest.mark.parametrize(("job", "shown"), [
    (running(), "Running"), (deleted(running()), "Terminating"), (say(deleted(running(HOLD)), "Cancelled"), "Cancelled"),
])  # fmt: skip
def test_a_table_says_terminating_until_it_has_ended(job: Job, shown: str) -> None:
    (column,) = (column for column in JOB.columns if column.name == "Status")
    assert column.cell(job, NOW) == shown
