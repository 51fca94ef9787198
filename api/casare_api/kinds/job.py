"""Job: one run of a workflow that somebody wants, and everything that became of it.

    Queued -> Assigned -> Running -> Succeeded | Failed | Cancelled
      |  ^       |           |
      |  +-------+-----------+   back to the queue; the next assignment is a new attempt
      +-> Cancelled | Expired

The transition table below is the only one: tests hold the database's constraint, the words beside each phase and the
diagram in docs/jobs.md to it.
Who moves a job, and when, is in `casare_api.decisions.lifecycle`.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, model_validator

from casare_api.kinds.kind import (
    AGE,
    NAME,
    Cell,
    Column,
    Duration,
    Kind,
    Model,
    Object,
    ObjectMeta,
    OpenModel,
    Timestamp,
    Uid,
    Word,
    column,
    conditions,
    dig,
)
from casare_api.kinds.workflow import Concurrency, RequirementsSpec, Retry, WorkflowSpec
from casare_api.machinery import durations, times


class JobPhase(StrEnum):
    QUEUED = "Queued"  # to Assigned, Cancelled, Expired
    ASSIGNED = "Assigned"  # to Running, Succeeded, Failed, Cancelled, or back to Queued
    RUNNING = "Running"  # to Succeeded, Failed, Cancelled, or back to Queued
    SUCCEEDED = "Succeeded"  # final
    FAILED = "Failed"  # final
    CANCELLED = "Cancelled"  # final
    EXPIRED = "Expired"  # final


FINAL = frozenset({JobPhase.SUCCEEDED, JobPhase.FAILED, JobPhase.CANCELLED, JobPhase.EXPIRED})
LIVE = frozenset({JobPhase.ASSIGNED, JobPhase.RUNNING})

TRANSITIONS: dict[JobPhase, frozenset[JobPhase]] = {
    JobPhase.QUEUED: frozenset({JobPhase.ASSIGNED, JobPhase.CANCELLED, JobPhase.EXPIRED}),
    JobPhase.ASSIGNED: frozenset(
        {JobPhase.RUNNING, JobPhase.SUCCEEDED, JobPhase.FAILED, JobPhase.CANCELLED, JobPhase.QUEUED}
    ),
    JobPhase.RUNNING: frozenset({JobPhase.SUCCEEDED, JobPhase.FAILED, JobPhase.CANCELLED, JobPhase.QUEUED}),
    **{phase: frozenset() for phase in JobPhase if phase in FINAL},
}

# The only fields of a submitted job's spec that may still change.
MUTABLE = frozenset({"cancel", "priority", "ttlAfterFinished"})


class WorkflowRef(Model):
    """A workflow of the same namespace."""

    name: Word = Field(description="The Workflow's name.")
    revision: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{12,64}$",
        description="The revision that runs; the server fills in the workflow's newest, and takes no other.",
    )


class RetryOf(Model):
    """A job that has ended."""

    name: str = Field(description="Its name.")
    uid: str = Field(description="Its uid: another job may have its name by now.")


class JobSpec(Model):
    """What is to run, with which parameters, where and when.

    Exactly one of workflowRef and workflow says what. A submitted job can change only in cancel, priority and
    ttlAfterFinished; what it leaves out of priority, timeout and the like comes from its workflow.
    """

    workflow_ref: WorkflowRef | None = Field(None, description="The workflow that it runs.")
    workflow: WorkflowSpec | None = Field(None, description="A workflow of its own, in place of workflowRef.")
    parameters: dict[str, Any] | None = Field(
        None, description="What the workflow's schema of parameters asks for; defaults are filled in."
    )
    priority: int | None = Field(
        None, ge=0, le=20, description="0 runs first, 20 last; where not set, the workflow's. It can be changed."
    )
    requirements: RequirementsSpec | None = Field(
        None, description="Which robots may run it, beside what the workflow asks for: lists add up."
    )
    not_before: Timestamp | None = Field(None, description="The time before which it does not start.")
    start_deadline: Duration | None = Field(
        None, description="How long it may wait in the queue; then it is Expired. Where not set, for ever."
    )
    idempotency_key: str | None = Field(
        None, min_length=1, max_length=253, description="A second job with this key, in the namespace, is not made."
    )
    concurrency: Concurrency | None = Field(
        None, description="How many jobs of one key run at the same time; where not set, the workflow's."
    )
    cancel: bool | None = Field(
        None, description="Whether it is to be cancelled; it can be set at any time and never be taken back."
    )
    timeout: Duration | None = Field(
        None, description="How long an attempt may run before it fails; where not set, the workflow's."
    )
    grace_period: Duration | None = Field(
        None, description="How long its processes have to end before they are killed; where not set, the workflow's."
    )
    retry: Retry | None = Field(
        None, description="Whether it is tried again after a failure or a lost robot; where not set, the workflow's."
    )
    lost_after: Duration | None = Field(
        None,
        description="How long its robot may be silent before the attempt is lost; where not set, the workflow's.",
    )
    ttl_after_finished: Duration | None = Field(
        None, description="How long it is kept once it is finished; where not set, the workflow's. It can be changed."
    )

    retry_of: RetryOf | None = Field(
        None, description="The job that this one does again; the server says so, for jobs that POST .../retry made."
    )

    @model_validator(mode="after")
    def _one_workflow(self) -> JobSpec:
        if (self.workflow_ref is None) == (self.workflow is None):
            raise ValueError("workflowRef: required: {name: WORKFLOW}, or an inline `workflow` instead of it, not both")
        return self


_TEXT: dict[str, Any] = {"type": "string"}
_REASONS: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "rule": {"type": "string", "description": "The rule that keeps robots away, in one word."},
            "message": {"type": "string", "description": "What the rule says, in a sentence for people."},
            "robots": {"type": "integer", "description": "How many robots it keeps away."},
        },
    },
}


class AttemptStatus(OpenModel):
    """An attempt that is over."""

    number: int = Field(ge=0, description="Its number; the first is 1.")
    phase: str = Field(
        description="How it ended: Succeeded, Failed, Cancelled, Lost (with its robot) or Drained (given back)."
    )
    started_time: Timestamp | None = Field(None, description="When it began to run.")
    finished_time: Timestamp | None = Field(None, description="When it ended.")
    # What the server alone writes: any value passes, as before it had a name here.
    robot_name: Any = Field(None, description="The name of the robot that had it.", json_schema_extra=_TEXT)
    robot_uid: Any = Field(None, alias="robotUID", description="The uid of that robot.", json_schema_extra=_TEXT)
    exit_code: Any = Field(
        None, description="The exit code of its process, where it ended.", json_schema_extra={"type": "integer"}
    )
    reason: Any = Field(None, description="Why it ended so, in one word for programs.", json_schema_extra=_TEXT)
    message: Any = Field(None, description="Why it ended so, in a sentence for people.", json_schema_extra=_TEXT)


class JobStatus(OpenModel):
    """What became of the job so far."""

    phase: Literal["Queued", "Assigned", "Running", "Succeeded", "Failed", "Cancelled", "Expired"] = Field(
        "Queued",
        description="Queued waits for a robot; Assigned has one that has not begun; Running; the others are final.",
    )
    attempt: int = Field(0, ge=0, description="The number of its current or last attempt; 0 before the first.")
    robot_name: str | None = Field(None, description="The name of the robot that has the attempt, or had it.")
    robot_uid: Uid | None = Field(None, alias="robotUID", description="The uid of that robot.")
    queued_time: Timestamp | None = Field(None, description="When it was submitted.")
    aging_interval: Duration | None = Field(
        None, description="The agingInterval of its namespace's Quota when it was submitted, where that is not 5m."
    )
    held_until: Timestamp | None = Field(
        None, description="The time before which it is given to no robot: its notBefore, or the wait before a retry."
    )
    assigned_time: Timestamp | None = Field(None, description="When a robot was chosen for the attempt.")
    started_time: Timestamp | None = Field(None, description="When the attempt began to run.")
    finished_time: Timestamp | None = Field(None, description="When the job came to its final phase.")
    cancel_time: Timestamp | None = Field(None, description="When its robot was asked to cancel it.")
    drain_time: Timestamp | None = Field(
        None, description="When its robot, which is being drained, was asked to give it back."
    )
    exit_code: int | None = Field(None, description="The exit code of its process; 0 is success.")
    reason: str | None = Field(None, description="Why it is in this phase, in one word for programs.")
    message: str | None = Field(None, description="Why it is in this phase, in a sentence for people.")
    outputs: dict[str, Any] | None = Field(None, description="What it gave out for other programs, by name.")
    progress: dict[str, Any] | None = Field(
        None, description="How far it says it is: percent from 0 to 100, and a message."
    )
    reasons: Any = Field(
        None,
        description="Why no robot takes it yet; joined when it is read, while it is Queued.",
        json_schema_extra=_REASONS,
    )
    attempts: list[AttemptStatus] | None = Field(None, description="Its latest attempts that are over, oldest first.")
    earlier_attempts: dict[str, int] | None = Field(None, description="How many more there were, by how they ended.")
    conditions: list[dict[str, Any]] | None = Field(
        None,
        description="What is true of the job and since when: Complete or Failed once it is final.",
        json_schema_extra=conditions(),
    )

    @model_validator(mode="after")
    def _has_what_its_phase_needs(self) -> JobStatus:
        for name in _NEEDED[JobPhase(self.phase)]:
            if getattr(self, name) is None:
                alias = type(self).model_fields[name].alias
                raise ValueError(f"{alias}: required: a job that is {self.phase} has one")
        return self


# What the timers and the fence look at, phase by phase: without it a job would be stuck.
_NEEDED: dict[JobPhase, tuple[str, ...]] = {
    JobPhase.QUEUED: ("queued_time",),
    JobPhase.ASSIGNED: ("queued_time", "assigned_time", "robot_uid"),
    JobPhase.RUNNING: ("queued_time", "started_time", "robot_uid"),
    **dict.fromkeys(FINAL, ("queued_time", "finished_time")),
}


class Job(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: JobSpec
    status: JobStatus | None = None


def _duration(obj: Object, now: datetime) -> Cell:
    started, finished = dig(obj, "status", "startedTime"), dig(obj, "status", "finishedTime")
    if not started:
        return None
    end = times.from_text(finished) if finished else now
    return durations.human(end - times.from_text(started))


def _status(obj: Object, now: datetime) -> Cell:
    """Its phase; one that is deleted and has not ended is Terminating, as a pod is in Kubernetes."""
    said: str | None = dig(obj, "status", "phase")
    return "Terminating" if obj["metadata"].get("deletionTimestamp") and said not in FINAL else said


def _workflow(obj: Object, now: datetime) -> Cell:
    return dig(obj, "spec", "workflowRef", "name") or "(inline)"


def _reason(obj: Object, now: datetime) -> Cell:
    reasons = dig(obj, "status", "reasons") or []
    waiting = "; ".join(str(reason.get("message")) for reason in reasons)
    return waiting or dig(obj, "status", "reason") or None


def _requirements(obj: Object, now: datetime) -> Cell:
    wanted = dig(obj, "spec", "requirements") or {}
    words = [*(wanted.get("capabilities") or []), *(wanted.get("tags") or [])]
    words += [f"{key}={wanted[key]}" for key in ("environment", "robotName") if wanted.get(key)]
    words += [str(term.get("key")) for term in wanted.get("robotSelector") or []]
    return ",".join(words) or None


JOB = Kind(
    kind="Job",
    plural="jobs",
    singular="job",
    model=Job,
    fields={
        "status.phase": ("status", "phase"),
        "status.robotName": ("status", "robotName"),
        "status.robotUID": ("status", "robotUID"),
        "spec.workflowRef.name": ("spec", "workflowRef", "name"),
    },
    observed=("reasons",),
    columns=(
        NAME,
        Column("Status", _status, path=("status", "phase")),
        column("Priority", "spec", "priority"),
        Column("Workflow", _workflow),
        column("Robot", "status", "robotName"),
        column("Attempt", "status", "attempt"),
        Column("Duration", _duration),
        AGE,
        Column("Reason", _reason, wide=True),
        column("Exit", "status", "exitCode", wide=True),
        Column("Requirements", _requirements, wide=True),
    ),
    description="One run of a workflow that somebody wants, and everything that became of it.",
)
