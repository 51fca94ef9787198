"""What does the server itself write into an object's metadata when it is born, changed or deleted?

Pure rules of the Kubernetes API conventions: uid, creationTimestamp, generation, deletionTimestamp; the resourceVersion
is set by the batch that commits the change.
"""

from __future__ import annotations

import os
from datetime import datetime
from functools import lru_cache

from casare_api.kinds import Kind, Object
from casare_api.machinery import times

# The order in which people read metadata; what is not listed here comes behind.
_META_ORDER = ("name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp")
_SERVER_OWNED = frozenset(
    (
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
    )
)


def born(kind: Kind, obj: Object, now: datetime) -> Object:
    """A new object as the store keeps it: identity, generation 1, no deletion."""
    meta = {key: value for key, value in obj["metadata"].items() if key not in _SERVER_OWNED}
    meta |= {"uid": new_uid(now), "generation": 1, "creationTimestamp": _second(now)}
    return ordered(kind, {**obj, "metadata": meta})


def changed(kind: Kind, old: Object, new: Object) -> Object:
    """A changed object: identity stays, a deletion stays or begins, generation counts what people want."""
    kept = {key: old["metadata"][key] for key in _SERVER_OWNED if key in old["metadata"]}
    meta = {key: value for key, value in new["metadata"].items() if key not in _SERVER_OWNED} | kept
    begins = new["metadata"].get("deletionTimestamp") if not kept.get("deletionTimestamp") else None
    if begins:
        meta |= {"deletionTimestamp": begins, "deletionGracePeriodSeconds": 0}
    if begins or _wanted(old) != _wanted(new):
        meta["generation"] = int(kept.get("generation", 0)) + 1
    return ordered(kind, {**new, "metadata": meta})


def without_deletion(new: Object, old: Object) -> Object:
    """What a client sent, with the deletion as it is: only a DELETE begins one, nothing ends one."""
    if new["metadata"].get("deletionTimestamp") == old["metadata"].get("deletionTimestamp"):
        return new
    meta = {key: value for key, value in new["metadata"].items() if key != "deletionTimestamp"}
    return {**new, "metadata": meta}


def deleted(old: Object, now: datetime) -> Object | None:
    """The object after a DELETE: None when it goes at once, marked when finalizers hold it."""
    meta = old["metadata"]
    if not meta.get("finalizers"):
        return None
    if meta.get("deletionTimestamp"):
        return old
    return {**old, "metadata": {**meta, "deletionTimestamp": times.to_text(now), "deletionGracePeriodSeconds": 0}}


def is_gone(obj: Object) -> bool:
    """Whether a deletion is complete: marked, and no finalizer left."""
    return bool(obj["metadata"].get("deletionTimestamp")) and not obj["metadata"].get("finalizers")


def ordered(kind: Kind, obj: Object) -> Object:
    """The object with its keys in the order people read them: type, metadata, the rest as written, status last."""
    meta = obj["metadata"]
    if not kind.namespaced:
        meta = {key: value for key, value in meta.items() if key != "namespace"}
    meta = {key: meta[key] for key in _META_ORDER if key in meta} | meta
    body = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    out = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **body}
    return {**out, "status": obj["status"]} if "status" in obj else out


def new_uid(now: datetime) -> str:
    """A UUID of version 7 (RFC 9562): its first 48 bits are the time, so that new rows go to the end of the index."""
    moment, digits = f"{int(now.timestamp() * 1000):012x}", os.urandom(10).hex()
    variant = "89ab"[int(digits[3], 16) & 3]
    return f"{moment[:8]}-{moment[8:]}-7{digits[:3]}-{variant}{digits[4:7]}-{digits[7:19]}"


@lru_cache(maxsize=4)
def _second(now: datetime) -> str:
    return times.to_text(now)


def _wanted(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status", "apiVersion", "kind")}
