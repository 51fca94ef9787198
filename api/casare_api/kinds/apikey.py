"""ApiKey: who may call the server, as what. The key itself is never here, only its SHA-256 and a hint."""

from __future__ import annotations

from datetime import datetime, timedelta
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
    Word,
    column,
    conditions,
    since,
    until,
)
from casare_api.machinery.durations import parse_duration

ROLES = ("robot", "viewer", "operator", "admin")
SHORTEST = timedelta(seconds=1)  # that a key is good before it is replaced


class Rotation(Model):
    """A new key in place of the old one from time to time."""

    every: Duration | None = Field(
        None,
        description="How old a key becomes before it is to be replaced, such as 90d: robots do that by themselves, of "
        "other keys people are told.",
    )
    overlap: Duration | None = Field(
        None,
        description="How long the old one is good beside the new one, such as 1h: 24h where this is not set. A hash "
        "that is changed by hand has an overlap only where this is set.",
    )

    @model_validator(mode="after")
    def _is_not_endless(self) -> Rotation:
        if self.every is not None and parse_duration(self.every) < SHORTEST:
            raise ValueError("every: must be at least 1s, or its robot would do nothing else")
        return self


class ApiKeySpec(Model):
    """What the key may do, how long it is good, and the hash that it is known by."""

    role: Literal["robot", "viewer", "operator", "admin"] = Field(
        description="What it may do in its namespace: robot runs the jobs of one robot; viewer reads; operator also "
        "writes robots, workflows, schedules and jobs; admin also keys.",
    )
    robot_name: Word | None = Field(
        None, description="The name of the Robot that the key belongs to; required for role robot."
    )
    description: str | None = Field(
        None, max_length=2000, description="Whose key it is and what for, in words for people."
    )
    expires_at: Timestamp | None = Field(None, description="When it stops being good; where not set, never.")
    revoked: bool = Field(False, description="Whether it was taken back: from then on it opens nothing.")
    on_revoke: Literal["Finish", "Requeue", "Cancel"] = Field(
        "Requeue",
        description="What becomes of the jobs that a robot runs when its key is taken back: they finish, go back to "
        "the queue, or are cancelled.",
    )
    rotation: Rotation | None = Field(None, description="How often the key is replaced by a new one.")
    hash: str | None = Field(
        None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="SHA-256 of the key, made by `casare keys hash`; without it, a key is issued once on request.",
    )

    @model_validator(mode="after")
    def _robot_is_named(self) -> ApiKeySpec:
        if self.role == "robot" and not self.robot_name:
            raise ValueError("robotName: required for role robot: the name of the Robot that this key belongs to")
        return self


class ApiKeyStatus(OpenModel):
    """Whether the key is good."""

    phase: str | None = Field(None, description="Active, Expired or Revoked.")
    hint: str | None = Field(None, description="The first and last letters of an issued key, to tell it from others.")
    issued_time: Timestamp | None = Field(None, description="When the key was given out that is good now.")
    rotation_due_time: Timestamp | None = Field(None, description="When it is to be replaced by a new one.")
    rotated_by: str | None = Field(None, description="Who replaced the one before: its Robot, or a Person.")
    previous_hash: str | None = Field(None, description="SHA-256 of the key before, while it is good beside the new.")
    previous_until: Timestamp | None = Field(None, description="Until when the key before is good.")
    good_since: Timestamp | None = Field(
        None, description="Since when it or one before it was good without a break; where not set, since issuedTime."
    )
    revoked_time: Timestamp | None = Field(None, description="When it was taken back.")
    restored_time: Timestamp | None = Field(None, description="When it became good again after it was taken back.")
    last_used_time: Timestamp | None = Field(None, description="When it was last used, to the minute.")
    last_used_ip: str | None = Field(
        None, alias="lastUsedIP", description="From which address it was used then; that of a proxy where there is one."
    )
    robot_uid: str | None = Field(
        None, alias="robotUID",
        description="The uid of the one Robot that the key was made for as it joined: it is good for no other of that "
        "name, and for nothing once that Robot is gone. Nobody can change it.",
    )  # fmt: skip
    conditions: list[dict[str, Any]] | None = Field(
        None,
        max_length=100,
        description="RotationDue: it is older than spec.rotation.every says.",
        json_schema_extra=conditions(),
    )


class ApiKey(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: ApiKeySpec
    status: ApiKeyStatus | None = None


def _phase(key: Object, now: datetime) -> Cell:
    """`Active`, or `Active,RotationDue`."""
    status = key.get("status") or {}
    is_due = any(
        isinstance(one, dict) and one.get("type") == "RotationDue" and one.get("status") == "True"
        for one in status.get("conditions") or ()
    )
    return f"{status.get('phase')},RotationDue" if is_due and status.get("phase") == "Active" else status.get("phase")


APIKEY = Kind(
    kind="ApiKey",
    plural="apikeys",
    singular="apikey",
    short_names=("ak",),
    model=ApiKey,
    categories=("fleet",),
    fields={"spec.robotName": ("spec", "robotName"), "spec.role": ("spec", "role")},
    columns=(
        NAME,
        column("Role", "spec", "role"),
        column("Robot", "spec", "robotName"),
        Column("Status", _phase, description="Active, Expired or Revoked; RotationDue where it should be replaced."),
        column("Hint", "status", "hint"),
        AGE,
        since("Last Used", "status", "lastUsedTime", wide=True),
        column("From", "status", "lastUsedIP", wide=True),
        until("Rotation", "status", "rotationDueTime", wide=True),
        column("Expires", "spec", "expiresAt", wide=True),
        column("Description", "spec", "description", wide=True),
    ),
    description="Who may call the server and as what; the key itself is shown once and never kept.",
)
