"""Workflow: what a robot runs, with what, where, and what becomes of it when it fails.

Its content is kept as immutable revisions named by their hash; a job holds the revision it was submitted with, so
that editing a workflow never changes a queued job.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from casare_api.kinds.kind import AGE, NAME, Duration, Kind, Model, ObjectMeta, OpenModel, Quantity, Word, column
from casare_api.machinery.errors import ApiError
from casare_api.machinery.selectors import LabelSelector

MAX_SCHEMA = 64 * 1024  # characters; every job is checked against it while others wait to be written


class GitFile(Model):
    source: Word
    path: Word


class Code(Model):
    """What a runner runs: exactly one of file, inline, module, git."""

    file: Word | None = None
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="Of `file`; `casare apply` fills it in.")
    inline: str | None = None
    module: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*$")
    git: GitFile | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Code:
        given = [key for key in ("file", "inline", "module", "git") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of file, inline, module, git is needed, found {', '.join(given) or 'none'}")
        return self


class PythonRunner(Model):
    interpreter: Word | None = None
    requirements: list[Word] | None = None


class WorkflowFile(Model):
    name: Word
    path: Word
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")

    @field_validator("name")
    @classmethod
    def _stays_inside(cls, name: str) -> str:
        if name.startswith(("/", "\\")) or ":" in name or ".." in name.replace("\\", "/").split("/"):
            raise ValueError("must be a relative path inside the job's work directory")
        return name


class KeyRef(Model):
    name: Word
    key: Word


class EnvVar(Model):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    value: str | None = None
    secret_ref: KeyRef | None = None


class Expression(Model):
    key: Word
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: list[str] | None = None


class Toleration(Model):
    key: Word | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None


class Preference(Model):
    same_robot: bool | None = None
    labels: dict[str, str] | None = None


class RequirementsSpec(Model):
    environment: Word | None = None
    capabilities: list[Word] | None = Field(None, max_length=100)
    tags: list[Word] | None = Field(None, max_length=100)
    robot_selector: list[Expression] | None = None
    tolerations: list[Toleration] | None = None
    robot_name: Word | None = None
    prefer: list[Preference] | None = None

    @field_validator("robot_selector")
    @classmethod
    def _selector_is_right(cls, terms: list[Expression] | None) -> list[Expression] | None:
        try:
            LabelSelector.from_expressions([term.model_dump(exclude_none=True) for term in terms or ()])
        except ApiError as error:
            raise ValueError(error.message) from None
        return terms


class Backoff(Model):
    initial: Duration = "10s"
    factor: float = Field(2, ge=1, le=100)
    max: Duration = "5m"


class Retry(Model):
    limit: int = Field(0, ge=0, le=1000)
    backoff: Backoff = Backoff()
    on_robot_lost: Literal["Requeue", "Fail", "Wait"] = "Requeue"
    robot_lost_limit: int = Field(3, ge=0, le=1000)
    self_fence: bool = False


class Concurrency(Model):
    key: Word
    limit: int = Field(1, ge=1, le=100_000)


class Limits(Model):
    memory: Quantity | None = None
    log_size: Quantity | None = None
    artifact_size: Quantity | None = None


class WorkflowSpec(Model):
    description: str | None = Field(None, max_length=2000)
    runner: Word = Field(description="command, python, or the name of a plug-in.")
    source: Code | None = None
    python: PythonRunner | None = None
    args: list[str] | None = Field(None, max_length=1000)
    files: list[WorkflowFile] | None = Field(None, max_length=1000)
    env: list[EnvVar] | None = Field(None, max_length=1000)
    parameters: dict[str, Any] | None = Field(None, description="JSON Schema of a job's parameters.")
    requirements: RequirementsSpec | None = None
    priority: int = Field(10, ge=0, le=20, description="0 runs first, 20 last.")
    timeout: Duration | None = None
    grace_period: Duration = "20s"
    retry: Retry | None = None
    lost_after: Duration = "2m"
    concurrency: Concurrency | None = None
    limits: Limits | None = None
    ttl_after_finished: Duration = "7d"

    @field_validator("parameters")
    @classmethod
    def _schema_is_small(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        size = len(json.dumps(schema))
        if size > MAX_SCHEMA:
            raise ValueError(f"a JSON Schema may have no more than {MAX_SCHEMA} characters, found {size}")
        return schema

    @model_validator(mode="after")
    def _has_something_to_run(self) -> WorkflowSpec:
        if self.runner == "python" and self.source is None:
            raise ValueError("source: required for runner python: file, inline, module or git")
        if self.runner == "command" and self.source is None and not self.args:
            raise ValueError("args: required for runner command without a source: the program and its arguments")
        return self


class WorkflowStatus(OpenModel):
    revision: str | None = None


class Workflow(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: WorkflowSpec
    status: WorkflowStatus | None = None


WORKFLOW = Kind(
    kind="Workflow",
    plural="workflows",
    singular="workflow",
    short_names=("wf",),
    model=Workflow,
    not_yet={
        "spec.concurrency": None,
        "spec.requirements.prefer": None,
        "spec.retry.selfFence": False,
        "spec.limits.memory": None,
        "spec.limits.artifactSize": None,
    },
    columns=(
        NAME,
        column("Runner", "spec", "runner"),
        column("Revision", "status", "revision"),
        AGE,
        column("Requires", "spec", "requirements", "capabilities", wide=True),
        column("Description", "spec", "description", wide=True),
    ),
    description="What a robot runs, with what and where; kept as immutable revisions.",
)
