"""Drains: what a moment makes of a robot and of its jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.decisions import draining, lifecycle, skew
from casare_api.kinds import Object
from casare_api.machinery import times

NOW = datetime(2026, 11, 22, 2, 30, tzinfo=UTC)
NIGHTLY = {"name": "patches", "cron": "0 2 * * *", "duration": "2h"}


def robot(status: Object | None = None, **spec: Any) -> Object:
    return {"metadata": {"name": "pc"}, "spec": spec, **({"status": status} if status else {})}


def since(moment: datetime) -> Object:
    return {"drain": {"since": times.to_text(moment, micro=True)}}


def job(phase: str, **spec: Any) -> Object:
    begun = times.to_text(NOW - timedelta(hours=1), micro=True)
    status = {"phase": phase, "attempt": 1, "robotName": "pc", "robotUID": "u", "queuedTime": begun,
              "assignedTime": begun} | ({"startedTime": begun} if phase == "Running" else {})  # fmt: skip
    return {"metadata": {"name": "a", "uid": "j"}, "spec": spec, "status": status}


def seen(made: Object, live: int = 0, now: datetime = NOW) -> Object:
    return draining.observed(made, draining.judge(made, now), live, "1.0", now)


def condition(made: Object, type_: str) -> tuple[str, str] | None:
    found = [one for one in made["status"].get("conditions") or [] if one["type"] == type_]
    return (found[0]["status"], found[0]["reason"]) if found else None


@pytest.mark.parametrize(
    ("made", "word", "until"),
    [
        (robot(), "", ""),
        (robot(desiredState="Paused"), "paused", ""),
        (robot(desiredState="Drained"), "drained", ""),
        (robot({"maintenance": {"until": "x"}}), "maintenance", "x"),
        (robot({"maintenance": {"name": "w"}}), "maintenance", ""),
        (robot({"maintenance": {"until": "x"}}, desiredState="Paused"), "paused", ""),
        (robot({"agent": {"protocol": 2}}, restartRequestedAt="a"), "restarting", ""),
        (robot({"agent": {"protocol": 2, "restartedFor": "a"}}, restartRequestedAt="a"), "", ""),
        (robot({"agent": {"version": "0.9"}}, restartRequestedAt="a"), "", ""),  # it never would
        (robot({"agent": {"protocol": 99}}, desiredState="Paused"), "refused", ""),
    ],
)
def test_what_keeps_a_robot_from_new_jobs(made: Object, word: str, until: str) -> None:
    assert draining.state(made) == (word, until)


def test_the_deadline_counts_from_when_it_was_asked_for_and_changing_it_counts() -> None:
    made = robot(since(NOW - timedelta(minutes=20)), desiredState="Drained")
    assert draining.judge(made, NOW).is_over, "15 minutes where nothing is said"
    for drain, over in (({"deadline": "21m"}, False), ({"deadline": "20m"}, True), ({"deadline": "0"}, True),
                        ({"deadline": "1s", "then": "Wait"}, False), ({"then": "Cancel"}, True)):  # fmt: skip
        assert draining.judge({**made, "spec": {**made["spec"], "drain": drain}}, NOW).is_over is over, drain
    asked = draining.judge(robot(desiredState="Drained", drain={"deadline": "36500d"}), NOW)
    assert asked.since == NOW and not asked.is_over, "what an older release wrote is asked for now"


@pytest.mark.parametrize("drain", ["x", 5, [], {"since": "yesterday"}, {"since": 5}, {"since": None}])
def test_what_an_older_release_let_people_write_there_stops_nobody(drain: Any) -> None:
    made = robot({"drain": drain, "maintenance": "x", "conditions": []}, desiredState="Drained")
    assert draining.judge(made, NOW).since == NOW and draining.state(made).word == "drained"
    told = seen(made)
    assert condition(told, "Drained") == ("True", "Drained") and "maintenance" not in told["status"]
    assert draining.state(robot({"maintenance": "x"})) == ("maintenance", "")


def test_a_write_that_asks_for_a_drain_says_when_and_one_that_takes_it_back_forgets_it() -> None:
    asked = draining.settled(robot(), robot(desiredState="Drained"), NOW)
    assert asked["status"] == since(NOW)
    kept = {**asked, "status": {**asked["status"], "conditions": [{"type": "Drained"}, {"type": "Ready"}]}}
    other = {**kept, "spec": {**kept["spec"], "tags": ["x"]}}
    assert draining.settled(kept, other, NOW + timedelta(hours=1)) is other
    windowed = {**kept, "spec": {**kept["spec"], "maintenanceWindows": [NIGHTLY]}}
    assert draining.settled(kept, windowed, NOW + timedelta(minutes=1)) is windowed, "it goes on"
    resumed = draining.settled(kept, {**kept, "spec": {"desiredState": "Active"}}, NOW)
    assert resumed["status"] == {"conditions": [{"type": "Ready"}]}
    paused = robot(desiredState="Paused")
    assert draining.settled(None, paused, NOW) is paused


def test_a_window_drains_from_its_start_but_one_that_was_just_made_from_then() -> None:
    made = robot(maintenanceWindows=[NIGHTLY])
    assert draining.judge(made, NOW).since == NOW - timedelta(minutes=30)
    fresh = draining.settled(robot(), made, NOW)
    assert draining.judge(fresh, NOW).since == NOW
    tomorrow = NOW + timedelta(days=1)
    assert draining.judge(fresh, tomorrow).since == tomorrow - timedelta(minutes=30), "another night, another drain"
    over = NOW + timedelta(hours=3)
    assert not draining.judge(fresh, over).drains
    assert draining.judge(made, NOW).changes_at(NOW) == NOW + timedelta(minutes=90)
    assert draining.judge(made, over).changes_at(over) == datetime(2026, 11, 23, 2, tzinfo=UTC)


def test_what_is_seen_of_it_is_the_same_until_something_changes() -> None:
    first = seen(robot(desiredState="Drained"), live=2)
    assert condition(first, "Schedulable") == ("False", "Draining") and condition(first, "Drained") == ("False", "Draining")
    assert seen(first, live=2, now=NOW + timedelta(minutes=1)) is first
    late = seen(first, live=1, now=NOW + timedelta(minutes=16))
    assert condition(late, "Drained") == ("False", "DeadlineOver")
    assert late["status"]["conditions"][1]["lastTransitionTime"] == times.to_text(NOW), "it was False before"
    done = seen(late, now=NOW + timedelta(minutes=17))
    assert condition(done, "Drained") == ("True", "Drained")
    active = seen({**done, "spec": {}})
    assert condition(active, "Schedulable") == ("True", "Active") and condition(active, "Drained") is None
    assert "drain" not in active["status"]


def test_in_maintenance_people_see_which_until_when_and_what_comes_next() -> None:
    made = seen(robot(maintenanceWindows=[NIGHTLY]))
    window = {"name": "patches", "start": "2026-11-22T02:00:00Z", "until": "2026-11-22T04:00:00Z"}
    assert made["status"]["maintenance"] == window and made["spec"] == {"maintenanceWindows": [NIGHTLY]}
    assert made["status"]["nextMaintenance"]["start"] == "2026-11-23T02:00:00Z"
    assert condition(made, "Schedulable") == ("False", "Maintenance")
    after = seen(made, now=NOW + timedelta(hours=2))
    assert "maintenance" not in after["status"] and condition(after, "Schedulable") == ("True", "Active")


POLICIES = st.sampled_from(["Requeue", "Fail", "Wait"])


@given(st.sampled_from(["Assigned", "Running"]), POLICIES, st.booleans(), st.booleans(), st.sampled_from(
    ["Requeue", "Cancel", "Wait"]), st.integers(0, 60), st.integers(0, 3))  # fmt: skip
def test_a_job_that_started_and_may_not_start_twice_never_goes_back(
    phase: str, on_lost: str, fences: bool, online: bool, then: str, minutes: int, again: int
) -> None:
    made = robot(since(NOW), desiredState="Drained", drain={"deadline": "15m", "then": then})
    current = job(phase, retry={"onRobotLost": on_lost, "selfFence": fences})
    for step in range(again + 1):
        now = NOW + timedelta(minutes=minutes + 30 * step)
        current = draining.moved(current, draining.judge(made, now), online, now)
    ended = str(lifecycle.phase(current))
    if phase == "Assigned":
        assert ended == "Queued"
    elif on_lost != "Requeue":
        assert ended in ("Running", "Failed")
    if minutes < 15 and not again and phase == "Running":
        assert ended == "Running" and not {"drainTime", "cancelTime"} & current["status"].keys()
    if then == "Wait" and phase == "Running":
        assert ended == "Running" and "drainTime" not in current["status"]


def test_a_drain_that_is_taken_back_leaves_what_still_runs() -> None:
    told = lifecycle.give_back(job("Running"), NOW)
    assert told["status"]["drainTime"]
    assert draining.moved(told, draining.Judged(), True, NOW) == job("Running")
    untouched = job("Running")
    assert draining.moved(untouched, draining.Judged(), True, NOW) is untouched


@pytest.mark.parametrize(
    ("agent", "word"),
    [({}, None), ({"version": "1.0", "protocol": 2}, None), ({"version": "1.0"}, None), ({"version": "0.9"}, "OtherVersion"),
     ({"version": "1.0", "protocol": 0}, "TooOld"), ({"version": "2.0", "protocol": 99}, "TooNew"),
     ({"version": "0.9", "protocol": "x"}, "OtherVersion"), ({"version": "0.9", "protocol": True}, "OtherVersion")],
)  # fmt: skip
def test_agents_of_other_releases_are_shown_and_those_out_of_range_refused(agent: Object, word: str | None) -> None:
    found = skew.difference(agent, "1.0")
    assert (found[0] if found else None) == word
    assert (skew.refusal(agent) is not None) == (word in ("TooOld", "TooNew"))


def test_what_an_agent_calls_its_version_can_be_no_flood() -> None:
    said = skew.refusal({"version": "a\nb" * 10_000, "protocol": 99}) or ""
    assert "\n" not in said and len(said) < 200


def test_a_window_whose_end_is_too_far_to_be_seen_is_looked_at_again() -> None:
    weekend = {"name": "weekend", "cron": "0 * * * 6,0", "duration": "1h"}
    saturday = datetime(2026, 11, 28, 0, 20, tzinfo=UTC)
    judged = draining.judge(robot(maintenanceWindows=[weekend], drain={"then": "Wait"}), saturday)
    assert judged.drains
    at = judged.changes_at(saturday)
    assert at is not None and at <= datetime(2026, 11, 30, 0, 5, tzinfo=UTC)
