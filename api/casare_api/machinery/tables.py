"""How do objects look to those who ask for a table, or for their metadata alone?

Both are shapes of meta.k8s.io/v1. A cell that has no value is null; ages are words (`3m12s`), as people read them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Literal

from casare_api.kinds.kind import Kind, Object
from casare_api.machinery.schema import object_schema

META = "meta.k8s.io/v1"
Include = Literal["None", "Metadata", "Object"]  # what a row carries besides its cells


@cache
def columns(kind: Kind) -> list[Object]:
    """The definitions of a kind's columns; those with a priority above 0 show with `-o wide` only."""
    return [
        {
            "name": column.name,
            "type": "integer" if field.get("type") == "integer" else "string",
            "format": "name" if column.path == ("metadata", "name") else "",
            "description": column.description or field.get("description") or f"{column.name} of the {kind.singular}.",
            "priority": int(column.wide),
        }
        for column in kind.columns
        for field in (_field(object_schema(kind), column.path),)
    ]


def _field(schema: Object, path: tuple[str, ...]) -> Object:
    """The schema of the field at a path; empty where there is none."""
    for name in path:
        schema = (schema.get("properties") or {}).get(name) or {}
    return schema if path else {}


def rows(kind: Kind, objects: Sequence[Object], now: datetime, include: Include) -> list[Object]:
    """One row an object."""
    carry, cells = _CARRIED[include], [column.cell for column in kind.columns]
    return [{"cells": [cell(show, obj, now) for show in cells], "object": carry(obj)} for obj in objects]


def cell(show: Callable[[Object, datetime], Any], obj: Object, now: datetime) -> Any:
    """A cell's value; null where an object that an older release wrote has none that could be shown."""
    try:
        return show(obj, now)
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def table(definitions: list[Object] | None, lines: list[Object], metadata: Object) -> Object:
    """A Table; `definitions` is None in all but the first event of a watch."""
    return {"kind": "Table", "apiVersion": META, "metadata": metadata, "columnDefinitions": definitions, "rows": lines}


def partial(obj: Object) -> Object:
    """An object's metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": obj["metadata"]}


_CARRIED: dict[Include, Callable[[Object], Any]] = {
    "None": lambda obj: None,
    "Metadata": partial,
    "Object": lambda obj: obj,
}
