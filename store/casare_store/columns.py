"""Which columns does a kind's table have, and how is an object turned into a row and back?

The object's text is the truth; every typed column is an index over it, computed by the function beside it here in the
same statement that writes the text. Kinds with observed fields keep the text in two parts, so that reads can join
what is observed in between: `head` ends with `"status":{`, `tail` is never empty.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from casare_api.decisions import lifecycle
from casare_api.decisions.placement import Requirements
from casare_api.decisions.requirements import class_of
from casare_api.kinds import KINDS, Kind, Object, dig
from casare_api.kinds.job import JOB, JobPhase
from casare_api.machinery import times
from casare_api.machinery.durations import parse_duration

EVENTS_KEPT = "1h"
_INT4 = 2**31 - 1  # the largest number of its columns

# Columns that keep what they had when the object was made: an older release let several jobs have one idempotencyKey,
# of which one has it in the index; the others must still be able to change.
KEPT = {"Job": ("idempotency",)}


def _phase(obj: Object) -> Any:
    return (obj.get("status") or {}).get("phase")


def requirements(job: Object) -> Requirements:
    """What a job's robot must have."""
    return Requirements.from_dict(dig(job, "spec", "requirements") or {})


def _event_due(event: Object) -> datetime:
    told = dig(event, "series", "lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    last = times.from_text(told or event["metadata"]["creationTimestamp"])
    return last + min(parse_duration(EVENTS_KEPT), datetime.max.replace(tzinfo=UTC) - last)


def _fire_due(schedule: Object) -> datetime | None:
    """When the schedule must be looked at: its next time, later by its jitter."""
    text = dig(schedule, "status", "wakeTime") or dig(schedule, "status", "nextFireTime")
    return times.from_text(text) if text else None


def placing(job: Object) -> tuple[Any, ...]:
    """What is written of a job as it moves: `moves.INDEXED`, in that order.

    Its concurrency key is among it: jobs of an older release get it late, and no job is ever parked without.
    """
    status = job["status"]
    phase = lifecycle.phase(job)
    # Queued, not held back and not asked to cancel: placement may take it. A job with a concurrency key stays outside
    # the queue until placement sees room for its key.
    is_ready = phase is JobPhase.QUEUED and not status.get("heldUntil")
    shared = job["spec"].get("concurrency") or {}
    key = shared.get("key")
    is_parked = is_ready and key is not None
    due, robot = lifecycle.due(job), status.get("robotName")
    limit = None if key is None else shared.get("limit", 1)
    last = _last_robot(job)
    return status["phase"], status.get("robotUID"), is_ready and not is_parked, due, robot, is_parked, last, key, limit


def _job(job: Object) -> tuple[Any, ...]:
    spec = job["spec"]
    phase, robot_uid, is_ready, due, robot, is_parked, last_robot, key, limit = placing(job)
    return (
        phase,
        robot_uid,
        class_of(job["spec"].get("requirements") or {})[0],
        lifecycle.rank(job),
        is_ready,
        due,
        (spec.get("workflowRef") or {}).get("name"),
        robot,
        key,
        limit,
        is_parked,
        spec.get("idempotencyKey"),
        last_robot,
    )


def _last_robot(job: Object) -> Any:
    """The robot of a waiting job's last attempt, where the job would like to have it again."""
    past = job["status"].get("attempts")
    if not past or lifecycle.phase(job) is not JobPhase.QUEUED:
        return None
    prefers = dig(job, "spec", "requirements", "prefer") or ()
    return past[-1].get("robotUID") if any(one.get("sameRobot") for one in prefers) else None


def _robot(robot: Object) -> tuple[Any, ...]:
    spec, status = robot["spec"], robot.get("status") or {}
    used = (status.get("slots") or {}).get("used") or 0
    robot_id = spec.get("robotId") or robot["metadata"]["name"]
    slots, shown = spec.get("maxConcurrentJobs") or 1, spec.get("displayName") or robot_id
    # As it stands in JSON: it goes into texts as it is, since escaping 10,000 of them takes as long as all the rest.
    display = dump(shown)[1:-1].decode()
    return status.get("phase") or "Pending", used, slots, robot_id, spec.get("environment"), display


def _apikey(key: Object) -> tuple[Any, ...]:
    spec = key["spec"]
    expires = spec.get("expiresAt") if _phase(key) == "Active" else None
    due = times.from_text(expires) if expires else None
    return spec.get("robotName"), spec.get("role"), due, spec.get("hash")


def _jointoken(token: Object) -> tuple[Any, ...]:
    expires = dig(token, "status", "expiresAt") if _phase(token) == "Active" else None
    return token["spec"].get("hash"), times.from_text(expires) if expires else None


def _fire(fire: Object) -> tuple[Any, ...]:
    return fire["spec"].get("scheduleName"), (fire.get("status") or {}).get("outcome")


def _quota(quota: Object) -> tuple[Any, ...]:
    spec = quota.get("spec") or {}
    most = spec.get("maxRunning")
    return min(int(spec.get("weight") or 1), _INT4), None if most is None else min(int(most), _INT4)


def _event(event: Object) -> tuple[Any, ...]:
    involved = event.get("involvedObject") or {}
    of = [involved.get(key) for key in ("kind", "namespace", "name", "uid", "apiVersion")]
    return _event_due(event), *of, event.get("reason"), event.get("type")


# Per kind: the typed columns (name and Postgres type), and the function that reads all their values from an object.
_INDEX: dict[str, tuple[tuple[tuple[str, str], ...], Callable[[Object], tuple[Any, ...]]]] = {
    "Job": (
        (
            ("phase", "text"),
            ("robot_uid", "uuid"),
            ("class", "int8"),
            ("rank", "timestamptz"),
            ("ready", "bool"),
            ("due", "timestamptz"),
            ("workflow", "text"),
            ("robot_name", "text"),
            ("ckey", "text"),
            ("climit", "int4"),
            ("parked", "bool"),
            ("idempotency", "text"),
            ("last_robot", "uuid"),
        ),
        _job,
    ),
    "Robot": (
        (
            ("phase", "text"),
            ("used", "int4"),
            ("slots", "int4"),
            ("robot_id", "text"),
            ("environment", "text"),
            ("display", "text"),
        ),
        _robot,
    ),
    "Schedule": ((("due", "timestamptz"),), lambda schedule: (_fire_due(schedule),)),
    "ApiKey": ((("robot_name", "text"), ("role", "text"), ("due", "timestamptz"), ("hash", "text")), _apikey),
    "JoinToken": ((("hash", "text"), ("due", "timestamptz")), _jointoken),
    "Fire": ((("schedule", "text"), ("outcome", "text")), _fire),
    "Event": (
        (
            ("due", "timestamptz"),
            ("involved_kind", "text"),
            ("involved_namespace", "text"),
            ("involved_name", "text"),
            ("involved_uid", "text"),
            ("involved_version", "text"),
            ("reason", "text"),
            ("type", "text"),
        ),
        _event,
    ),
    "Workflow": ((), lambda workflow: ()),
    "Namespace": ((("phase", "text"),), lambda namespace: (_phase(namespace),)),
    "ConfigMap": ((), lambda configmap: ()),
    "Secret": ((("type", "text"),), lambda secret: (secret.get("type"),)),
    "Lease": ((), lambda lease: ()),
    **dict.fromkeys(("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"), ((), lambda obj: ())),
    "Quota": ((("weight", "int4"), ("max_running", "int4")), _quota),
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
    "Secret": {"type": "type"},
}

_TABLES = {"Lease": "coordination_leases"}  # where it is not the plural: robots' signs of life are leases, too

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


LOGGED = (
    ("seen", "text"),
    ("fields", "text"),
    ("old_labels", "text"),
    ("old_fields", "text"),
    ("prev_rv", "int8"),
)


LABELS, HEAD, TAIL = ([name for name, _ in _COMMON].index(of) for of in ("labels", "head", "tail"))


def columns(kind: Kind) -> tuple[tuple[str, str], ...]:
    """The columns of a kind's table: names and the types of their parameters."""
    return (*_COMMON, *_INDEX[kind.kind][0])


def logged(kind: Kind) -> tuple[tuple[str, str], ...]:
    """What `encode` gives: the table's columns and what only the log keeps."""
    return (*columns(kind), *LOGGED)


def encode(kind: Kind, old: Object | None, obj: Object, prev_rv: int | None = None) -> tuple[Any, ...]:
    """An object's row in the order of `logged`. It must have its uid, namespace, name and resourceVersion.

    The log keeps the old labels and selectable fields only where they differ from the new ones. `prev_rv` is the
    resourceVersion of the state before: that is where the log has it.
    """
    meta = obj["metadata"]
    head, seen, tail = _split(kind, obj)
    labels = meta.get("labels")
    owners = meta.get("ownerReferences")
    fields, old_labels, old_fields = field_values(kind, obj), None, None
    if old is not None:
        before, was = old["metadata"].get("labels"), field_values(kind, old)
        old_labels = dump(before or {}) if (before or None) != (labels or None) else None
        old_fields = dump(was) if was != fields else None
    return (
        meta["uid"],
        meta.get("namespace") or "",
        meta["name"],
        int(meta["resourceVersion"]),
        dump(labels) if labels else None,
        "{" + ",".join([owner["uid"] for owner in owners]) + "}" if owners else None,
        head,
        tail,
        *_INDEX[kind.kind][1](obj),
        seen,
        dump(fields),
        old_labels,
        old_fields,
        prev_rv,
    )


def size(row: tuple[Any, ...]) -> int:
    """The bytes of an object's text, of its row as `encode` gives it."""
    return len(row[HEAD]) + len(row[TAIL]) + len(row[-len(LOGGED)])


def _split(kind: Kind, obj: Object) -> tuple[bytes, bytes, bytes]:
    """The object's text in three parts: what is stored before what is observed, that itself, what is stored behind."""
    if not kind.observed:
        return dump(obj), b"", b""
    status = dict(obj.get("status") or {})
    seen = {key: status.pop(key) for key in kind.observed if key in status}
    for key in kind.unlogged:
        seen.pop(key, None)
    status = status or {"observedGeneration": obj["metadata"].get("generation", 1)}
    head = dump({key: value for key, value in obj.items() if key != "status"})
    return head[:-1] + b',"status":{', dump(seen)[1:-1] + b"," if seen else b"", dump(status)[1:] + b"}"


def field_values(kind: Kind, obj: Object) -> list[str]:
    """The values of the kind's selectable fields, in the order of `kind.selectable`; "" where one is missing."""
    if kind is JOB:
        return _job_fields(obj)
    meta = obj["metadata"]
    out = [meta["name"], meta.get("namespace") or ""]
    for path in kind.fields.values():
        value = dig(obj, *path)
        out.append("" if value is None else value if value.__class__ is str else str(value))
    return out


def _job_fields(job: Object) -> list[str]:
    """The same as `JOB.fields` says, at a third of the cost: it is asked for twice a move."""
    meta, status, ref = job["metadata"], job["status"], job["spec"].get("workflowRef")
    robot = status.get("robotName") or "", status.get("robotUID") or ""
    return [meta["name"], meta["namespace"], status["phase"], *robot, ref["name"] if ref else ""]


assert [*JOB.fields] == ["status.phase", "status.robotName", "status.robotUID", "spec.workflowRef.name"]


def dump(value: Any) -> bytes:
    return orjson.dumps(value)


def fitted(text: bytes) -> bytes:
    """The same in as much memory as it needs, for what is kept: a short text of orjson's holds 4 kB."""
    return b"".join((text, b""))


def table(kind: Kind) -> str:
    """The name of a kind's table."""
    return _TABLES.get(kind.kind, kind.plural)


assert set(_INDEX) == set(KINDS), "every kind needs its index columns"
