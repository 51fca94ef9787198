"""What is there beside the verbs that every kind has? Reports of robots, logs, keys, revisions and files.

The bodies are described here and read elsewhere (`casare_apiserver.agents`, `.files`); a test compares their fields.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from casare_api.kinds import GROUP, KINDS, Kind
from casare_api.kinds.kind import Model, Timestamp, Word
from casare_api.kinds.robot import Drain
from casare_api.kinds.workflow import WorkflowSpec
from casare_api.machinery.openapi_operations import (
    NAME_PARAMETER,
    NAMESPACE_PARAMETER,
    Operation,
    Paths,
    body,
    in_path,
    query,
    responses,
    schema_name,
    schema_reference,
)
from casare_api.machinery.schema import Schema, model_schema

MAX_LOG_SEQ = 1_000_000
_MOST_ATTEMPTS = 99_999_999
_JSON = ("application/json",)


class Transition(Model):
    """What became of one attempt."""

    namespace: str = Field(description="The job's namespace.")
    name: str = Field(description="The job's name.")
    uid: str = Field(description="The job's uid.")
    attempt: int = Field(description="The attempt's number: what is said of another than the current one is refused.")
    phase: str = Field(description="Running, Succeeded, Failed, Cancelled, Lost or Drained.")
    reason: str | None = Field(None, max_length=100, description="Why, in one word for programs.")
    started_time: Timestamp | None = Field(None, description="When the attempt began to run.")
    finished_time: Timestamp | None = Field(None, description="When it ended.")
    exit_code: int | None = Field(None, description="The exit code of its process.")
    message: str | None = Field(None, max_length=8192, description="Why, in a sentence for people.")
    outputs: dict[str, Any] | None = Field(None, description="What it gave out, at most 256 KiB as JSON.")
    progress: dict[str, Any] | None = Field(None, description="How far it is: percent and message, at most 16 KiB.")


class Report(Model):
    """What a robot says of itself: that it lives, and what became of its attempts since the last report."""

    agent: dict[str, Any] | None = Field(None, description="What its agent says of itself, at most 16 KiB as JSON.")
    telemetry: dict[str, Any] | None = Field(None, description="Measurements of its computer, at most 16 KiB as JSON.")
    leaving: bool = Field(False, description="Whether this is its last report for now.")
    jobs: list[Transition] | None = Field(None, max_length=10_000, description="What became of attempts, in order.")


class Outcome(Model):
    """What the server made of one transition."""

    uid: Any = Field(None, description="The job's uid, as it was said.")
    attempt: Any = Field(None, description="The attempt's number, as it was said.")
    code: int = Field(description="200, or the HTTP status of the refusal.")
    message: str = Field(description="Why it was refused; empty where it was not.")


class Answer(Model):
    """What the robot needs to know."""

    interval_seconds: float = Field(description="After how many seconds the next report should come.")
    desired_state: Literal["Active", "Paused", "Drained"] = Field(description="What people want of the robot.")
    robot_uid: str = Field(alias="robotUID", description="The robot's uid, by which it finds its jobs.")
    jobs: list[Outcome] = Field(description="What the server made of each transition, in their order.")
    drain: Drain | None = Field(None, description="What becomes of running jobs when it is to be Drained.")
    restart_requested_at: Timestamp | None = Field(None, description="When people last asked the agent to restart.")


class KeyToken(Model):
    """A key, shown this once."""

    kind: str = Field(description="KeyToken.")
    api_version: str = Field(description="The version of this answer.")
    key: str = Field(description="The key itself: the server keeps only its hash.")


class RevisionMeta(Model):
    """The names of a revision."""

    name: str = Field(description="The revision's hash.")
    namespace: str = Field(description="The namespace of its workflow.")


class WorkflowRevision(Model):
    """The content that a workflow had when it had this hash; it never changes."""

    api_version: str = Field(description="The version of this answer.")
    kind: str = Field(description="WorkflowRevision.")
    metadata: RevisionMeta
    spec: WorkflowSpec


class StoredFile(Model):
    """A file that is kept."""

    sha256: Word = Field(description="Its SHA-256 in hex: its name.")
    size: int = Field(description="Its length in bytes.")


_MODELS: dict[str, type[Model]] = {
    "RobotReport": Report,
    "RobotReportAnswer": Answer,
    "KeyToken": KeyToken,
    "WorkflowRevision": WorkflowRevision,
    "StoredFile": StoredFile,
}


def special_schemas() -> dict[str, Schema]:
    """The schemas of these bodies by their names in the document of our own group."""
    return {schema_name(GROUP, "v1", name): model_schema(model) for name, model in _MODELS.items()}


def special_paths() -> Paths:
    """The paths of our own group that no other kind has."""
    robot, job, key, workflow = (KINDS[name] for name in ("Robot", "Job", "ApiKey", "Workflow"))
    return {
        **_below(robot, "report", post=_report(robot)),
        **_below(job, "log", get=_read_log(job), post=_add_log(job)),
        **_below(key, "token", post=_token(key)),
        **_below(workflow, "revisions/{revision}", get=_revision(workflow)),
        **_blobs(workflow.root),
    }


# -- steps -------------------------------------------------------------------------------------------------------

_TEXT = ("text/plain",)
_BYTES = ("application/octet-stream",)


def _below(kind: Kind, name: str, **operations: Operation) -> Paths:
    where = [NAMESPACE_PARAMETER, NAME_PARAMETER]
    if name.endswith("{revision}"):
        where.append(in_path("revision", "The revision's hash.", {"type": "string", "pattern": "^[0-9a-f]{16}$"}))
    return {kind.path("{namespace}", "{name}", name): {"parameters": where, **operations}}


def _report(kind: Kind) -> Operation:
    return {
        **_operation(kind, "createFleetV1NamespacedRobotReport", "Report a robot's life and what became of its jobs"),
        "requestBody": body(_reference("RobotReport"), _JSON),
        "responses": _json({"200": ("What the robot needs to know.", _reference("RobotReportAnswer"))}),
    }


def _read_log(kind: Kind) -> Operation:
    attempt = {"type": "integer", "minimum": 0, "maximum": _MOST_ATTEMPTS}
    return {
        **_operation(kind, "readFleetV1NamespacedJobLog", "Read a job's output"),
        "parameters": [
            query("attempt", "The attempt; where not set, the last one.", **attempt),
            query("follow", "Whether to go on until the job ends.", type="boolean"),
        ],
        "responses": _with_good("200", "The output.", _TEXT, {"type": "string"}),
    }


def _add_log(kind: Kind) -> Operation:
    number = {"type": "integer", "minimum": 0}
    return {
        **_operation(kind, "createFleetV1NamespacedJobLog", "Add a piece to a job's output"),
        "parameters": [
            {**query("uid", "The job's uid."), "required": True},
            {**query("attempt", "The attempt's number.", **number, maximum=_MOST_ATTEMPTS), "required": True},
            {**query("seq", "The piece's number, from 0: a piece that is sent again changes nothing.", **number,
                     maximum=MAX_LOG_SEQ), "required": True},
        ],
        "requestBody": body({"type": "string", "description": "Text in UTF-8, at most 256 KiB."}, _TEXT),
        "responses": _with_good("204", "It is kept.", (), {}),
    }


def _token(kind: Kind) -> Operation:
    return {
        **_operation(kind, "createFleetV1NamespacedApiKeyToken", "Make the key of an ApiKey, and show it this once"),
        "responses": _json({"201": ("The key.", _reference("KeyToken"))}),
    }


def _revision(kind: Kind) -> Operation:
    return {
        **_operation(kind, "readFleetV1NamespacedWorkflowRevision", "Read what a workflow was at a revision"),
        "responses": _json({"200": ("The revision.", _reference("WorkflowRevision"))}),
    }


def _blobs(root: str) -> Paths:
    sha256 = in_path("sha256", "The file's SHA-256 in hex.", {"type": "string", "pattern": "^[0-9a-f]{64}$"})
    kept = _reference("StoredFile")
    content = {"type": "string", "format": "binary"}

    def operation(name: str, summary: str, **more: Any) -> Operation:
        return {"tags": ["blobs"], "operationId": f"{name}FleetV1NamespacedBlob", "summary": summary, **more}

    return {
        f"{root}/namespaces/{{namespace}}/blobs/{{sha256}}": {
            "parameters": [NAMESPACE_PARAMETER, sha256],
            "get": operation("read", "Read a workflow's file",
                             responses=_with_good("200", "The file.", _BYTES, content)),
            "head": operation("head", "Is a workflow's file there?",
                              responses=_with_good("200", "It is; X-Size says how long it is.", (), {})),
            "put": operation("replace", "Keep a workflow's file", requestBody=body(content, _BYTES),
                             responses=_json({"200": ("It was there.", kept), "201": ("It is kept.", kept)})),
        }
    }


def _operation(kind: Kind, name: str, summary: str) -> Operation:
    return {"tags": [kind.plural], "operationId": name, "summary": summary}


def _json(good: dict[str, tuple[str, Schema]]) -> Schema:
    """Answers that are JSON whatever is asked for."""
    return {
        code: {**answer, "content": {each: answer["content"][each] for each in _JSON}}
        for code, answer in responses(good).items()
    }


def _with_good(code: str, text: str, types: tuple[str, ...], schema: Schema) -> Schema:
    """One good answer of these content types, none of them for an answer without a body."""
    content = {"content": {each: {"schema": schema} for each in types}} if types else {}
    return {code: {"description": text, **content}, **_json({})}


def _reference(name: str) -> Schema:
    return schema_reference(GROUP, "v1", name)
