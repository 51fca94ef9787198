"""An attempt's stages: what is reported, what the answers change, and what an agent's death leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from casare_agent import leftovers, recovery, result
from casare_agent.assignment import Assignment
from casare_agent.attempt import Attempt
from casare_agent.leftovers import Mark
from casare_agent.plan import Stage
from casare_agent.report import MOST_BYTES, entries
from casare_agent.result import Result
from casare_agent.supervisor import StopReason
from casare_agent.workshop import Workshop
from casare_api.kinds import Object

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the processes in here are ended with POSIX signals")
Until = Callable[..., None]
Alive = Callable[[int], bool]
Make = Callable[..., Attempt]


@pytest.fixture
def make(workshop: Workshop, job: Callable[..., Assignment]) -> Make:
    """An attempt of Python text."""

    def attempt(text: str, **spec: object) -> Attempt:
        return Attempt(job({"runner": "python", "source": {"inline": text}}, **spec), workshop, lambda: None)

    return attempt


def stage(attempt: Attempt) -> Stage:
    return attempt.held().stage


def entry(attempt: Attempt) -> Object:
    found = attempt.entry()
    assert found is not None
    return found


def begin(attempt: Attempt) -> None:
    attempt.answered(entry(attempt), 200, "")


def test_nothing_runs_before_the_server_has_recorded_running(make: Make, until: Until, workshop: Workshop) -> None:
    attempt = make("pass")
    assert entry(attempt) == {"namespace": "default", "name": "job-1", "uid": "u-1", "attempt": 1, "phase": "Running"}
    assert not attempt.answered(entry(attempt), 503, "busy")
    assert stage(attempt) is Stage.ANNOUNCED and not list(workshop.attempts.iterdir())
    begin(attempt)
    until(lambda: stage(attempt) is Stage.ENDED, "the job ran")
    assert entry(attempt)["phase"] == "Succeeded"


@pytest.mark.parametrize("code", [404, 409])
def test_an_assignment_that_was_withdrawn_is_never_run(make: Make, workshop: Workshop, code: int) -> None:
    attempt = make("pass")
    assert attempt.answered(entry(attempt), code, "")
    assert stage(attempt) is Stage.DELIVERED and attempt.entry() is None
    assert not list(workshop.attempts.iterdir())


@pytest.mark.parametrize(("code", "after"), [(200, Stage.DELIVERED), (404, Stage.DELIVERED), (409, Stage.DELIVERED),
                                             (503, Stage.ENDED)])
def test_a_result_is_said_until_it_is_taken(make: Make, until: Until, code: int, after: Stage) -> None:
    attempt = make("pass")
    begin(attempt)
    until(lambda: stage(attempt) is Stage.ENDED)
    said = entry(attempt)
    assert attempt.answered(said, code, "") is (after is Stage.DELIVERED)
    assert stage(attempt) is after
    assert after is Stage.DELIVERED or entry(attempt) == said


def test_a_result_that_the_server_calls_malformed_becomes_a_failure(make: Make, until: Until) -> None:
    attempt = make("import os; open(os.environ['CASARE_OUTPUTS_FILE'], 'w').write('{\"a\": 1}')")
    begin(attempt)
    until(lambda: stage(attempt) is Stage.ENDED)
    assert entry(attempt)["outputs"] == {"a": 1}
    attempt.answered(entry(attempt), 422, "outputs too large")
    assert (entry(attempt)["phase"], entry(attempt)["reason"]) == ("Failed", "ReportRefused")
    assert "outputs" not in entry(attempt) and "outputs too large" in entry(attempt)["message"]
    assert attempt.answered(entry(attempt), 422, "still")
    assert stage(attempt) is Stage.DELIVERED


def test_progress_is_said_when_it_changes(make: Make, until: Until, workshop: Workshop) -> None:
    text = "import os, sys, time; open(os.environ['CASARE_PROGRESS_FILE'], 'w').write(sys.argv[1]); time.sleep(600)"
    attempt = make(text)
    attempt.assignment.spec["workflow"]["args"] = [json.dumps({"percent": 60, "message": "page 3", "x": 1})]  # type: ignore[index]
    begin(attempt)
    until(attempt.entry, "progress")
    said = entry(attempt)
    assert (said["phase"], said["progress"]) == ("Running", {"percent": 60, "message": "page 3"})
    attempt.answered(said, 200, "")
    assert attempt.entry() is None
    attempt.stop(StopReason.CANCELLED)
    until(lambda: stage(attempt) is Stage.ENDED)
    assert (entry(attempt)["phase"], entry(attempt)["exitCode"]) == ("Cancelled", 143)


def test_a_job_that_runs_too_long_fails_with_its_timeout(make: Make, until: Until) -> None:
    attempt = make("import time; time.sleep(600)", timeout="300ms")
    begin(attempt)
    until(lambda: stage(attempt) is Stage.ENDED)
    said = entry(attempt)
    assert (said["phase"], said["reason"], said["message"]) == ("Failed", "Timeout", "timed out after 300ms")


def test_a_withdrawn_attempt_ends_without_a_word(make: Make, until: Until, workshop: Workshop) -> None:
    attempt = make("import time; print(1); time.sleep(600)")
    begin(attempt)
    until(lambda: list(workshop.attempts.glob("*/process.json")), "it runs")
    attempt.stop(StopReason.WITHDRAWN)
    until(lambda: stage(attempt) is Stage.DELIVERED)
    assert attempt.entry() is None
    assert not list(workshop.attempts.glob("*/result.json"))


def test_an_attempt_that_is_cancelled_before_it_starts_never_runs(make: Make) -> None:
    attempt = make("pass")
    attempt.stop(StopReason.CANCELLED)
    assert entry(attempt)["phase"] == "Cancelled"
    attempt.answered({**entry(attempt), "phase": "Running"}, 200, "")
    assert stage(attempt) is Stage.ENDED


def test_a_result_does_not_wait_long_for_a_log_that_cannot_be_sent(make: Make, until: Until) -> None:
    attempt = make("print('to a server that is away')")
    begin(attempt)
    until(lambda: stage(attempt) is Stage.ENDED, "the result is there although the log is not out", seconds=10)


def test_what_can_not_be_written_down_fails_no_job_and_no_thread(
    make: Make, until: Until, workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    directory = workshop.attempt("u-1", 1)
    for name in ("process.json", result.FILE):
        (directory / name / "in the way").mkdir(parents=True)
    attempt = make("print(1)")
    begin(attempt)
    until(lambda: stage(attempt) is Stage.ENDED)
    assert entry(attempt)["phase"] == "Succeeded"
    assert "result can't be kept" in caplog.text


def test_an_attempt_that_the_agent_fails_to_run_leaves_nothing_waiting(
    make: Make, until: Until, workshop: Workshop
) -> None:
    attempt = make("pass", timeout="not a duration")
    begin(attempt)
    until(lambda: stage(attempt) is Stage.ENDED)
    assert entry(attempt)["reason"] == "AgentError"
    attempt.forget()
    until(lambda: not workshop.attempt("u-1", 1).exists(), "its directory is gone")


def test_a_report_carries_no_more_than_fits(workshop: Workshop) -> None:
    big = Result("Succeeded", "Completed", "", 0, {"x": "y" * (MOST_BYTES // 2)})
    many = [Attempt.settled(Assignment("ns", "j", f"u{n}", 1), big, workshop, lambda: None) for n in range(5)]
    assert len(entries(many)) == 1
    assert len(entries([])) == 0


def test_the_next_agent_delivers_what_was_not_delivered(make: Make, until: Until, workshop: Workshop) -> None:
    attempt = make("raise SystemExit(4)")
    begin(attempt)
    until(lambda: stage(attempt) is Stage.ENDED)
    recovered = recovery.recover(workshop, lambda: None)
    assert entry(recovered["u-1"]) == entry(attempt)
    recovered["u-1"].answered(entry(recovered["u-1"]), 200, "")
    recovered["u-1"].forget()
    assert recovery.recover(workshop, lambda: None) == {}


def test_the_next_agent_ends_what_a_killed_one_left_running(until: Until, alive: Alive, workshop: Workshop) -> None:
    directory = workshop.attempt("u-9", 2)
    directory.mkdir()
    text = "import subprocess, sys, time\n" \
           "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n" \
           "print(p.pid, flush=True); time.sleep(600)"
    mark = Mark("u-9", 2)
    left = subprocess.Popen([sys.executable, "-c", text], env=mark.variables(), stdout=subprocess.PIPE,
                            start_new_session=True)
    assert left.stdout is not None
    escaped = int(left.stdout.readline())
    until(lambda: "CASARE_JOB_UID" in psutil.Process(escaped).environ(), "it has its environment")
    leftovers.record(directory, left.pid, leftovers.created(left.pid))
    assert recovery.recover(workshop, lambda: None) == {}
    assert left.wait() == -9
    until(lambda: not alive(escaped), "what had left the group is ended too")
    left.stdout.close()
    assert not directory.exists()


def test_a_process_that_only_has_the_same_number_is_left_alone(alive: Alive, workshop: Workshop) -> None:
    directory = workshop.attempt("u-8", 1)
    directory.mkdir()
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    leftovers.record(directory, stranger.pid, 1_000_000.0)
    recovery.recover(workshop, lambda: None)
    assert alive(stranger.pid)
    stranger.kill()
    stranger.wait()


def test_half_a_result_is_no_result(tmp_path: Path) -> None:
    (tmp_path / result.FILE).write_text('{"namespace": "d"')
    assert result.load(tmp_path) is None
