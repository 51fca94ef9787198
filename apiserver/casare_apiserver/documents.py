"""What do the documents at /docs say of the resource routes? The same as the kinds: paths and models are theirs."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from casare_api.kinds import KINDS, Kind

_REF = "#/components/schemas/{model}"


def describe(app: FastAPI) -> None:
    """Adds every kind's routes and models to the application's OpenAPI document, made when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for kind in KINDS.values():
                schemas.update(_models(kind))
                document["paths"].update(_paths(kind))
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _models(kind: Kind) -> dict[str, Any]:
    schema = kind.model.model_json_schema(by_alias=True, ref_template=_REF)
    models: dict[str, Any] = schema.pop("$defs", {})
    return {**models, kind.kind: schema}


def _paths(kind: Kind) -> dict[str, Any]:
    collection = kind.path("{namespace}" if kind.namespaced else None)
    one = f"{collection}/{{name}}"
    reference = {"$ref": _REF.format(model=kind.kind)}
    body = {"required": True, "content": {"application/json": {"schema": reference}}}
    patch = {"required": True, "content": {"application/merge-patch+json": {"schema": {"type": "object"}}}}

    def operation(verb: str, summary: str, code: str = "200", **more: Any) -> dict[str, Any]:
        answer = {"description": "OK", "content": {"application/json": {"schema": reference}}}
        return {"tags": [kind.plural], "summary": summary, "operationId": f"{verb}{kind.kind}",
                "responses": {code: answer}, **more}

    path = ([_parameter("namespace")] if kind.namespaced else [])
    selectors = [_query(name) for name in ("labelSelector", "fieldSelector", "limit", "continue", "watch",
                                           "resourceVersion", "timeoutSeconds", "allowWatchBookmarks")]
    return {
        collection: {
            "parameters": path,
            "get": operation("list", f"List or watch {kind.plural}", parameters=selectors),
            "post": operation("create", f"Create a {kind.singular}", "201", requestBody=body),
        },
        one: {
            "parameters": [*path, _parameter("name")],
            "get": operation("get", f"Read one {kind.singular}"),
            "put": operation("replace", f"Replace a {kind.singular}", requestBody=body),
            "patch": operation("patch", f"Change a {kind.singular}", requestBody=patch),
            "delete": operation("delete", f"Delete a {kind.singular}"),
        },
    }


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
