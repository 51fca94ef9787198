"""Workflow: what a robot runs, with what, where, and what becomes of it when it fails.

Its content is kept as immutable revisions named by their hash; a job holds the revision it was submitted with, so
that editing a workflow never changes a queued job.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from casare_api.kinds.kind import (
    AGE,
    NAME,
    Duration,
    Kind,
    Model,
    ObjectMeta,
    OpenModel,
    Quantity,
    Word,
    column,
    listed,
)
from casare_api.machinery.errors import ApiError
from casare_api.machinery.selectors import LabelSelector

MAX_SCHEMA = 64 * 1024  # characters; every job is checked against it while others wait to be written


class GitFile(Model):
    """A file of a git repository."""

    source: Word = Field(description="The name of the Source that knows the repository.")
    path: Word = Field(description="The file's path in the repository.")


class Code(Model):
    """What a runner runs: exactly one of file, inline, module, git."""

    file: Word | None = Field(
        None, description="The path of a file beside the manifest; `casare apply` sends it along."
    )
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of `file` in hex; `casare apply` fills it in."
    )
    inline: str | None = Field(None, description="The text of the script itself.")
    module: str | None = Field(
        None, pattern=r"^[A-Za-z_][\w.]*$", description="A module that the robot's Python has, run as `python -m` does."
    )
    git: GitFile | None = Field(None, description="A file of a git repository; agents of this release refuse it.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Code:
        given = [key for key in ("file", "inline", "module", "git") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of file, inline, module, git is needed, found {', '.join(given) or 'none'}")
        return self


class PythonRunner(Model):
    """The Python that runner python uses."""

    interpreter: Word | None = Field(
        None, description="The interpreter's name or path on the robot; where not set, the agent's own."
    )
    requirements: list[Word] | None = Field(
        None,
        description="Packages as pip names them, such as `openpyxl>=3.1`: the robot keeps a virtual environment for "
        "each set of them.",
    )


class WorkflowFile(Model):
    """A file that goes along."""

    name: Word = Field(description="Where it lies in the job's work directory: a relative path inside it.")
    path: Word = Field(description="Where it lies beside the manifest; `casare apply` sends it along.")
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the file in hex; `casare apply` fills it in."
    )

    @field_validator("name")
    @classmethod
    def _stays_inside(cls, name: str) -> str:
        if name.startswith(("/", "\\")) or ":" in name or ".." in name.replace("\\", "/").split("/"):
            raise ValueError("must be a relative path inside the job's work directory")
        return name


class KeyRef(Model):
    """One entry of a Secret."""

    name: Word = Field(description="The Secret's name, in the same namespace.")
    key: Word = Field(description="The entry's key in it.")


class EnvVar(Model):
    """An environment variable."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="The variable's name.")
    value: str | None = Field(None, description="Its value.")
    secret_ref: KeyRef | None = Field(None, description="Where its value is kept, in place of `value`.")


class Expression(Model):
    """A condition on a robot's labels."""

    key: Word = Field(description="The label's key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="In and NotIn compare with `values`, Exists and DoesNotExist take none, Gt and Lt one whole number."
    )
    values: list[str] | None = Field(None, description="What the label's value is compared with.")


class Toleration(Model):
    """A robot's mark that does not keep the job away."""

    key: Word | None = Field(None, description="The key of the taint; where not set, any.")
    operator: Literal["Exists", "Equal"] = Field(
        "Equal", description="Exists tolerates any value of the taint, Equal the one in `value`."
    )
    value: str | None = Field(None, description="The taint's value, for operator Equal.")


class Preference(Model):
    """What the job would like of a robot and can do without."""

    same_robot: bool | None = Field(None, description="Whether another attempt should go to the robot of the last one.")
    labels: dict[str, str] | None = Field(None, description="Labels that the robot should have.")


class RequirementsSpec(Model):
    """Which robots may run it. Those of a job narrow those of its workflow."""

    environment: Word | None = Field(None, description="The robot's environment; where not set, any.")
    capabilities: list[Word] | None = Field(
        None,
        max_length=100,
        description="Capabilities that the robot must have, all of them.",
        json_schema_extra=listed("set"),
    )
    tags: list[Word] | None = Field(
        None,
        max_length=100,
        description="Tags that the robot must have, all of them.",
        json_schema_extra=listed("set"),
    )
    robot_selector: list[Expression] | None = Field(
        None, description="Conditions on the robot's labels, all of which must hold."
    )
    tolerations: list[Toleration] | None = Field(
        None, description="Marks (taints) of robots that do not keep the job away."
    )
    robot_name: Word | None = Field(None, description="The name of the one robot that may run it.")
    prefer: list[Preference] | None = Field(
        None, description="What a robot should have where several may run it, the most important first."
    )

    @field_validator("robot_selector")
    @classmethod
    def _selector_is_right(cls, terms: list[Expression] | None) -> list[Expression] | None:
        try:
            LabelSelector.from_expressions([term.model_dump(exclude_none=True) for term in terms or ()])
        except ApiError as error:
            raise ValueError(error.message) from None
        return terms


class Backoff(Model):
    """How long a failed job waits before it is tried again."""

    initial: Duration = Field("10s", description="The wait after the first failure.")
    factor: float = Field(2, ge=1, le=100, description="How many times longer each wait is than the one before.")
    max: Duration = Field("5m", description="The longest wait.")


class Retry(Model):
    """Whether a job is tried again when it failed or its robot was lost."""

    limit: int = Field(0, ge=0, le=1000, description="How often a job that failed is tried again; 0 is never.")
    backoff: Backoff = Field(Backoff(), description="How long it waits before each try.")
    on_robot_lost: Literal["Requeue", "Fail", "Wait"] = Field(
        "Requeue",
        description="What becomes of a job whose robot is lost while it runs: Requeue runs it again elsewhere (at "
        "least once), Fail ends it, Wait waits for the robot to come back (at most once).",
    )
    robot_lost_limit: int = Field(
        3, ge=0, le=1000, description="How many lost robots a job outlives with onRobotLost Requeue; then it fails."
    )
    self_fence: bool = Field(
        False,
        description="Whether a robot that can't reach the server ends the job itself before lostAfter is over, so that "
        "it never runs in two places; a server that is away for long ends such jobs, too.",
    )


class Concurrency(Model):
    """How many jobs of one key run at the same time in their namespace."""

    key: Word = Field(
        description="What the jobs share, such as a login; it may hold places like {{ parameters.month }}, which are "
        "filled in when a job is submitted."
    )
    limit: int = Field(1, ge=1, le=100_000, description="How many of them may run at the same time.")


class Limits(Model):
    """What a job may use, in bytes or in words such as 500Mi."""

    memory: Quantity | None = Field(None, description="Memory of all its processes together.")
    log_size: Quantity | None = Field(None, description="Output that is kept of each attempt; the rest is cut.")
    artifact_size: Quantity | None = Field(
        None, description="All the files that it leaves behind; where not set, 500Mi."
    )


class WorkflowSpec(Model):
    """What is run, with what and where, and what becomes of it when it fails."""

    description: str | None = Field(None, max_length=2000, description="What it does, in words for people.")
    runner: Word = Field(
        description="What runs it: command (a program or a shell script), python, or the name of a robot's plug-in."
    )
    source: Code | None = Field(
        None, description="What the runner runs: exactly one of file, inline, module and git. Needed for python."
    )
    python: PythonRunner | None = Field(None, description="The interpreter and the packages that runner python uses.")
    args: list[str] | None = Field(
        None,
        max_length=1000,
        description="The arguments; for runner command without a source, the program first. They may hold places such "
        "as {{ parameters.month }}.",
    )
    files: list[WorkflowFile] | None = Field(
        None,
        max_length=1000,
        description="Files that lie in the work directory of each job.",
        json_schema_extra=listed("map", "name"),
    )
    env: list[EnvVar] | None = Field(
        None, max_length=1000, description="Environment variables of each job.", json_schema_extra=listed("map", "name")
    )
    parameters: dict[str, Any] | None = Field(
        None, description="JSON Schema of a job's parameters, which are checked when it is submitted."
    )
    requirements: RequirementsSpec | None = Field(None, description="Which robots may run it; where not set, any.")
    priority: int = Field(
        10,
        ge=0,
        le=20,
        description="0 runs first, 20 last; each step counts like a wait of some minutes, so that nothing waits for "
        "ever.",
    )
    timeout: Duration | None = Field(
        None, description="How long an attempt may run before it fails; where not set, for ever."
    )
    grace_period: Duration = Field(
        "20s", description="How long its processes have to end by themselves before they are killed."
    )
    retry: Retry | None = Field(None, description="Whether it is tried again when it failed or its robot was lost.")
    lost_after: Duration = Field("2m", description="How long its robot may be silent before the attempt is lost.")
    concurrency: Concurrency | None = Field(None, description="How many jobs of one key run at the same time.")
    limits: Limits | None = Field(None, description="What a job may use.")
    ttl_after_finished: Duration = Field("7d", description="How long a finished job is kept.")

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
    """Under which name the content is kept."""

    revision: str | None = Field(
        None, description="The hash that names this content; new jobs run it, earlier ones keep theirs."
    )


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
        "spec.limits.memory": None,
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
