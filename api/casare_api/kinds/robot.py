"""Robot: one agent on one computer, what it can do and whether it may take work.

Phases: Pending (declared, never seen) -> Idle <-> Busy -> Offline -> Idle or Busy. The phase, the slots and the
time it was last seen are observed: the store joins them from heartbeats and live jobs whenever a robot is read.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, field_validator

from casare_api.decisions import cron
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
    Word,
    column,
    dig,
    since,
)


class RobotPhase(StrEnum):
    PENDING = "Pending"  # to Idle, Busy at its first heartbeat
    IDLE = "Idle"  # to Busy, Offline
    BUSY = "Busy"  # to Idle, Offline
    OFFLINE = "Offline"  # to Idle, Busy


TRANSITIONS: dict[RobotPhase, frozenset[RobotPhase]] = {
    RobotPhase.PENDING: frozenset({RobotPhase.IDLE, RobotPhase.BUSY}),
    RobotPhase.IDLE: frozenset({RobotPhase.BUSY, RobotPhase.OFFLINE}),
    RobotPhase.BUSY: frozenset({RobotPhase.IDLE, RobotPhase.OFFLINE}),
    RobotPhase.OFFLINE: frozenset({RobotPhase.IDLE, RobotPhase.BUSY}),
}


class Drain(Model):
    deadline: Duration = "15m"
    then: Literal["Wait", "Requeue", "Cancel"] = "Requeue"


class Taint(Model):
    key: Word
    value: str | None = None
    effect: Literal["NoPlace"] = "NoPlace"


class MaintenanceWindow(Model):
    name: Word
    cron: Word
    duration: Duration
    time_zone: str | None = None

    @field_validator("cron")
    @classmethod
    def _cron_is_right(cls, text: str) -> str:
        problem = cron.check_cron(text)
        if problem:
            raise ValueError(problem)
        return text

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, name: str | None) -> str | None:
        problem = cron.check_time_zone(name) if name is not None else None
        if problem:
            raise ValueError(problem)
        return name


class RobotSpec(Model):
    robot_id: str | None = Field(None, min_length=1, max_length=253, description="What the agent calls itself.")
    display_name: str | None = Field(None, min_length=1, max_length=253)
    serves: list[Word] | None = Field(
        None, max_length=1000, description='Namespaces whose jobs it takes; "*" is all.'
    )
    environment: str = Field("default", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    capabilities: list[Word] | None = Field(None, max_length=100)
    tags: list[Word] | None = Field(None, max_length=100)
    max_concurrent_jobs: int = Field(1, ge=1, le=100)
    desired_state: Literal["Active", "Paused", "Drained"] = "Active"
    drain: Drain | None = None
    restart_requested_at: Timestamp | None = None
    taints: list[Taint] | None = Field(None, max_length=100)
    maintenance_windows: list[MaintenanceWindow] | None = Field(None, max_length=100)


class Slots(Model):
    total: int = Field(ge=0, le=100)
    used: int = Field(ge=0, le=1_000_000)


class RobotStatus(OpenModel):
    phase: Literal["Pending", "Idle", "Busy", "Offline"] | None = None
    conditions: list[dict[str, Any]] | None = Field(None, max_length=100)
    last_seen_time: Timestamp | None = None
    slots: Slots | None = None
    agent: dict[str, Any] | None = None


class Robot(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: RobotSpec = RobotSpec()
    status: RobotStatus | None = None


def _status(obj: Object, now: datetime) -> Cell:
    phase = dig(obj, "status", "phase") or RobotPhase.PENDING.value
    wanted = dig(obj, "spec", "desiredState") or "Active"
    return str(phase) if wanted == "Active" else f"{phase},{wanted}"


def _slots(obj: Object, now: datetime) -> Cell:
    total = dig(obj, "status", "slots", "total") or dig(obj, "spec", "maxConcurrentJobs") or 1
    return f"{dig(obj, 'status', 'slots', 'used') or 0}/{total}"


ROBOT = Kind(
    kind="Robot",
    plural="robots",
    singular="robot",
    short_names=("rb",),
    model=Robot,
    fields={"status.phase": ("status", "phase"), "spec.environment": ("spec", "environment")},
    observed=("phase", "slots", "lastSeenTime"),
    not_yet={"spec.maintenanceWindows": None, "spec.drain": None},
    columns=(
        NAME,
        Column("Status", _status),
        Column("Slots", _slots),
        column("Environment", "spec", "environment"),
        column("Capabilities", "spec", "capabilities"),
        since("Seen", "status", "lastSeenTime"),
        AGE,
        column("Tags", "spec", "tags", wide=True),
        column("Version", "status", "agent", "version", wide=True),
        column("Host", "status", "agent", "hostname", wide=True),
    ),
    description="One agent on one computer: what it can do and whether it may take work.",
)
