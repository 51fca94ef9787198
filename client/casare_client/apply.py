"""What has to change so that the server holds what was declared? Pure: objects in, a plan out.

The law: applying the same declaration twice changes nothing the second time, whatever the server filled in between.
What was declared last is kept in the annotation that kubectl uses, so that both tools may take turns. A field that a
person leaves out again is removed; a field that only the server or somebody else wrote is left alone.
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any, Literal

from casare_api.kinds import Object
from casare_api.kinds.job import MUTABLE
from casare_api.machinery import patches

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
DECLARED = "fleet.casare.net/declared"
Action = Literal["created", "configured", "unchanged"]

# What the server writes into metadata: copies of it in a manifest (from `get -o yaml`) declare nothing.
_SYSTEM_FIELDS = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
)


def declared(obj: Object) -> Object:
    """The declaration in an object: without status and what the server writes, with the annotations apply keeps."""
    plain = _plain(obj)
    annotations = {**(plain["metadata"].get("annotations") or {}), LAST_APPLIED: _canonical(plain) + "\n"}
    if plain.get("kind") == "Job":
        annotations[DECLARED] = digest(plain.get("spec") or {})
    return {**plain, "metadata": {**plain["metadata"], "annotations": annotations}}


def digest(spec: Object) -> str:
    """The content of a declared job: SHA-256 in hex of its spec as canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(_canonical(spec).encode("utf-8", errors="surrogatepass")).hexdigest()


def change(wanted: Object, current: Object) -> Object | None:
    """The merge patch that brings `current` to the declaration `wanted`, None where it is there already."""
    original = _last_applied(current)
    if wanted.get("kind") == "Job" and original is not None:
        wanted, original = _job_as_resolved(wanted, original, current)
    patch: Object | None = patches.three_way(original or {}, wanted, current)
    return patch or None


def same(one: Object, other: Object) -> bool:
    """Whether two states of an object say the same: a patch may only repeat what the server has in other words."""
    return _substance(one) == _substance(other)


def _substance(obj: Object) -> Object:
    return {**_plain(obj), "status": None}


def _job_as_resolved(wanted: Object, original: Object, current: Object) -> tuple[Object, Object]:
    """A job declared as before stands in the resolved form that admission gave it; only its mutable fields compare."""
    before, now = original.get("spec") or {}, wanted.get("spec") or {}
    if _fixed(before) != _fixed(now):
        return wanted, original
    spec = {**_fixed(current.get("spec") or {}), **{key: now[key] for key in MUTABLE if key in now}}
    return {**wanted, "spec": spec}, {**original, "spec": {**_fixed(spec), **_mutable(before)}}


def _fixed(spec: Object) -> Object:
    return {key: value for key, value in spec.items() if key not in MUTABLE}


def _mutable(spec: Object) -> Object:
    return {key: value for key, value in spec.items() if key in MUTABLE}


def _plain(obj: Object) -> Object:
    plain = copy.deepcopy({key: value for key, value in obj.items() if key != "status"})
    metadata = {key: value for key, value in (plain.get("metadata") or {}).items() if key not in _SYSTEM_FIELDS}
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict):
        annotations.pop(LAST_APPLIED, None)
        annotations.pop(DECLARED, None)
        if not annotations:
            del metadata["annotations"]
    return {**plain, "metadata": metadata}


def _last_applied(current: Object) -> Object | None:
    annotations = (current.get("metadata") or {}).get("annotations") or {}
    try:
        found = json.loads(annotations.get(LAST_APPLIED) or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
