"""Fire: one moment of a schedule and what came of it. Written by the system; it outlives the job it made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from casare_api.kinds.kind import AGE, NAME, Kind, Model, ObjectMeta, OpenModel, Timestamp, Word, column


class FireSpec(Model):
    """Which schedule it is of, and which of its times."""

    schedule_name: Word = Field(description="The name of the Schedule, in the same namespace.")
    scheduled_time: Timestamp = Field(description="The time that the schedule's rule gave, without its jitter.")


class FireStatus(OpenModel):
    """What came of it."""

    outcome: Literal["Fired", "Missed", "Skipped"] | None = Field(
        None,
        description="Fired made a job; Missed came too late or while suspended; Skipped found no room or an error.",
    )
    job_name: str | None = Field(None, description="The name of the Job that it made.")
    reason: str | None = Field(None, description="Why it came to this, in a sentence for people.")


class Fire(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: FireSpec
    status: FireStatus | None = None


FIRE = Kind(
    kind="Fire",
    plural="fires",
    singular="fire",
    model=Fire,
    categories=("fleet",),
    fields={"spec.scheduleName": ("spec", "scheduleName"), "status.outcome": ("status", "outcome")},
    columns=(
        NAME,
        column("Schedule", "spec", "scheduleName"),
        column("Time", "spec", "scheduledTime"),
        column("Outcome", "status", "outcome"),
        column("Job", "status", "jobName"),
        AGE,
        column("Reason", "status", "reason", wide=True),
    ),
    description="One moment of a schedule and what came of it; it outlives the job that it made.",
)
