"""What does a request of the resource API aim at: which kind, which object, which of its parts, selected how?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from casare_api.kinds import Kind, Object
from casare_api.machinery.admission import HIDDEN
from casare_api.machinery.errors import ApiError
from casare_api.machinery.selectors import FieldSelector, FieldTerm, LabelSelector
from casare_apiserver import options
from casare_apiserver.wire import Request
from casare_store import reads

MAX_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: a kind, and as far as given a namespace, an object and a subresource of it."""

    kind: Kind
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None

    @property
    def key_namespace(self) -> str:
        return (self.namespace or "") if self.kind.namespaced else ""


def list_query(request: Request, target: Target) -> tuple[reads.Query, options.Token | None]:
    """The store's query of a list request, and the token of the page before where it goes on behind one."""
    given = request.query
    labels = LabelSelector.parse(given["labelSelector"]) if given.get("labelSelector") else None
    fields = FieldSelector.parse(given["fieldSelector"], target.kind.selectable) if given.get("fieldSelector") else None
    limit = options.whole_number(given, "limit")
    token = reads.decode_continue(given["continue"]) if given.get("continue") else None
    after = token[1] if token else None
    if target.name is not None:
        named = FieldTerm("metadata.name", "=", target.name)
        fields = FieldSelector((named, *(fields.terms if fields else ())))
    if fields is not None and target.kind.face is not None:
        fields = target.kind.face.selected(fields)
    return reads.Query(target.kind.stored, target.namespace, labels, fields, min(limit, MAX_LIMIT), after), token


def check_place(target: Target, obj: Any) -> None:
    """The namespace in the body must be the one in the path; a missing one is filled in."""
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict) or not target.kind.namespaced:
        return
    if not obj["metadata"].get("namespace"):
        obj["metadata"]["namespace"] = target.namespace
    if obj["metadata"]["namespace"] != target.namespace:
        why = "the namespace of the provided object does not match the namespace sent on the request"
        raise ApiError.bad_request(why)


def check_name(target: Target, obj: Object, is_patched: bool = False) -> None:
    """The name in the body must be the one in the path. What a patch made it may be a copied value of a Secret's."""
    said = obj["metadata"].get("name")
    if said != target.name:
        shown = HIDDEN if target.kind.sealed and is_patched else f"({str(said)[:253]})"
        raise ApiError.bad_request(f"the name of the object {shown} does not match the name on the URL ({target.name})")


def without_status(kind: Kind, obj: Any) -> Any:
    """What the main endpoint looks at: a status that came along is somebody's copy of what was true once."""
    if not kind.has_status or not isinstance(obj, dict):
        return obj
    return {key: value for key, value in obj.items() if key != "status"}


def with_status(current: Object, said: Object) -> Object:
    """What /status looks at: the object as it is with the status that was said; and who is meant, to be checked."""
    meant = {key: said["metadata"].get(key) for key in ("uid", "resourceVersion") if said["metadata"].get(key)}
    return {**current, "metadata": {**current["metadata"], **meant}, "status": said.get("status")}
