"""Many jobs at once, what they come to, why they wait and what they leave: the parts that need no server."""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from casare_api.kinds import Object
from casare_api.kinds.job import JobPhase
from casare_api.machinery.names import check_label_value
from casare_apiserver import bulk
from casare_cli import deadletters, downloads, explaining, output, progress, submitting, targets
from casare_cli.failures import Failure, Misuse
from casare_cli.gathering import Gathering
from casare_cli.main import main
from casare_cli.submitting import Plan, Submitted
from casare_client import RELIST, WatchEvent

NOW = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)


# -- submitting ----------------------------------------------------------------------------------------------------


def test_a_job_has_a_key_where_a_prefix_is_given_and_none_otherwise() -> None:
    job = Plan("flow", "n", 3, "october").wanted(17, "row 17", {"month": "2026-10"}).job
    assert job["spec"] == {
        "workflowRef": {"name": "flow"}, "parameters": {"month": "2026-10"}, "priority": 3,
        "idempotencyKey": "october-17",
    }  # fmt: skip
    assert Plan("flow", "n").wanted(1, "job 1", {}).job["spec"] == {"workflowRef": {"name": "flow"}}


@pytest.mark.parametrize("prefix", ["october", "October 2026 / Berlin", "x" * 200])
def test_the_label_of_one_prefix_is_always_the_same_and_a_good_one(prefix: str) -> None:
    label = Plan("flow", "n", prefix=prefix).label
    assert label == Plan("flow", "n", prefix=prefix).label and check_label_value(label) is None
    assert Plan("flow", "n").label != Plan("flow", "n").label


def test_requests_have_neither_too_many_jobs_nor_too_many_bytes() -> None:
    plan = Plan("flow", "n")
    wanted = [plan.wanted(number, "", {"text": "x" * 1000}) for number in range(10)]
    assert [len(part) for part in submitting.parts(wanted, most=4)] == [4, 4, 2]
    assert [len(part) for part in submitting.parts(wanted, most=4, most_bytes=3000)] == [2] * 5
    assert [len(part) for part in submitting.parts(wanted, most_bytes=1)] == [1] * 10
    assert list(submitting.parts([])) == []
    assert submitting.PART_BYTES < bulk.MAX_BYTES and submitting.PART <= bulk.MAX_ITEMS, "what the server takes"


def test_answers_are_counted_and_the_first_refusals_kept() -> None:
    plan, submitted = Plan("flow", "n"), Submitted()
    why = 'Job.fleet.casare.net "flow-" is invalid: spec.parameters.month: Required value'
    items = [{"name": "a", "uid": "1", "code": 201}, {"name": "b", "uid": "2", "code": 200}]
    items += [{"name": "flow-", "code": 422, "reason": "Invalid", "message": why}] * 9
    submitted.take([plan.wanted(number, f"row {number}", {}) for number in range(1, 12)], {"items": items})
    assert submitted.summary() == "1 created, 1 existing, 9 failed"
    assert submitted.jobs == {"1": "a", "2": "b"}
    assert submitted.refusals[0] == "row 3: spec.parameters.month: Required value"
    assert len(submitted.refusals) == submitting.SHOWN


@pytest.mark.parametrize(("has_keys", "how"), [(True, "run the same command again"), (False, "would make all the others twice")])
def test_of_jobs_that_met_a_full_queue_it_is_said_that_they_may_be_sent_again(has_keys: bool, how: str) -> None:
    plan, submitted = Plan("flow", "n"), Submitted()
    full = {"name": "flow-", "code": 429, "reason": "TooManyRequests", "message": "too many writes are waiting"}
    wrong = {"name": "flow-", "code": 422, "reason": "Invalid", "message": "spec.priority"}
    items = [{"name": "a", "uid": "1", "code": 201}, wrong]
    submitted.take([plan.wanted(number, "", {}) for number in (1, 2)], {"items": items})
    assert submitted.advice(has_keys) == "", "one that is wrong is wrong the next time, too"
    submitted.take([plan.wanted(number, "", {}) for number in (3, 4)], {"items": [full, full]})
    advice = submitted.advice(has_keys)
    assert submitted.failed == 3 and advice.startswith("2 of the failed ones were not made") and how in advice


def test_without_a_terminal_each_tenth_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("submitting", 200) as shown:
        for done in range(1, 201):
            shown(done, "fine")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "submitting: 20 of 200 (fine)" and lines[-1] == "submitting: 200 of 200 (fine)"


# -- waiting -------------------------------------------------------------------------------------------------------


def job(uid: str, phase: str, **status: object) -> Object:
    return {"metadata": {"name": f"j-{uid}", "uid": uid}, "status": {"phase": phase, **status}}


def seen(gathering: Gathering, *events: tuple[str, Object]) -> Gathering:
    for kind, obj in events:
        gathering.see(WatchEvent(kind, obj))
    return gathering


def test_jobs_are_counted_by_phase_and_others_are_nobodys() -> None:
    found = Gathering({"1": "j-1", "2": "j-2"})
    assert found.summary() == "2 Queued" and found.over == 0
    seen(found, (RELIST, {"items": [job("1", "Running"), job("2", "Queued"), job("3", "Failed")]}))
    assert found.summary() == "1 Queued, 1 Running"
    seen(found, ("MODIFIED", job("1", "Succeeded")), ("MODIFIED", job("2", "Succeeded")), ("DELETED", job("3", "Failed")))
    assert found.counts() == {"Succeeded": 2} and found.over == 2 and found.succeeded and not found.wrong


def test_a_job_that_did_not_succeed_is_told_with_its_reason() -> None:
    found = seen(Gathering({"1": "j-1", "2": "j-2"}), ("MODIFIED", job("1", "Failed", message="no such page")))
    assert found.wrong == ["job/j-1 Failed: no such page"] and not found.succeeded


def test_a_job_that_is_gone_before_its_end_was_seen_counts_as_deleted() -> None:
    found = seen(Gathering({"1": "j-1", "2": "j-2"}), ("DELETED", job("1", "Running")), (RELIST, {"items": []}))
    assert found.counts() == {"Deleted": 2} and found.over == 2 and not found.succeeded
    assert found.wrong == ["job/j-1 was deleted before it ended", "job/j-2 was deleted before it ended"]


def test_a_job_that_ended_stays_ended_when_its_ttl_removes_it() -> None:
    found = seen(Gathering({"1": "j-1"}), ("DELETED", job("1", "Succeeded")), (RELIST, {"items": []}))
    assert found.counts() == {"Succeeded": 1} and found.succeeded


# -- dead letters --------------------------------------------------------------------------------------------------


def test_dead_letters_show_why_after_how_many_attempts_and_since_when() -> None:
    [target], fields = deadletters.only(targets.parse(["jobs"]), "spec.workflowRef.name=w")
    dead = job("1", "Failed", reason="ExitCode", message="no such page", attempt=3, finishedTime="2026-11-22T19:58:00Z")
    dead["metadata"]["creationTimestamp"] = "2026-11-22T18:00:00Z"
    shown = dict(zip(output.headers(target.kind, False, False), output.row(target.kind, dead, NOW, False, False), strict=True))
    assert (shown["Reason"], shown["Attempts"], shown["Ended"], shown["Age"]) == ("ExitCode: no such page", 3, "2m", "120m")
    assert fields.split(",")[0] == "spec.workflowRef.name=w"
    excluded = {term.removeprefix("status.phase!=") for term in fields.split(",")[1:]}
    assert set(JobPhase) - excluded == {"Failed", "Expired"}


@pytest.mark.parametrize("words", [["robots"], ["job/a"], ["jobs,robots"]])
def test_dead_letters_are_jobs_and_all_of_them(words: list[str]) -> None:
    with pytest.raises(Misuse, match="--failed"):
        deadletters.only(targets.parse(words), "")


# -- why -----------------------------------------------------------------------------------------------------------

WHY: Object = {
    "kind": "JobExplanation",
    "phase": "Queued",
    "message": "no robot has all that it asks for",
    "place": {"position": 3, "ahead": 2, "isExact": True, "queued": 12},
    "reasons": [{"rule": "capabilities", "message": "2 of 3 robots lack browser", "robots": 2}],
    "robots": {"total": 3, "serving": 3, "matching": 1, "online": 1, "free": 0},
    "nearest": [
        {"name": "pc-01", "lacks": ["capability browser", "tag sap"],
         "changes": ["add capability browser to robot pc-01", "add tag sap to robot pc-01"]},
        {"name": "pc-02", "namespace": "other", "lacks": ["it is paused"], "changes": ["resume robot pc-02"]},
    ],
    "wouldServe": [{"name": "pc-03", "state": "Busy", "freeSlots": 0, "message": "is full"}],
    "concurrency": {"key": "sap", "limit": 1, "live": 1, "holders": ["x"]},
    "quota": {"maxRunning": 5, "running": 5},
    "boundedBy": "no job that is submitted after 20:00 comes before it",
}  # fmt: skip


def test_the_sentence_comes_first_and_then_what_it_rests_on() -> None:
    assert explaining.explained(WHY, "job/a") == [
        "job/a Queued: no robot has all that it asks for",
        "",
        "RULE          ROBOTS  MESSAGE",
        "capabilities  2       2 of 3 robots lack browser",
        "",
        "Place:       3, 2 before it for the same robots; 12 wait in its namespace",
        "Robots:      3 in all, 3 serve its namespace, 1 match, 1 of them online, 0 free",
        'Concurrency: "sap": 1 of at most 1 run: job/x',
        "Quota:       maxRunning 5, running 5",
        "Bound:       no job that is submitted after 20:00 comes before it",
        "",
        "Would serve it:",
        "  ROBOT  STATE  FREE  MESSAGE",
        "  pc-03  Busy   0     is full",
        "",
        "Nearest robots:",
        "  ROBOT        LACKS               TO CHANGE THAT",
        "  pc-01        capability browser  add capability browser to robot pc-01",
        "               tag sap             add tag sap to robot pc-01",
        "  other/pc-02  it is paused        resume robot pc-02",
    ]


def test_what_is_not_known_of_a_job_is_left_out() -> None:
    assert explaining.explained({"phase": "Running", "message": "it runs on pc-01"}, "job/a") == [
        "job/a Running: it runs on pc-01"
    ]


def test_a_place_that_is_not_exact_says_so() -> None:
    [_, _, line] = explaining.explained({"place": {"position": 1001, "ahead": 1000, "isExact": False}}, "job/a")
    assert line == "Place:       at least 1001, at least 1000 before it for the same robots"


def test_what_others_wrote_does_not_move_the_cursor() -> None:
    why = {"message": "a\x1b[2Jb", "reasons": [{"rule": "r", "message": "c\rd", "robots": 1}]}
    assert all(line.isprintable() for line in explaining.explained(why, "job/a"))


# -- artifacts -----------------------------------------------------------------------------------------------------


def item(name: str, data: bytes) -> Object:
    return {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "attempt": 1,
            "createdTime": "2026-11-22T19:58:00Z"}  # fmt: skip


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.0Ki"), (1500, "1.5Ki"), (2**20 - 1, "1.0Mi"), (500 * 2**20, "500.0Mi")],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert downloads.size(count) == text


def test_a_file_is_listed_with_the_beginning_of_its_sha256() -> None:
    assert downloads.row(item("a.txt", b"hello"), NOW) == ["a.txt", "5B", 1, "2cf24dba5fb0", "2m"]


def test_a_whole_file_takes_its_place_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    downloads.save([b"hel", b"lo"], item("a.txt", b"hello"), path)
    assert path.read_bytes() == b"hello" and os.listdir(tmp_path) == ["a.txt"]


def test_what_arrives_damaged_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(Failure, match=r"a\.txt arrived damaged"):
        downloads.save([b"hallo"], item("a.txt", b"hello"), path)
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["a.txt"]


def test_a_file_goes_into_the_folder_and_never_through_a_link_out_of_it(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "outside.txt"
    folder.mkdir()
    outside.write_text("mine")
    (folder / "a.txt").symlink_to(outside)
    downloads.save([b"hello"], item("a.txt", b"hello"), downloads.place(folder, "a.txt"))
    assert outside.read_text() == "mine" and stat.S_ISREG((folder / "a.txt").lstat().st_mode)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "/etc/passwd", "a/b", "a\\b", "..\\a", "C:a", "a:b", "a\nb", "a\0b", "a.", "a "]
)
def test_a_name_that_is_more_than_a_name_is_left_on_the_server(tmp_path: Path, name: str) -> None:
    with pytest.raises(Failure, match="is no name for a file here"):
        downloads.place(tmp_path, name)


def test_only_files_that_are_there_can_be_chosen() -> None:
    items = [item("a", b""), item("b", b"")]
    assert downloads.chosen(items, [], "j") == items
    assert downloads.chosen(items, ["b", "b"], "j") == [items[1]]
    with pytest.raises(Failure, match='job/j left no file "c"; there are: a, b'):
        downloads.chosen(items, ["c"], "j")


# -- command lines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run w --count 3 --from rows.csv", "--count and --from exclude each other"),
        ("run w --count 3 --follow", "for many there is --wait"),
        ("run w --follow --wait", "leave out --wait"),
        ("run w --count 0", "Invalid value for '--count'"),
        ("run w --count 2 -o yaml", 'there is no output format "yaml" here; allowed: name'),
        ("run w --count 2 --idempotency-prefix=", "must have 1 to 244 characters"),
        ("retry", "which jobs? for example: casare retry job/NAME, or casare retry --failed"),
        ("retry job/a --failed", "names and --failed exclude each other"),
        ("retry job/a -l x=y", "selectors are for --failed"),
        ("retry robot/a", "robot/a is no job"),
        ("why", "which job? casare why job/NAME"),
        ("why job/a -f job.yaml", "which job?"),
        ("why job/a -o wide", "allowed: yaml, json"),
        ("artifacts job/a report.xlsx", "where to? give the folder with -d DIR"),
        ("get robots --failed", "--failed is for jobs"),
    ],
)
def test_what_was_typed_wrongly_is_one_line(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and printed.out == ""
