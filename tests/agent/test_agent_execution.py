"""Running attempts: from an inline workflow to its result, with real processes and a server that is away."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from casare_agent.assignment import Assignment
from casare_agent.blobs import BlobCache, WrongDigest
from casare_agent.execution import Run, execute
from casare_agent.files import inside
from casare_agent.leftovers import Mark
from casare_agent.logs import JobLog
from casare_agent.process import Command
from casare_agent.result import Result
from casare_agent.supervisor import StopReason, Supervisor
from casare_agent.venvs import BuildFailed, VenvCache
from casare_agent.workshop import InUse, Workshop, locked
from casare_api.kinds import Object

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the scripts in here are for a POSIX shell")
Job = Callable[..., Assignment]


class Bench:
    """Runs workflows and keeps what they printed."""

    def __init__(self, workshop: Workshop, job: Job) -> None:
        self.workshop, self._job = workshop, job
        self.stop: StopReason | None = None

    def __call__(self, workflow: Object, **spec: object) -> Result:
        assignment = self._job(workflow, **spec)
        directory = self.workshop.attempt(assignment.uid, assignment.attempt)
        directory.mkdir(parents=True)
        self.log = JobLog(directory / "output.log")
        supervisor = Supervisor(Mark(assignment.uid, assignment.attempt), self.log.write, grace=5)
        if self.stop is not None:
            supervisor.stop(self.stop)
        try:
            return execute(Run(assignment, directory, self.workshop, supervisor, self.log))
        finally:
            self.log.close()
            self.printed = (directory / "output.log").read_text()
            self.work = directory / "work"


@pytest.fixture
def run(workshop: Workshop, job: Job) -> Bench:
    return Bench(workshop, job)


def put(workshop: Workshop, data: bytes) -> str:
    """A file in the robot's cache."""
    digest = hashlib.sha256(data).hexdigest()
    (workshop.directory / "cache" / "blobs" / digest).write_bytes(data)
    return digest


# -- runner command ------------------------------------------------------------------------------------------------


def test_a_command_gets_its_arguments_rendered_and_unsplit(run: Bench) -> None:
    args = ["printf", "%s|", "{{ parameters.month }}", "a b", "$HOME;ls"]
    result = run({"runner": "command", "args": args}, parameters={"month": "2026-10"})
    assert (result.phase, result.exit_code) == ("Succeeded", 0)
    assert run.printed == "2026-10|a b|$HOME;ls|"


def test_an_inline_script_runs_in_its_own_empty_directory(run: Bench) -> None:
    result = run({"runner": "command", "source": {"inline": "pwd; ls; echo $1"}, "args": ["{{ parameters.n }}"]},
                 parameters={"n": 5})
    assert result.phase == "Succeeded"
    assert run.printed == f"{run.work}\nscript.sh\n5\n"


def test_a_script_may_name_its_interpreter(run: Bench) -> None:
    script = f"#!{sys.executable}\nprint(6 * 7)\n"
    assert run({"runner": "command", "source": {"inline": script}}).phase == "Succeeded"
    assert run.printed == "42\n"


def test_a_failure_says_its_code_and_the_last_line_printed(run: Bench) -> None:
    result = run({"runner": "command", "source": {"inline": "echo working; echo no such month >&2; exit 3"}})
    assert (result.phase, result.reason, result.exit_code) == ("Failed", "ExitCode", 3)
    assert result.message == "exited with code 3: no such month"


def test_a_killed_job_names_the_signal(run: Bench) -> None:
    result = run({"runner": "command", "source": {"inline": "kill -9 $$"}})
    assert (result.reason, result.exit_code, result.message) == ("Killed", 137, "killed by SIGKILL")


@pytest.mark.parametrize(("workflow", "reason", "words"), [
    ({"runner": "cobol", "args": ["x"]}, "UnknownRunner", 'no runner "cobol"; it has command, python'),
    ({"runner": "command", "args": ["no-such-program"]}, "ProgramNotFound", '"no-such-program" is not a program'),
    ({"runner": "command", "args": ["echo", "{{ parameters.x }}"]}, "InvalidArguments", "args: "),
    ({"runner": "command", "args": ["echo", "\0"]}, "StartFailed", "can't be started"),
    ({"runner": "python", "source": {"git": {"source": "a", "path": "b"}}}, "NotSupported", "source.git"),
    ({"runner": "command", "args": ["env"], "env": [{"name": "P", "secretRef": {"name": "a", "key": "b"}}]},
     "NotSupported", "env P: secretRef"),
    ({"runner": "command", "args": ["ls"], "files": [{"name": "../x", "path": "x", "sha256": "0" * 64}]},
     "InvalidWorkflow", "../x"),
])
def test_what_cannot_run_fails_with_a_plain_message(run: Bench, workflow: Object, reason: str, words: str) -> None:
    result = run(workflow)
    assert (result.phase, result.reason) == ("Failed", reason)
    assert words in result.message and "\n" not in result.message
    assert result.message in run.printed


# -- what a job sees -----------------------------------------------------------------------------------------------


def test_a_job_sees_who_it_is_and_its_own_variables_but_never_the_agents_settings(
    run: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASARE_ORCHESTRATOR_API_KEY", "crpa_secret")
    monkeypatch.setenv("SOME_OTHER", "thing")
    own = [{"name": "CITY", "value": "Berlin"}, {"name": "CASARE_JOB_UID", "value": "forged"}]
    text = "import os, json; print(json.dumps(dict(os.environ)))"
    assert run({"runner": "python", "source": {"inline": text}, "env": own}, parameters={"a": "ü"}).phase == "Succeeded"
    seen = json.loads(run.printed)
    assert seen["CITY"] == "Berlin" and "SOME_OTHER" not in seen and "secret" not in run.printed
    assert (seen["CASARE_JOB_NAME"], seen["CASARE_JOB_NAMESPACE"]) == ("job-1", "default")
    assert (seen["CASARE_JOB_UID"], seen["CASARE_ATTEMPT"]) == ("u-1", "1")
    assert json.loads(seen["CASARE_PARAMETERS"]) == {"a": "ü"}
    assert json.loads(Path(seen["CASARE_PARAMETERS_FILE"]).read_text()) == {"a": "ü"}


def test_parameters_too_long_for_a_variable_are_in_the_file(run: Bench) -> None:
    text = "from os import environ as e; print('CASARE_PARAMETERS' in e, len(open(e['CASARE_PARAMETERS_FILE']).read()))"
    assert run({"runner": "python", "source": {"inline": text}}, parameters={"a": "x" * 300_000}).phase == "Succeeded"
    assert run.printed == "False 300009\n"


def test_outputs_and_the_last_progress_message_become_the_result(run: Bench) -> None:
    text = """
import json, os
json.dump({"matched": 312}, open(os.environ["CASARE_OUTPUTS_FILE"], "w"))
json.dump({"percent": 100, "message": "312 of 318"}, open(os.environ["CASARE_PROGRESS_FILE"], "w"))
"""
    result = run({"runner": "python", "source": {"inline": text}})
    assert result == Result("Succeeded", "Completed", "312 of 318", 0, {"matched": 312})


@pytest.mark.parametrize(("written", "words"), [
    ("[1]", "JSON object"), ("{", "as JSON"), ('{"a": "\\u0000"}', "NUL"), ("x" * 2**18 + "x", "256Ki"),
    ('{"a": [' + "1e15," * 20_000 + "1]}", "256Ki"),
])
def test_outputs_that_are_no_object_fail_the_job_plainly(run: Bench, written: str, words: str) -> None:
    put(run.workshop, written.encode())
    files = [{"name": "out", "path": "out", "sha256": hashlib.sha256(written.encode()).hexdigest()}]
    result = run({"runner": "command", "source": {"inline": "cp out $CASARE_OUTPUTS_FILE"}, "files": files})
    assert (result.phase, result.reason) == ("Failed", "InvalidOutputs")
    assert words in result.message


def test_a_log_is_cut_where_the_workflow_says(run: Bench) -> None:
    run({"runner": "python", "source": {"inline": "print('x' * 100_000)"}, "limits": {"logSize": "1Ki"}})
    assert run.printed == "x" * 1024 + "\n[the log is cut here: it has reached its limit of 1Ki]\n"


# -- files ---------------------------------------------------------------------------------------------------------


def test_files_come_from_blobs_and_a_job_changes_only_its_copy(run: Bench) -> None:
    script = b"import sys; open('data/in.csv', 'a').write('more'); print(open('data/in.csv').read(), sys.argv[1])"
    source, data = put(run.workshop, script), put(run.workshop, b"a;b")
    workflow = {
        "runner": "python",
        "source": {"file": "scripts/count.py", "sha256": source},
        "files": [{"name": "data/in.csv", "path": "in.csv", "sha256": data}],
        "args": ["{{ parameters.x }}"],
    }
    assert run(workflow, parameters={"x": "y"}).phase == "Succeeded"
    assert run.printed == "a;bmore y\n"
    assert run.workshop.blobs.read("default", data) == b"a;b"


def test_the_cache_fetches_once_and_notices_damage(tmp_path: Path) -> None:
    fetched: list[str] = []

    def fetch(namespace: str, sha256: str) -> bytes:
        fetched.append(sha256)
        return b"content"

    digest = hashlib.sha256(b"content").hexdigest()
    cache = BlobCache(tmp_path, fetch)
    assert cache.read("ns", digest) == cache.read("ns", digest) == b"content"
    assert fetched == [digest]
    (tmp_path / digest).write_bytes(b"damaged")
    assert cache.read("ns", digest) == b"content"
    assert cache.prune(older_than=-1) == 1


def test_a_wrong_digest_is_never_used(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, lambda namespace, sha256: b"something else")
    with pytest.raises(WrongDigest):
        cache.read("ns", "0" * 64)
    with pytest.raises(WrongDigest):
        cache.read("ns", "../../etc/passwd")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "C:\\x", "\\\\host\\x", "", "a\0b", "..\\x"])
def test_no_file_leaves_the_work_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError):
        inside(tmp_path, name)


# -- stopping ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "phase"), [
    (StopReason.CANCELLED, "Cancelled"), (StopReason.TIMEOUT, "Failed"), (StopReason.DRAINED, "Drained"),
])
def test_a_stopped_attempt_runs_nothing_more(run: Bench, reason: StopReason, phase: str) -> None:
    run.stop = reason
    result = run({"runner": "command", "args": ["touch", "ran"]}, timeout="30m")
    assert result.phase == phase
    assert not (run.work / "ran").exists()
    assert reason is not StopReason.TIMEOUT or result.message == "timed out after 30m"


# -- python environments -------------------------------------------------------------------------------------------


def test_a_module_runs_in_the_interpreter_that_is_named(run: Bench) -> None:
    workflow = {"runner": "python", "source": {"module": "platform"}, "python": {"interpreter": sys.executable}}
    assert run(workflow).phase == "Succeeded"
    result = run({**workflow, "python": {"interpreter": "python9"}}, attempt=2)
    assert result.message == '"python9" is not a program on this robot'


def test_requirements_are_installed_once_into_an_environment_of_their_own(run: Bench, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "greeting", "def hello(): print('hello from a wheel')\n")
    workflow = {
        "runner": "python",
        "source": {"inline": "import greeting, sys; greeting.hello(); print(sys.prefix)"},
        "python": {"requirements": [f"greeting @ {wheel.as_uri()}"]},
    }
    assert run(workflow).phase == "Succeeded", run.printed
    first = run.printed.splitlines()
    assert first[-2] == "hello from a wheel" and "venvs" in first[-1]
    assert run(workflow, attempt=2).phase == "Succeeded"
    assert run.printed.splitlines() == first[-2:]


def test_requirements_that_cannot_be_installed_fail_the_job_with_the_log(run: Bench, tmp_path: Path) -> None:
    missing = (tmp_path / "missing-1.0-py3-none-any.whl").as_uri()
    workflow = {"runner": "python", "source": {"inline": "1"}, "python": {"requirements": [f"missing @ {missing}"]}}
    result = run(workflow)
    assert (result.phase, result.reason) == ("Failed", "RequirementsFailed")
    assert result.message == "pip install failed with exit code 1; the log says why"
    assert "missing-1.0" in run.printed


def test_an_environment_without_requirements_is_only_an_environment(workshop: Workshop) -> None:
    steps: list[Command] = []
    supervisor = Supervisor(Mark("venv", 1), print, grace=5)

    def build(command: Command) -> object:
        steps.append(command)
        return supervisor.run(command)

    cache = VenvCache(workshop.directory / "venvs")
    python = cache.python(sys.executable, [], build, supervisor.pause)  # type: ignore[arg-type]
    assert python.exists() and len(steps) == 1
    assert cache.python(sys.executable, [], build, supervisor.pause) == python  # type: ignore[arg-type]
    assert len(steps) == 1
    with pytest.raises(BuildFailed):
        cache.python("/no/python", ["x"], supervisor.run, supervisor.pause)
    assert cache.prune(older_than=-1) == 1
    assert not python.exists()


def make_wheel(directory: Path, name: str, text: str) -> Path:
    """A wheel with one module, made by hand: pip takes it without asking any registry."""
    path = directory / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", text)
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path


# -- the directory -------------------------------------------------------------------------------------------------


def test_a_robots_directory_serves_one_agent_at_a_time(tmp_path: Path) -> None:
    taken = pytest.raises(InUse, match=f"pid {os.getpid()}")
    with locked(tmp_path / "robot"), taken, locked(tmp_path / "robot"):
        pass
    with locked(tmp_path / "robot"):
        pass
