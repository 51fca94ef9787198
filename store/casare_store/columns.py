"""Which columns does a kind's table have, and how is an object turned into a row and back?

The object's text is the truth; every typed column is an index over it, computed by the function beside it here in the
same statement that writes the text. Kinds with observed fields keep the text in two parts, so that reads can join
what is observed in between: `head` ends with `"status":{`, `tail` is never empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from casare_api.decisions import lifecycle
from casare_api.decisions.placement import Requirements
from casare_api.kinds import KINDS, Kind, Object, dig
from casare_api.kinds.job import JobPhase
from casare_api.machinery import times
from casare_api.machinery.durations import parse_duration

EVENTS_KEPT = "1h"


@dataclass(frozen=True, slots=True)
class IndexColumn:
    """A typed column: its Postgres type and the function that reads its value from the object."""

    name: str
    type: str
    value: Callable[[Object], Any]


def _phase(obj: Object) -> Any:
    return dig(obj, "status", "phase")


def _is_ready(job: Object) -> bool:
    """Queued, not held back and not asked to cancel: placement may take it."""
    return lifecycle.phase(job) is JobPhase.QUEUED and not job["status"].get("heldUntil")


def requirements(job: Object) -> Requirements:
    """What a job's robot must have."""
    return Requirements.from_dict(dig(job, "spec", "requirements") or {})


def _event_due(event: Object) -> datetime:
    last = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return times.from_text(last) + parse_duration(EVENTS_KEPT)


def _fire_due(schedule: Object) -> datetime | None:
    """When the schedule must be looked at: its next time, later by its jitter."""
    text = dig(schedule, "status", "wakeTime") or dig(schedule, "status", "nextFireTime")
    return times.from_text(text) if text else None


def _text(*path: str) -> Callable[[Object], Any]:
    return lambda obj: dig(obj, *path)


INDEX_COLUMNS: dict[str, tuple[IndexColumn, ...]] = {
    "Job": (
        IndexColumn("phase", "text", _phase),
        IndexColumn("robot_uid", "uuid", _text("status", "robotUID")),
        IndexColumn("class", "int8", lambda job: requirements(job).digest()),
        IndexColumn("rank", "timestamptz", lifecycle.rank),
        IndexColumn("ready", "bool", _is_ready),
        IndexColumn("due", "timestamptz", lifecycle.due),
        IndexColumn("workflow", "text", _text("spec", "workflowRef", "name")),
        IndexColumn("robot_name", "text", _text("status", "robotName")),
    ),
    "Robot": (
        IndexColumn("phase", "text", lambda robot: _phase(robot) or "Pending"),
        IndexColumn("used", "int4", lambda robot: dig(robot, "status", "slots", "used") or 0),
        IndexColumn("slots", "int4", lambda robot: dig(robot, "spec", "maxConcurrentJobs") or 1),
        IndexColumn("robot_id", "text", lambda robot: dig(robot, "spec", "robotId") or robot["metadata"]["name"]),
        IndexColumn("environment", "text", _text("spec", "environment")),
    ),
    "Schedule": (IndexColumn("due", "timestamptz", _fire_due),),
    "ApiKey": (
        IndexColumn("robot_name", "text", _text("spec", "robotName")),
        IndexColumn("role", "text", _text("spec", "role")),
        IndexColumn("due", "timestamptz", lambda key: None if _phase(key) != "Active" else _expiry(key)),
    ),
    "Fire": (
        IndexColumn("schedule", "text", _text("spec", "scheduleName")),
        IndexColumn("outcome", "text", _text("status", "outcome")),
    ),
    "Event": (
        IndexColumn("due", "timestamptz", _event_due),
        IndexColumn("involved_kind", "text", _text("involvedObject", "kind")),
        IndexColumn("involved_namespace", "text", _text("involvedObject", "namespace")),
        IndexColumn("involved_name", "text", _text("involvedObject", "name")),
        IndexColumn("involved_uid", "text", _text("involvedObject", "uid")),
        IndexColumn("involved_version", "text", _text("involvedObject", "apiVersion")),
        IndexColumn("reason", "text", _text("reason")),
        IndexColumn("type", "text", _text("type")),
    ),
    "Workflow": (),
    "Namespace": (IndexColumn("phase", "text", _phase),),
}

# The column that answers a selectable field in a list; metadata.name and metadata.namespace answer for themselves.
FIELD_COLUMNS: dict[str, dict[str, str]] = {
    "Job": {
        "status.phase": "phase",
        "status.robotName": "robot_name",
        "status.robotUID": "robot_uid::text",
        "spec.workflowRef.name": "workflow",
    },
    "Robot": {"status.phase": "phase", "spec.environment": "environment"},
    "ApiKey": {"spec.robotName": "robot_name", "spec.role": "role"},
    "Fire": {"spec.scheduleName": "schedule", "status.outcome": "outcome"},
    "Event": {
        "involvedObject.kind": "involved_kind",
        "involvedObject.namespace": "involved_namespace",
        "involvedObject.name": "involved_name",
        "involvedObject.uid": "involved_uid",
        "involvedObject.apiVersion": "involved_version",
        "reason": "reason",
        "type": "type",
    },
    "Namespace": {"status.phase": "phase"},
}

_COMMON = (
    ("uid", "uuid"),
    ("namespace", "text"),
    ("name", "text"),
    ("rv", "int8"),
    ("labels", "text"),
    ("owners", "text"),
    ("head", "text"),
    ("tail", "text"),
)


def _expiry(key: Object) -> datetime | None:
    text = dig(key, "spec", "expiresAt")
    return times.from_text(text) if text else None


def columns(kind: Kind) -> tuple[tuple[str, str], ...]:
    """The columns of a kind's table in the order of `row`: names and the types of their parameters."""
    return (*_COMMON, *((one.name, one.type) for one in INDEX_COLUMNS[kind.kind]))


@dataclass(frozen=True, slots=True)
class Encoded:
    """An object as the store writes it: its row (in the order of `columns`) and what the log says of it."""

    row: tuple[Any, ...]
    text: bytes
    labels: bytes | None


def encode(kind: Kind, obj: Object) -> Encoded:
    """The object must have its uid, namespace, name and resourceVersion."""
    meta = obj["metadata"]
    head, observed, tail = _split(kind, obj)
    labels = meta.get("labels")
    labels_text = dump(labels) if labels else None
    owners = meta.get("ownerReferences")
    owners_text = "{" + ",".join([owner["uid"] for owner in owners]) + "}" if owners else None
    common = (
        meta["uid"],
        meta.get("namespace") or "",
        meta["name"],
        int(meta["resourceVersion"]),
        labels_text,
        owners_text,
        head,
        tail,
    )
    return Encoded(
        (*common, *[one.value(obj) for one in INDEX_COLUMNS[kind.kind]]), head + observed + tail, labels_text
    )


def _split(kind: Kind, obj: Object) -> tuple[bytes, bytes, bytes]:
    """The object's text in three parts: what is stored before and behind what is observed, and that itself."""
    if not kind.observed:
        return dump(obj), b"", b""
    status = dict(obj.get("status") or {})
    seen = {key: status.pop(key) for key in kind.observed if key in status}
    status = status or {"observedGeneration": obj["metadata"].get("generation", 1)}
    head = dump({key: value for key, value in obj.items() if key != "status"})
    return head[:-1] + b',"status":{', dump(seen)[1:-1] + b"," if seen else b"", dump(status)[1:] + b"}"


def field_values(kind: Kind, obj: Object) -> list[str]:
    """The values of the kind's selectable fields, in the order of `kind.selectable`; "" where one is missing."""
    meta = obj["metadata"]
    out = [meta["name"], meta.get("namespace") or ""]
    for path in kind.fields.values():
        value = dig(obj, *path)
        out.append("" if value is None else value if value.__class__ is str else str(value))
    return out


def dump(value: Any) -> bytes:
    return orjson.dumps(value)


def table(kind: Kind) -> str:
    """The name of a kind's table."""
    return kind.plural


assert set(INDEX_COLUMNS) == set(KINDS), "every kind needs its index columns"
