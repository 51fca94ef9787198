"""Quota: a namespace's share of the fleet, and how much of it may be asked for.

A namespace has at most one, named `default`; without it everything here is at its default.
"""

from __future__ import annotations

from pydantic import Field

from casare_api.kinds.kind import AGE, NAME, Duration, Kind, Model, ObjectMeta, OpenModel, column

ONLY = "default"  # the name of a namespace's one quota
MOST = 2**31 - 1  # of jobs


class QuotaSpec(Model):
    """What a namespace gets and may ask for."""

    weight: int = Field(
        1,
        ge=1,
        le=1000,
        description="Its share of the slots while several namespaces wait: one of weight 2 runs twice as many jobs as "
        "one of weight 1.",
    )
    max_running: int | None = Field(
        None,
        ge=0,
        le=MOST,
        description="How many of its jobs may be with robots at the same time; where not set, any number.",
    )
    max_queued: int | None = Field(
        None,
        ge=0,
        le=MOST,
        description="How many of its jobs may wait; beyond it new ones are refused. Where not set, any.",
    )
    aging_interval: Duration = Field(
        "5m",
        description="How long a job waits to make up for one step of priority; 0 is strictly by priority. It holds for "
        "jobs that are submitted after it was set.",
    )


class QuotaUsed(OpenModel):
    """What is counted at the moment of reading."""

    running: int | None = Field(None, ge=0, description="Jobs that robots have now.")
    queued: int | None = Field(None, ge=0, description="Jobs that wait now.")


class QuotaStatus(OpenModel):
    """How much of it is used."""

    used: QuotaUsed | None = Field(None, description="Counted when it is read, never kept.")


class Quota(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: QuotaSpec = QuotaSpec()
    status: QuotaStatus | None = None


QUOTA = Kind(
    kind="Quota",
    plural="quotas",
    singular="quota",
    model=Quota,
    observed=("used",),
    columns=(
        NAME,
        column("Weight", "spec", "weight"),
        column("Running", "status", "used", "running"),
        column("Max running", "spec", "maxRunning"),
        column("Queued", "status", "used", "queued"),
        column("Max queued", "spec", "maxQueued"),
        AGE,
        column("Aging", "spec", "agingInterval", wide=True),
    ),
    categories=("fleet",),
    description="A namespace's share of the fleet, and how much of it may be asked for.",
)
