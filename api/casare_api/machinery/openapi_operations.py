"""What can be done with the objects of a kind, over which path, and what comes back? As OpenAPI paths.

Every operation here is one that the routes serve; what they refuse with 405 is not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from casare_api.kinds import GROUP, Kind
from casare_api.kinds.reviews import Review
from casare_api.machinery.discovery import verbs
from casare_api.machinery.openapi_meta import meta
from casare_api.machinery.schema import NAME, NAMESPACE, Schema

Paths = dict[str, dict[str, Any]]
Operation = dict[str, Any]

ANSWERS = ("application/json", "application/yaml")
BODIES = ("application/json", "application/yaml")
STREAM = "application/json;stream=watch"
STRATEGIC = "application/strategic-merge-patch+json"
PATCHES = {
    "application/json-patch+json": "JsonPatch",
    "application/merge-patch+json": "Patch",
    "application/apply-patch+yaml": "Patch",
    STRATEGIC: "Patch",
}


def kind_paths(kind: Kind) -> Paths:
    """The paths of a kind: its collection, one object, its status, and all namespaces at once."""
    collection = kind.path("{namespace}" if kind.namespaced else None)
    where = [NAMESPACE_PARAMETER] if kind.namespaced else []
    one = [*where, NAME_PARAMETER]
    paths: Paths = {
        collection: {"parameters": [*where, PRETTY], **_collection(kind)},
        f"{collection}/{{name}}": {"parameters": [*one, PRETTY], **_one(kind), "delete": _delete(kind)},
    }
    if kind.has_status:
        paths[f"{collection}/{{name}}/status"] = {"parameters": [*one, PRETTY], **_one(kind, "Status")}
    if kind.namespaced:
        paths[kind.path()] = {"parameters": [PRETTY], "get": _list(kind, "ForAllNamespaces")}
    return paths


def review_paths(review: Review) -> Paths:
    """The path that a question is posted to."""
    reference = schema_reference(review.group, review.version, review.kind)
    post = {
        **_named(review, "post", f"create{group_word(review.group)}{review.version.capitalize()}{review.kind}"),
        "summary": review.description,
        "parameters": WRITING,
        "requestBody": body(reference, BODIES),
        "responses": responses({"201": ("The question with its answer.", reference)}),
    }
    return {review.path: {"parameters": [PRETTY], "post": post}}


def schema_name(group: str, version: str, kind: str) -> str:
    """What the schema of a kind is called: the group backwards, as Kubernetes names its own."""
    if not group or group.endswith(".k8s.io"):
        return f"io.k8s.api.{group.removesuffix('.k8s.io') or 'core'}.{version}.{kind}"
    return ".".join([*reversed(group.split(".")), version, kind])


def schema_reference(group: str, version: str, kind: str) -> Schema:
    return {"$ref": f"#/components/schemas/{schema_name(group, version, kind)}"}


def group_word(group: str) -> str:
    """The group in the name of an operation: Core, Fleet, Coordination."""
    return (group or "core").split(".")[0].capitalize()


def body(schema: Schema, types: Iterable[str], required: bool = True) -> Schema:
    """A request body that may come in any of these content types."""
    return {"required": required, "content": {each: {"schema": schema} for each in types}}


def responses(good: dict[str, tuple[str, Schema]]) -> Schema:
    """The answers by HTTP status; whatever else comes is a Status."""
    told = {code: {"description": text, "content": _content(schema)} for code, (text, schema) in good.items()}
    return {**told, "default": {"description": "The request was refused.", "content": _content(meta("Status"))}}


def query(name: str, description: str, **schema: Any) -> Schema:
    """A query parameter that may be left out."""
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", **schema}}


def in_path(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


# -- parameters --------------------------------------------------------------------------------------------------

_NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_VERSION: dict[str, Any] = {"pattern": "^[0-9]{0,18}$"}
NAME_PARAMETER = in_path("name", "The object's name.", NAME)
NAMESPACE_PARAMETER = in_path("namespace", "The namespace that the object is in.", NAMESPACE)
PRETTY = query("pretty", "Whether the answer is spread over lines for people.", type="boolean")
DRY_RUN = query("dryRun", "With All, everything is checked and nothing is kept.", enum=["All"])
WRITING = [
    DRY_RUN,
    query("fieldManager", "Who writes: a name for the fields that are set. At most 128 printable characters.",
          maxLength=128),
    query("fieldValidation", "What becomes of unknown fields: Strict refuses them, Warn drops them and says so in a "
          "Warning header, Ignore drops them.", enum=["Ignore", "Warn", "Strict"], default="Warn"),
]
FORCE = query("force", "Whether fields that others manage are taken over; for apply-patch alone.", type="boolean")
DELETING = [
    DRY_RUN,
    query("gracePeriodSeconds", "With 0 a job that runs goes at once. Nothing else takes time.", **_NUMBER),
    query("orphanDependents", "The same as propagationPolicy Orphan; give only one.", type="boolean"),
    query("propagationPolicy", "What becomes of the objects that this one owns: deleted after it (Background), before "
          "it (Foreground), or kept (Orphan).", enum=["Background", "Foreground", "Orphan"]),
]
_LABEL_SELECTOR = query("labelSelector", "Conditions on labels, separated by commas: a=b, a!=b, a in (b,c), a notin "
                                         "(b), a, !a.")
_WATCHING = [
    query("limit", "How many to list at most; the rest follows by `continue`. Default: all.", **_NUMBER),
    query("continue", "Where this page begins: metadata.continue of the page before."),
    query("resourceVersion", "How new the list must be, or after which change a watch begins.", **_VERSION),
    query("resourceVersionMatch", "What resourceVersion means to a list.", enum=["Exact", "NotOlderThan"]),
    query("timeoutSeconds", "How long a watch stays open.", **_NUMBER),
    query("watch", "Whether to be told of every change from now on, one WatchEvent a line.", type="boolean"),
    query("allowWatchBookmarks", "Whether a watch may be told how far it is while nothing happens.", type="boolean"),
    query("sendInitialEvents", "Whether a watch begins with what there is, and says by a bookmark where that ends; "
          "with resourceVersionMatch=NotOlderThan.", type="boolean"),
]


def _selectors(kind: Kind) -> list[Schema]:
    fields = ", ".join(kind.selectable)
    return [_LABEL_SELECTOR, query("fieldSelector", f"Conditions on fields (=, !=), separated by commas: {fields}.")]


# -- operations --------------------------------------------------------------------------------------------------


def _collection(kind: Kind) -> dict[str, Operation]:
    found = {"get": _list(kind), "post": _post(kind)}
    if "deletecollection" in verbs(kind):
        found["delete"] = _delete_collection(kind)
    return found


def _one(kind: Kind, part: str = "") -> dict[str, Operation]:
    """Reading and writing one object, or a part of it."""
    what = f"the {part.lower()} of one {kind.singular}" if part else f"one {kind.singular}"
    reference = _reference(kind)
    done = {"200": (f"The {kind.singular}.", reference)}
    made = done if part else {**done, "201": ("It was made, by an apply-patch.", reference)}
    types = [each for each in PATCHES if each != STRATEGIC or kind.group != GROUP]
    patch = {"required": True, "content": {each: {"schema": meta(PATCHES[each])} for each in types}}
    return {
        "get": {**_operation(kind, "get", "read", part), "summary": f"Read {what}", "responses": responses(done)},
        "put": {**_operation(kind, "put", "replace", part), "summary": f"Replace {what}", "parameters": WRITING,
                "requestBody": body(reference, BODIES), "responses": responses(done)},
        "patch": {**_operation(kind, "patch", "patch", part), "summary": f"Change or apply {what}",
                  "parameters": [*WRITING, FORCE], "requestBody": patch, "responses": responses(made)},
    }


def _list(kind: Kind, where: str = "") -> Operation:
    answer = responses({"200": (f"The {kind.plural}.", _reference(kind, "List"))})
    answer["200"]["content"][STREAM] = {"schema": meta("WatchEvent")}
    every = " of all namespaces" if where else ""
    return {**_operation(kind, "list", "list", where), "summary": f"List or watch the {kind.plural}{every}",
            "parameters": [*_selectors(kind), *_WATCHING], "responses": answer}


def _post(kind: Kind) -> Operation:
    return {**_operation(kind, "post", "create"), "summary": f"Create one {kind.singular}", "parameters": WRITING,
            "requestBody": body(_reference(kind), BODIES),
            "responses": responses({"201": (f"The {kind.singular}.", _reference(kind))})}


def _delete(kind: Kind) -> Operation:
    either = {"anyOf": [meta("Status"), _reference(kind)]}
    return {**_operation(kind, "delete", "delete"), "summary": f"Delete one {kind.singular}", "parameters": DELETING,
            "requestBody": body(meta("DeleteOptions"), BODIES, required=False),
            "responses": responses({"200": ("It is gone (Status), or goes once its finalizers are gone (the object).",
                                            either)})}


def _delete_collection(kind: Kind) -> Operation:
    return {**_operation(kind, "deletecollection", "deleteCollection"),
            "summary": f"Delete all {kind.plural}, or those that are selected",
            "parameters": [*_selectors(kind), *DELETING],
            "requestBody": body(meta("DeleteOptions"), BODIES, required=False),
            "responses": responses({"200": (f"The {kind.plural} that were deleted.", _reference(kind, "List"))})}


def _operation(kind: Kind, action: str, word: str, part: str = "") -> Operation:
    """What every operation of a kind says of itself."""
    scope = "Namespaced" if kind.namespaced and part != "ForAllNamespaces" else ""
    return _named(kind, action, f"{word}{group_word(kind.group)}{kind.version.capitalize()}{scope}{kind.kind}{part}")


def _named(one: Kind | Review, action: str, name: str) -> Operation:
    meant = {"group": one.group, "version": one.version, "kind": one.kind}
    return {"tags": [one.plural], "operationId": name, "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": meant}


def _reference(kind: Kind, part: str = "") -> Schema:
    return schema_reference(kind.group, kind.version, kind.kind + part)


def _content(schema: Schema) -> Schema:
    return {each: {"schema": schema} for each in ANSWERS}
