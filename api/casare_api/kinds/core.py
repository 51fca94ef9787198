"""Namespace and Event: the two core kinds of Kubernetes that the fleet itself lives by."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from casare_api.kinds.kind import (
    AGE,
    NAME,
    Cell,
    Column,
    Kind,
    Model,
    Object,
    ObjectMeta,
    OpenModel,
    Timestamp,
    column,
    dig,
    since,
)


class NamespaceSpec(Model):
    finalizers: list[str] | None = None


class NamespaceStatus(OpenModel):
    phase: Literal["Active", "Terminating"] | None = None


class Namespace(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: NamespaceSpec | None = None
    status: NamespaceStatus | None = None


class Reference(Model):
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    api_version: str | None = None
    resource_version: str | None = None
    field_path: str | None = None


class Event(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    involved_object: Reference
    reason: str | None = None
    message: str | None = None
    type: str | None = None
    source: dict[str, Any] | None = None
    count: int | None = Field(None, ge=0, le=2**31 - 1)
    first_timestamp: Timestamp | None = None
    last_timestamp: Timestamp | None = None
    event_time: Timestamp | None = None
    series: dict[str, Any] | None = None
    action: str | None = None
    related: Reference | None = None
    reporting_component: str | None = None
    reporting_instance: str | None = None


def _object(obj: Object, now: datetime) -> Cell:
    return f"{str(dig(obj, 'involvedObject', 'kind')).lower()}/{dig(obj, 'involvedObject', 'name')}"


NAMESPACE = Kind(
    kind="Namespace",
    plural="namespaces",
    singular="namespace",
    short_names=("ns",),
    group="",
    namespaced=False,
    model=Namespace,
    categories=(),
    fields={"status.phase": ("status", "phase")},
    columns=(NAME, column("Status", "status", "phase"), AGE),
    description="A room of its own for a tenant: names are unique within it, keys reach no further.",
)

EVENT = Kind(
    kind="Event",
    plural="events",
    singular="event",
    short_names=("ev",),
    group="",
    model=Event,
    categories=(),
    fields={
        "involvedObject.kind": ("involvedObject", "kind"),
        "involvedObject.namespace": ("involvedObject", "namespace"),
        "involvedObject.name": ("involvedObject", "name"),
        "involvedObject.uid": ("involvedObject", "uid"),
        "involvedObject.apiVersion": ("involvedObject", "apiVersion"),
        "reason": ("reason",),
        "type": ("type",),
    },
    columns=(
        since("Last Seen", "lastTimestamp"),
        column("Type", "type"),
        column("Reason", "reason"),
        Column("Object", _object),
        column("Message", "message"),
        column("Count", "count", wide=True),
        column("Name", "metadata", "name", wide=True),
    ),
    description="What happened to an object, for people: one per object and reason, with a count.",
)
