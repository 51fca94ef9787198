"""Which fields did a write change, and what may be said of their values?

The path of every changed field is said. A value is said only where it can hold no secret: never of a sealed kind, never
below a name that people put anything under (`HIDDEN`), a text only where the field is known to hold no secret
(`SHOWN`). A field that nobody thought of says its path alone: what is forgotten here hides too much, never too little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

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
    found = list(islice(_differing(old or {}, new, (), not sealed), MOST + 1))
    return found if len(found) <= MOST else [*found[:MOST], {"more": True}]


def _differing(
    old: Mapping[str, Any], new: Mapping[str, Any], path: tuple[str, ...], may_show: bool
) -> Iterator[Object]:
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key, _NOTHING), new.get(key, _NOTHING)
        if before is after or (before == after and type(before) is type(after)):
            continue
        if (not path and key in _TYPE) or (path == ("metadata",) and key in _MOVES):
            continue
        below, shows = (*path, key), may_show and key not in HIDDEN
        if _is_tree(before, after):
            yield from _differing(_tree(before), _tree(after), below, shows)
        else:
            yield _field(below, before, after, shows)


def _is_tree(before: Any, after: Any) -> bool:
    """Whether both sides can be gone into: objects, or an object and nothing."""
    sides = [one for one in (before, after) if one is not _NOTHING]
    return all(isinstance(one, dict) for one in sides) and any(sides)


def _tree(side: Any) -> Mapping[str, Any]:
    return side if isinstance(side, dict) else {}


def _field(path: tuple[str, ...], before: Any, after: Any, shows: bool) -> Object:
    found: Object = {"field": _written(path)}
    if shows:
        is_known = not SHOWN.isdisjoint(path)
        found |= {name: side for name, side in (("from", before), ("to", after)) if _is_sayable(side, is_known)}
    return found


def _is_sayable(value: Any, is_known: bool, depth: int = 3) -> bool:
    """Whether a value is short and of a kind that holds no secret."""
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int):
        return abs(value) < 2**53
    if isinstance(value, str):
        return is_known and len(value) <= LONG
    if not is_known or not depth or not isinstance(value, list | dict) or len(value) > MOST_INSIDE:
        return False
    inner = value if isinstance(value, list) else value.values()
    keys_fit = isinstance(value, list) or (HIDDEN.isdisjoint(value) and all(len(key) <= LONG for key in value))
    return keys_fit and all(_is_sayable(one, True, depth - 1) for one in inner)


def _written(path: tuple[str, ...]) -> str:
    """`spec.env.USER`; a part with dots stands in brackets."""
    text = "".join(f"[{part}]" if "." in part or "/" in part else f".{part}" for part in path)
    return text.removeprefix(".")[:LONG_PATH]
