"""Which fields has an object of this kind, of which types, and what are they for? As a structural OpenAPI v3 schema.

A schema is made from the kind's pydantic model and stands by itself: no reference, no "or null" (null means "not set"
everywhere), no titles. It is what kubectl explains, what editors complete, and what server-side apply goes by: a list
says how its items are owned (`x-kubernetes-list-type`), an object that keeps what it does not know says so.

A schema allows whatever admission allows; what holds across fields, or between a text and the world, admission alone
knows. Callers share the schemas and must not change them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from casare_api.kinds.kind import Kind, ObjectMeta

Schema = dict[str, Any]

KEEPS_UNKNOWN = "x-kubernetes-preserve-unknown-fields"
LIST_TYPE = "x-kubernetes-list-type"
_NO_EFFECT = "This release keeps it and does nothing with it yet."
# An object's name as a pattern; a namespace's is stricter, but this is one schema for all kinds.
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 253, "pattern": rf"^{_LABEL}(\.{_LABEL})*$"}
NAMESPACE: Schema = {"type": "string", "minLength": 1, "maxLength": 63, "pattern": f"^{_LABEL}$"}


@cache
def object_schema(kind: Kind) -> Schema:
    """The schema of a whole object, with all of its metadata in it."""
    schema = {**whole_schema(kind.model, kind.api_version, kind.kind), "description": kind.description}
    for path in kind.not_yet:
        schema = _with_remark(schema, path.split("."), _NO_EFFECT)
    return schema


def whole_schema(model: type[BaseModel], api_version: str, kind: str) -> Schema:
    """The schema of a model that has an apiVersion and a kind: both are known, so a request may leave them out."""
    schema = model_schema(model)
    own = {
        "apiVersion": _constant(api_version, "The API group and version of the kind."),
        "kind": _constant(kind, "The kind of the object."),
    }
    required = [name for name in schema["required"] if name not in own]
    rest = {key: value for key, value in schema.items() if key != "required"}
    return {**rest, **({"required": required} if required else {}), "properties": {**schema["properties"], **own}}


@cache
def metadata_schema() -> Schema:
    """The schema of `metadata`."""
    return model_schema(ObjectMeta)


@cache
def model_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of any model."""
    found = model.model_json_schema(by_alias=True)
    return _structural(found, found.get("$defs", {}))


# -- steps -------------------------------------------------------------------------------------------------------


def _structural(node: Mapping[str, Any], models: Mapping[str, Any]) -> Schema:
    """One node of pydantic's JSON Schema as a structural schema, and all below it."""
    node = _resolved(node, models)
    out = {key: node[key] for key in node if key not in _ELSEWHERE}
    if node.get("default") is not None:
        out["default"] = _without_nulls(node["default"])
        out["description"] = _with_default(out.get("description", ""), out["default"])
    if "properties" in node:
        out["properties"] = {name: _structural(below, models) for name, below in node["properties"].items()}
    if "items" in node:
        out["items"] = _structural(node["items"], models)
    _say_as_openapi_3_0(out)
    if node.get("type") == "array":
        out.setdefault(LIST_TYPE, "atomic")
    return out | _others(node, models)


# What is not copied as it is.
_ELSEWHERE = frozenset(
    {"title", "default", "properties", "items", "additionalProperties", "propertyNames", "$defs"}
)


def _say_as_openapi_3_0(node: Schema) -> None:
    """Puts a node's newer words in terms that OpenAPI 3.0 and 3.1 both know."""
    if "const" in node:
        node["enum"] = [node.pop("const")]
    for edge, bound, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        if edge in node:
            node[bound] = node.pop(edge) + (step if node["type"] == "integer" else 0)


def _resolved(node: Mapping[str, Any], models: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node with what it refers to put in its place; what it says itself comes first."""
    while "$ref" in node or "anyOf" in node:
        beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
        node = {**_meant(node, models), **beside}
    return node


def _meant(node: Mapping[str, Any], models: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in node:
        found: Mapping[str, Any] = models[node["$ref"].rpartition("/")[2]]
        return found
    choices: list[Mapping[str, Any]] = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
    if len(choices) != 1:
        raise ValueError(f"a structural schema has no choice between types: {node}")
    return choices[0]


def _others(node: Mapping[str, Any], models: Mapping[str, Any]) -> Schema:
    """What a node says of fields that it does not name, in Kubernetes' words.

    Unknown fields of a closed model are refused or dropped, as the request wishes: that is nothing for a schema.
    """
    others = node.get("additionalProperties", False)
    if isinstance(others, dict) and others:
        return {"additionalProperties": _structural(others, models)}
    is_open = others is True or others == {} or "type" not in node
    return {KEEPS_UNKNOWN: True} if is_open else {}


def _with_default(description: str, default: Any) -> str:
    """The description with the default in words: `kubectl explain` shows no other."""
    if isinstance(default, dict | list):
        return description
    shown = json.dumps(default) if not isinstance(default, str) else default
    return f"{description} Default: {shown}.".strip()


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


def _constant(text: str, description: str) -> Schema:
    return {"type": "string", "enum": [text], "description": description}


def _with_remark(schema: Schema, path: list[str], remark: str) -> Schema:
    """A copy of the schema in which the field at a path says one more sentence."""
    name, *rest = path
    below: Schema = schema["properties"][name]
    said = _with_remark(below, rest, remark) if rest else {**below, "description": f"{below['description']} {remark}"}
    return {**schema, "properties": {**schema["properties"], name: said}}
