"""Which part of an object can belong to somebody? What people and programs declare, not what the server keeps.

Names, times, versions and the entries themselves are nobody's. The main endpoint can own all the rest but the
status, the endpoint of the status only that.
"""

from __future__ import annotations

from typing import Any

from casare_api.machinery.structure import LIST_KEYS, LIST_TYPE, MAP_TYPE, PRESERVE, Schema

Object = dict[str, Any]

STATUS = "status"

_NOT_OWNABLE = frozenset({"apiVersion", "kind", STATUS})
_SYSTEM = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "clusterName",
        "managedFields",
    }
)
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA: Schema = {
    "type": "object",
    "properties": {
        **{name: {} for name in _SYSTEM},
        "generateName": {"type": "string"},
        "labels": _TEXTS,
        "annotations": _TEXTS,
        "finalizers": {"type": "array", "items": {"type": "string"}, LIST_TYPE: "set"},
        "ownerReferences": {
            "type": "array",
            "items": {"type": "object", MAP_TYPE: "atomic", PRESERVE: True},
            LIST_TYPE: "map",
            LIST_KEYS: ["uid"],
        },
    },
}
_ENVELOPE: dict[str, Schema] = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": _METADATA}


def complete(schema: Schema) -> Schema:
    """The schema of a kind with what every object has: Kubernetes' own metadata, whatever the kind says of it."""
    properties = schema.get("properties")
    if properties:
        return {**schema, "properties": {**properties, **_ENVELOPE}}
    return {**schema, "properties": _ENVELOPE, PRESERVE: True}


def ownable(obj: Object, subresource: str) -> Object:
    """The part that a write to this endpoint can own, in the shape of the object."""
    if subresource == STATUS:
        return {STATUS: obj[STATUS]} if STATUS in obj else {}
    part = {key: value for key, value in obj.items() if key not in _NOT_OWNABLE}
    metadata = obj.get("metadata") or {}
    part["metadata"] = {key: value for key, value in metadata.items() if key not in _SYSTEM}
    return part


def nothing(subresource: str) -> Object:
    """The part of an object that is not there yet."""
    return {} if subresource == STATUS else {"metadata": {}}


def bare(obj: Object) -> Object:
    """An object of that name and kind that says nothing else."""
    metadata = obj.get("metadata") or {}
    named = {key: metadata[key] for key in ("name", "namespace") if metadata.get(key) is not None}
    return {key: obj[key] for key in ("apiVersion", "kind") if key in obj} | {"metadata": named}


def rebuilt(whole: Object, before: Object, after: Object) -> Object:
    """The object with its ownable part, ``before``, become ``after``. It carries no entries; keys keep their order."""
    result = _replaced(whole, before, after)
    part = _replaced(whole.get("metadata") or {}, before.get("metadata") or {}, after.get("metadata") or {})
    result["metadata"] = {key: value for key, value in part.items() if key != "managedFields"}
    return result


def _replaced(whole: Object, before: Object, after: Object) -> Object:
    return {key: value for key, value in whole.items() if key in after or key not in before} | after
