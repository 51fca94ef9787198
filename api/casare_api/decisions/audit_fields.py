"""Which fields did a write change, and what may be said of their values?

The path of every changed field is said. A value is said only where it can hold no secret: never of a sealed kind, never
below a name that people put anything under (`HIDDEN`), a text only where the field is known to hold no secret
(`SHOWN`). A field that nobody thought of says its path alone: what is forgotten here hides too much, never too little.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

Object = dict[str, Any]
MOST = 40  # fields of one write
LONG = 120  # characters of a value
LONG_PATH = 200
MOST_INSIDE = 10  # values in a list or an object that is said whole

# People's own data, programs, passwords: below these no value is said.
HIDDEN = frozenset({
    "annotations", "args", "binaryData", "content", "data", "env", "files", "idempotencyKey", "inputs", "jobTemplate",
    "message", "outputs", "parameters", "progress", "source", "stringData", "variables", "workflow",
})  # fmt: skip
# Fields whose texts are names, times, phases or rules.
SHOWN = frozenset({
    "agingInterval", "apiGroups", "approval", "at", "backoff", "capabilities", "claimNames", "clusterRoleName",
    "concurrencyPolicy", "cron", "deadline", "deletionTimestamp", "desiredState", "displayName", "dst", "effect",
    "environment", "every", "expiresAt", "finalizers", "holderIdentity", "labels", "misfirePolicy", "name",
    "namePattern", "namespace", "nonResourceURLs", "notBefore", "onRevoke", "onRobotLost", "overlap", "ownerReferences",
    "phase", "previousUntil", "reason", "resourceNames", "resources", "restartRequestedAt", "revision", "robotId",
    "robotName", "role", "roleRef", "rules", "runner", "serves", "startDeadline", "subjects", "tags", "taints", "then",
    "timeZone", "timeout", "ttl", "ttlAfterFinished", "type", "verbs", "workflowRef",
})  # fmt: skip
# What every write moves, and what says whose the fields are.
_MOVES = frozenset({"resourceVersion", "generation", "managedFields", "creationTimestamp", "uid", "name", "namespace"})
_TYPE = frozenset({"apiVersion", "kind"})
_NOTHING = object()


def changed(old: Object | None, new: Object, sealed: bool = False) -> list[Object]:
    """The fields that differ, each as {field, from, to}; the last entry is {more: true} where there are more.

    Of a creation (old: None) all fields that were given. No `from` or `to`: it was not there, or is not said.
    """
    found: list[Object] = []
    for key in (*new, *(key for key in old or () if key not in new)):
        if key not in _TYPE:
            before, after = (old or {}).get(key, _NOTHING), new.get(key, _NOTHING)
            _compare(before, after, _Place(key, key in SHOWN, not sealed and key not in HIDDEN), found)
    return found if len(found) <= MOST else [*found[:MOST], {"more": True}]


class _Place(NamedTuple):
    """Where a value stands, and what that means for it."""

    path: str
    is_known: bool
    may_show: bool


@lru_cache(maxsize=4096)  # this is on the way of every write, and most objects have the same fields
def _below(place: _Place, key: str) -> _Place:
    path = f"{place.path}[{key}]" if "." in key or "/" in key else f"{place.path}.{key}"
    return _Place(path[: LONG_PATH + 1], place.is_known or key in SHOWN, place.may_show and key not in HIDDEN)


def _compare(before: Any, after: Any, place: _Place, found: list[Object]) -> None:
    """Adds what differs at and below a place. One beyond the most is enough to know that there are more."""
    if before is after or len(found) > MOST:
        return
    if not _is_tree(before, after):
        if before != after or type(before) is not type(after):
            found.append(_field(place, before, after))
        return
    old, new = (one if one is not _NOTHING else {} for one in (before, after))
    moves = _MOVES if place.path == "metadata" else ()
    for key, value in new.items():
        if key not in moves:
            _compare(old.get(key, _NOTHING), value, _below(place, key), found)
    for key, value in old.items():
        if key not in new and key not in moves:
            _compare(value, _NOTHING, _below(place, key), found)


def _is_tree(before: Any, after: Any) -> bool:
    """Whether both sides can be gone into: objects, or an object with something in it and nothing."""
    if before is _NOTHING:
        return isinstance(after, dict) and bool(after)
    if after is _NOTHING:
        return isinstance(before, dict) and bool(before)
    return isinstance(before, dict) and isinstance(after, dict)


def _field(place: _Place, before: Any, after: Any) -> Object:
    found: Object = {"field": place.path[:LONG_PATH]}
    if place.may_show:
        if before is not _NOTHING and _is_sayable(before, place.is_known):
            found["from"] = before
        if after is not _NOTHING and _is_sayable(after, place.is_known):
            found["to"] = after
    return found


def _is_sayable(value: Any, is_known: bool, depth: int = 3) -> bool:
    """Whether a value is short and of a kind that holds no secret."""
    if isinstance(value, str):
        return is_known and len(value) <= LONG
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int):
        return abs(value) < 2**53
    if not is_known or not depth or not isinstance(value, list | dict) or len(value) > MOST_INSIDE:
        return False
    inner = value if isinstance(value, list) else value.values()
    keys_fit = isinstance(value, list) or (HIDDEN.isdisjoint(value) and all(len(key) <= LONG for key in value))
    return keys_fit and all(_is_sayable(one, True, depth - 1) for one in inner)

