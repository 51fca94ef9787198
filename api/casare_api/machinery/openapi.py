"""What is this API, for programs? One OpenAPI 3.0 document for each group and version, made from the kinds.

kubectl validates, applies and explains by these documents: it finds what speaks of a kind by the extension
`x-kubernetes-group-version-kind`, and learns from the PATCH operation what the server takes. The application's own
document is merged from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from casare_api.kinds import GROUP, SERVED, Kind
from casare_api.kinds.reviews import REVIEWS, Review
from casare_api.machinery.openapi_meta import meta, meta_schemas
from casare_api.machinery.openapi_operations import Paths, kind_paths, review_paths, schema_name, schema_reference
from casare_api.machinery.openapi_special import special_paths, special_schemas
from casare_api.machinery.schema import Schema, object_schema, whole_schema

Document = dict[str, Any]

SECURITY_SCHEMES = {"BearerToken": {"type": "http", "scheme": "bearer", "description": "A key, as `Bearer KEY`."}}
SECURITY: list[dict[str, list[str]]] = [{"BearerToken": []}]


def documents(
    release: str, kinds: Iterable[Kind] = SERVED, reviews: Iterable[Review] = REVIEWS
) -> dict[str, Document]:
    """The document of each group and version, by its path below `/openapi/v3`: `api/v1`, `apis/fleet.casare.net/v1`."""
    kinds, reviews = tuple(kinds), tuple(reviews)
    versions = dict.fromkeys([*(kind.api_version for kind in kinds), *(review.api_version for review in reviews)])
    return {place(each): document(each, kinds, release, reviews) for each in versions}


def nothing_in_v2(release: str) -> bytes:
    """An OpenAPI v2 document that describes nothing, as gnostic's protobuf message `openapi.v2.Document`.

    kubectl can't send a file that holds a `kind: List` before it has read one (its own check of the items, by what it
    finds there, comes before the server's, which is the better one).
    """
    info = _texts("Casare Fleet", release[:60])
    return _texts("2.0") + bytes((0x12, len(info))) + info


def _texts(*values: str) -> bytes:
    """The fields 1, 2 and so on of a protobuf message: short texts."""
    parts = enumerate((value.encode() for value in values), 1)
    return b"".join(bytes((number << 3 | 2, len(part))) + part for number, part in parts)


def document(
    group_version: str, kinds: Iterable[Kind], release: str, reviews: Iterable[Review] = REVIEWS
) -> Document:
    """The document of one group and version (`v1`, `fleet.casare.net/v1`); of the kinds given, those that are in it."""
    mine = [kind for kind in kinds if kind.api_version == group_version]
    asked = [review for review in reviews if review.api_version == group_version]
    paths: Paths = {}
    schemas = dict(meta_schemas())
    for kind in mine:
        paths |= kind_paths(kind)
        schemas |= _kind_schemas(kind)
    for review in asked:
        paths |= review_paths(review)
        schemas |= _review_schema(review)
    if group_version == f"{GROUP}/v1":
        paths |= special_paths()
        schemas |= special_schemas()
    return {
        "openapi": "3.0.3",
        "info": {"title": "Casare Fleet", "version": release},
        "paths": {path: paths[path] for path in sorted(paths)},
        "components": {
            "schemas": {name: schemas[name] for name in sorted(schemas)},
            "securitySchemes": SECURITY_SCHEMES,
        },
        "security": SECURITY,
    }


def place(group_version: str) -> str:
    """Where a group's version is, without a slash in front: `api/v1`, `apis/fleet.casare.net/v1`."""
    return f"apis/{group_version}" if "/" in group_version else f"api/{group_version}"


def text(document: Document) -> bytes:
    """The document as it is sent."""
    return orjson.dumps(document)


def fingerprint(document: Document) -> str:
    """A word that stands for this content of a document: clients keep it for as long as the word is the same."""
    return hashlib.sha256(text(document)).hexdigest()[:16].upper()


def index(groups: Mapping[str, Document]) -> Document:
    """`/openapi/v3`: where the documents are that `documents` gives."""
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={fingerprint(each)}"}
            for path, each in sorted(groups.items())
        }
    }


# -- steps -------------------------------------------------------------------------------------------------------


def _kind_schemas(kind: Kind) -> dict[str, Schema]:
    """The schemas of an object and of a list of them."""
    whole = object_schema(kind)
    described = {"description": "The object's name, its labels, and what the server notes about it."}
    properties = {**whole["properties"], "metadata": {**described, "allOf": [meta("ObjectMeta")]}}
    return {
        schema_name(kind.group, kind.version, kind.kind): {
            **whole, "properties": properties, **_known_as(kind.group, kind.version, kind.kind)
        },
        schema_name(kind.group, kind.version, f"{kind.kind}List"): _list_schema(kind),
    }


def _list_schema(kind: Kind) -> Schema:
    own = object_schema(kind)["properties"]
    items = {"type": "array", "description": f"The {kind.plural}.",
             "items": schema_reference(kind.group, kind.version, kind.kind)}
    return {
        "type": "object",
        "description": f"A list of {kind.plural}.",
        "required": ["items"],
        "properties": {
            "apiVersion": own["apiVersion"],
            "kind": {**own["kind"], "enum": [f"{kind.kind}List"]},
            "metadata": {"description": "What the list says about itself.", "allOf": [meta("ListMeta")]},
            "items": items,
        },
        **_known_as(kind.group, kind.version, f"{kind.kind}List"),
    }


def _review_schema(review: Review) -> dict[str, Schema]:
    name = schema_name(review.group, review.version, review.kind)
    schema = whole_schema(review.model, review.api_version, review.kind)
    return {name: {**schema, **_known_as(review.group, review.version, review.kind)}}


def _known_as(group: str, version: str, kind: str) -> Schema:
    return {"x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": kind}]}
