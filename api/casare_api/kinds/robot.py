"""Robot: one agent on one computer, what it can do and whether it may take work.

Phases: Pending (declared, never seen) -> Idle <-> Busy -> Offline -> Idle or Busy. The phase, the slots, the time it
was last seen and what its computer measured are observed: the store joins them from heartbeats and live jobs whenever a
robot is read.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, field_validator

from casare_api.decisions import cron, maintenance, skew
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
    conditions,
    dig,
    listed,
    since,
)
from casare_api.machinery.durations import parse_duration


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
    """What becomes of the jobs that still run when the robot is to be Drained."""

    deadline: Duration = Field("15m", description="How long they may go on.")
    then: Literal["Wait", "Requeue", "Cancel"] = Field(
        "Requeue",
        description="What becomes of those that run at the deadline: they go on (Wait), go back to the queue for "
        "another robot (Requeue), or are cancelled (Cancel).",
    )


class Taint(Model):
    """A mark that keeps jobs away."""

    key: Word = Field(description="The mark's name; a job tolerates it by this name.")
    value: str | None = Field(None, description="A word that tells marks of one name apart.")
    effect: Literal["NoPlace"] = Field("NoPlace", description="NoPlace: no job comes here that does not tolerate it.")


class MaintenanceWindow(Model):
    """A time that comes again and again at which the robot takes no new work."""

    name: Word = Field(description="The window's name, unique within the robot.")
    cron: Word = Field(description="When it begins, as a cron rule of five fields such as `0 2 * * 0`.")
    duration: Duration = Field(description="How long it lasts, such as 2h; at most 31d.")
    time_zone: str | None = Field(
        None, description="The time zone of the rule by its IANA name, such as Europe/Berlin; otherwise UTC."
    )

    @field_validator("cron")
    @classmethod
    def _cron_is_right(cls, text: str) -> str:
        problem = cron.check_cron(text)
        if problem:
            raise ValueError(problem)
        return text

    @field_validator("duration")
    @classmethod
    def _lasts(cls, text: str) -> str:
        if not parse_duration(text):
            raise ValueError("must be longer than 0: write it like 2h")
        if parse_duration(text) > maintenance.LONGEST:
            raise ValueError("must be no longer than 31d: use desiredState: Drained for what lasts longer")
        return text

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, name: str | None) -> str | None:
        problem = cron.check_time_zone(name) if name is not None else None
        if problem:
            raise ValueError(problem)
        return name


class RobotSpec(Model):
    """What the robot can do, which jobs it takes, and whether it may take any."""

    robot_id: str | None = Field(
        None, min_length=1, max_length=253, description="What the agent calls itself; where not set, the object's name."
    )
    display_name: str | None = Field(
        None, min_length=1, max_length=253, description="What people call it; where not set, its robotId."
    )
    serves: list[Word] | None = Field(
        None,
        max_length=1000,
        description='Namespaces whose jobs it takes; "*" is all of them. Where not set, its own.',
        json_schema_extra=listed("set"),
    )
    environment: str = Field(
        "default",
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="The environment it belongs to, such as production or staging: lower case letters, digits and "
        "'-'. Jobs that ask for another one do not come here.",
    )
    capabilities: list[Word] | None = Field(
        None,
        max_length=100,
        description="What it can do that not every robot can: browser, desktop, gpu, high_memory, or words of yours.",
        json_schema_extra=listed("set"),
    )
    tags: list[Word] | None = Field(
        None,
        max_length=100,
        description="Words of yours, such as a department's, that jobs may ask for.",
        json_schema_extra=listed("set"),
    )
    max_concurrent_jobs: int = Field(1, ge=1, le=100, description="How many jobs it runs at the same time, 1 to 100.")
    desired_state: Literal["Active", "Paused", "Drained"] = Field(
        "Active",
        description="Active takes jobs; Paused finishes those it has and takes no new ones; Drained gives those it has "
        "back as well, as `drain` says.",
    )
    drain: Drain | None = Field(
        None, description="What becomes of running jobs when desiredState is Drained, or a maintenance window begins."
    )
    restart_requested_at: Timestamp | None = Field(
        None, description="The agent restarts once for each new time that is written here, when it has no job."
    )
    taints: list[Taint] | None = Field(
        None,
        max_length=100,
        description="Marks that keep away all jobs that do not tolerate them.",
        json_schema_extra=listed("map", "key"),
    )
    maintenance_windows: list[MaintenanceWindow] | None = Field(
        None,
        max_length=10,
        description="Times at which it takes no new work and is drained as `drain` says, again and again.",
        json_schema_extra=listed("map", "name"),
    )


class Slots(Model):
    """How many jobs it has room for; joined when it is read."""

    total: int = Field(ge=0, le=100, description="How many jobs it may have at the same time.")
    used: int = Field(ge=0, le=1_000_000, description="How many it has: Assigned or Running.")


class RobotStatus(OpenModel):
    """How the robot is, as the server sees it and its agent tells."""

    phase: Literal["Pending", "Idle", "Busy", "Offline"] | None = Field(
        None,
        description="Pending was never seen; Idle has no job; Busy has some; Offline gives no sign of life.",
    )
    conditions: list[dict[str, Any]] | None = Field(
        None,
        max_length=100,
        description="What is true of the robot and since when: Ready while its heartbeats come.",
        json_schema_extra=conditions(),
    )
    last_seen_time: Timestamp | None = Field(None, description="When its agent last gave a sign of life.")
    display_name: str | None = Field(
        None,
        description="What people call it; with the end of its uid behind where another robot of the namespace is "
        "called the same, such as `PC-01 (b486ee59)`.",
    )
    slots: Slots | None = Field(None, description="How many jobs it has, and how many it may have.")
    agent: dict[str, Any] | None = Field(
        None, description="What its agent says of itself: version, hostname, os, pid, startedTime and more."
    )
    telemetry: dict[str, Any] | None = Field(
        None,
        description="What its agent measured when it was last seen: cpuPercent, memoryPercent, diskPercent (0 to 100), "
        "running (attempts) and more. It is in what is read; for watchers it is no change.",
    )
    drain: dict[str, Any] | None = Field(
        None, description="While it is drained: since when, until when jobs may go on, and what becomes of them then."
    )
    maintenance: dict[str, Any] | None = Field(
        None, description="While it is in maintenance: the name of the window, its start, and until when."
    )
    next_maintenance: dict[str, Any] | None = Field(
        None, description="The maintenance window that begins next: its name, its start, and until when."
    )


class Robot(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: RobotSpec = RobotSpec()
    status: RobotStatus | None = None


def words(robot: Object) -> list[str]:
    """How it fares: its phase, and in a second word what keeps it from new jobs, where there is anything."""
    phase = str(dig(robot, "status", "phase") or RobotPhase.PENDING.value)
    word = _state(robot)
    return [phase, word] if word else [phase]


def _state(robot: Object) -> str:
    wanted = str(dig(robot, "spec", "desiredState") or "Active")
    if wanted == "Drained":
        return "Draining" if dig(robot, "status", "slots", "used") else wanted
    if wanted != "Active":
        return wanted
    agent = dig(robot, "status", "agent")
    if skew.refusal(agent) is not None:
        return "Refused"
    if dig(robot, "status", "maintenance"):
        return "Maintenance"
    return "Restarting" if skew.is_restarting(dig(robot, "spec", "restartRequestedAt"), agent) else ""


def _status(obj: Object, now: datetime) -> Cell:
    return ",".join(words(obj))


def shown(robot: Object) -> str:
    """What people call it, told apart from others that are called the same."""
    said = dig(robot, "status", "displayName") or dig(robot, "spec", "displayName") or dig(robot, "spec", "robotId")
    return str(said or robot["metadata"]["name"])


def _slots(obj: Object, now: datetime) -> Cell:
    total = dig(obj, "status", "slots", "total") or dig(obj, "spec", "maxConcurrentJobs") or 1
    return f"{dig(obj, 'status', 'slots', 'used') or 0}/{total}"


_MEASURED = (("cpuPercent", "cpu {} %"), ("memoryPercent", "memory {} %"), ("diskPercent", "disk {} %"),
             ("running", "{} running"))  # fmt: skip


def load(robot: Object) -> str:
    """What its computer has to do, for people: `cpu 12 %, memory 40 %, disk 71 %, 1 running`; "" where unknown.

    Agents say what they like: what is no number is left out.
    """
    said, told = dig(robot, "status", "telemetry"), []
    for key, words in _MEASURED if isinstance(said, dict) else ():
        value = said.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            told.append(words.format(round(value)))
    return ", ".join(told)


ROBOT = Kind(
    kind="Robot",
    plural="robots",
    singular="robot",
    short_names=("rb",),
    model=Robot,
    fields={"status.phase": ("status", "phase"), "spec.environment": ("spec", "environment")},
    observed=("phase", "slots", "lastSeenTime", "telemetry", "displayName"),
    unlogged=("telemetry",),
    columns=(
        NAME,
        Column("Status", _status),
        Column("Slots", _slots),
        column("Environment", "spec", "environment"),
        column("Capabilities", "spec", "capabilities"),
        since("Seen", "status", "lastSeenTime"),
        AGE,
        Column("Display", lambda robot, now: shown(robot), wide=True, description="What people call it."),
        column("Tags", "spec", "tags", wide=True),
        column("Version", "status", "agent", "version", wide=True),
        column("Host", "status", "agent", "hostname", wide=True),
    ),
    description="One agent on one computer: what it can do, whether it may take work, and how it is.",
)
