"""May a robot that joined by a token take work? Its two notes, which people write and its own key never.

Always holds: a robot without the note was declared by people, or joined by a token that asks for no approval, and may.
What is said here of a robot that may not: it is no member of the fleet yet, so that it is not called Offline but
Pending, and its reports are no signs of life.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from casare_api.machinery import times

Object = dict[str, Any]
APPROVED = "fleet.casare.net/approved"  # annotation: "true", or "false" while it waits for somebody to say so
ENROLLED_BY = "fleet.casare.net/enrolled-by"  # annotation: the join token's name
NOTES = (APPROVED, ENROLLED_BY)
WHY_NOT = "unapproved"  # in place of a state such as paused: "pc-01 is unapproved"
CONDITION = "Approved"


def note(robot: Mapping[str, Any], key: str) -> str | None:
    """One of a robot's notes."""
    found: str | None = (robot["metadata"].get("annotations") or {}).get(key)
    return found


def is_approved(robot: Mapping[str, Any]) -> bool:
    """Whether it may take work: everything but "true" keeps it waiting, once there is a note."""
    return note(robot, APPROVED) in (None, "true")


def with_condition(robot: Object, now: datetime) -> Object:
    """The robot with a condition that says whether it is approved, where that was ever asked."""
    others = [one for one in (robot.get("status") or {}).get("conditions") or () if one.get("type") != CONDITION]
    before = [one for one in (robot.get("status") or {}).get("conditions") or () if one.get("type") == CONDITION]
    said = None if note(robot, APPROVED) is None else "True" if is_approved(robot) else "False"
    if [one.get("status") for one in before] == ([said] if said else []):
        return robot
    conditions = [*others, _condition(said, now)] if said else others
    return {**robot, "status": {**(robot.get("status") or {}), "conditions": conditions}}


def _condition(said: str, now: datetime) -> Object:
    waits = f"it takes no work until somebody approves it: casare approve robot/NAME, or the annotation {APPROVED}=true"
    return {
        "type": CONDITION,
        "status": said,
        "reason": "Approved" if said == "True" else "AwaitingApproval",
        "message": "somebody let it take work" if said == "True" else waits,
        "lastTransitionTime": times.to_text(now),
    }
