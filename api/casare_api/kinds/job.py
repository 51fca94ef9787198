"""Job: one run of a workflow that somebody wants, and everything that became of it.

    Queued -> Assigned -> Running -> Succeeded | Failed | Cancelled
      |  ^       |           |
      |  +-------+-----------+   back to the queue; the next assignment is a new attempt
      +-> Cancelled | Expired

The transition table below is the only one; a test holds the database's constraint to it.
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
    dig,
)
from casare_api.kinds.workflow import Concurrency, RequirementsSpec, Retry, WorkflowSpec
from casare_api.machinery import durations, times


class JobPhase(StrEnum):
    QUEUED = "Queued"  # to Assigned, Cancelled, Expired
    ASSIGNED = "Assigned"  # to Running, a final phase, or back to Queued
    RUNNING = "Running"  # to a final phase, or back to Queued
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
    **{phase: frozenset() for phase in FINAL},
}

# The only fields of a submitted job's spec that may still change.
MUTABLE = frozenset({"cancel", "priority", "ttlAfterFinished"})


class WorkflowRef(Model):
    name: Word
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{12,64}$")


class JobSpec(Model):
    workflow_ref: WorkflowRef | None = None
    workflow: WorkflowSpec | None = None
    parameters: dict[str, Any] | None = None
    priority: int | None = Field(None, ge=0, le=20, description="0 runs first, 20 last; default: the workflow's.")
    requirements: RequirementsSpec | None = None
    not_before: Timestamp | None = None
    start_deadline: Duration | None = None
    idempotency_key: str | None = Field(None, min_length=1, max_length=253)
    concurrency: Concurrency | None = None
    cancel: bool | None = None
    timeout: Duration | None = None
    grace_period: Duration | None = None
    retry: Retry | None = None
    lost_after: Duration | None = None
    ttl_after_finished: Duration | None = None

    @model_validator(mode="after")
    def _one_workflow(self) -> JobSpec:
        if (self.workflow_ref is None) == (self.workflow is None):
            raise ValueError("workflowRef: required: {name: WORKFLOW}, or an inline `workflow` instead of it, not both")
        return self


class AttemptStatus(OpenModel):
    """An attempt that is over."""

    number: int = Field(ge=0)
    phase: str
    started_time: Timestamp | None = None
    finished_time: Timestamp | None = None


class JobStatus(OpenModel):
    phase: Literal["Queued", "Assigned", "Running", "Succeeded", "Failed", "Cancelled", "Expired"] = "Queued"
    attempt: int = Field(0, ge=0)
    robot_name: str | None = None
    robot_uid: Uid | None = Field(None, alias="robotUID")
    queued_time: Timestamp | None = None
    held_until: Timestamp | None = None
    assigned_time: Timestamp | None = None
    started_time: Timestamp | None = None
    finished_time: Timestamp | None = None
    cancel_time: Timestamp | None = None
    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None
    outputs: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    attempts: list[AttemptStatus] | None = None
    earlier_attempts: dict[str, int] | None = Field(None, description="How many more there were, by how they ended.")
    conditions: list[dict[str, Any]] | None = None

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
    not_yet={"spec.concurrency": None, "spec.idempotencyKey": None, "spec.requirements.prefer": None},
    columns=(
        NAME,
        column("Status", "status", "phase"),
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
