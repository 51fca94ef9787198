"""JoinToken: how computers become robots by themselves. The token itself is never here, only its SHA-256 and a hint.

Phases: Active -> UsedUp, Expired, Revoked; people may bring one back by allowing more (`decisions.enrolment.phase`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

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
    column,
    dig,
    listed,
    until,
)

DEFAULT_TTL = "24h"
MOST_USES = 10_000


class TokenPhase(StrEnum):
    ACTIVE = "Active"  # to any other
    USED_UP = "UsedUp"  # to Active where people allow more uses
    EXPIRED = "Expired"  # to Active where people allow more time
    REVOKED = "Revoked"  # to Active where people take that back


class JoinTokenSpec(Model):
    """Which robots may join by it, what becomes of them, how many and for how long."""

    name_pattern: str = Field(
        "*",
        max_length=253,
        pattern=r"^[a-z0-9.*?-]+$",
        description="What the Robots that join may be called, such as pc-*: `*` stands for any letters, `?` for one. "
        "It is the name that is compared, which is made of the robotId.",
    )
    environment: str | None = Field(
        None,
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="The environment that they belong to, whatever their agents say; where not set, what these say.",
    )
    labels: dict[str, str] | None = Field(None, description="Labels that they get.")
    ttl: Duration = Field(DEFAULT_TTL, description="How long after its creation the token is good, such as 24h.")
    uses: int = Field(1, ge=1, le=MOST_USES, description="How many robots may join by it.")
    approval: Literal["Automatic", "Manual"] = Field(
        "Automatic",
        description="Whether they take work at once, or wait as Pending until somebody approves each of them.",
    )
    description: str | None = Field(None, max_length=2000, description="What it is for, in words for people.")
    revoked: bool = Field(False, description="Whether it was taken back; robots that have joined stay.")
    hash: str | None = Field(
        None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="SHA-256 of the token, made by `casare keys hash`; without it, one is issued once on request.",
    )


class JoinTokenStatus(OpenModel):
    """What became of it; the server alone writes this."""

    phase: str | None = Field(None, description="Active, UsedUp, Expired or Revoked.")
    hint: str | None = Field(None, description="The first and last letters of an issued token.")
    used: int | None = Field(None, description="How many robots have joined by it.")
    uses_left: int | None = Field(None, description="How many more may.")
    expires_at: Timestamp | None = Field(None, description="When it stops being good.")
    enrolled: list[dict[str, Any]] | None = Field(
        None,
        max_length=1000,
        description="The last 100 robots that joined: name, uid and time.",
        json_schema_extra=listed("map", "uid")
        | {
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "description": "The Robot's name."},
                    "uid": {"type": "string", "description": "The Robot's uid."},
                    "time": {"type": "string", "description": "When it joined."},
                },
                "x-kubernetes-preserve-unknown-fields": True,
            }
        },
    )


class JoinToken(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: JoinTokenSpec = JoinTokenSpec()
    status: JoinTokenStatus | None = None


def _used(obj: Object, now: Any) -> Cell:
    return f"{dig(obj, 'status', 'used') or 0}/{dig(obj, 'spec', 'uses') or 1}"


JOINTOKEN = Kind(
    kind="JoinToken",
    plural="jointokens",
    singular="jointoken",
    short_names=("jt",),
    model=JoinToken,
    categories=("fleet",),
    columns=(
        NAME,
        column("Pattern", "spec", "namePattern"),
        column("Environment", "spec", "environment"),
        column("Status", "status", "phase"),
        Column("Used", _used, description="How many robots have joined by it, of how many."),
        until("Expires", "status", "expiresAt"),
        AGE,
        column("Approval", "spec", "approval", wide=True),
        column("Hint", "status", "hint", wide=True),
        column("Description", "spec", "description", wide=True),
    ),
    description="How computers become robots by themselves: the agent swaps the token for a key of its own.",
)
