"""What is a kind? One value that routes, tables, validation, the store and every client derive from.

A kind declares its names, its pydantic models, the columns people see and the fields clients may select on.
Nothing else in the system lists kinds by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from casare_api.machinery import durations, times

GROUP = "fleet.casare.net"
Object = dict[str, Any]
Cell = str | int | None


class Model(BaseModel):
    """A part of a resource: camelCase on the wire, unknown fields refused, no coercion of types."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", strict=True, frozen=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_set(cls, data: Any) -> Any:
        if isinstance(data, dict) and None in data.values():
            return {key: value for key, value in data.items() if value is not None}
        return data


class OpenModel(Model):
    """A part that keeps fields it does not know: what other programs wrote there is theirs."""

    model_config = ConfigDict(extra="allow")


def _duration(text: str) -> str:
    durations.parse_duration(text)
    return text


def _quantity(text: str) -> str:
    durations.parse_quantity(text)
    return text


def _timestamp(text: str) -> str:
    times.from_text(text)
    return text


Duration = Annotated[str, AfterValidator(_duration)]
Quantity = Annotated[str, AfterValidator(_quantity)]
Timestamp = Annotated[str, AfterValidator(_timestamp)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Uid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class NoSpec(Model):
    """For kinds that people give no spec."""


class OwnerReference(Model):
    api_version: str
    kind: str
    name: str
    uid: Uid
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Model):
    """`metadata` as in Kubernetes; what the server fills in is accepted and ignored on the way in."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = Field(None, max_length=100)
    owner_references: list[OwnerReference] | None = Field(None, max_length=100)
    managed_fields: list[Any] | None = None
    self_link: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: `cell(object, now)` gives its value; `wide` ones show with `-o wide` only."""

    name: str
    cell: Callable[[Object, datetime], Cell]
    wide: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One kind of resource.

    `model` validates the whole object; `fields` are the selectable fields besides metadata.name and
    metadata.namespace, each with the path of its value; `observed` are status fields that the store joins on
    read instead of keeping them in the object. `not_yet` are fields that this release keeps and does nothing with:
    whoever sets one to another value than that beside it is warned.
    """

    kind: str
    plural: str
    singular: str
    model: type[BaseModel]
    columns: tuple[Column, ...]
    short_names: tuple[str, ...] = ()
    group: str = GROUP
    version: str = "v1"
    namespaced: bool = True
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    observed: tuple[str, ...] = ()
    categories: tuple[str, ...] = ("fleet",)
    description: str = ""
    not_yet: Mapping[str, Any] = field(default_factory=dict)

    @property
    def api_version(self) -> str:
        """`fleet.casare.net/v1`, or `v1` for the core kinds."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path of the group and version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def has_status(self) -> bool:
        """Whether the kind has a `/status` subresource."""
        return "status" in self.model.model_fields

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The REST path of the collection, of one object or of a subresource of it."""
        parts = [self.root]
        if self.namespaced and namespace is not None:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/".join(parts)

    @property
    def selectable(self) -> tuple[str, ...]:
        """The names of all selectable fields, metadata's first; the order of the log's `fields` column."""
        return ("metadata.name", "metadata.namespace", *self.fields)


def dig(obj: Object, *path: str) -> Any:
    """The value at a path of keys, or None where any part of it is missing."""
    value: Any = obj
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def column(name: str, *path: str, wide: bool = False, description: str = "") -> Column:
    """A column that shows the value at a path; lists are joined by commas."""

    def cell(obj: Object, now: datetime) -> Cell:
        value = dig(obj, *path)
        if isinstance(value, list):
            return ",".join(str(item) for item in value) or None
        return value if value is None or isinstance(value, int) else str(value)

    return Column(name, cell, wide, description)


def since(name: str, *path: str, wide: bool = False) -> Column:
    """A column that shows how long ago the time at a path was (`3m12s`)."""

    def cell(obj: Object, now: datetime) -> Cell:
        value = dig(obj, *path)
        return durations.human(now - times.from_text(value)) if value else None

    return Column(name, cell, wide)


def until(name: str, *path: str, wide: bool = False) -> Column:
    """A column that shows in how long the time at a path comes, `due` when it has passed."""

    def cell(obj: Object, now: datetime) -> Cell:
        value = dig(obj, *path)
        if not value:
            return None
        left = times.from_text(value) - now
        return "due" if left.total_seconds() <= 0 else f"in {durations.human(left)}"

    return Column(name, cell, wide)


NAME = column("Name", "metadata", "name")
AGE = since("Age", "metadata", "creationTimestamp")
