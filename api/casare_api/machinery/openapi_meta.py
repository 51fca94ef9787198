"""Which schemas do the documents of all groups share? Kubernetes' own: metadata, Status, the options, patches.

The models here are for describing alone: what is read from requests is read where it is used.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, Field

from casare_api.kinds.kind import Model, OpenModel
from casare_api.machinery.schema import Schema, metadata_schema, model_schema

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"


def meta(name: str) -> Schema:
    """A reference to one of the schemas here."""
    return {"$ref": f"#/components/schemas/{_META}.{name}"}


@cache
def meta_schemas() -> dict[str, Schema]:
    """The schemas by the names they have in every document."""
    models: dict[str, type[BaseModel]] = {
        "DeleteOptions": DeleteOptions, "ListMeta": ListMeta, "Status": Status, "WatchEvent": WatchEvent
    }
    schemas = {name: model_schema(model) for name, model in models.items()}
    schemas["Status"] = {
        **schemas["Status"],
        "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Status"}],
    }
    schemas |= {"ObjectMeta": metadata_schema(), "Patch": _PATCH, "JsonPatch": _json_patch()}
    return {f"{_META}.{name}": schemas[name] for name in sorted(schemas)}


class ListMeta(Model):
    """What a list says about itself."""

    resource_version: str | None = Field(
        None, description="The number of the last change that the list knows; a watch goes on from it."
    )
    continue_: str | None = Field(
        None,
        alias="continue",
        description="Where the next page begins, for the parameter of that name; missing at the end.",
    )
    remaining_item_count: int | None = Field(None, description="How many more there are on the pages to come.")


class Cause(Model):
    """One thing that is wrong."""

    reason: str | None = Field(None, description="What kind of mistake it is, such as FieldValueInvalid.")
    message: str | None = Field(None, description="What is wrong, in a sentence for people.")
    field: str | None = Field(None, description="The field's path, such as spec.priority.")


class Details(Model):
    """What an answer is about."""

    name: str | None = Field(None, description="The object's name.")
    group: str | None = Field(None, description="The kind's API group.")
    kind: str | None = Field(None, description="The kind, or its plural.")
    uid: str | None = Field(None, description="The object's uid.")
    causes: list[Cause] | None = Field(None, description="All that is wrong, one by one.")
    retry_after_seconds: int | None = Field(None, description="After how many seconds to try again.")


class Status(Model):
    """How a request went: every refusal is one, and so is the answer to a deletion that is done."""

    api_version: str = Field(description="Always v1.")
    kind: str = Field(description="Always Status.")
    metadata: ListMeta = Field(description="Empty, but for where a list that expired goes on.")
    status: Literal["Success", "Failure"] = Field(description="Whether it went well.")
    message: str | None = Field(None, description="What happened, in a sentence for people.")
    reason: str | None = Field(None, description="Why it was refused, in one word such as NotFound.")
    details: Details | None = Field(None, description="What it is about.")
    code: int | None = Field(None, description="The HTTP status of the answer.")


class Preconditions(Model):
    """What must be true of the object."""

    uid: str | None = Field(None, description="The uid that it must have.")
    resource_version: str | None = Field(None, description="The resourceVersion that it must have.")


class DeleteOptions(Model):
    """How to delete."""

    api_version: str | None = Field(None, description="The version of these options, such as v1.")
    kind: str | None = Field(None, description="DeleteOptions.")
    dry_run: list[Literal["All"]] | None = Field(None, description="With All, nothing is deleted.")
    grace_period_seconds: int | None = Field(
        None, ge=0, le=2**31 - 1, description="With 0 a job that runs goes at once. Nothing else takes time."
    )
    orphan_dependents: bool | None = Field(None, description="The same as propagationPolicy Orphan; give only one.")
    preconditions: Preconditions | None = Field(None, description="What must be true of the object, else 409 Conflict.")
    propagation_policy: Literal["Background", "Foreground", "Orphan"] | None = Field(
        None,
        description="What becomes of the objects that this one owns: deleted after it (Background), before it "
        "(Foreground), or kept (Orphan).",
    )


class WatchEvent(Model):
    """One line of a watch."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"] = Field(
        description="What happened to the object. A BOOKMARK only says how far the watch is, an ERROR ends it."
    )
    object: dict[str, Any] = Field(
        description="The object after the change, or as it was before it was DELETED; a Status for ERROR."
    )


class _JsonPatchStep(OpenModel):
    """One step of a JSON patch (RFC 6902)."""

    op: Literal["add", "remove", "replace", "move", "copy", "test"] = Field(description="What is done.")
    path: str = Field(description="Where, as a JSON pointer such as /spec/priority.")
    from_: str | None = Field(None, alias="from", description="From where, for move and copy.")
    value: Any = Field(None, description="What is put there, for add, replace and test.")


_PATCH: Schema = {
    "type": "object",
    "description": "Parts of an object, in the form that the content type says.",
    "x-kubernetes-preserve-unknown-fields": True,
}


def _json_patch() -> Schema:
    steps = model_schema(_JsonPatchStep)
    return {"type": "array", "description": "Steps that are done in order, all or none.", "items": steps}
