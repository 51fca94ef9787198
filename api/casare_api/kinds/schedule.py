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
    conditions,
    since,
    until,
)


class CatchUp(Model):
    """How much misfirePolicy CatchUp makes up for."""

    max: int = Field(10, ge=1, le=1000, description="The most missed times that are made up for, the latest of them.")


class History(Model):
    """How many of the schedule's finished jobs are kept."""

    succeeded: int = Field(3, ge=0, le=1000, description="How many that succeeded.")
    failed: int = Field(5, ge=0, le=1000, description="How many that failed.")


class TemplateMeta(Model):
    """What each job gets beside its name."""

    labels: dict[str, str] | None = Field(None, description="Labels of each job.")
    annotations: dict[str, str] | None = Field(None, description="Annotations of each job.")

    @field_validator("labels", "annotations")
    @classmethod
    def _fits_a_job(cls, given: dict[str, str] | None, info: ValidationInfo) -> dict[str, str] | None:
        from casare_api.machinery.admission import check_metadata  # not above: admission stands on the kinds

        problems = check_metadata(JOB, {str(info.field_name): given})
        if problems:
            raise ValueError(problems[0].message.removeprefix("Invalid value: "))
        return given


class JobTemplate(Model):
    """The job that each fire makes."""

    metadata: TemplateMeta | None = Field(None, description="Labels and annotations of each job.")
    spec: JobSpec = Field(
        description="The job's spec; texts in its parameters may hold places such as {{ scheduledTime | month:-1 }}."
    )


class ScheduleSpec(Model):
    """When the schedule fires, and what it makes. Exactly one of cron, every and at says when."""

    cron: str | None = Field(
        None, description="A cron rule of five fields (minute hour day month weekday), such as `30 2 1 * *`."
    )
    every: Duration | None = Field(
        None, description="The time between two fires, in whole seconds, counted from the schedule's creation."
    )
    at: Timestamp | None = Field(None, description="The one time at which it fires.")
    time_zone: str = Field("UTC", description="The time zone of cron by its IANA name, such as Europe/Berlin.")
    dst: Literal["Once", "Skip", "Twice"] = Field(
        "Once",
        description="What becomes of local times that daylight saving repeats or leaves out: they fire Once in any "
        "case; Skip leaves out those that do not exist; Twice fires both of those that exist twice.",
    )
    misfire_policy: Literal["Skip", "FireOnce", "CatchUp"] = Field(
        "FireOnce",
        description="What becomes of times that passed by more than 60 s while nobody was there: Skip makes up for "
        "none, FireOnce for the latest, CatchUp for the latest catchUp.max.",
    )
    catch_up: CatchUp | None = Field(None, description="How much is made up for with misfirePolicy CatchUp.")
    start_deadline: Duration | None = Field(
        None, description="How late a fire may be at most; what comes later never fires. Where not set, any time."
    )
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] = Field(
        "Allow",
        description="What a fire does while an earlier job of the schedule is not finished: Allow makes another one, "
        "Forbid skips the fire, Replace cancels the earlier job.",
    )
    jitter: Duration | None = Field(
        None, description="Each fire is late by less than this, always the same for one schedule and time."
    )
    suspend: bool = Field(False, description="Whether it rests: times that pass are recorded as missed.")
    pause_on_failures: int | None = Field(
        None, ge=1, description="After how many failed jobs in a row it suspends itself."
    )
    history: History | None = Field(None, description="How many of its finished jobs are kept.")
    job_template: JobTemplate = Field(description="The job that each fire makes.")

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
    """When the schedule fires next, and what came of it so far."""

    next_fire_time: Timestamp | None = Field(None, description="The next time of its rule; missing when there is none.")
    last_fire_time: Timestamp | None = Field(None, description="The last time of its rule that made a job.")
    active: list[Any] | None = Field(None, description="Its jobs that are not finished.")
    # What the server alone writes: any value passes, as before it had a name here.
    last_job_name: Any = Field(
        None, description="The name of the job that it made last.", json_schema_extra={"type": "string"}
    )
    missed: Any = Field(
        None, description="How many of its times made no job in all.", json_schema_extra={"type": "integer"}
    )
    conditions: Any = Field(
        None,
        description="What is true of the schedule: Ready is False while its rule can't be carried out.",
        json_schema_extra={"type": "array", **conditions()},
    )


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
