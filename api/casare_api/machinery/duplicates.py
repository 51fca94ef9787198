"""Is something said twice where it can be said only once: in a set, or under one key of a keyed list?

Server-side apply tells the items of such lists apart by their value or key; two alike would be anybody's.
The rule is that of Kubernetes for `x-kubernetes-list-type` set and map.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from casare_api.kinds.kind import Kind, Object, dig
from casare_api.machinery.errors import Cause
from casare_api.machinery.schema import object_schema

_Found = tuple[tuple[str, ...], tuple[str, ...]]  # the path of a list, and the keys of its items (none: a set)


def duplicates(kind: Kind, obj: Object) -> list[Cause]:
    """One cause for each item that repeats an earlier one. The object is valid otherwise."""
    return [cause for path, keys in _lists(kind) for cause in _repeated(path, keys, dig(obj, *path))]


def _repeated(path: tuple[str, ...], keys: tuple[str, ...], items: Any) -> Iterator[Cause]:
    if not isinstance(items, list) or len(items) < 2:
        return
    seen: set[Any] = set()
    for number, item in enumerate(items):
        value = tuple(item.get(key) for key in keys) if keys else item
        if value in seen:
            yield Cause.duplicate(f"{'.'.join(path)}[{number}]", {key: item.get(key) for key in keys} if keys else item)
        seen.add(value)


@cache
def _lists(kind: Kind) -> tuple[_Found, ...]:
    schema = object_schema(kind)
    wanted = {name: field for name, field in schema["properties"].items() if name not in ("metadata", "status")}
    return tuple(_below({"properties": wanted}, ()))


def _below(schema: Object, path: tuple[str, ...]) -> Iterator[_Found]:
    """The sets and keyed lists of a schema; those within other lists can't be owned one by one anyway."""
    for name, field in (schema.get("properties") or {}).items():
        listed = field.get("x-kubernetes-list-type")
        if listed in ("set", "map"):
            yield (*path, name), tuple(field.get("x-kubernetes-list-map-keys") or ())
        yield from _below(field, (*path, name))
