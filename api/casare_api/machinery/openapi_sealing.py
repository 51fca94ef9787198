"""What does the route of the keys that Secrets are sealed with take and give? It is no kind: it has no names."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from casare_api.kinds import GROUP
from casare_api.kinds.kind import Model, OpenModel
from casare_api.machinery.openapi_operations import Paths, query, responses, schema_name, schema_reference
from casare_api.machinery.schema import Schema, model_schema

PATH = f"/apis/{GROUP}/v1/sealing"
_PLACE = "^(secrets:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|log:[0-9]{1,18})?$"


class SealingServer(Model):
    """An apiserver that is connected to the database now, by the ids of its keys."""

    key: str = Field(description="The key that it seals with.")
    opens: list[str] = Field(description="The keys that it opens with.")
    address: str = Field(description="From where it is connected; empty: by a socket of the database's computer.")


class BrokenEnvelope(Model):
    """What its own key, which is here, does not open, and so no key does: it was changed in the database."""

    key: str = Field(description="The id of the key that it names.")
    name: str = Field(description="The namespace and name of its Secret: namespace/name.")


class SecretSealing(OpenModel):
    """A step of a walk through all that is sealed: first Secrets, then entries of the log."""

    api_version: str
    kind: str
    metadata: dict[str, Any] = Field(description="`continue`: where the next step begins; none after the last one.")
    key: str = Field(description="The id of the key that the asked apiserver seals with.")
    opens: list[str] = Field(description="The ids of the keys that it opens with.")
    apiservers: list[SealingServer] = Field(description="All apiservers with keys that are there now.")
    part: str = Field(description="What this step looked at: secrets or log.")
    found: dict[str, int] = Field(description="How many it found, by the id of the key that they are sealed with now.")
    resealed: int = Field(description="How many of them it has sealed anew.")
    broken: list[BrokenEnvelope] = Field(description="Those that a POST could not open with their own key.")


def sealing_schemas() -> dict[str, Schema]:
    return {schema_name(GROUP, "v1", "SecretSealing"): model_schema(SecretSealing)}


def sealing_paths() -> Paths:
    step = responses({"200": ("What the step has found.", schema_reference(GROUP, "v1", "SecretSealing"))})
    step["200"]["content"] = {"application/json": step["200"]["content"]["application/json"]}
    begin = query("continue", "What the step before has said; nothing for the first one.", pattern=_PLACE)
    said = {"tags": ["sealing"], "parameters": [begin], "responses": step}
    return {PATH: {
        "parameters": [],
        "get": {**said, "operationId": "listFleetV1Sealing",
                "summary": "Count what is sealed with which key, step by step; for admins of the whole server"},
        "post": {**said, "operationId": "createFleetV1Sealing",
                 "summary": "Seal anew what another key has sealed, step by step; for admins of the whole server"},
    }}  # fmt: skip
