"""The documents of the groups say what there is, in a form that kubectl and OpenAPI tools read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from casare_api.kinds import GROUP, KINDS, Kind
from casare_api.kinds.kind import Model
from casare_api.kinds.reviews import REVIEWS
from casare_api.machinery import discovery, openapi, openapi_bodies, openapi_special
from casare_api.machinery.schema import metadata_schema
from casare_apiserver import agents
from casare_apiserver.app import build
from casare_store import beside

DOCUMENTS = openapi.documents("1.2.3")
FLEET = f"apis/{GROUP}/v1"
EACH = pytest.mark.parametrize("path", DOCUMENTS)
EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
METHODS = {"get", "put", "post", "patch", "delete", "head"}
META = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1."
ACTIONS = {
    "get": ["get"],
    "list": ["list", "watch"],
    "post": ["create"],
    "put": ["update"],
    "patch": ["patch"],
    "delete": ["delete"],
    "deletecollection": ["deletecollection"],
}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path, method, operation) of a document."""
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield path, method, item[method]


def values(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(node, dict):
        yield node
        for below in node.values():
            yield from values(below)
    elif isinstance(node, list):
        for below in node:
            yield from values(below)


def of(kind: Kind) -> dict[str, Any]:
    return DOCUMENTS[openapi.place(kind.api_version)]


def meant(kind: Any) -> dict[str, str]:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def schema_of(kind: Any) -> dict[str, Any]:
    """The schema of a kind as kubectl finds it."""
    schemas = DOCUMENTS[openapi.place(kind.api_version)]["components"]["schemas"].values()
    [found] = [one for one in schemas if meant(kind) in one.get("x-kubernetes-group-version-kind", ())]
    return dict(found)


def test_there_is_a_document_for_every_version_of_a_group_that_has_something() -> None:
    assert set(DOCUMENTS) == {
        "api/v1", FLEET, "apis/coordination.k8s.io/v1", "apis/events.k8s.io/v1", "apis/authorization.k8s.io/v1",
        "apis/authentication.k8s.io/v1", "apis/rbac.authorization.k8s.io/v1",
    }  # fmt: skip
    assert openapi.document("v1", KINDS.values(), "1.2.3") == DOCUMENTS["api/v1"]


@EACH
def test_a_document_has_what_openapi_asks_for(path: str) -> None:
    document = DOCUMENTS[path]
    assert document["openapi"].startswith("3.0.") and document["info"] == {"title": "Casare Fleet", "version": "1.2.3"}
    for name, item in document["paths"].items():
        assert name.startswith(f"/{path}/") and item.keys() <= METHODS | {"parameters"}
    for name, method, operation in operations(document):
        assert operation["summary"] and operation["tags"] and operation["responses"], (name, method)
        for code, answer in operation["responses"].items():
            assert answer["description"] and (code == "default" or code in ("200", "201", "204")), (name, method)
        assert ("requestBody" in operation) <= (method in ("post", "put", "patch", "delete"))


@EACH
def test_the_parameters_of_a_path_are_those_in_it(path: str) -> None:
    for name, what in DOCUMENTS[path]["paths"].items():
        declared = {one["name"] for one in what["parameters"] if one["in"] == "path"}
        assert declared == {part[1:-1] for part in name.split("/") if part.startswith("{")}
        for method in METHODS & what.keys():
            every = [*what["parameters"], *what[method].get("parameters", ())]
            assert len({(one["in"], one["name"]) for one in every}) == len(every), (name, method)
            assert all(one["description"] and one["schema"]["type"] for one in every), (name, method)
            assert all(one.get("required", False) for one in every if one["in"] == "path")


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for document in DOCUMENTS.values() for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) and all(name.isalnum() for name in names)


@EACH
def test_references_lead_somewhere(path: str) -> None:
    document = DOCUMENTS[path]
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert {node["$ref"] for node in values(document) if "$ref" in node} <= known


@EACH
def test_nothing_is_said_that_only_openapi_3_1_knows(path: str) -> None:
    for node in values(DOCUMENTS[path]["components"]):
        assert not {"const", "exclusiveMinimum", "$defs", "propertyNames", "title"} & {
            key for key in node if not isinstance(node[key], dict)
        }
        assert not isinstance(node.get("type"), list) and node.get("type") != "null"
        if "$ref" in node:
            assert node.keys() == {"$ref"}


@EVERY
def test_kubectl_finds_the_schema_of_a_kind(kind: Kind) -> None:
    schema = schema_of(kind)
    assert schema["description"] == kind.description
    assert schema["properties"]["metadata"]["allOf"] == [{"$ref": f"{META}ObjectMeta"}]
    schemas = of(kind)["components"]["schemas"]
    assert schemas[f"{META}ObjectMeta".rpartition("/")[2]] == metadata_schema()
    lists = [one for one in schemas.values() if meant(kind) | {"kind": f"{kind.kind}List"}
             in one.get("x-kubernetes-group-version-kind", ())]  # fmt: skip
    assert len(lists) == 1 and lists[0]["properties"]["items"]["items"]["$ref"].endswith(f".{kind.kind}")


def test_schemas_are_named_as_kubernetes_names_them() -> None:
    assert "net.casare.fleet.v1.Robot" in DOCUMENTS[FLEET]["components"]["schemas"]
    assert "net.casare.fleet.v1.RobotList" in DOCUMENTS[FLEET]["components"]["schemas"]
    assert "io.k8s.api.core.v1.ConfigMap" in DOCUMENTS["api/v1"]["components"]["schemas"]
    assert "io.k8s.api.coordination.v1.Lease" in DOCUMENTS["apis/coordination.k8s.io/v1"]["components"]["schemas"]
    assert "io.k8s.api.authorization.v1.SelfSubjectAccessReview" in (
        DOCUMENTS["apis/authorization.k8s.io/v1"]["components"]["schemas"]
    )


@EVERY
def test_every_patch_of_a_kind_takes_what_kubectl_sends(kind: Kind) -> None:
    """kubectl looks at any PATCH of the kind: all of them must say the same."""
    patches = [one for _, method, one in operations(of(kind)) if method == "patch"
               and one["x-kubernetes-group-version-kind"] == meant(kind)]  # fmt: skip
    assert len(patches) == 1 + kind.has_status
    for one in patches:
        names = {parameter["name"] for parameter in one["parameters"]}
        assert names == {"dryRun", "fieldManager", "fieldValidation", "force"}
        types = set(one["requestBody"]["content"])
        assert types >= {
            "application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml",
        }  # fmt: skip
        assert ("application/strategic-merge-patch+json" in types) == (kind.group != GROUP)


@EVERY
def test_what_is_documented_is_what_discovery_lists(kind: Kind) -> None:
    verbs: dict[str, set[str]] = {"": set()}
    for path, method, operation in operations(of(kind)):
        if operation.get("x-kubernetes-group-version-kind") == meant(kind):
            below = "status" if path.endswith("/status") else ""
            verbs.setdefault(below, set()).update(ACTIONS[operation["x-kubernetes-action"]])
        elif operation["tags"] == [kind.plural]:
            below = path.split("{name}/")[1].split("/")[0]
            verbs.setdefault(below, set()).add({"get": "get", "head": "get", "post": "create", "put": "update"}[method])
    listed = {one.name: set(one.verbs) for one in discovery.subresources(kind)}
    assert verbs == {"": set(discovery.verbs(kind)), **listed}


@EVERY
def test_a_kind_has_the_paths_of_its_scope(kind: Kind) -> None:
    mine = {path for path, _, one in operations(of(kind))
            if one.get("x-kubernetes-group-version-kind") == meant(kind)}  # fmt: skip
    inside = kind.path("{namespace}" if kind.namespaced else None)
    wanted = {inside, f"{inside}/{{name}}", kind.path()} | ({f"{inside}/{{name}}/status"} if kind.has_status else set())
    assert mine == wanted
    if kind.namespaced:
        assert of(kind)["paths"][kind.path()].keys() == {"get", "parameters"}
    else:
        assert "delete" not in of(kind)["paths"][inside]


@EVERY
def test_a_list_tells_which_fields_can_be_selected(kind: Kind) -> None:
    parameters = of(kind)["paths"][kind.path()]["get"]["parameters"]
    [text] = [one["description"] for one in parameters if one["name"] == "fieldSelector"]
    assert all(field in text for field in kind.selectable)
    assert {"watch", "sendInitialEvents", "resourceVersionMatch", "continue", "allowWatchBookmarks"} <= {
        one["name"] for one in parameters
    }


@pytest.mark.parametrize("review", REVIEWS, ids=lambda one: one.kind)
def test_a_question_can_be_posted_and_nothing_else(review: Any) -> None:
    item = DOCUMENTS[openapi.place(review.api_version)]["paths"][review.path]
    assert item.keys() == {"parameters", "post"} and set(item["post"]["responses"]) == {"201", "default"}
    assert schema_of(review)["description"] == review.description
    for name, one in schema_of(review)["properties"].items():
        assert one["description"], name


def test_what_robots_report_is_described_as_it_is_read() -> None:
    for described, read in ((openapi_bodies.Report, agents.Report), (openapi_bodies.Transition, agents.Transition)):
        assert fields(described) == fields(read)
    assert openapi_special.MAX_LOG_SEQ == beside.MAX_LOG_SEQ


def fields(model: type[Model]) -> dict[str | None, bool]:
    return {field.alias: field.is_required() for field in model.model_fields.values()}


def test_files_logs_keys_and_revisions_are_documented() -> None:
    inside = f"/{FLEET}/namespaces/{{namespace}}"
    paths = DOCUMENTS[FLEET]["paths"]
    found = {path.removeprefix(inside): item.keys() - {"parameters"} for path, item in paths.items()}
    assert found["/robots/{name}/report"] == {"post"}
    assert found["/jobs/{name}/log"] == {"get", "post"}
    assert found["/jobs/{name}/retry"] == {"post"}
    assert found["/jobs/{name}/why"] == {"get"}
    assert found["/jobs/{name}/artifacts"] == {"get"}
    assert found["/jobs/{name}/artifacts/{file}"] == {"get", "head", "put"}
    assert found["/apikeys/{name}/token"] == found["/apikeys/{name}/rotate"] == {"post"}
    assert found["/workflows/{name}/revisions/{revision}"] == {"get"}
    assert found["/blobs/{sha256}"] == {"get", "head", "put"}
    assert not [path for path in paths if path.endswith("/scale")]


def test_the_index_leads_to_every_document_by_the_hash_of_its_content() -> None:
    index = openapi.index(DOCUMENTS)["paths"]
    assert set(index) == set(DOCUMENTS)
    for path, entry in index.items():
        assert entry == {"serverRelativeURL": f"/openapi/v3/{path}?hash={openapi.fingerprint(DOCUMENTS[path])}"}
    again = openapi.documents("1.2.3")
    assert openapi.index(again)["paths"] == index, "the same kinds make the same hash"
    later = openapi.documents("1.2.4")
    assert all(openapi.fingerprint(later[path]) != openapi.fingerprint(DOCUMENTS[path]) for path in DOCUMENTS)


def test_the_applications_own_document_says_the_same() -> None:
    app = build(lambda: True)
    merged = app.openapi()
    for document in openapi.documents(app.version).values():
        assert document["paths"].items() <= merged["paths"].items()
        assert document["components"]["schemas"].items() <= merged["components"]["schemas"].items()
    names = [operation["operationId"] for _, _, operation in operations(merged)]
    assert len(names) == len(set(names)) and "/healthz" in merged["paths"]
    assert merged is app.openapi()
