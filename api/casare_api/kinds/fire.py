"""Fire: one moment of a schedule and what came of it. Written by the system; it outlives the job it made."""

from __future__ import annotations

from typing import Literal

from casare_api.kinds.kind import AGE, NAME, Kind, Model, ObjectMeta, OpenModel, Timestamp, Word, column


class FireSpec(Model):
    schedule_name: Word
    scheduled_time: Timestamp


class FireStatus(OpenModel):
    outcome: Literal["Fired", "Missed", "Skipped"] | None = None
    job_name: str | None = None
    reason: str | None = None


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
    description="One moment of a schedule and what came of it.",
)
