"""What are the parts of a value, and which of them differ from another's? A value seen through its schema.

A schema is structural OpenAPI v3 without references. It says which objects and lists have parts that may belong to
different people and which count as one: an object has its fields, unless ``x-kubernetes-map-type`` is ``atomic``; a
list has its items if ``x-kubernetes-list-type`` is ``map`` (told apart by their keys) or ``set`` (by their value), and
is one thing otherwise. Where nothing is declared, objects have fields and lists are one thing.

Equality is Python's, so that unchanged parts are passed over at the speed of C: a change from ``true`` to ``1``, which
no typed field allows, goes unnoticed.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from casare_api.machinery import fieldsets
from casare_api.machinery.fieldsets import SELF, Fields

Schema = dict[str, Any]
Value = Any

MAP_TYPE = "x-kubernetes-map-type"
LIST_TYPE = "x-kubernetes-list-type"
LIST_KEYS = "x-kubernetes-list-map-keys"
PRESERVE = "x-kubernetes-preserve-unknown-fields"

_UNKNOWN: Schema = {}
_NONE_DECLARED: dict[str, Schema] = {}
_ABSENT: Any = object()
_CONTAINERS = frozenset({dict, list})


class Untyped(Exception):
    """A value that does not fit its schema: where (``.spec.zzz``) and why, in the words of a Kubernetes server."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}" if self.path else self.why


class Changes(NamedTuple):
    """What a write did: the fields it added or altered, one by one, and the topmost ones of what it took away."""

    touched: Fields
    gone: Fields


# -- reading a schema ----------------------------------------------------------------------------------------------


def declared(schema: Schema, name: str) -> Schema | None:
    """The schema of this field. None: there may be no such field."""
    properties = schema.get("properties") or _NONE_DECLARED
    found = properties.get(name)
    if found is not None:
        return found
    rest = schema.get("additionalProperties")
    if isinstance(rest, dict):
        return rest
    free = rest is True or schema.get(PRESERVE) or (rest is None and not properties)
    return _UNKNOWN if free else None


def below(schema: Schema, name: str) -> Schema:
    """The schema of this field, or one that says nothing."""
    properties = schema.get("properties")
    found: Schema | None = properties.get(name) if properties else None
    return found or declared(schema, name) or _UNKNOWN


def items_of(schema: Schema) -> Schema:
    return schema.get("items") or _UNKNOWN


def has_fields(schema: Schema, value: Value) -> bool:
    """Is this an object whose fields count one by one?"""
    return value.__class__ is dict and schema.get(MAP_TYPE) != "atomic"


def has_items(schema: Schema, value: Value) -> bool:
    """Is this a list whose items count one by one?"""
    return value.__class__ is list and schema.get(LIST_TYPE) in ("map", "set")


def item_step(schema: Schema, item: Value) -> str:
    """The step of a path that leads to this item of a keyed list or a set. Untyped for one that can't be told."""
    if schema[LIST_TYPE] == "map":
        return fieldsets.step_of_keys(_keys(schema, item))
    if item.__class__ is str:
        return fieldsets.step_of_value(item)
    if item is None or isinstance(item, dict | list):
        raise Untyped("", f"a set has plain values as items, not {_shown(item)}")
    return fieldsets.step_of_value(item)


def by_step(schema: Schema, items: list[Value]) -> dict[str, Value]:
    """The items of a keyed list or a set. Of several that have the same step, the last."""
    return {item_step(schema, each): each for each in items}


def _keys(schema: Schema, item: Value) -> dict[str, Value]:
    if not isinstance(item, dict):
        raise Untyped("", f"a keyed list has objects as items, not {_shown(item)}")
    found: dict[str, Value] = {}
    for key in schema.get(LIST_KEYS, ()):
        value = item.get(key)
        if value is None:
            value = below(items_of(schema), key).get("default")
        if value is None:
            raise Untyped("", f'an item lacks its key "{key}", which has no default')
        found[key] = value
    return found


# -- does it fit? --------------------------------------------------------------------------------------------------


def check(schema: Schema, value: Value, path: str = "") -> None:
    """Untyped for the first thing that does not fit: a field nobody declared, an object where a list has to be, one
    key twice. Null fits everywhere. Whether a text is a good text is for admission to say.
    """
    if value is None:
        return
    wanted = _wanted(schema)
    if wanted is not None and wanted != _container(value):
        raise Untyped(path, f"expected {wanted}, got {_shown(value)}")
    if isinstance(value, dict):
        _check_fields(schema, value, path)
    elif has_items(schema, value):
        _check_items(schema, value, path)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            check(items_of(schema), each, f"{path}[{number}]")


def _check_fields(schema: Schema, value: dict[str, Value], path: str) -> None:
    for name, each in value.items():
        inner = declared(schema, name)
        if inner is None:
            raise Untyped(f"{path}.{name}", "field not declared in schema")
        check(inner, each, f"{path}.{name}")


def _check_items(schema: Schema, value: list[Value], path: str) -> None:
    seen: set[str] = set()
    for number, each in enumerate(value):
        try:
            step = item_step(schema, each)
        except Untyped as problem:
            raise Untyped(path, f"element {number}: {problem.why}") from None
        if step in seen:
            raise Untyped(path, f"duplicate entries for key {fieldsets.text((step,))}")
        seen.add(step)
        check(items_of(schema), each, path + fieldsets.text((step,)))


def _wanted(schema: Schema) -> str | None:
    kind = schema.get("type")
    if kind is None or schema.get("x-kubernetes-int-or-string"):
        return None
    return {"object": "map", "array": "list"}.get(kind, "scalar")


def _container(value: Value) -> str:
    return "map" if isinstance(value, dict) else "list" if isinstance(value, list) else "scalar"


def _shown(value: Value) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 60 else shown[:57] + "..."


# -- the fields of a value -----------------------------------------------------------------------------------------


def everything(schema: Schema, value: Value) -> Fields:
    """The node of a value that is all new: itself and whatever is in it."""
    if not value:
        return {}
    node: Fields = {SELF: {}}
    if has_fields(schema, value):
        for name, each in value.items():
            node["f:" + name] = everything(below(schema, name), each) if each.__class__ in _CONTAINERS else {}
        return node
    if has_items(schema, value):
        inner = items_of(schema)
        for each in value:
            node[item_step(schema, each)] = everything(inner, each) if each.__class__ is dict else {}
        return node
    return {}


def written(schema: Schema, value: Value) -> Fields:
    """The node of what a person wrote down: the values, the entries of maps and lists, and containers left empty.

    A declared field that only holds others is not in it: its name says nothing about what anybody wants. A null is
    as good as nothing written.
    """
    if has_fields(schema, value):
        names = schema.get("properties") or _NONE_DECLARED
        node: Fields = {}
        for name, each in value.items():
            if each is not None:
                inner = written(below(schema, name), each)
                node["f:" + name] = {SELF: {}, **inner} if inner and name not in names else inner
        return node
    if has_items(schema, value):
        steps = ((item_step(schema, each), written(items_of(schema), each)) for each in value)
        return {step: {SELF: {}, **inner} if inner else {} for step, inner in steps}
    return {}


# -- two values ----------------------------------------------------------------------------------------------------


def compare(schema: Schema, old: dict[str, Value], new: dict[str, Value]) -> Changes:
    """What it takes to come from one object to the other. Looks only into what is not the same."""
    touched: Fields = {}
    gone: Fields = {}
    for name, value in new.items():
        before = old.get(name, _ABSENT)
        if before is not value and before != value:
            _note("f:" + name, _change(below(schema, name), before, value), touched, gone)
    for name in old:
        if name not in new:
            gone["f:" + name] = {}
    return Changes(touched, gone)


def _compare_items(schema: Schema, old: list[Value], new: list[Value]) -> Changes:
    """The order of the items is nobody's: another order is no change."""
    touched: Fields = {}
    gone: Fields = {}
    before, after = by_step(schema, old), by_step(schema, new)
    for step, value in after.items():
        if before.get(step, _ABSENT) != value:
            _note(step, _change(items_of(schema), before.get(step, _ABSENT), value), touched, gone)
    for step in before:
        if step not in after:
            gone[step] = {}
    return Changes(touched, gone)


def _change(schema: Schema, old: Value, new: Value) -> tuple[Fields | None, Fields | None]:
    """The nodes of what was touched and of what is gone; None for nothing. The two values differ."""
    if old is _ABSENT:
        return everything(schema, new), None
    if has_fields(schema, old):
        if new.__class__ is dict:
            inner = compare(schema, old, new)
            return inner.touched or None, inner.gone or None
        return everything(schema, new), compare(schema, old, {}).gone or None
    if has_items(schema, old):
        if new.__class__ is list:
            inner = _compare_items(schema, old, new)
            return inner.touched or None, inner.gone or None
        return everything(schema, new), _compare_items(schema, old, []).gone or None
    return everything(schema, new), None


def _note(step: str, change: tuple[Fields | None, Fields | None], touched: Fields, gone: Fields) -> None:
    if change[0] is not None:
        touched[step] = change[0]
    if change[1] is not None:
        gone[step] = change[1]
