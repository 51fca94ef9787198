"""What becomes of an object when a configuration is put on it, or when its owner lets go of fields?

Both work on values that ``structure.check`` found good, change nothing they are given, and share what stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from casare_api.machinery import structure
from casare_api.machinery.fieldsets import Fields, is_member
from casare_api.machinery.structure import Schema, Value


def merged(schema: Schema, live: Value, config: Value) -> Value:
    """``live`` with what ``config`` says: objects field by field, keyed lists and sets item by item, the rest whole.

    What the configuration does not name stays; a null in it names nothing. Keys keep their order, new ones follow.
    """
    if structure.has_fields(schema, config):
        base = live if isinstance(live, dict) else {}
        named = {name: each for name, each in config.items() if each is not None}
        return base | {name: merged(structure.below(schema, name), base.get(name), named[name]) for name in named}
    if structure.has_items(schema, config):
        return _merged_items(schema, live if isinstance(live, list) else [], config)
    return config


def _merged_items(schema: Schema, live: list[Value], config: list[Value]) -> list[Value]:
    """The configuration's items in their order; an item it does not name stays before the one that it stood before."""
    present = [(structure.item_step(schema, each), each) for each in live]
    wanted = structure.by_step(schema, config)
    items, known = structure.items_of(schema), dict(present)
    return [
        merged(items, known.get(step), wanted[step]) if step in wanted else each
        for step, each in _order(present, list(wanted), known)
    ]


def _order(present: list[tuple[str, Value]], wanted: list[str], known: dict[str, Value]) -> Iterator[tuple[str, Value]]:
    """The steps of both lists in the order of the result, with the live item of those that nobody configures."""
    named = set(wanted)
    shared = [step for step in wanted if step in known]
    rest = iter(present)
    ahead = next(rest, None)
    for step in wanted:
        while ahead is not None and not (shared and ahead[0] == shared[0]):
            if ahead[0] not in named:
                yield ahead
            ahead = next(rest, None)
        yield step, None
        if shared and step == shared[0]:
            shared.pop(0)
            ahead = next(rest, None)
    while ahead is not None:
        if ahead[0] not in named:
            yield ahead
        ahead = next(rest, None)


def pruned(schema: Schema, obj: dict[str, Any], last: Fields, kept: Fields) -> dict[str, Any]:
    """An object without what is in ``last`` and of no concern to anybody in ``kept``.

    A field goes with all that is in it, be it unowned (defaults are), unless somebody keeps it or something below it.
    But for metadata and status: the server writes there itself and owns nothing, so what is unowned stays. An item of a
    keyed list that stays has its keys.
    """
    left: dict[str, Any] = _pruned(schema, obj, last, kept, _OURS)
    return left


_OURS, _NONE, _ALL = frozenset({"metadata", "status"}), frozenset[str](), None


def _pruned(schema: Schema, value: Value, last: Fields, kept: Fields, spared: frozenset[str] | None) -> Any:
    """``spared``: the fields in which what is unowned stays; None for all of them."""
    if structure.has_fields(schema, value):
        parts = ((name, "f:" + name, each, structure.below(schema, name)) for name, each in value.items())
        return {
            name: left
            for name, step, each, inner in parts
            for left in _left(inner, each, step, last, kept, spared is None or name in spared)
        }
    if structure.has_items(schema, value):
        inner = structure.items_of(schema)
        keys: Fields = {"f:" + key: {} for key in schema.get(structure.LIST_KEYS, ())}
        steps = ((structure.item_step(schema, each), each) for each in value)
        return [left for step, each in steps for left in _left(inner, each, step, last, kept, spared is None, keys)]
    return value


def _left(
    schema: Schema, value: Value, step: str, last: Fields, kept: Fields, spare: bool, keys: Fields | None = None
) -> Iterator[Value]:
    """What is left of one part: itself, less than that, or nothing."""
    was, still = last.get(step), kept.get(step)
    if was is None:
        yield value
    elif still is not None or (spare and not is_member(was)):
        here = (still or {}) | keys if keys else still or {}
        left = _pruned(schema, value, was, here, _ALL if spare else _NONE)
        if left or (still is not None and (not value or is_member(still))):
            yield left
