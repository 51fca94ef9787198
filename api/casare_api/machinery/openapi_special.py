"""What is there beside the verbs that every kind has? Reports of robots, logs, keys, revisions, files, retries, why.

Here are the paths; the bodies are in `openapi_bodies`.
"""

from __future__ import annotations

from typing import Any

from casare_api.kinds import GROUP, KINDS, Kind
from casare_api.machinery.openapi_audit import audit_paths, audit_schemas
from casare_api.machinery.openapi_bodies import MODELS
from casare_api.machinery.openapi_operations import (
    DRY_RUN,
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
from casare_api.machinery.openapi_sealing import sealing_paths, sealing_schemas
from casare_api.machinery.schema import Schema, model_schema

MAX_LOG_SEQ = 1_000_000
_MOST_ATTEMPTS = 99_999_999
_JSON = ("application/json",)


def special_schemas() -> dict[str, Schema]:
    """The schemas of these bodies by their names in the document of our own group."""
    own = {schema_name(GROUP, "v1", name): model_schema(model) for name, model in MODELS.items()}
    return audit_schemas() | sealing_schemas() | own


def special_paths() -> Paths:
    """The paths of our own group that no other kind has."""
    robot, job, key, workflow = (KINDS[name] for name in ("Robot", "Job", "ApiKey", "Workflow"))
    return {
        **_below(robot, "report", post=_report(robot)),
        **_below(job, "log", get=_read_log(job), post=_add_log(job)),
        **_below(job, "retry", post=_retry(job)),
        **_below(job, "why", get=_why(job)),
        **_artifacts(job),
        **_below(key, "token", post=_token(key)),
        **_below(key, "rotate", post=_rotate(key)),
        **_below(KINDS["JoinToken"], "token", post=_token(KINDS["JoinToken"])),
        **_enrol(KINDS["JoinToken"]),
        **_below(workflow, "revisions/{revision}", get=_revision(workflow)),
        **_blobs(workflow.root),
        **audit_paths(),
        **sealing_paths(),
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
        "parameters": [query("instance", "Which process of an agent this is, as its `agent.instance` says: where "
                             "another one is the robot the answer is 409.", maxLength=64)],
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


def _retry(kind: Kind) -> Operation:
    nothing: Schema = {"type": "object", "additionalProperties": False, "description": "Nothing."}
    return {
        **_operation(kind, "createFleetV1NamespacedJobRetry", "Do again what a job did that has ended"),
        "parameters": [DRY_RUN, query("force", "Whether to do it though a retry of it has not ended: 409 otherwise.",
                                      type="boolean")],
        "requestBody": body(nothing, _JSON, required=False),
        "responses": responses({"201": ("The new job.", _reference("Job"))}),
    }


def _artifacts(kind: Kind) -> Paths:
    where, one = [NAMESPACE_PARAMETER, NAME_PARAMETER], kind.path("{namespace}", "{name}", "artifacts")
    file = in_path("file", "The file's name: no slash, and no dot at its start.",
                   {"type": "string", "minLength": 1, "maxLength": 253})
    attempt = query("attempt", "The attempt; where not set, the newest.", type="integer", minimum=0,
                    maximum=_MOST_ATTEMPTS)
    content: Schema = {"type": "string", "format": "binary"}

    def operation(name: str, summary: str, **more: Any) -> Operation:
        return {**_operation(kind, f"{name}FleetV1NamespacedJobArtifact", summary), **more}

    return {
        one: {"parameters": [*where, attempt], "get": {
            **_operation(kind, "listFleetV1NamespacedJobArtifact", "List the files that a job left behind"),
            "responses": _json({"200": ("The files.", _reference("ArtifactList"))}),
        }},
        f"{one}/{{file}}": {
            "parameters": [*where, file, attempt],
            "get": operation("read", "Read a file that a job left behind",
                             responses=_with_good("200", "The file.", _BYTES, content)),
            "head": operation("head", "Is the file there, and how long is it?",
                              responses=_with_good("200", "It is.", (), {})),
            "put": operation(
                "replace", "Keep a file of a job", requestBody=body(content, _BYTES),
                parameters=[query("uid", "The job's uid, which a robot must say; it says its attempt, too.")],
                responses=_json({"200": ("It is kept in place of the one that was there.", _reference("Artifact")),
                                 "201": ("It is kept.", _reference("Artifact"))}),
            ),
        },
    }


def _why(kind: Kind) -> Operation:
    return {
        **_operation(kind, "readFleetV1NamespacedJobWhy", "Say why a job waits, or what became of it"),
        "responses": _json({"200": ("The explanation.", _reference("JobExplanation"))}),
    }


def _token(kind: Kind) -> Operation:
    return {
        **_operation(kind, f"createFleetV1Namespaced{kind.kind}Token", f"Make the secret of one {kind.singular}, and "
                     "show it this once"),
        "responses": _json({"201": ("The key.", _reference("KeyToken"))}),
    }


def _rotate(kind: Kind) -> Operation:
    return {
        **_operation(kind, "createFleetV1NamespacedApiKeyRotate", "Make an ApiKey another key, and show it once"),
        "requestBody": body(_reference("KeyRotation"), _JSON, required=False),
        "responses": _json({"201": ("The new key.", _reference("KeyToken"))}),
    }


def _enrol(kind: Kind) -> Paths:
    answer = _reference("EnrolmentAnswer")
    return {f"{kind.root}/enroll": {"parameters": [], "post": {
        "tags": ["enrolment"],
        "operationId": "createFleetV1Enrolment",
        "summary": "Become a robot of the fleet; the join token is the Bearer",
        "requestBody": body(_reference("Enrolment"), _JSON),
        "responses": _json({"200": ("It had joined before with this key.", answer), "201": ("It has joined.", answer)}),
    }}}


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
