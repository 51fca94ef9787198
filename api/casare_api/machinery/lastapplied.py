"""How does client-side apply go over into server-side apply? By the annotation in which kubectl kept its last one.

Somebody who has always applied from his side and now applies from the server's meets the fields that
``kubectl-client-side-apply`` owns. They are his own: no conflict, as far as the object still is as the annotation
says. And as long as the annotation is there it is kept true, so that he can go back.
"""

from __future__ import annotations

from typing import Any

import orjson

from casare_api.machinery import fieldsets, structure
from casare_api.machinery.admission import MAX_ANNOTATIONS
from casare_api.machinery.errors import ApiError
from casare_api.machinery.fieldsets import Fields
from casare_api.machinery.ownable import Object, complete, ownable
from casare_api.machinery.patches import check_depth
from casare_api.machinery.structure import Schema, Untyped

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
MANAGER = "kubectl"  # whoever wants nothing of this gives himself another name


def agreed(schema: Schema, live: Object, api_version: str, subresource: str) -> Fields:
    """What was applied last from the client's side and is still so."""
    last = _parsed(_annotations(live).get(ANNOTATION))
    if last is None or last.get("apiVersion") != api_version:
        return {}
    whole, applied = complete(schema), ownable(last, subresource)
    try:
        changes = structure.compare(whole, applied, ownable(live, subresource))
        return fieldsets.difference(fieldsets.without(structure.written(whole, applied), changes.gone), changes.touched)
    except Untyped:
        return {}


def refreshed(obj: Object, config: Object) -> Object:
    """The object with the annotation, if it has one, telling of this configuration."""
    annotations = _annotations(obj)
    if not annotations.get(ANNOTATION):
        return obj
    rest = {key: value for key, value in annotations.items() if key != ANNOTATION}
    told = orjson.dumps(_without_annotation(config), option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE).decode()
    fits = sum(len(key.encode()) + len(str(value).encode()) for key, value in (rest | {ANNOTATION: told}).items())
    kept = annotations | {ANNOTATION: told} if fits <= MAX_ANNOTATIONS else rest
    return {**obj, "metadata": {**obj["metadata"], "annotations": kept}}


def _annotations(obj: Object) -> dict[str, Any]:
    found = (obj.get("metadata") or {}).get("annotations")
    return found if isinstance(found, dict) else {}


def _without_annotation(config: Object) -> Object:
    annotations = _annotations(config)
    if ANNOTATION not in annotations:
        return config
    rest = {key: value for key, value in annotations.items() if key != ANNOTATION}
    return {**config, "metadata": {**config["metadata"], "annotations": rest}}


def _parsed(text: object) -> Object | None:
    try:
        parsed = orjson.loads(text) if isinstance(text, str) else None
        check_depth(parsed)
    except (ValueError, ApiError):
        return None
    usable = isinstance(parsed, dict) and isinstance(parsed.get("metadata") or {}, dict)
    return parsed if usable else None
