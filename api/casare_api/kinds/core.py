"""Namespace and Event: the two core kinds of Kubernetes that the fleet itself lives by."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from casare_api.kinds.kind import (
    AGE,
    NAME,
    Cell,
    Column,
    Kind,
    MicroTime,
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
    """What has to be done before the namespace may go."""

    finalizers: list[str] | None = Field(
        None, description="Who has to do something before the namespace may go; kept by the server."
    )


class NamespaceStatus(OpenModel):
    """How the namespace is."""

    phase: Literal["Active", "Terminating"] | None = Field(
        None, description="Active; or Terminating: it is being emptied, and nothing new can be made in it."
    )


class Namespace(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: NamespaceSpec | None = None
    status: NamespaceStatus | None = None


class Reference(Model):
    """An object, by its names."""

    kind: str | None = Field(None, description="The object's kind.")
    namespace: str | None = Field(None, description="The object's namespace.")
    name: str | None = Field(None, description="The object's name.")
    uid: str | None = Field(None, description="The object's uid.")
    api_version: str | None = Field(None, description="The object's API group and version.")
    resource_version: str | None = Field(None, description="The state of the object that is spoken of.")
    field_path: str | None = Field(None, description="The part of the object that is spoken of, such as spec.source.")


class Source(Model):
    """Who tells an event."""

    component: str | None = Field(None, description="The program, such as controller.")
    host: str | None = Field(None, description="The computer that it runs on.")


class Series(Model):
    """An event that goes on."""

    count: int | None = Field(None, ge=0, le=2**31 - 1, description="How often it happened, up to the time of it.")
    last_observed_time: MicroTime | None = Field(None, description="When it happened last, in microseconds.")


class Event(Model):
    api_version: str
    kind: str
    metadata: ObjectMeta
    involved_object: Reference = Field(description="The object that it happened to.")
    reason: str | None = Field(None, description="What happened, in one word for programs, such as Started.")
    message: str | None = Field(None, description="What happened, in a sentence for people.")
    type: str | None = Field(None, description="Normal, or Warning where somebody should have a look.")
    source: Source | None = Field(None, description="Who tells it: component and host.")
    count: int | None = Field(None, ge=0, le=2**31 - 1, description="How often it happened.")
    first_timestamp: Timestamp | None = Field(None, description="When it happened first.")
    last_timestamp: Timestamp | None = Field(None, description="When it happened last.")
    event_time: MicroTime | None = Field(None, description="When it happened, in microseconds where known.")
    series: Series | None = Field(None, description="How often it happened lately: count, lastObservedTime.")
    action: str | None = Field(None, description="What was done about the object, in one word.")
    related: Reference | None = Field(None, description="A second object that has to do with it.")
    reporting_component: str | None = Field(None, description="The program that tells it, such as controller.")
    reporting_instance: str | None = Field(None, description="Which of its processes tells it.")


def _object(obj: Object, now: datetime) -> Cell:
    return f"{str(dig(obj, 'involvedObject', 'kind')).lower()}/{dig(obj, 'involvedObject', 'name')}"


def _last_seen(obj: Object, now: datetime) -> Cell:
    """Recorders that count in another way leave lastTimestamp out."""
    for path in (("series", "lastObservedTime"), ("lastTimestamp",), ("firstTimestamp",), ("eventTime",)):
        if dig(obj, *path):
            return since("", *path).cell(obj, now)
    return None


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
        Column("Last Seen", _last_seen, description="How long ago it happened last."),
        column("Type", "type"),
        column("Reason", "reason"),
        Column("Object", _object),
        column("Message", "message"),
        column("Count", "count", wide=True),
        column("Name", "metadata", "name", wide=True),
    ),
    description="What happened to an object, for people: one per object and reason, with a count.",
)
