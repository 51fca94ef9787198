"""What does a person want to see of the keys, and what becomes of a filled-in form? Pure functions, without secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from typing import Any

from casare_api.kinds import Object, dig
from casare_api.kinds.apikey import ROLES
from casare_api.machinery import names, times
from casare_dashboard import words
from casare_dashboard.deeds import Deed

STATUSES = ("Active", "Expired", "Revoked")
MOST = 1000  # rows at a time
ROLE_MEANS = {
    "robot": "runs the jobs of one robot",
    "viewer": "sees everything but Secrets",
    "operator": "also writes robots, workflows, schedules and jobs",
    "admin": "also keys and Secrets",
}
assert set(ROLE_MEANS) == set(ROLES)


def status(key: Object) -> str:
    return str(dig(key, "status", "phase") or "Active")


def tally(keys: Iterable[Object]) -> list[tuple[str, int]]:
    """How many keys there are in each status, without those nobody is in."""
    counted = Counter(status(key) for key in keys)
    return [(one, counted[one]) for one in STATUSES if counted[one]]


def rows(keys: Iterable[Object], now: datetime) -> list[dict[str, Any]]:
    """One row a key, by name; times are seconds ago."""
    listed = sorted(keys, key=lambda key: (dig(key, "metadata", "name"), dig(key, "metadata", "namespace")))
    return [
        {
            "uid": dig(key, "metadata", "uid"),
            "Name": dig(key, "metadata", "name"),
            "Namespace": dig(key, "metadata", "namespace"),
            "Status": [status(key)],
            "Role": dig(key, "spec", "role"),
            "Robot": dig(key, "spec", "robotName"),
            "Hint": dig(key, "status", "hint"),
            "Last used": words.seconds_since(key, now, "status", "lastUsedTime"),
            "Age": words.seconds_since(key, now, "metadata", "creationTimestamp"),
        }
        for key in listed[:MOST]
    ]


def details(key: Object, now: datetime) -> list[tuple[str, str]]:
    """What there is to know about one key, as pairs of name and text."""
    spec, state = key.get("spec") or {}, key.get("status") or {}
    role = str(spec.get("role"))
    return words.facts(
        [
            ("Namespace", dig(key, "metadata", "namespace")),
            ("Role", f"{role}: {ROLE_MEANS.get(role, '')}"),
            ("Robot", spec.get("robotName")),
            ("Description", spec.get("description")),
            ("Hint", state.get("hint")),
            ("Expires", words.clock(words.moment(spec, "expiresAt")) or "never"),
            ("Last used", words.ago(state, now, "lastUsedTime")),
            ("Last used from", state.get("lastUsedIP")),
            ("When it is revoked, running jobs", _fate(spec) if role == "robot" else None),
            ("Made", words.ago(key, now, "metadata", "creationTimestamp")),
        ]
    )


def deeds(key: Object) -> list[Deed]:
    """What a person can do to it: take it back, where it still opens anything."""
    if status(key) == "Revoked":
        return []
    question = "From that moment it opens nothing, and all that is open under it ends. It can't be given back."
    if dig(key, "spec", "role") == "robot":
        question += f" Jobs that run under it {_fate(key['spec'])}."
    return [Deed("revoke", "Revoke", "revoked", lambda: {"spec": {"revoked": True}}, question, "Yes, revoke it")]


def wanted(name: str, namespace: str, role: str, robot: str, description: str, expires: date | None) -> Object:
    """The ApiKey that a form describes. Raises ValueError with what a person has to mend."""
    name, robot = name.strip(), robot.strip()
    if not name:
        raise ValueError("Give the key a name, such as the robot's or the person's.")
    if problem := names.check_name(name):
        raise ValueError(f"The name can't be used: {problem}.")
    if (role == "robot") != bool(robot):
        wants = "A key for a robot needs the robot's id." if role == "robot" else "Only a key for a robot has a robot."
        raise ValueError(wants)
    ends = times.to_text(datetime.combine(expires, time.max, UTC)) if expires else None
    named = names.robot_name(robot) if robot else None
    spec = {"role": role, "robotName": named, "description": description.strip(), "expiresAt": ends}
    return {
        "apiVersion": "fleet.casare.net/v1",
        "kind": "ApiKey",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {field: value for field, value in spec.items() if value},
    }


def _fate(spec: Object) -> str:
    fates = {"Finish": "finish", "Cancel": "are cancelled"}
    return fates.get(str(spec.get("onRevoke")), "go back to the queue")
