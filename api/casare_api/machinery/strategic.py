"""What becomes of a built-in object when a strategic merge patch is put on it? What kubectl's default patch asks for.

Maps merge and null removes, as in a merge patch; besides, lists with a merge key merge item by item, and directives
(keys that begin with a dollar sign) say what merging alone can't. Only Kubernetes' own kinds are patched so, and of
their lists only those in ``MERGED`` merge: any other is replaced whole. The inputs are never changed and the result
shares nothing with them. Where Kubernetes puts a new item in front of a list, it comes last here, unless
``$setElementOrder`` asks for another place.

Source of the rules: kubernetes/community, ``contributors/devel/sig-api-machinery/strategic-merge-patch.md`` and
``design-proposals/cli/preserve-order-in-strategic-merge-patch.md``.
"""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from casare_api.machinery.errors import ApiError
from casare_api.machinery.patches import check_depth

Json = Any
Object = dict[str, Any]
Path = tuple[str, ...]

# The lists that merge, with the member that tells their items apart; None: the items are texts, and a set.
MERGED: Mapping[Path, str | None] = {
    ("metadata", "ownerReferences"): "uid",
    ("metadata", "finalizers"): None,
    ("status", "conditions"): "type",
}

_DIRECTIVE, _RETAIN = "$patch", "$retainKeys"
_ORDER, _DELETE = "$setElementOrder", "$deleteFromPrimitiveList"
_LISTS = {
    _ORDER: "invalid patch format of setElementOrder list",
    _DELETE: "invalid patch format of primitive list",
}


def strategic_patch(current: Object, patch: Json) -> Object:
    """The object that ``patch`` makes of ``current``.

    ApiError 400 for a directive of the wrong form, 422 for one that can't be carried out or is not known, and for
    items without their merge key.
    """
    check_depth(current)
    check_depth(patch)
    if not isinstance(patch, dict):
        raise ApiError.bad_request("a strategic merge patch must be an object")
    return _map(copy.deepcopy(current), copy.deepcopy(patch), ())


# -- maps ----------------------------------------------------------------------------------------------------------


def _map(current: Object, patch: Object, path: Path) -> Object:
    """``current`` and ``patch`` are ours to change, here and below."""
    match _directive(patch):
        case "delete":
            return {}
        case "replace":
            current = {}
    _retain(current, patch)
    orders, deletions = _lists(patch, _ORDER), _lists(patch, _DELETE)
    for key, value in patch.items():
        if value is None:
            current.pop(key, None)
        else:
            current[key] = _member(current.get(key), value, orders.get(key), (*path, key))
    for key, gone in deletions.items():
        if isinstance(current.get(key), list):
            current[key] = _without(current[key], gone)
    for key, order in orders.items():
        if (*path, key) in MERGED and isinstance(current.get(key), list) and key not in patch:
            current[key] = _Items(MERGED[*path, key], (*path, key)).sort(current[key], order, current[key])
    return current


def _member(current: Json, value: Json, order: list[Json] | None, path: Path) -> Json:
    """One member's value, merged with what is there."""
    if isinstance(value, dict):
        return _map(current if isinstance(current, dict) else {}, value, path)
    if isinstance(value, list) and path in MERGED:
        return _Items(MERGED[path], path).merge(current if isinstance(current, list) else [], value, order)
    return value


def _directive(patch: Object) -> str | None:
    """Takes ``$patch`` out of a map. ApiError 422 for one that there is not."""
    if _DIRECTIVE not in patch:
        return None
    asked = patch.pop(_DIRECTIVE)
    if asked not in ("replace", "delete", "merge"):
        raise ApiError.rejected(f"unknown patch type: {_shown(asked)} in map: {_shown(patch)}")
    return str(asked)


def _retain(current: Object, patch: Object) -> None:
    """``$retainKeys`` lists all the keys that stay: those the patch sets must be among them."""
    if _RETAIN not in patch:
        return
    keys = patch.pop(_RETAIN)
    if not _are_texts(keys):
        raise ApiError.bad_request("invalid patch format of retainKeys")
    kept = set(keys)
    for key, value in patch.items():
        if value is not None and key not in kept and not key.startswith((_ORDER, _DELETE)):
            raise ApiError.bad_request("invalid patch format of retainKeys")
    for key in current.keys() - kept:
        del current[key]


def _lists(patch: Object, prefix: str) -> dict[str, list[Json]]:
    """Takes the directives ``prefix/LIST`` out of a map: what each says, by the list's name. ApiError 400."""
    found: dict[str, list[Json]] = {}
    for key in [key for key in patch if key.startswith(prefix)]:
        marker, slash, name = key.partition("/")
        value = patch.pop(key)
        is_list = isinstance(value, list) and (prefix == _ORDER or _are_plain(value))
        if marker != prefix or not slash or not is_list:
            raise ApiError.bad_request(_LISTS[prefix])
        found[name] = value
    return found


def _without(items: list[Json], gone: list[Json]) -> list[Json]:
    if not _are_plain(items):
        raise ApiError.bad_request(_LISTS[_DELETE])
    removed = {(type(each), each) for each in gone}
    return [each for each in items if (type(each), each) not in removed]


# -- lists that merge ----------------------------------------------------------------------------------------------


class _Items:
    """How the items of one list are told apart and merged."""

    def __init__(self, key: str | None, path: Path) -> None:
        self._key = key
        self._path = path

    def merge(self, current: list[Json], patch: list[Json], order: list[Json] | None) -> list[Json]:
        """The list with the patch's items put into it; the new ones come last, unless ``order`` says otherwise."""
        kept = {self._name(each): each for each in current}
        wanted: list[Json] = []
        for item in patch:
            asked = _directive(item) if isinstance(item, dict) else None
            if asked == "replace":
                kept = {}
            elif asked == "delete":
                kept.pop(self._name(item), None)
            else:
                wanted.append(item)
        for item in wanted:
            kept[self._name(item)] = self._merged(kept.get(self._name(item)), item)
        if order is None:
            return list(kept.values())
        self._check_order(wanted, order)
        return self.sort(list(kept.values()), order, current)

    def sort(self, items: list[Json], order: list[Json], live: list[Json]) -> list[Json]:
        """What ``order`` names, as it says; what it does not name goes before whatever it preceded in ``live``."""
        position = self._positions(live)
        by_name = {self._name(each): each for each in items}
        ordered = [name for name in self._positions(order) if name in by_name]
        named = set(ordered)
        others = deque(name for name in by_name if name not in named)
        result: list[Json] = []
        for name in ordered:
            result += _before(others, name, position)
            result.append(name)
        return [by_name[name] for name in (*result, *others)]

    def _merged(self, current: Json, item: Json) -> Json:
        return item if self._key is None else _map(current or {}, item, (*self._path, ""))

    def _positions(self, items: list[Json]) -> dict[str, int]:
        """The names of the items, each with its first place."""
        found: dict[str, int] = {}
        for place, item in enumerate(items):
            found.setdefault(self._name(item), place)
        return found

    def _check_order(self, wanted: list[Json], order: list[Json]) -> None:
        places = self._positions(order)
        found = [places.get(self._name(item), -1) for item in wanted]
        if found != sorted(found) or -1 in found:
            where = ".".join(self._path)
            raise ApiError.rejected(f"the order in the patch's {where} doesn't match {_ORDER}: {_shown(order)}")

    def _name(self, item: Json) -> str:
        """What tells an item from the others. ApiError 422 where there is no such text."""
        if isinstance(item, list):
            raise ApiError.rejected("lists of lists are not supported")
        if self._key is None:
            if not isinstance(item, str):
                raise ApiError.rejected(f"{'.'.join(self._path)} holds texts, not {_shown(item)}")
            return item
        name = item.get(self._key) if isinstance(item, dict) else None
        if not isinstance(name, str):
            raise ApiError.rejected(f"map: {_shown(item)} does not contain declared merge key: {self._key}")
        return name


def _before(others: deque[str], name: str, position: Mapping[str, int]) -> list[str]:
    """Takes those at the head of ``others`` that were in front of ``name`` in the list as it was."""
    taken: list[str] = []
    while others and name in position and others[0] in position and position[others[0]] < position[name]:
        taken.append(others.popleft())
    return taken


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _are_plain(items: list[Json]) -> bool:
    return not any(isinstance(each, dict | list) for each in items)


def _shown(value: Json) -> str:
    """The value as JSON, short enough for one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else text[:117] + "..."
