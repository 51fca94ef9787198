"""ApiKey: who may call the server, as what. The key itself is never here, only its SHA-256 and a hint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from casare_api.kinds.kind import (
    AGE,
    NAME,
    Duration,
    Kind,
    Model,
    ObjectMeta,
    OpenModel,
    Timestamp,
    Word,
    column,
)

ROLES = ("robot", "viewer", "operator", "admin")


class Rotation(Model):
    every: Duration | None = None
    overlap: Duration | None = None


class ApiKeySpec(Model):
    role: Literal["robot", "viewer", "operator", "admin"]
    robot_name: Word | None = Field(None, description="The robot that a key of role robot belongs to.")
    description: str | None = Field(None, max_length=2000)
    expires_at: Timestamp | None = None
    revoked: bool = False
    on_revoke: Literal["Finish", "Requeue", "Cancel"] = "Requeue"
    rotation: Rotation | None = None
    hash: str | None = Field(None, pattern=r"^sha256:[0-9a-f]{64}$", description="Made by `casare keys hash`.")

    @model_validator(mode="after")
    def _robot_is_named(self) -> ApiKeySpec:
        if self.role == "robot" and not self.robot_name:
            raise ValueError("robotName: required for role robot: the name of the Robot that this key belongs to")
        return self


class ApiKeyStatus(OpenModel):
    phase: str | None = None
    hint: str | None = None


class ApiKey(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: ApiKeySpec
    status: ApiKeyStatus | None = None


APIKEY = Kind(
    kind="ApiKey",
    plural="apikeys",
    singular="apikey",
    short_names=("ak",),
    model=ApiKey,
    not_yet={"spec.onRevoke": "Requeue", "spec.rotation": None},
    fields={"spec.robotName": ("spec", "robotName"), "spec.role": ("spec", "role")},
    columns=(
        NAME,
        column("Role", "spec", "role"),
        column("Robot", "spec", "robotName"),
        column("Status", "status", "phase"),
        column("Hint", "status", "hint"),
        AGE,
        column("Expires", "spec", "expiresAt", wide=True),
        column("Description", "spec", "description", wide=True),
    ),
    description="Who may call the server and as what; the key itself is shown once and never kept.",
)
