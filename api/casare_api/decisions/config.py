"""What becomes of a ConfigMap or a Secret that is written, and what may not change in it any more?

Pure rules on what was there (None: nothing) and what was sent; no message shows a value.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from casare_api.kinds import Kind, Object
from casare_api.kinds.config import CONFIGMAP, SECRET, decode
from casare_api.machinery.errors import ApiError, Cause

_FROZEN = "field is immutable when `immutable` is set"


def with_string_data(secret: Object) -> Object:
    """The Secret as it is kept: what `stringData` says in plain text is a value of `data` like the others."""
    texts = secret.get("stringData")
    if texts is None:
        return secret
    data = {**(secret.get("data") or {}), **{key: _encode(text.encode()) for key, text in texts.items()}}
    kept = {key: value for key, value in secret.items() if key != "stringData"}
    return {**kept, "data": data} if data else kept


def configmap(old: Object | None, new: Object) -> Object:
    """The ConfigMap that is kept. Raises ApiError 422 for a change of one that is immutable."""
    made = _canonical(new, "binaryData")
    _check_frozen(CONFIGMAP, old, made, ("data", "binaryData"))
    return made


def secret(old: Object | None, new: Object) -> Object:
    """The Secret that is kept. Raises ApiError 422 for another type, and for a change of one that is immutable."""
    made = _canonical(with_string_data(new), "data")
    if old is not None and old.get("type") != made.get("type"):
        raise _invalid(SECRET, made, [Cause("type", "FieldValueInvalid", "Invalid value: field is immutable")])
    _check_frozen(SECRET, old, made, ("data",))
    _check_type(made)
    return made


# What a Secret of a type must have, in Kubernetes' words.
_NEEDED = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
}


def _check_type(secret: Object) -> None:
    data = secret.get("data") or {}
    missing = [key for key in _NEEDED.get(str(secret.get("type")), ()) if key not in data]
    if missing:
        raise _invalid(SECRET, secret, [Cause.required(f"data[{key}]") for key in missing])


def _check_frozen(kind: Kind, old: Object | None, new: Object, fields: Sequence[str]) -> None:
    if old is None or not old.get("immutable"):
        return
    changed = [field for field in fields if (old.get(field) or {}) != (new.get(field) or {})]
    if not new.get("immutable"):
        changed.insert(0, "immutable")
    if changed:
        raise _invalid(kind, new, [Cause.forbidden(field, _FROZEN) for field in changed])


def _canonical(obj: Object, field: str) -> Object:
    """The object with base64 as everybody writes it: without line breaks."""
    given = obj.get(field)
    if not given:
        return obj
    return {**obj, field: {key: _encode(decode(text)) for key, text in given.items()}}


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _invalid(kind: Kind, obj: Object, causes: Sequence[Cause]) -> ApiError:
    return ApiError.invalid(kind, obj["metadata"].get("name") or "", causes)
