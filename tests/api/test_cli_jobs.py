"""Jobs by the thousand, their retries, why they wait and what they leave: the command against a real server."""

from __future__ import annotations

import _thread
import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .commands import Casare, Run, ran
from .conftest import NOWHERE, Api, Object, Robot, work

Robots = Callable[..., Robot]
PARAMETERS = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "word": {"type": "string", "pattern": "^[a-z ]+$"}},
}


@pytest.fixture
def casare(api: Api, capsys: pytest.CaptureFixture[str]) -> Casare:
    """Runs a command in this test's namespace."""

    def run(*words: str, key: str | None = None) -> Run:
        return ran(capsys, "--server", api.server.url, "--key", key or api.key, *words, "-n", api.namespace)

    return run


def flow(api: Api, tag: str = NOWHERE, **spec: Any) -> None:
    body = {"runner": "command", "args": ["true"], "requirements": {"tags": [tag]}, "parameters": PARAMETERS, **spec}
    api.create("Workflow", "flow", {"spec": body})


def jobs(api: Api, **params: Any) -> list[Object]:
    return list(api.list("Job", **params)["items"])


def sheet(tmp_path: Path, text: str) -> str:
    (tmp_path / "rows.csv").write_text(text)
    return str(tmp_path / "rows.csv")


@contextmanager
def working(rob: Robot, admin: Api, ends: Callable[[Object], str]) -> Iterator[None]:
    """The robot takes what it is given and says at once how it ended. Where it breaks down, so does who waits for it."""
    over = threading.Event()

    def work_on() -> None:
        try:
            while not over.wait(0.02):
                rob.report()
                for job in jobs(admin, fieldSelector=f"status.phase=Assigned,status.robotUID={rob.uid}"):
                    rob.say(job, ends(job), message="as it was told")
        except BaseException:
            _thread.interrupt_main()
            raise

    thread = threading.Thread(target=work_on, name="robot", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=30)


def dead(api: Api, name: str, **meta: Any) -> Object:
    """A job that is Expired: nobody was there for it in time."""
    api.create("Job", name, work(), **meta)
    status = {"phase": "Expired", "queuedTime": "2026-11-22T20:00:00Z", "finishedTime": "2026-11-22T20:01:00Z",
              "reason": "StartDeadline", "message": "nobody was there"}  # fmt: skip
    return api.changed("Job", name, {"status": status}, "status")


# -- run -----------------------------------------------------------------------------------------------------------


def test_so_many_jobs_of_a_workflow_are_submitted(api: Api, casare: Casare) -> None:
    flow(api)
    ran = casare("run", "flow", "--count", "25", "--param", "n=7", "--priority", "2")
    assert (ran.code, ran.out) == (0, "25 created, 0 existing, 0 failed\n")
    made = jobs(api)
    assert len(made) == 25
    assert {(job["spec"]["parameters"]["n"], job["spec"]["priority"]) for job in made} == {(7, 2)}
    [label] = {job["metadata"]["labels"]["fleet.casare.net/batch"] for job in made}
    assert f"'casare get jobs -l fleet.casare.net/batch={label}' shows the jobs" in ran.err


def test_each_row_is_a_job_with_its_columns_as_parameters(api: Api, casare: Casare, tmp_path: Path) -> None:
    flow(api)
    ran = casare("run", "flow", "--from", sheet(tmp_path, "n,word\n1,a\n2,\n"), "-p", "word=common", "-o", "name")
    assert ran.code == 0
    assert sorted(ran.lines) == sorted(f"job/{name}" for name in api.names("Job"))
    found = sorted((job["spec"]["parameters"]["n"], job["spec"]["parameters"]["word"]) for job in jobs(api))
    assert found == [(1, "a"), (2, "common")]


def test_with_a_wrong_cell_nothing_is_submitted(api: Api, casare: Casare, tmp_path: Path) -> None:
    flow(api)
    ran = casare("run", "flow", "--from", sheet(tmp_path, "n,word\n1,a\nx,b\n"))
    assert ran.code == 1
    assert 'rows.csv: row 2 (line 3), column "n": "x" is not a whole number; nothing was submitted' in ran.err
    assert jobs(api) == []


def test_a_row_that_the_server_refuses_is_told_and_the_others_run(api: Api, casare: Casare, tmp_path: Path) -> None:
    flow(api)
    ran = casare("run", "flow", "--from", sheet(tmp_path, "n,word,more\n1,a,\n2,B,x\n3,c,\n"))
    assert (ran.code, ran.out) == (1, "2 created, 0 existing, 1 failed\n")
    assert "warning: " in ran.err and 'the workflow has no parameter "more"' in ran.err
    [line] = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: row 2 (line 3): spec.parameters.word: ")
    assert len(jobs(api)) == 2


def test_with_a_prefix_the_same_command_makes_only_what_is_missing(api: Api, casare: Casare, tmp_path: Path) -> None:
    flow(api)
    first = casare("run", "flow", "--from", sheet(tmp_path, "n\n1\n2\n"), "--idempotency-prefix", "october")
    again = casare("run", "flow", "--from", sheet(tmp_path, "n\n1\n2\n3\n"), "--idempotency-prefix", "october")
    assert first.out == "2 created, 0 existing, 0 failed\n"
    assert (again.code, again.out) == (0, "1 created, 2 existing, 0 failed\n")
    assert sorted(job["spec"]["idempotencyKey"] for job in jobs(api)) == ["october-1", "october-2", "october-3"]


def test_waiting_ends_when_all_jobs_are_over(api: Api, casare: Casare, robot: Robots) -> None:
    rob = robot(maxConcurrentJobs=10)
    flow(api, rob.name)
    with working(rob, api, lambda job: "Succeeded"):
        ran = casare("run", "flow", "--count", "30", "--wait")
    assert (ran.code, ran.lines[-1]) == (0, "30 Succeeded")
    assert "waiting: 30 of 30 (30 Succeeded)" in ran.err


def test_waiting_tells_which_jobs_did_not_succeed(api: Api, casare: Casare, robot: Robots, tmp_path: Path) -> None:
    rob = robot(maxConcurrentJobs=10)
    flow(api, rob.name)
    rows = sheet(tmp_path, "n\n1\n2\n3\n")
    with working(rob, api, lambda job: "Failed" if job["spec"]["parameters"]["n"] == 2 else "Succeeded"):
        ran = casare("run", "flow", "--from", rows, "--wait")
    assert (ran.code, ran.lines[-1]) == (1, "2 Succeeded, 1 Failed")
    assert [line for line in ran.err.splitlines() if "Failed" in line and line.endswith(": as it was told")]


def test_jobs_that_were_there_before_are_waited_for_too(api: Api, casare: Casare, robot: Robots) -> None:
    rob = robot(maxConcurrentJobs=10)
    flow(api, rob.name)
    spec = {"workflowRef": {"name": "flow"}, "idempotencyKey": "x-1", "parameters": {"n": 1}}
    api.create("Job", "by-hand", {"spec": spec})
    with working(rob, api, lambda job: "Succeeded"):
        ran = casare("run", "flow", "--count", "2", "-p", "n=2", "--idempotency-prefix", "x", "--wait")
    assert (ran.code, ran.lines) == (0, ["1 created, 1 existing, 0 failed", "2 Succeeded"])


def test_one_job_may_be_waited_for(api: Api, casare: Casare, robot: Robots) -> None:
    rob = robot()
    flow(api, rob.name)
    with working(rob, api, lambda job: "Failed"):
        ran = casare("run", "flow", "--wait")
    assert (ran.code, ran.lines) == (1, [f"job/{api.names('Job')[0]}", "1 Failed"])


# -- dead letters --------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_with_their_reasons(api: Api, casare: Casare) -> None:
    dead(api, "lost")
    api.create("Job", "waits", work())
    listed = casare("get", "jobs", "--failed")
    header, line = listed.lines
    assert header.split() == ["NAME", "STATUS", "WORKFLOW", "ROBOT", "ATTEMPTS", "EXIT", "ENDED", "AGE", "REASON"]
    assert line.startswith("lost  Expired  <none>") and line.endswith("StartDeadline: nobody was there")
    assert casare("get", "jobs", "--failed", "-o", "name").lines == ["job/lost"]


def test_jobs_are_retried_by_their_names(api: Api, casare: Casare) -> None:
    dead(api, "a")
    api.create("Job", "b", work())
    ran = casare("retry", "job/a", "b", "nobody")
    [new] = [name for name in api.names("Job") if name not in ("a", "b")]
    assert (ran.code, ran.lines) == (1, [f"job/a -> job/{new}"])
    assert "it is Queued, and only a job that has ended can be retried" in ran.err
    assert 'error: jobs.fleet.casare.net "nobody" not found' in ran.err


def test_dead_letters_are_retried_by_selector_and_each_of_them_once(api: Api, casare: Casare) -> None:
    for name, site in (("a", "berlin"), ("b", "berlin"), ("c", "paris")):
        dead(api, name, labels={"site": site})
    ran = casare("retry", "--failed", "-l", "site=berlin")
    assert ran.code == 0 and [line.split(" -> ")[0] for line in ran.lines] == ["job/a", "job/b"]
    again = casare("retry", "--failed")
    assert [line.split(" -> ")[0] for line in again.lines] == ["job/c"]
    assert "2 left out, for they were retried before" in again.err
    nothing = casare("retry", "--failed", "--workflow", "flow")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", f"no job to retry in {api.namespace}\n")


def test_a_dry_run_of_a_retry_makes_nothing(api: Api, casare: Casare) -> None:
    dead(api, "a")
    assert casare("retry", "--failed", "--dry-run").lines == ["job/a -> (dry run)"]
    assert api.names("Job") == ["a"]


def test_a_viewer_may_look_at_dead_letters_and_not_retry_them(api: Api, casare: Casare) -> None:
    dead(api, "a")
    key = api.issue_key("eye", "viewer")
    assert casare("get", "jobs", "--failed", "-o", "name", key=key).lines == ["job/a"]
    ran = casare("retry", "--failed", key=key)
    assert ran.code == 1 and 'cannot create resource "jobs/retry"' in ran.err and ran.out == ""


# -- why -----------------------------------------------------------------------------------------------------------


def test_why_tells_what_the_nearest_robot_lacks(api: Api, casare: Casare, robot: Robots) -> None:
    rob = robot()
    rob.report()
    api.create("Job", "j", work(rob, requirements={"capabilities": ["browser"]}))
    told = casare("why", "job/j")
    assert told.code == 0 and told.lines[0].startswith("job/j Queued: ")
    assert any(line.strip().startswith(rob.name) and "browser" in line for line in told.lines)
    assert json.loads(casare("why", "j", "-o", "json").out)["kind"] == "JobExplanation"


def test_why_is_answered_for_a_job_that_nobody_submitted(api: Api, casare: Casare, tmp_path: Path) -> None:
    flow(api)
    file = tmp_path / "job.yaml"
    file.write_text(
        "apiVersion: fleet.casare.net/v1\nkind: Job\nmetadata: {generateName: try-}\n"
        "spec: {workflowRef: {name: flow}}\n"
    )
    told = casare("why", "-f", str(file))
    assert told.code == 0 and told.lines[0].startswith("job/try- Queued: ")
    assert jobs(api) == []


def test_a_job_of_a_manifest_that_was_submitted_is_told_as_it_is(api: Api, casare: Casare, tmp_path: Path) -> None:
    spec = "spec: {workflow: {runner: command, args: [echo], requirements: {tags: [none]}}, priority: 3}"
    file = tmp_path / "job.yaml"
    file.write_text(f"apiVersion: fleet.casare.net/v1\nkind: Job\nmetadata: {{name: there}}\n{spec}\n")
    assert casare("apply", "-f", str(file)).code == 0
    told = casare("why", "-f", str(file))
    assert told.code == 0 and told.lines[0].startswith("job/there Queued: "), told.err


def test_the_files_of_a_job_that_is_only_asked_about_are_not_sent(api: Api, casare: Casare, tmp_path: Path) -> None:
    inline = "{runner: python, source: {file: main.py}, files: [{name: a, path: a.txt}], requirements: {tags: [none]}}"
    file = tmp_path / "job.yaml"
    file.write_text(f"apiVersion: fleet.casare.net/v1\nkind: Job\nmetadata: {{name: j}}\nspec: {{workflow: {inline}}}\n")
    (tmp_path / "main.py").write_text(f"# {secrets.token_hex()}")
    missing = casare("why", "-f", str(file))
    assert missing.code == 1 and "spec.workflow.files[0].path: there is no file a.txt" in missing.err
    (tmp_path / "a.txt").write_text("")
    assert casare("why", "-f", str(file)).lines[0].startswith("job/j Queued: ")


def test_what_is_wrong_with_a_job_that_is_asked_about_is_told_with_its_line(
    api: Api, casare: Casare, tmp_path: Path
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("apiVersion: fleet.casare.net/v1\nkind: Job\nspec:\n  workflowRef: {name: none}\n  priority: 99\n")
    told = casare("why", "-f", str(file))
    assert told.code == 1 and "document 1 (line 5): spec.priority: Invalid value: 99" in told.err


# -- artifacts -----------------------------------------------------------------------------------------------------


def left(api: Api, job: str, name: str, data: bytes) -> None:
    """A file that a job left; an operator may add one as well."""
    path = api.path("Job", job, f"artifacts/{name}")
    sent = api.call("PUT", path, content=data, headers={"content-type": "application/octet-stream"})
    assert sent.status_code in (200, 201), sent.text


def test_the_files_of_a_job_are_listed_and_downloaded_whole(api: Api, casare: Casare, tmp_path: Path) -> None:
    api.create("Job", "j", work())
    data = secrets.token_bytes(3 * 2**20)
    left(api, "j", "report.bin", data)
    left(api, "j", "log.txt", b"hello")
    listed = casare("artifacts", "job/j")
    assert listed.lines[0].split() == ["NAME", "SIZE", "ATTEMPT", "SHA256", "AGE"]
    assert any(f"report.bin  3.0Mi  0        {hashlib.sha256(data).hexdigest()[:12]}" in line for line in listed.lines)
    saved = casare("artifacts", "j", "-d", str(tmp_path / "new" / "folder"))
    assert saved.code == 0 and len(saved.lines) == 2
    assert (tmp_path / "new" / "folder" / "report.bin").read_bytes() == data
    assert (tmp_path / "new" / "folder" / "log.txt").read_bytes() == b"hello"


def test_one_file_may_be_chosen_and_one_that_is_not_there_is_told(api: Api, casare: Casare, tmp_path: Path) -> None:
    api.create("Job", "j", work())
    left(api, "j", "a", b"1")
    left(api, "j", "b", b"2")
    assert casare("artifacts", "j", "b", "-d", str(tmp_path)).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    missing = casare("artifacts", "j", "c", "-d", str(tmp_path))
    assert (missing.code, missing.err) == (1, 'error: job/j left no file "c"; there are: a, b\n')


def test_a_job_without_files_says_so(api: Api, casare: Casare) -> None:
    api.create("Job", "j", work())
    found = casare("artifacts", "j")
    assert (found.code, found.out, found.err) == (0, "", "job/j has left no files\n")
