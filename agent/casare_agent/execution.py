"""What happens between "it may start" and "this is how it ended"? The steps of one attempt, in order.

Always holds: whatever goes wrong in the workflow, its files or its program becomes a Result with a plain message; the
server being away is waited out, it fails no job.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from casare_agent import environment
from casare_agent.assignment import Assignment
from casare_agent.blobs import WrongDigest
from casare_agent.files import inside
from casare_agent.logs import JobLog
from casare_agent.process import Exit
from casare_agent.progress import read_progress
from casare_agent.result import Result
from casare_agent.runners import Runner, Task, TaskError, find
from casare_agent.supervisor import Stopped, StopReason, Supervisor
from casare_agent.workshop import Workshop
from casare_api.kinds import Object
from casare_api.machinery import templates
from casare_api.machinery.admission import check_storable
from casare_api.machinery.durations import parse_quantity
from casare_api.machinery.errors import ApiError
from casare_client import Unreachable
from casare_client.backoff import Backoff
from casare_client.watch import passing

MOST_OUTPUT = 256 * 1024  # bytes, of the file and as JSON; the server's limit (MAX_OUTPUTS in casare_apiserver.agents)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt with all that its steps need. `directory` is the attempt's own."""

    assignment: Assignment
    directory: Path
    workshop: Workshop
    supervisor: Supervisor
    log: JobLog

    @property
    def work(self) -> Path:
        """Where the job runs."""
        return self.directory / "work"


def execute(run: Run) -> Result:
    """Runs the attempt to its end."""
    try:
        return _result(run, _attempt(run))
    except Stopped as stopped:
        return _stopped(run, stopped)
    except TaskError as error:
        run.log.say(error.message)
        return Result("Failed", error.reason, error.message)


def with_server(supervisor: Supervisor, ask: Callable[[], _T]) -> _T:
    """What the server answers, however long it is away. Raises TaskError for a refusal, Stopped."""
    backoff = Backoff(first=0.5)
    while True:
        try:
            return ask()
        except (ApiError, Unreachable) as error:
            if not passing(error):
                raise TaskError("FetchFailed", str(error)) from None
        except WrongDigest as error:
            raise TaskError("WrongDigest", str(error)) from None
        supervisor.pause(backoff.next())


# -- steps -------------------------------------------------------------------------------------------------------


def _attempt(run: Run) -> Exit:
    workflow = with_server(run.supervisor, lambda: run.workshop.workflow(run.assignment))
    size = (workflow.get("limits") or {}).get("logSize")
    if size:
        run.log.limit_to(parse_quantity(str(size)), str(size))
    runner = find(str(workflow.get("runner")))
    run.work.mkdir(parents=True, exist_ok=True)
    command = runner.command(_task(run, workflow, runner))
    try:
        return run.supervisor.run(command)
    except OSError as error:
        raise TaskError("StartFailed", f"{command.argv[0]} can't be started: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in an argument
        raise TaskError("StartFailed", f"{command.argv[0]} can't be started: {error}") from None


def _task(run: Run, workflow: Object, runner: Runner) -> Task:
    script = _script(run, workflow, runner)
    for each in workflow.get("files") or []:
        _place(run, str(each["name"]), each.get("sha256"))
    own = _own_variables(workflow)
    return Task(
        spec=workflow,
        args=tuple(_rendered(run, workflow)),
        script=script,
        work=run.work,
        env=environment.for_job(run.assignment, run.directory, os.environ, own),
        venvs=run.workshop.venvs,
        run=run.supervisor.run,
        pause=run.supervisor.pause,
    )


def _script(run: Run, workflow: Object, runner: Runner) -> Path | None:
    """The file of `source`, in the work directory under its own name."""
    source = workflow.get("source") or {}
    if source.get("git"):
        raise TaskError("NotSupported", "source.git is not supported by this agent yet: use file or inline")
    if source.get("file"):
        return _place(run, str(source["file"]).replace("\\", "/").rsplit("/", 1)[-1], source.get("sha256"))
    if source.get("inline") is not None:
        path = run.work / runner.inline_name
        path.write_text(str(source["inline"]), encoding="utf-8", newline="")
        return path
    return None


def _place(run: Run, name: str, sha256: str | None) -> Path:
    if not sha256:
        raise TaskError("InvalidWorkflow", f"file {name} has no sha256: apply the workflow again")
    try:
        path = inside(run.work, name)
    except ValueError as error:
        raise TaskError("InvalidWorkflow", str(error)) from None
    blobs, namespace = run.workshop.blobs, run.assignment.namespace
    path.write_bytes(with_server(run.supervisor, lambda: blobs.read(namespace, sha256)))
    return path


def _own_variables(workflow: Object) -> Mapping[str, str]:
    variables = {}
    for each in workflow.get("env") or []:
        if each.get("secretRef"):
            raise TaskError("NotSupported", f"env {each['name']}: secretRef is not supported by this agent yet")
        variables[str(each["name"])] = str(each.get("value") or "")
    return variables


def _rendered(run: Run, workflow: Object) -> list[str]:
    variables = {"parameters": (run.assignment.spec or {}).get("parameters") or {}}
    try:
        return [templates.render(str(arg), variables) for arg in workflow.get("args") or []]
    except ValueError as error:
        raise TaskError("InvalidArguments", f"args: {error}") from None


# -- results -----------------------------------------------------------------------------------------------------


def _result(run: Run, ended: Exit) -> Result:
    if ended.code != 0:
        return Result("Failed", "Killed" if ended.signal else "ExitCode", _why(run, ended), ended.code)
    outputs = _outputs(run.directory / environment.OUTPUTS)
    progress = read_progress(run.directory / environment.PROGRESS) or {}
    return Result("Succeeded", "Completed", str(progress.get("message") or ""), 0, outputs)


def _why(run: Run, ended: Exit) -> str:
    """How it ended, and the last line it printed: most programs say there what was wrong."""
    how = f"killed by {ended.signal}" if ended.signal else f"exited with code {ended.code}"
    last = run.log.last_line()
    return f"{how}: {last}" if last else how


def _stopped(run: Run, stopped: Stopped) -> Result:
    code = stopped.exit.code if stopped.exit else None
    if stopped.reason is StopReason.TIMEOUT:
        return Result("Failed", "Timeout", f"timed out after {(run.assignment.spec or {}).get('timeout')}", code)
    if stopped.reason is StopReason.CANCELLED:
        return Result("Cancelled", "Cancelled", "cancelled", code)
    if stopped.reason is StopReason.FENCED:
        return Result("Lost", "SelfFenced", "its robot could not reach the server and ended it", code)
    if stopped.reason is StopReason.RETURNED:
        return Result("Drained", stopped.reason.value, "its robot was drained, and it still ran at the deadline", code)
    return Result("Drained", "AgentStopped", "its agent stopped", code)


def _outputs(path: Path) -> dict[str, Any] | None:
    """What the job wrote to its outputs file, None where it wrote none. Raises TaskError for what is no object."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_OUTPUT + 1)
    except FileNotFoundError:
        return None
    _check_size(data)
    try:
        outputs = orjson.loads(data) if data.strip() else {}
        check_storable(outputs)
        _check_size(orjson.dumps(outputs))  # numbers may be longer than they were written: 1e15
    except (ValueError, ApiError) as error:
        raise TaskError("InvalidOutputs", f"the outputs file can't be read as JSON: {error}") from None
    if not isinstance(outputs, dict):
        raise TaskError("InvalidOutputs", "the outputs file must hold a JSON object, such as {\"matched\": 312}")
    return outputs


def _check_size(outputs: bytes) -> None:
    if len(outputs) > MOST_OUTPUT:
        limit = f"{MOST_OUTPUT // 1024}Ki, the most that a job may hand back"
        raise TaskError("InvalidOutputs", f"the outputs are larger than {limit}: keep large results elsewhere")
