"""What people see: tables, descriptions, headlines, exit codes."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.kinds import KINDS, Object
from casare_cli import describing, following, output, styles
from casare_cli.table import Table

NOW = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)


def job(**status: object) -> Object:
    return {
        "apiVersion": "fleet.casare.net/v1",
        "kind": "Job",
        "metadata": {"name": "a", "namespace": "default", "uid": "u", "creationTimestamp": "2026-11-22T19:58:00Z"},
        "spec": {
            "workflowRef": {"name": "w", "revision": "0123456789abcdef"},
            "priority": 10,
            "parameters": {"n": [1]},
        },
        "status": status,
    }


def test_tables_are_aligned_as_kubectl_does() -> None:
    table = Table(["Name", "Status", "Age"])
    assert table.all([["a", "Idle", "3s"], ["long-name", None, "12m"]]) == [
        "NAME       STATUS  AGE",
        "a          Idle    3s",
        "long-name  <none>  12m",
    ]


def test_rows_that_come_later_stay_under_the_first_ones() -> None:
    table = Table(["Name", "Status"])
    table.all([["a-long-name", "Idle"]])
    assert table.lines([["b", "Busy"]]) == ["b            Busy"]


def test_wide_characters_take_two_columns() -> None:
    assert Table(["A", "B"]).all([["日本", 1], ["x", 2]]) == ["A     B", "日本  1", "x     2"]


@given(st.lists(st.text(), min_size=2, max_size=2))
def test_no_cell_breaks_a_line_or_moves_the_cursor(cells: list[str]) -> None:
    [line] = Table(["A", "B"]).lines([cells])
    assert line.isprintable()


def test_colours_are_for_terminals_that_want_them() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert styles.coloured(Terminal(), {})
    assert not styles.coloured(Terminal(), {"NO_COLOR": "1"})
    assert not styles.coloured(Terminal(), {"TERM": "dumb"})
    assert not styles.coloured(io.StringIO(), {})
    painted = Table(["A", "B"], colours=True).all([["Succeeded", "x"]])
    assert painted == ["A          B", "\x1b[32mSucceeded\x1b[0m  x"]


def test_a_row_follows_the_kinds_columns() -> None:
    kind = KINDS["Job"]
    found = job(phase="Running", robotName="pc", attempt=1, startedTime="2026-11-22T19:59:00Z")
    assert output.headers(kind, False, True)[:3] == ["Namespace", "Name", "Status"]
    assert output.row(kind, found, NOW, False, True) == ["default", "a", "Running", 10, "w", "pc", 1, "60s", "2m"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"phase": "Succeeded", "exitCode": 0}, 0),
        ({"phase": "Failed", "exitCode": 7}, 7),
        ({"phase": "Failed"}, 1),
        ({"phase": "Failed", "exitCode": 0}, 1),
        ({"phase": "Failed", "exitCode": -9}, 137),
        ({"phase": "Failed", "exitCode": 3221225477}, 1),
        ({"phase": "Cancelled"}, 1),
        ({"phase": "Expired"}, 1),
    ],
)
def test_following_exits_as_the_job_does(status: Object, code: int) -> None:
    assert following.exit_code(job(**status)) == code


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({}, "job/a Queued"),
        ({"phase": "Queued", "reasons": [{"message": "no robot has gpu"}]}, "job/a Queued: no robot has gpu"),
        ({"phase": "Assigned", "robotName": "pc", "attempt": 1}, "job/a Assigned on pc"),
        (
            {"phase": "Running", "robotName": "pc", "attempt": 2, "progress": {"percent": 60, "message": "page 3"}},
            "job/a Running on pc (attempt 2): 60 % page 3",
        ),
        (
            {"phase": "Succeeded", "reason": "Completed", "exitCode": 0, "startedTime": "2026-11-22T19:59:00Z",
             "finishedTime": "2026-11-22T19:59:04Z"},
            "job/a Succeeded after 4s",
        ),
        ({"phase": "Failed", "exitCode": 3, "message": "no\nfile"}, "job/a Failed with exit code 3: no file"),
        ({"phase": "Failed", "exitCode": 3, "message": "exited with code 3"}, "job/a Failed: exited with code 3"),
    ],
)  # fmt: skip
def test_a_headline_says_how_a_job_stands(status: Object, said: str) -> None:
    assert following.headline(job(**status)) == said


def test_describe_shows_what_there_is_to_know_of_a_job() -> None:
    found = job(
        phase="Failed",
        attempt=2,
        robotName="pc-02",
        startedTime="2026-11-22T19:59:00.123456Z",
        finishedTime="2026-11-22T19:59:30Z",
        exitCode=3,
        message="no such file",
        conditions=[
            {"type": "Failed", "status": "True", "reason": "Exit", "lastTransitionTime": "2026-11-22T19:59:30Z"}
        ],
        attempts=[{"number": 1, "robotName": "pc-01", "phase": "Lost", "reason": "RobotOffline"}],
    )
    event = {
        "metadata": {"name": "e", "resourceVersion": "7"}, "type": "Warning", "reason": "Failed",
        "message": "exit code 3", "lastTimestamp": "2026-11-22T19:59:30Z", "count": 2,
    }  # fmt: skip
    text = "\n".join(describing.describe(found, [event], [], NOW))
    for line in (
        "Name:         a",
        "Workflow:     w (revision 0123456789ab)",
        "Started:      2026-11-22T19:59:00Z (59s ago)",
        "Exit code:    3",
        "Parameters:\n  n:\n    - 1",
        "  TYPE    STATUS  SINCE  REASON  MESSAGE\n  Failed  True    30s    Exit    <none>",
        "  1       pc-01  Lost   <none>  <none>  RobotOffline",
        "  30s  Warning  Failed  2      exit code 3",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("telemetry", "said"),
    [
        ({"cpuPercent": 12.4, "memoryPercent": 40, "diskPercent": 70.6, "running": 1},
         "cpu 12 %, memory 40 %, disk 71 %, 1 running"),
        ({"cpuPercent": 0, "memoryPercent": None, "diskPercent": "full", "running": True, "gpus": []}, "cpu 0 %"),
        ({}, "<none>"), (None, "<none>"), ([1], "<none>"),
    ],
)  # fmt: skip
def test_describe_says_what_a_robots_computer_has_to_do(telemetry: object, said: str) -> None:
    found = {"kind": "Robot", "metadata": {"name": "x"}, "status": {"phase": "Idle", "telemetry": telemetry}}
    shown = describing.describe(found, [], [], NOW)
    assert f"Load:         {said}" in shown
    assert not [line for line in shown if "elemetry" in line]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_any_kind_can_be_described_with_nothing_in_it(kind: str) -> None:
    obj = {"apiVersion": KINDS[kind].api_version, "kind": kind, "metadata": {"name": "x"}}
    assert describing.describe(obj, [], [], NOW)[0] == "Name:         x"


@pytest.mark.parametrize(
    ("kind", "content", "lines"),
    [
        ("Secret", {"type": "Opaque", "data": {"pw": "aHVudGVyMg=="}}, ["Type:         Opaque", "Data:         pw: 7 bytes"]),
        ("ConfigMap", {"data": {"site": "köln"}, "binaryData": {"b": "AAA="}},
         ["Data:         site: 5 bytes", "              b: 2 bytes"]),
    ],
)  # fmt: skip
def test_what_holds_data_shows_its_keys_and_sizes_and_no_value(kind: str, content: Object, lines: list[str]) -> None:
    obj = {"kind": kind, "metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}, **content}
    shown = describing.describe(obj, [], [], NOW)
    assert [line for line in shown if line in lines] == lines
    assert "hunter2" not in str(shown) and "aHVudGVyMg" not in str(shown) and "köln" not in str(shown)
