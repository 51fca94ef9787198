"""Event as events.k8s.io/v1 has it: the same stored Events as core/v1, with the names and rules of newer recorders.

What is made through this face must say when, by whom and what was done; once made, only its series may change. The
rules are those of a Kubernetes server (pkg/apis/core/validation/events.go) and name fields as it does: as core/v1 has
them.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from casare_api.kinds.core import EVENT, Reference, Series, Source
from casare_api.kinds.face import Face
from casare_api.kinds.kind import Column, Kind, MicroTime, Model, Object, ObjectMeta, Timestamp, dig
from casare_api.machinery import names
from casare_api.machinery.errors import Cause

GROUP = "events.k8s.io"
MAX_WORD, MAX_NOTE = 128, 1024  # bytes
_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_CHANGING = ("metadata", "series")
_UNSET = ("firstTimestamp", "lastTimestamp", "count", "source")  # for older recorders


class Event(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    event_time: MicroTime | None = Field(None, description="When it happened first; a new event has to say it.")
    series: Series | None = Field(None, description="How often it happened since, where more than once.")
    reporting_controller: str | None = Field(
        None, description="The program that tells it, such as casare.net/controller; a new event has to say it."
    )
    reporting_instance: str | None = Field(
        None, description="Which of its processes tells it; a new event has to say it."
    )
    action: str | None = Field(
        None, description="What was done about the object, in one word; a new event has to say it."
    )
    reason: str | None = Field(
        None, description="Why it was done, in one word for programs; a new event has to say it."
    )
    regarding: Reference = Field(description="The object that it happened to.")
    related: Reference | None = Field(None, description="A second object that has to do with it.")
    note: str | None = Field(None, description="What happened, in a sentence for people; at most 1 kB.")
    type: str | None = Field(None, description="Normal, or Warning where somebody should have a look.")
    deprecated_source: Source | None = Field(None, description="Who told it to core/v1: component and host.")
    deprecated_first_timestamp: Timestamp | None = Field(None, description="core/v1's firstTimestamp.")
    deprecated_last_timestamp: Timestamp | None = Field(None, description="core/v1's lastTimestamp.")
    deprecated_count: int | None = Field(None, ge=0, le=2**31 - 1, description="core/v1's count.")


def problems(old: Object | None, new: Object) -> list[Cause]:
    """What this face does not allow of an event that is made (`old` None) or changed."""
    series = _series(new) if old is None or old.get("series") != new.get("series") else []
    return [*series, *(_new(new) if old is None else _changed(old, new))]


def _new(event: Object) -> list[Cause]:
    found: list[Cause] = []
    if not dig(event, "involvedObject", "namespace") and event["metadata"].get("namespace") != "default":
        found.append(Cause.invalid("involvedObject.namespace", "", "does not match event.namespace"))
    words = ("reportingComponent", "reportingInstance", "action", "reason")
    for field, most in (*((word, MAX_WORD) for word in words), ("message", MAX_NOTE)):
        said = event.get(field) or ""
        if not said and field != "message":
            found.append(Cause.required(_called(field)))
        elif len(said.encode()) > most:
            found.append(Cause.invalid(_called(field), "", f"can have at most {most} characters"))
    problem = names.check_label_key(event.get("reportingComponent") or "unsaid")
    if problem:
        found.append(Cause.invalid("reportingController", event["reportingComponent"], problem))
    if not event.get("eventTime"):
        found.append(Cause.required("eventTime"))
    if event.get("type") not in ("Normal", "Warning"):
        found.append(Cause.invalid("type", "", f"has invalid value: {event.get('type') or ''}"))
    return [*found, *(Cause.invalid(field, "", "needs to be unset") for field in _UNSET if event.get(field))]


def _changed(old: Object, new: Object) -> list[Cause]:
    fields = [field for field in (*old, *new) if field not in _CHANGING]
    return [
        Cause.invalid(_called(field), new.get(field), "field is immutable")
        for field in dict.fromkeys(fields)
        if (old.get(field) or None) != (new.get(field) or None)
    ]


def _series(event: Object) -> list[Cause]:
    series = event.get("series")
    if series is None:
        return []
    few = [Cause.invalid("series.count", "", "should be at least 2")] if (series.get("count") or 0) < 2 else []
    return few if series.get("lastObservedTime") else [*few, Cause.required("series.lastObservedTime")]


def _called(field: str) -> str:
    """Within a Kubernetes server the reporter has its newer name already."""
    return "reportingController" if field == "reportingComponent" else field


FACE = Face(EVENT, f"{GROUP}/v1", _NAMES, problems)


def _as_stored(column: Column) -> Column:
    path = tuple(_NAMES.get(name, name) for name in column.path)
    return replace(column, cell=lambda obj, now: column.cell(FACE.to_stored(obj), now), path=path)


# Without a short name: kubectl would warn of every `kubectl get ev` that it could mean either.
EVENTS_V1 = Kind(
    kind=EVENT.kind,
    plural=EVENT.plural,
    singular=EVENT.singular,
    group=GROUP,
    model=Event,
    categories=(),
    fields=FACE.fields(),
    columns=tuple(_as_stored(column) for column in EVENT.columns),
    description=EVENT.description,
    face=FACE,
)
