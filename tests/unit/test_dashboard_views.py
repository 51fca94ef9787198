"""Do the dashboard's rows and texts say what a person needs, whatever a resource lacks?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from casare_dashboard import event_views, job_views, log_views, robot_views, words

NOW = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)


def robot(name: str = "pc-01", **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "creationTimestamp": "2026-11-22T18:00:00Z"}
    return {"metadata": {**metadata, **parts.get("metadata", {})}, "spec": parts.get("spec", {}), **_status(parts)}


def job(name: str = "job-1", **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "creationTimestamp": "2026-11-22T19:59:00Z"}
    spec = {"workflowRef": {"name": "reconcile"}, **parts.get("spec", {})}
    return {"metadata": {**metadata, **parts.get("metadata", {})}, "spec": spec, **_status(parts)}


def _status(parts: dict[str, Any]) -> dict[str, Any]:
    return {"status": parts["status"]} if "status" in parts else {}


# -- robots ------------------------------------------------------------------------------------------------------


def test_a_row_says_status_slots_and_how_long_ago_a_robot_was_seen() -> None:
    status = {"phase": "Busy", "slots": {"total": 2, "used": 1}, "lastSeenTime": "2026-11-22T19:59:57.500Z"}
    found = robot(spec={"environment": "production", "capabilities": ["browser"]}, status=status)
    (row,) = robot_views.rows([found], NOW)
    assert row["Status"] == ["Busy"]
    assert row["Slots"] == "1 of 2"
    assert row["Environment"] == "production"
    assert row["Capabilities"] == ["browser"]
    assert row["Last seen"] == 2.5
    assert row["Age"] == 7200


def test_a_robot_that_was_only_declared_is_pending_with_all_its_slots_free() -> None:
    (row,) = robot_views.rows([robot(spec={"maxConcurrentJobs": 3})], NOW)
    assert (row["Status"], row["Slots"], row["Last seen"]) == (["Pending"], "0 of 3", None)
    assert ("Last seen", "never") in robot_views.details(robot(), NOW)


def test_what_a_robot_measured_stands_in_its_details_where_it_did() -> None:
    found = robot(status={"telemetry": {"cpuPercent": 7, "running": 2}})
    assert ("Load", "cpu 7 %, 2 running") in robot_views.details(found, NOW)
    assert "Load" not in dict(robot_views.details(robot(), NOW))


def test_what_somebody_wants_of_a_robot_shows_beside_its_phase() -> None:
    paused = robot(spec={"desiredState": "Paused"}, status={"phase": "Idle"})
    assert robot_views.statuses(paused) == ["Idle", "Paused"]
    assert robot_views.tally([paused, robot("b", status={"phase": "Offline"})]) == [
        ("Idle", 1),
        ("Offline", 1),
        ("Paused", 1),
    ]


@pytest.mark.parametrize(
    ("text", "wanted", "names"),
    [
        ("", [], ["a", "b"]), ("FINANCE", [], ["a"]), ("berlin browser", [], ["a"]), ("sap browser", [], []),
        ("", ["Paused"], ["b"]), ("", ["Idle", "Offline"], ["a", "b"]), ("production", ["Idle"], []),
    ],
)  # fmt: skip
def test_robots_are_found_by_words_and_status_in_the_order_of_names(
    text: str, wanted: list[str], names: list[str]
) -> None:
    first = robot("a", metadata={"labels": {"site": "berlin"}}, status={"phase": "Offline"},
                  spec={"tags": ["finance"], "capabilities": ["browser"], "environment": "production"})  # fmt: skip
    second = robot("b", spec={"desiredState": "Paused"}, status={"phase": "Idle"})
    found = robot_views.matching([second, first], text, wanted)
    assert [one["metadata"]["name"] for one in found] == names


def test_the_jobs_in_a_robots_hands_are_those_it_has_not_finished() -> None:
    mine = {"robotUID": "uid-pc-01"}
    jobs = [
        job("runs", status={**mine, "phase": "Running"}),
        job("done", status={**mine, "phase": "Succeeded"}),
        job("others", status={"robotUID": "uid-x", "phase": "Running"}),
    ]
    assert [one["metadata"]["name"] for one in robot_views.jobs_on(robot(), jobs)] == ["runs"]


# -- jobs --------------------------------------------------------------------------------------------------------


def test_a_waiting_job_says_why() -> None:
    reasons = [{"rule": "capabilities", "message": "2 of 3 robots lack browser"}, {"rule": "slots"}]
    waiting = job(status={"phase": "Queued", "attempt": 0, "reasons": reasons})
    (row,) = job_views.rows([waiting], NOW)
    assert row["Says"] == "2 of 3 robots lack browser; slots"
    assert (row["Attempt"], row["Duration"], row["Robot"]) == (None, None, "")


def test_a_running_job_says_how_far_it_is_and_how_long_it_runs() -> None:
    status = {
        "phase": "Running",
        "startedTime": "2026-11-22T19:59:30Z",
        "progress": {"percent": 60, "message": "page 3"},
    }
    (row,) = job_views.rows([job(status=status)], NOW)
    assert (row["Says"], row["Duration"]) == ("60 % page 3", 30)


def test_a_finished_job_says_how_it_ended() -> None:
    failed = job(status={"phase": "Failed", "reason": "ExitCode", "startedTime": "2026-11-22T19:59:30Z",
                         "finishedTime": "2026-11-22T19:59:30.250Z"})  # fmt: skip
    assert (job_views.says(failed), job_views.seconds_running(failed, NOW)) == ("ExitCode", 0.25)
    assert job_views.says(job(status={"phase": "Succeeded", "reason": "Completed"})) == ""


def test_a_job_that_is_being_cancelled_says_so_until_it_has_ended() -> None:
    cancelling = job(spec={"cancel": True}, status={"phase": "Running"})
    assert job_views.says(cancelling) == "is being cancelled"
    assert not job_views.is_being_cancelled(job(spec={"cancel": True}, status={"phase": "Cancelled"}))


@pytest.mark.parametrize(
    ("text", "phases", "of", "names"),
    [
        ("", [], [], ["new", "old"]), ("", ["Failed"], [], ["old"]), ("", [], ["(inline)"], ["new"]),
        ("2026-10", [], [], ["old"]), ("OLD reconcile", [], [], ["old"]), ("", ["Queued"], ["reconcile"], []),
    ],
)  # fmt: skip
def test_jobs_are_found_by_words_phase_and_workflow_newest_first(
    text: str, phases: list[str], of: list[str], names: list[str]
) -> None:
    old = job("old", spec={"parameters": {"month": "2026-10"}}, status={"phase": "Failed"})
    new = job("new", metadata={"creationTimestamp": "2026-11-22T19:59:59Z"}, spec={"workflowRef": None, "workflow": {}})
    found = job_views.matching([old, new], text, phases, of)
    assert [one["metadata"]["name"] for one in found] == names


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"percent": 60.5}, (60.5, "")), ({"percent": 250}, (100.0, "")), ({"percent": -1}, (0.0, "")),
        ({"percent": "60"}, (None, "")), ({"percent": True, "message": "x"}, (None, "x")), (None, (None, "")),
    ],
)  # fmt: skip
def test_progress_stays_between_0_and_100_whatever_a_job_says(said: Any, shown: tuple[float | None, str]) -> None:
    assert job_views.progress(job(status={"phase": "Running", "progress": said})) == shown


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("startedTime", "finishedTime", "message", "outputs", "attempt", "robotName"), JSON),
    )
)
def test_no_status_that_a_server_may_send_breaks_the_page(status: dict[str, Any]) -> None:
    found = job(status={"phase": "Running", **status})
    assert len(job_views.rows([found], NOW)) == 1
    assert job_views.details(found, NOW)
    assert job_views.values(status.get("outputs")) is not None


def test_ten_thousand_jobs_are_counted_filtered_and_the_newest_shown() -> None:
    jobs = [
        job(f"job-{n}", metadata={"creationTimestamp": f"2026-11-22T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z"},
            status={"phase": job_views.PHASES[n % 7]})
        for n in range(10_000)
    ]  # fmt: skip
    assert sum(number for _, number in job_views.tally(jobs)) == 10_000
    found = job_views.matching(jobs, "", [], [])
    assert [one["metadata"]["name"] for one in found[:2]] == ["job-9999", "job-9998"]
    assert len(job_views.rows(found[: job_views.MOST], NOW)) == job_views.MOST


# -- events, words, logs -----------------------------------------------------------------------------------------


def test_events_come_latest_first() -> None:
    events = [
        {"reason": "Queued", "lastTimestamp": "2026-11-22T19:59:00Z"},
        {"reason": "Assigned", "lastTimestamp": "2026-11-22T19:59:50Z", "count": 2, "type": "Warning"},
    ]
    rows = event_views.rows(events, NOW)
    assert [(row["Reason"], row["When"], row["Type"], row["Times"]) for row in rows] == [
        ("Assigned", "10s ago", "Warning", 2),
        ("Queued", "60s ago", "Normal", 1),
    ]


def test_a_clock_that_runs_ahead_makes_nothing_negative() -> None:
    ahead = robot(status={"lastSeenTime": "2026-11-22T20:00:03Z"})
    assert robot_views.rows([ahead], NOW)[0]["Last seen"] == 0


def test_every_status_has_a_colour_of_its_own() -> None:
    for status in (*robot_views.STATUSES, *job_views.PHASES):
        assert status in words.COLOURS


def test_only_the_end_of_a_long_log_is_shown_from_a_whole_line_on() -> None:
    found = log_views.tail((f"line {n}\n" for n in range(1000)), most=50)
    assert found.cut
    assert found.text.splitlines()[0].startswith("line ")
    assert found.text.endswith("line 999\n")
    assert len(found.text) <= 50


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[32mgreen\x1b[0m\n", "green\n"), ("10 %\r20 %\r\n", "20 %\n"), ("a\x00b\x07", "ab"),
        ("\x1b]0;title\x07x", "x"), ("tab\there", "tab\there"), ("", ""), ("ü\n", "ü\n"),
    ],
)  # fmt: skip
def test_a_log_is_shown_as_a_terminal_leaves_it(raw: str, shown: str) -> None:
    assert log_views.tail([raw]) == log_views.Tail(shown)


@given(st.lists(st.text(max_size=20), max_size=10), st.integers(1, 40))
@example(["", "0" * 20], 20)
def test_a_tail_never_exceeds_its_limit_and_keeps_a_short_log_whole(chunks: list[str], most: int) -> None:
    found = log_views.tail(chunks, most)
    whole = "".join(chunks)
    assert len(found.text) <= most
    assert found.cut == (len(whole) > most)
    if not found.cut:
        assert found.text == log_views.printable(whole)
