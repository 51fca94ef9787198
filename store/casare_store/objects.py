"""What does the server itself write into an object's metadata when it is born, changed or deleted?

Pure rules of the Kubernetes API conventions: uid, creationTimestamp, generation, deletionTimestamp; the resourceVersion
is set by the batch that commits the change.
"""

from __future__ import annotations

import random
from datetime import datetime
from functools import lru_cache

from casare_api.kinds import Kind, Object
from casare_api.machinery import times

_SERVER_OWNED = frozenset(
    (
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    )
)
_TYPE = frozenset(("apiVersion", "kind", "metadata"))
NOBODYS: Object = {"metadata": {}}  # an object of whose fields nobody owns any
_BESIDE_SPEC = frozenset(("metadata", "status", "apiVersion", "kind"))
_random = random.Random()  # seeded by the system: uids have to differ, they are no secret


def born(kind: Kind, obj: Object, now: datetime) -> Object:
    """A new object as the store keeps it: identity, generation 1, no deletion."""
    owned = {"uid": new_uid(now), "resourceVersion": "", "generation": 1, "creationTimestamp": _second(now)}
    return _ordered(kind, obj, owned)


def changed(kind: Kind, old: Object, new: Object) -> Object:
    """A changed object: identity stays, a deletion stays or begins, generation counts what people want."""
    before = old["metadata"]
    if new["metadata"] is before and new.get("spec") is old.get("spec") and len(new) == len(old) and kind.group:
        return new  # only its status moved: nothing of this is touched
    owned = {key: before[key] for key in before if key in _SERVER_OWNED}
    begins = new["metadata"].get("deletionTimestamp") if not owned.get("deletionTimestamp") else None
    if begins:
        owned["deletionTimestamp"], owned["deletionGracePeriodSeconds"] = begins, 0
    if begins or not _same_wish(old, new):
        owned["generation"] = int(owned.get("generation", 0)) + 1
    return _ordered(kind, new, owned)


def _ordered(kind: Kind, obj: Object, owned: Object) -> Object:
    """The object with its keys in the order people read them: type, metadata, the rest as written, status last."""
    given = obj["metadata"]
    meta = {"name": given["name"]}
    if "generateName" in given:
        meta["generateName"] = given["generateName"]
    if kind.namespaced and "namespace" in given:
        meta["namespace"] = given["namespace"]
    meta |= owned
    for key, value in given.items():
        if key not in _SERVER_OWNED and key not in meta and key != "namespace":
            meta[key] = value
    out = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}
    for key, value in obj.items():
        if key not in _TYPE and key != "status":
            out[key] = value
    if "status" in obj:
        out["status"] = obj["status"]
    return out


def _same_wish(old: Object, new: Object) -> bool:
    """Whether everything but metadata and status is the same."""
    keys = (old.keys() | new.keys()) - _BESIDE_SPEC
    return all(key in old and key in new and old[key] == new[key] for key in keys)


def owned_as(other: Object, obj: Object) -> Object:
    """The object, with its fields owned by those who own them in the other one."""
    entries, before = other["metadata"].get("managedFields"), obj["metadata"].get("managedFields")
    if entries == before and entries != []:
        return obj
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": meta | {"managedFields": entries} if entries else meta}


def without_deletion(new: Object, old: Object) -> Object:
    """What a client sent, with the deletion as it is: only a DELETE begins one, nothing ends one."""
    if new["metadata"].get("deletionTimestamp") == old["metadata"].get("deletionTimestamp"):
        return new
    meta = {key: value for key, value in new["metadata"].items() if key != "deletionTimestamp"}
    return {**new, "metadata": meta}


def deleted(old: Object, now: datetime) -> Object | None:
    """The object after a DELETE: None when it goes at once, marked when finalizers hold it. One that was marked before
    stays as it is; see `is_gone`."""
    meta = old["metadata"]
    if meta.get("deletionTimestamp"):
        return old
    if not _finalizers(old):
        return None
    return {**old, "metadata": {**meta, "deletionTimestamp": times.to_text(now), "deletionGracePeriodSeconds": 0}}


def is_gone(obj: Object) -> bool:
    """Whether a deletion is complete: marked, and no finalizer left."""
    return bool(obj["metadata"].get("deletionTimestamp")) and not _finalizers(obj)


def is_held(obj: Object) -> bool:
    """Whether a deletion has begun and finalizers hold it up."""
    return bool(obj["metadata"].get("deletionTimestamp")) and _finalizers(obj)


def _finalizers(obj: Object) -> bool:
    """Whether something has to be done before the object may go; a namespace says it in its spec."""
    return bool(obj["metadata"].get("finalizers") or (obj.get("spec") or {}).get("finalizers"))


def new_uid(now: datetime) -> str:
    """A UUID of version 7 (RFC 9562): its first 48 bits are the time, so that new rows go to the end of the index."""
    bits = _random.getrandbits(74)
    return f"{_moment(now)}{bits >> 62:03x}-{0x8000 | (bits >> 48) & 0x3FFF:x}-{bits & 0xFFFFFFFFFFFF:012x}"


@lru_cache(maxsize=4)
def _moment(now: datetime) -> str:
    """The first 48 bits of a UUID and its version: the same for all objects of a batch."""
    digits = f"{int(now.timestamp() * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}-7"


@lru_cache(maxsize=4)
def _second(now: datetime) -> str:
    return times.to_text(now)
