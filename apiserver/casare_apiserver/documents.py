"""What do the documents at /docs and /openapi.json say of the resource routes? What /openapi/v3 says, in one."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from casare_api.machinery import openapi


def describe(app: FastAPI) -> None:
    """Adds every group's document to the application's own, which is made when it is first asked for."""

    def merged() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _merged(app)
        return app.openapi_schema

    app.openapi = merged  # type: ignore[method-assign]


def _merged(app: FastAPI) -> dict[str, Any]:
    """FastAPI writes OpenAPI 3.1, of which the schemas and paths of the groups' 3.0 are a part."""
    own = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = own.setdefault("components", {}).setdefault("schemas", {})
    for group in openapi.documents(app.version).values():
        own["paths"].update(group["paths"])
        schemas.update(group["components"]["schemas"])
    own["components"]["securitySchemes"] = openapi.SECURITY_SCHEMES
    own["security"] = openapi.SECURITY
    return own
