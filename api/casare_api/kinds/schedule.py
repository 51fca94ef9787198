"""Schedule: when jobs are made by themselves. Exactly one of cron, every, at says when."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from casare_api.decisions import cron
from casare_api.decisions import schedule as decisions
from casare_api.kinds.job import JOB, JobSpec
from casare_api.kinds.kind import (
    AGE,
    NAME,
    Duration,
    Kind,
    Model,
    ObjectMeta,
    OpenModel,
    Timestamp,
    column,
    since,
    until,
)


class CatchUp(Model):
    max: int = Field(10, ge=1, le=1000)


class History(Model):
    succeeded: int = Field(3, ge=0, le=1000)
    failed: int = Field(5, ge=0, le=1000)


class TemplateMeta(Model):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None

    @field_validator("labels", "annotations")
    @classmethod
    def _fits_a_job(cls, given: dict[str, str] | None, info: ValidationInfo) -> dict[str, str] | None:
        from casare_api.machinery.admission import check_metadata  # not above: admission stands on the kinds

        problems = check_metadata(JOB, {str(info.field_name): given})
        if problems:
            raise ValueError(problems[0].message.removeprefix("Invalid value: "))
        return given


class JobTemplate(Model):
    metadata: TemplateMeta | None = None
    spec: JobSpec


class ScheduleSpec(Model):
    cron: str | None = None
    every: Duration | None = None
    at: Timestamp | None = None
    time_zone: str = "UTC"
    dst: Literal["Once", "Skip", "Twice"] = "Once"
    misfire_policy: Literal["Skip", "FireOnce", "CatchUp"] = "FireOnce"
    catch_up: CatchUp | None = None
    start_deadline: Duration | None = None
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] = "Allow"
    jitter: Duration | None = None
    suspend: bool = False
    pause_on_failures: int | None = Field(None, ge=1)
    history: History | None = None
    job_template: JobTemplate

    @field_validator("cron")
    @classmethod
    def _cron_is_right(cls, text: str | None) -> str | None:
        problem = decisions.check_cron(text) if text is not None else None
        if problem:
            raise ValueError(problem)
        return text

    @field_validator("every")
    @classmethod
    def _interval_is_right(cls, text: str | None) -> str | None:
        problem = decisions.check_every(text) if text is not None else None
        if problem:
            raise ValueError(problem)
        return text

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, name: str) -> str:
        problem = cron.check_time_zone(name)
        if problem:
            raise ValueError(problem)
        return name

    @model_validator(mode="after")
    def _one_rule(self) -> ScheduleSpec:
        given = [key for key in ("cron", "every", "at") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of cron, every, at is needed, found {', '.join(given) or 'none'}")
        return self


class ScheduleStatus(OpenModel):
    next_fire_time: Timestamp | None = None
    last_fire_time: Timestamp | None = None
    active: list[Any] | None = None


class Schedule(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: ScheduleSpec
    status: ScheduleStatus | None = None


SCHEDULE = Kind(
    kind="Schedule",
    plural="schedules",
    singular="schedule",
    short_names=("sched",),
    model=Schedule,
    not_yet={"spec.pauseOnFailures": None, "spec.history": None},
    columns=(
        NAME,
        column("Cron", "spec", "cron"),
        column("Zone", "spec", "timeZone"),
        column("Suspended", "spec", "suspend"),
        until("Next", "status", "nextFireTime"),
        since("Last", "status", "lastFireTime"),
        AGE,
        column("Every", "spec", "every", wide=True),
        column("Workflow", "spec", "jobTemplate", "spec", "workflowRef", "name", wide=True),
    ),
    description="When jobs are made by themselves.",
)
