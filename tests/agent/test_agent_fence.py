"""selfFence: a job ends on a robot that nobody hears of before the server would give it to another."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_agent import fence
from casare_agent.assignment import Assignment
from casare_agent.attempt import Attempt
from casare_agent.fence import Contact, Fence, clock, limits
from casare_agent.plan import Stage
from casare_agent.presence import Presence
from casare_agent.supervisor import StopReason
from casare_agent.workshop import Workshop
from casare_client import Unreachable

Until = Callable[..., None]
SECONDS = st.floats(0, 10**7)


@given(lost_after=SECONDS, grace=SECONDS, lease=st.floats(1, 200))
def test_a_fenced_job_is_over_before_the_server_calls_it_lost(lost_after: float, grace: float, lease: float) -> None:
    silence, allowed = limits(lost_after, grace, lease)
    assert silence > 0 and 0 <= allowed <= grace
    assert silence + allowed < max(lost_after, lease)


@pytest.mark.parametrize("interval", [0.5, 3, 10, 60])
def test_a_robot_that_heartbeats_in_time_is_never_fenced(interval: float) -> None:
    """Not even by a lostAfter that is shorter than its heartbeats are apart, and after a heartbeat that got lost."""
    lease = fence.LEASE_INTERVALS * interval + fence.LEASE_EXTRA
    for lost_after in (0.0, 1.0, lease, 120.0):
        silence, _ = limits(lost_after, 20, lease)
        assert silence > 1.5 * interval


def test_silence_is_counted_from_when_the_last_report_that_got_through_was_sent() -> None:
    now = 100.0

    def send(body: dict[str, object]) -> dict[str, object]:
        nonlocal now
        now += 4  # it took that long
        if body:
            raise Unreachable("cannot reach it")
        return {"intervalSeconds": 10}

    contact = Contact(lambda: now)
    presence = Presence(send, contact)
    presence.report({}, 0)
    assert (contact.silence(), contact.lease) == (4, 31)
    presence.report({"lost": True}, 0)
    assert contact.silence() == 8


def test_a_fence_acts_once_and_not_while_the_server_hears(until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "LOOK_EVERY", 0.01)
    acted: list[float] = []
    now, looks = 0.0, 0

    def tell() -> float:
        nonlocal looks
        looks += 1
        return now

    contact = Contact(tell)
    one = Fence(contact, 60.0, 20.0, acted.append)  # it acts after 60 - 20 - 5 seconds of silence
    one.start()
    for second in range(0, 600, 30):
        contact.heard(float(second), 3.0)
        now, seen = float(second), looks
        until(lambda seen=seen: looks > seen + 1, "it looked again")  # type: ignore[misc]
    assert acted == []
    now += 35
    one.join(30)
    assert acted == [20.0]


def test_a_fence_that_is_due_acts_before_anything_is_started() -> None:
    """The answer to Running may come when the server has long given the job to another robot."""
    acted: list[float] = []
    contact = Contact()
    contact.heard(clock() - 1000, 3.0)
    Fence(contact, 60.0, 20.0, acted.append).begin()
    assert acted == [20.0]


def test_a_fence_ends_with_its_job() -> None:
    acted: list[float] = []
    one = Fence(Contact(), 600.0, 1.0, acted.append)
    one.start()
    one.cancel()
    one.join(30)
    assert not one.is_alive() and acted == []


@pytest.mark.skipif(os.name == "nt", reason="the job is ended with POSIX signals")
def test_a_job_that_asks_for_it_ends_where_the_server_is_away(
    workshop: Workshop, job: Callable[..., Assignment], until: Until
) -> None:
    workshop.contact.heard(clock() - 1000, 3.0)
    workflow = {"runner": "python", "source": {"inline": "import time; time.sleep(600)"}}
    asks, does_not = (
        Attempt(job(workflow, uid, retry={"selfFence": asked}, lostAfter="2m"), workshop, lambda: None)
        for uid, asked in (("u-1", True), ("u-2", False))
    )
    for attempt in (does_not, asks):
        attempt.answered(attempt.entry() or {}, 200, "")
    until(lambda: asks.held().stage is Stage.ENDED, "it was ended")
    said = asks.entry() or {}
    assert (said["phase"], said["reason"]) == ("Lost", "SelfFenced")
    assert not asks.answered(said, 503, "") and asks.entry() == said, "told until the server takes it"
    assert asks.answered(said, 200, "")
    assert does_not.held().stage is Stage.RUNNING
    does_not.stop(StopReason.CANCELLED, 0.0)
    until(lambda: does_not.held().stage is Stage.ENDED, "the other one ends when it is told to")
