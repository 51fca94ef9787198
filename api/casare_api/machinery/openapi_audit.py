"""What does the route of the audit log take and give? It is no kind: nobody writes it, it has no names and no watch."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from casare_api.kinds import GROUP
from casare_api.kinds.kind import Model, OpenModel
from casare_api.machinery.openapi_operations import Paths, query, responses, schema_name, schema_reference
from casare_api.machinery.schema import Schema, model_schema

PATH = f"/apis/{GROUP}/v1/audit"
_NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}


class AuditLink(Model):
    """A row of the log by its number and hash."""

    seq: int = Field(description="The row's number, from 1; 0 for the place before the first one.")
    hash: str = Field(description="SHA-256 of the hash before it and of its own text, in hex.")


class AuditRow(OpenModel):
    """Who did what; with `rows`, the text that is hashed and what it is filed under."""

    seq: int = Field(description="The row's number: there is no gap.")
    hash: str | None = Field(None, description="SHA-256 of the hash before it and of its own text, in hex.")


class AuditList(OpenModel):
    """A page of the audit log."""

    api_version: str
    kind: str
    metadata: dict[str, Any] = Field(description="`continue`: the last row's number, where there may be more.")
    start: AuditLink = Field(description="The last of those rows that were dropped by their age.")
    end: AuditLink = Field(description="The last row of the log.")
    items: list[AuditRow] = Field(description="The rows: the newest first, or in their order behind `after`.")


def audit_schemas() -> dict[str, Schema]:
    return {schema_name(GROUP, "v1", "AuditList"): model_schema(AuditList)}


def audit_paths() -> Paths:
    page = responses({"200": ("A page of the log.", schema_reference(GROUP, "v1", "AuditList"))})
    page["200"]["content"] = {"application/json": page["200"]["content"]["application/json"]}
    return {PATH: {"parameters": [], "get": {
        "tags": ["audit"], "operationId": "listFleetV1Audit",
        "summary": "Read who did what; for admins of the whole server",
        "parameters": [
            query("actor", "Only what this key or person did.", maxLength=253, pattern="^[ -~]*$"),
            query("kind", "With name and, where it has one, namespace: only what was done to this object.",
                  maxLength=63, pattern="^[A-Za-z]*$"),
            query("namespace", "The object's namespace.", maxLength=63, pattern="^[a-z0-9-]*$"),
            query("name", "The object's name.", maxLength=253, pattern="^[a-z0-9.-]*$"),
            query("since", "Only since this time, or since so long ago: 2026-01-31T08:00:00Z, 2h, 7d.", maxLength=40),
            query("before", "Only rows before this number: the next page of the newest first.", **_NUMBER),
            query("after", "Only rows behind this number, in their order.", **_NUMBER),
            query("limit", "Rows at once.", type="integer", minimum=1, maximum=1000, default=100),
            query("rows", "Whether rows come as they are kept, so that the chain can be checked.", type="boolean"),
        ],
        "responses": page,
    }}}  # fmt: skip
