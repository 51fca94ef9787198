"""What is a kind? One value that routes, tables, validation, the store and every client derive from.

A kind declares its names, its pydantic models, the columns people see and the fields clients may select on.
Nothing else in the system lists kinds by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from casare_api.kinds.face import Face
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


class Uniform(str):
    """A text in the one form that all clients read: admission puts it in the place of what was written."""


def _micro_time(text: str) -> Uniform:
    return Uniform(times.to_text(times.from_text(text), micro=True))


# What schemas say of these texts; the validators say it in words, and know the limits that a pattern can't.
_NUMBER = r"[0-9]{1,12}(\.[0-9]{1,9})?"
_IN_UNITS = "".join(f"({_NUMBER}{unit})?" for unit in ("w", "d", "h", "m", "s", "ms"))
_DURATION = {"type": "string", "minLength": 1, "pattern": f"^(0|{_IN_UNITS})$"}
_QUANTITY = {"type": "string", "pattern": r"^[0-9]{1,19}(\.[0-9]{1,9})?([KMGTPE]i|[kMGTPE])?$"}
_TIMESTAMP = {"type": "string", "format": "date-time"}

Duration = Annotated[str, AfterValidator(_duration), WithJsonSchema(_DURATION)]
Quantity = Annotated[str, AfterValidator(_quantity), WithJsonSchema(_QUANTITY)]
Timestamp = Annotated[str, AfterValidator(_timestamp), WithJsonSchema(_TIMESTAMP)]
MicroTime = Annotated[str, AfterValidator(_micro_time), WithJsonSchema(_TIMESTAMP)]  # Go reads six digits and no others
Word = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Uid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


def listed(kind: Literal["set", "map"], *keys: str) -> dict[str, Any]:
    """`json_schema_extra` of a list whose items have owners of their own in a server-side apply.

    The items of a `set` are scalars, those of a `map` objects known by the values of `keys`. A list that says nothing
    is atomic: it belongs as a whole to whoever applied it.
    """
    return {"x-kubernetes-list-type": kind} | ({"x-kubernetes-list-map-keys": list(keys)} if keys else {})


def conditions() -> dict[str, Any]:
    """`json_schema_extra` of `status.conditions`: what the fields of a condition are, as everywhere in Kubernetes."""
    described = {
        "type": "What the condition is about, in one word such as Ready.",
        "status": "Whether it holds: True, False or Unknown.",
        "reason": "Why it is so, in one word for programs.",
        "message": "Why it is so, in a sentence for people.",
        "lastTransitionTime": "When the status last became another.",
    }
    fields = {name: {"type": "string", "description": text} for name, text in described.items()}
    items = {"type": "object", "properties": fields, "x-kubernetes-preserve-unknown-fields": True}
    return listed("map", "type") | {"items": items}


# Of a list that a strategic merge patch of a built-in kind merges as well (see `machinery.strategic`).
_PATCHED: dict[str, Any] = {"x-kubernetes-patch-strategy": "merge"}


class NoSpec(Model):
    """For kinds that people give no spec."""


class OwnerReference(Model):
    """An object that this one belongs to."""

    api_version: str = Field(description="The owner's API group and version, such as fleet.casare.net/v1.")
    kind: str = Field(description="The owner's kind.")
    name: str = Field(description="The owner's name; it is in the same namespace, or in none.")
    uid: Uid = Field(description="The owner's uid: another object of the same name is not the owner.")
    controller: bool | None = Field(None, description="Whether this owner is the one that manages the object.")
    block_owner_deletion: bool | None = Field(
        None, description="Whether a foreground deletion of the owner waits until this object is gone."
    )


class ObjectMeta(Model):
    """What every object has: its name, its labels, and what the server notes about it.

    The server fills in uid, resourceVersion, generation and the times; what a request says of them is checked or
    ignored, never kept.
    """

    name: str | None = Field(
        None,
        description="The name, unique within the kind and namespace: lower case letters, digits, '-' and '.'. "
        "It can't be changed.",
    )
    generate_name: str | None = Field(
        None, description="The beginning of a name that the server makes unique by five letters, where none is given."
    )
    namespace: str | None = Field(None, description="The namespace that the object is in; it can't be changed.")
    uid: str | None = Field(
        None, description="The object's identity, made by the server; a new object of the same name has another."
    )
    resource_version: str | None = Field(
        None,
        description="The number of the change that made the object what it is. In an update it says which state was "
        "looked at: 409 Conflict where there is a later one.",
    )
    generation: int | None = Field(
        None, description="Counts the changes of what people want: of anything but metadata and status."
    )
    creation_timestamp: Timestamp | None = Field(None, description="When the object was made.")
    deletion_timestamp: Timestamp | None = Field(
        None, description="When its deletion was asked for; it goes once its finalizers are gone."
    )
    deletion_grace_period_seconds: int | None = Field(
        None, description="Seconds between the request to delete the object and its deletion; always 0."
    )
    labels: dict[str, str] | None = Field(
        None, description="Words to select objects by: key and value of at most 63 letters, digits, '-', '_' and '.'."
    )
    annotations: dict[str, str] | None = Field(
        None, description="Notes of people and programs that nothing selects by; at most 256 KiB in all."
    )
    finalizers: list[str] | None = Field(
        None,
        max_length=100,
        description="Who has to do something before the object may go; each takes its own word off the list.",
        json_schema_extra=listed("set") | _PATCHED,
    )
    owner_references: list[OwnerReference] | None = Field(
        None,
        max_length=100,
        description="The objects that this one belongs to: when all of them are gone, it is deleted.",
        json_schema_extra=listed("map", "uid") | _PATCHED | {"x-kubernetes-patch-merge-key": "uid"},
    )
    managed_fields: list[Any] | None = Field(
        None, description="Who manages which fields, for server-side apply; kept by the server."
    )
    self_link: str | None = Field(None, description="Not used any more; accepted and dropped.")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: `cell(object, now)` gives its value; `wide` ones show with `-o wide` only.

    Where it shows the field at `path`, that field's type and description are the column's.
    """

    name: str
    cell: Callable[[Object, datetime], Cell]
    wide: bool = False
    description: str = ""
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One kind of resource.

    `model` validates the whole object; `fields` are the selectable fields besides metadata.name and
    metadata.namespace, each with the path of its value; `observed` are status fields that the store joins on
    read instead of keeping them in the object; those that are `unlogged` change all the time, and no history is made
    of them. `not_yet` are fields that this release keeps and does nothing with:
    whoever sets one to another value than that beside it is warned. `categories` are words for several kinds at once:
    `kubectl get all` lists what people work with every day. A kind with a `face` has no objects of its own: it shows
    those of another one. Objects of a kind that `is_path_named` may be called whatever can stand in a path.
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
    unlogged: tuple[str, ...] = ()
    categories: tuple[str, ...] = ("fleet", "all")
    description: str = ""
    not_yet: Mapping[str, Any] = field(default_factory=dict)
    sealed: bool = False
    face: Face | None = None
    is_path_named: bool = False

    @property
    def stored(self) -> Kind:
        """The kind whose objects these are."""
        return self if self.face is None else self.face.stored

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

    return Column(name, cell, wide, description, path)


def since(name: str, *path: str, wide: bool = False) -> Column:
    """A column that shows how long ago the time at a path was (`3m12s`)."""

    def cell(obj: Object, now: datetime) -> Cell:
        value = dig(obj, *path)
        return durations.human(now - times.from_text(value)) if value else None

    return Column(name, cell, wide, f"How long ago {'.'.join(path)} was.")


def until(name: str, *path: str, wide: bool = False) -> Column:
    """A column that shows in how long the time at a path comes, `due` when it has passed."""

    def cell(obj: Object, now: datetime) -> Cell:
        value = dig(obj, *path)
        if not value:
            return None
        left = times.from_text(value) - now
        return "due" if left.total_seconds() <= 0 else f"in {durations.human(left)}"

    return Column(name, cell, wide, f"How long until {'.'.join(path)}.")


NAME = column("Name", "metadata", "name")
AGE = since("Age", "metadata", "creationTimestamp")
