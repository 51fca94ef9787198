"""`casare describe`: what is there to know of one object, for a person?

First who it is, then how it stands, what is wanted of it, what happened. Pure: an object, its events and what belongs
to it go in, lines come out.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from casare_api.kinds import KINDS, Object, dig
from casare_api.kinds.robot import load, words
from casare_api.machinery import durations, times
from casare_cli import styles
from casare_cli.table import Table, Value
from casare_client.apply import DECLARED, LAST_APPLIED

_WIDTH = 14  # of the labels' column
_FRACTION = re.compile(r"\.\d+(?=Z$)")
_HIDDEN = (LAST_APPLIED, DECLARED)


def describe(obj: Object, events: Sequence[Object], jobs: Sequence[Object], now: datetime) -> list[str]:
    """The lines about an object; `jobs` are those a robot has."""
    lines = list(_identity(obj, now))
    own: Callable[[Object, datetime], Iterator[str]] = {"Job": _job, "Robot": _robot}.get(obj["kind"], _nothing_more)
    lines += own(obj, now)
    lines += _data(obj)
    lines += _section("Spec", _rest(obj.get("spec"), _SHOWN_SPEC.get(obj["kind"], ())))
    lines += _section("Status", _rest(obj.get("status"), _SHOWN_STATUS.get(obj["kind"], ("conditions",))))
    lines += _table("Conditions", ("Type", "Status", "Since", "Reason", "Message"), _conditions(obj, now))
    lines += _table("Attempts", ("Number", "Robot", "Phase", "Took", "Exit", "Reason"), _attempts(obj, now))
    lines += _table("Jobs", ("Name", "Status", "Workflow", "Since"), [_robot_job(job, now) for job in jobs])
    lines += _table("Events", ("Age", "Type", "Reason", "Times", "Message"), _events(events, now))
    return lines if events else [*lines, _pair("Events", None)]


# What the heads below have shown already, or what a table shows.
_SHOWN_SPEC = {
    "Job": ("workflowRef", "parameters", "priority"),
    "Robot": ("robotId", "displayName", "environment", "capabilities", "tags"),
}
_SHOWN_STATUS = {
    "Job": (
        "phase", "attempt", "robotName", "queuedTime", "assignedTime", "startedTime", "finishedTime", "exitCode",
        "message", "outputs", "progress", "reasons", "attempts", "conditions",
    ),
    "Robot": (
        "phase", "slots", "lastSeenTime", "displayName", "conditions", "agent", "telemetry", "drain", "maintenance",
        "nextMaintenance",
    ),
}  # fmt: skip


def _data(obj: Object) -> Iterator[str]:
    """What a ConfigMap or a Secret has, by key and size: its values are for `get -o yaml`."""
    if obj["kind"] == "Secret":
        yield _pair("Type", obj.get("type"))
    sizes = {key: len(str(value).encode()) for key, value in (obj.get("data") or {}).items()}
    if obj["kind"] == "Secret":
        sizes = {key: len(base64.b64decode(value)) for key, value in (obj.get("data") or {}).items()}
    sizes |= {key: len(base64.b64decode(value)) for key, value in (obj.get("binaryData") or {}).items()}
    yield from _many("Data", [f"{key}: {size} bytes" for key, size in sizes.items()]) if sizes else ()


# -- the heads ---------------------------------------------------------------------------------------------------


def _identity(obj: Object, now: datetime) -> Iterator[str]:
    metadata = obj["metadata"]
    kind = KINDS[obj["kind"]]
    yield _pair("Name", metadata["name"])
    if kind.namespaced:
        yield _pair("Namespace", metadata.get("namespace"))
    yield _pair("Kind", obj["kind"])
    yield _pair("Created", _when(metadata.get("creationTimestamp"), now))
    yield from _many("Labels", [f"{key}={value}" for key, value in (metadata.get("labels") or {}).items()])
    notes = {key: value for key, value in (metadata.get("annotations") or {}).items() if key not in _HIDDEN}
    if notes:
        yield from _many("Annotations", [f"{key}={value}" for key, value in notes.items()])
    if metadata.get("ownerReferences"):
        yield _pair("Owner", ", ".join(f"{one['kind'].lower()}/{one['name']}" for one in metadata["ownerReferences"]))
    if metadata.get("deletionTimestamp"):
        held = ", ".join(metadata.get("finalizers") or ())
        yield _pair("Deleted", f"{_when(metadata['deletionTimestamp'], now)}, held by {held or 'nothing'}")


def _job(job: Object, now: datetime) -> Iterator[str]:
    status, spec = job.get("status") or {}, job.get("spec") or {}
    reference = spec.get("workflowRef") or {}
    revision = f" (revision {str(reference['revision'])[:12]})" if reference.get("revision") else ""
    yield _pair("Workflow", f"{reference['name']}{revision}" if reference else "(inline)")
    yield _pair("Status", status.get("phase"))
    yield _pair("Message", status.get("message") or status.get("reason"))
    yield from _many("Waits for", [str(reason.get("message")) for reason in status.get("reasons") or ()], optional=True)
    yield _pair("Priority", spec.get("priority"))
    yield _pair("Robot", status.get("robotName"))
    yield _pair("Attempt", status.get("attempt"))
    for word in ("queued", "assigned", "started", "finished"):
        if status.get(f"{word}Time"):
            yield _pair(word.capitalize(), _when(status[f"{word}Time"], now))
    if status.get("startedTime"):
        yield _pair("Took" if status.get("finishedTime") else "Running for", _took(status, now))
    if status.get("exitCode") is not None:
        yield _pair("Exit code", status["exitCode"])
    if status.get("progress") and not status.get("finishedTime"):
        yield _pair("Progress", " ".join(str(value) for value in status["progress"].values()))
    yield from _section("Parameters", spec.get("parameters"))
    yield from _section("Outputs", status.get("outputs"))


def _robot(robot: Object, now: datetime) -> Iterator[str]:
    status, spec = robot.get("status") or {}, robot.get("spec") or {}
    yield _pair("Display name", status.get("displayName") or spec.get("displayName"))
    yield _pair("Robot id", spec.get("robotId"))
    yield _pair("Status", ", ".join(words(robot)))
    yield from _maintenance(status, now)
    yield _pair("Seen", _when(status.get("lastSeenTime"), now))
    yield _pair("Load", load(robot))
    slots = status.get("slots") or {}
    yield _pair("Slots", f"{slots.get('used', 0)} of {slots.get('total', spec.get('maxConcurrentJobs', 1))} used")
    yield _pair("Environment", spec.get("environment"))
    yield _pair("Capabilities", ", ".join(spec.get("capabilities") or ()))
    yield _pair("Tags", ", ".join(spec.get("tags") or ()))
    yield from _section("Agent", status.get("agent"))


def _maintenance(status: Object, now: datetime) -> Iterator[str]:
    """Until when what it has may go on, and the maintenance it is in, or the next one."""
    if dig(status, "drain", "deadline"):
        yield _pair("Drained by", f"{status['drain']['deadline']}, then {status['drain'].get('then')}")
    if status.get("maintenance"):
        window = status["maintenance"]
        yield _pair("Maintenance", f"{window.get('name')} until {window.get('until') or 'it is changed'}")
    elif status.get("nextMaintenance"):
        window = status["nextMaintenance"]
        yield _pair("Maintenance", f"{window.get('name')} from {window.get('start')} to {window.get('until')}")


def _nothing_more(obj: Object, now: datetime) -> Iterator[str]:
    yield from ()


# -- the tables --------------------------------------------------------------------------------------------------


def _conditions(obj: Object, now: datetime) -> list[list[Value]]:
    found = dig(obj, "status", "conditions") or ()
    return [
        [
            one.get("type"),
            one.get("status"),
            _ago(one.get("lastTransitionTime"), now),
            one.get("reason"),
            one.get("message"),
        ]
        for one in found
    ]


def _attempts(obj: Object, now: datetime) -> list[list[Value]]:
    return [
        [
            one.get("number"),
            one.get("robotName"),
            one.get("phase"),
            _took(one, now) if one.get("startedTime") else None,
            one.get("exitCode"),
            one.get("message") or one.get("reason"),
        ]
        for one in dig(obj, "status", "attempts") or ()
    ]


def _robot_job(job: Object, now: datetime) -> list[Value]:
    since = dig(job, "status", "startedTime") or dig(job, "status", "assignedTime")
    workflow = dig(job, "spec", "workflowRef", "name") or "(inline)"
    return [job["metadata"]["name"], dig(job, "status", "phase"), workflow, _ago(since, now)]


def _events(events: Sequence[Object], now: datetime) -> list[list[Value]]:
    ordered = sorted(events, key=lambda one: (_last_seen(one), int(one["metadata"].get("resourceVersion") or 0)))
    return [
        [_ago(_last_seen(one), now), one.get("type"), one.get("reason"), one.get("count") or 1, one.get("message")]
        for one in ordered
    ]


def _last_seen(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")


def _table(title: str, headers: Sequence[str], rows: Sequence[Sequence[Value]]) -> list[str]:
    if not rows:
        return []
    return [f"{title}:", *(f"  {line}" for line in Table(headers).all(rows))]


# -- pairs and trees ---------------------------------------------------------------------------------------------


def _pair(label: str, value: object) -> str:
    shown = "<none>" if value is None or value == "" else styles.plain(str(value))
    return f"{label + ':':<{_WIDTH}}{shown}"


def _many(label: str, values: Sequence[str], optional: bool = False) -> Iterator[str]:
    if not values and optional:
        return
    yield _pair(label, values[0] if values else None)
    for value in values[1:]:
        yield " " * _WIDTH + styles.plain(value)


def _rest(part: Any, shown: Sequence[str]) -> Any:
    return {key: value for key, value in part.items() if key not in shown} if isinstance(part, dict) else None


def _section(title: str, tree: Any) -> list[str]:
    return [f"{title}:", *_tree(tree, "  ")] if tree else []


def _tree(value: Any, indent: str) -> Iterator[str]:
    """A nested value, as YAML but lighter: texts of several lines as a block."""
    if isinstance(value, list):
        for item in value:
            yield from _item(item, indent)
        return
    for key, item in value.items():
        label = f"{indent}{styles.plain(str(key))}:"
        if isinstance(item, dict | list) and item:
            yield label
            yield from _tree(item, indent + "  ")
        elif isinstance(item, str) and "\n" in item.strip("\n"):
            yield label
            yield from (f"{indent}  {styles.plain(line)}" for line in item.rstrip("\n").split("\n"))
        else:
            yield f"{label} {_leaf(item)}"


def _item(item: Any, indent: str) -> Iterator[str]:
    """An item of a list: a dash before its first line."""
    lines = list(_tree(item, indent + "  ")) if isinstance(item, dict | list) and item else [f"{indent}  {_leaf(item)}"]
    yield f"{indent}- {lines[0][len(indent) + 2 :]}"
    yield from lines[1:]


def _leaf(value: Any) -> str:
    if value is None or value == {} or value == []:
        return "<none>"
    return str(value).lower() if isinstance(value, bool) else styles.plain(str(value).rstrip("\n"))


# -- times -------------------------------------------------------------------------------------------------------


def _when(text: object, now: datetime) -> str | None:
    return f"{_FRACTION.sub('', str(text))} ({_ago(text, now)} ago)" if text else None


def _ago(text: object, now: datetime) -> str | None:
    try:
        return durations.human(now - times.from_text(str(text))) if text else None
    except ValueError:
        return str(text)


def _took(part: Object, now: datetime) -> str:
    end = times.from_text(part["finishedTime"]) if part.get("finishedTime") else now
    return durations.human(end - times.from_text(part["startedTime"]))
