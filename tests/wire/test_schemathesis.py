"""Schemathesis attacks every documented operation: no failure of the server's, and every answer is as documented."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from casare_api.kinds import KINDS, Kind
from casare_api.machinery import openapi

from ..api.conftest import CHANGES, JSON_PATCH, MERGE, Api, name_of, sample
from ..conftest import Server

ENDLESS = ("watch", "follow")  # what would never be answered in full
NAMES = ("a1", "a2", "a3")
METHODS = {"GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"}
FEW = settings(
    max_examples=4, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)
CHECKS: Any = [status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance]
DOCUMENTS = openapi.documents("test")
schemathesis.serializer.alias("application/apply-patch+yaml", "application/yaml")


def operations(document: Any) -> list[Any]:
    """Each operation of a document."""
    results: Any = schemathesis.openapi.from_dict(document).get_all_operations()
    found = [result.ok() for result in results]
    return [pytest.param(operation, id=f"{operation.method}-{operation.path}") for operation in found]


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[Api]:
    """Where the attacks go: one namespace of a server of their own, with the admin's key."""
    found = Api(server, "n-" + secrets.token_hex(5))
    found.create("Namespace", found.namespace, {})
    yield found
    found.close()


@pytest.fixture(scope="module")
def session(api: Api) -> Iterator[requests.Session]:
    with requests.Session() as found:
        found.headers["authorization"] = f"Bearer {api.key}"
        yield found


def aim(case: Any, namespace: str, name: str | None) -> None:
    """Points a case at the namespace, and with a name at an object that may be there. It is not to go on for ever."""
    for parameter in ENDLESS:
        (case.query or {}).pop(parameter, None)
    if "namespace" in case.path_parameters:
        case.path_parameters["namespace"] = namespace
    if name is None:
        return
    if "name" in case.path_parameters:
        case.path_parameters["name"] = name
    if isinstance(case.body, dict) and isinstance(case.body.get("metadata"), dict):
        case.body["metadata"] = {"name": name}


def is_ahead(case: Any, response: Any) -> bool:
    """Whether a list asked for a version that no change has yet: as in Kubernetes the one answer above 500."""
    causes = (response.json().get("details") or {}).get("causes") or [{}]
    is_list = case.method == "GET" and "resourceVersion" in (case.query or {})
    return is_list and response.status_code == 504 and causes[0].get("reason") == "ResourceVersionTooLarge"


def attacked(operation: Any, api: Api, session: requests.Session) -> None:
    """Calls an operation with what is right and what is wrong by its schemas, and checks each answer."""
    right, wrong = operation.as_strategy(GenerationMode.POSITIVE), operation.as_strategy(GenerationMode.NEGATIVE)

    @FEW
    @given(case=right | wrong if operation.body or operation.query else right, name=st.none() | st.sampled_from(NAMES))
    def attack(case: Any, name: str | None) -> None:
        aim(case, api.namespace, name)
        response = case.call(base_url=api.server.url, session=session)
        assert response.status_code < 500 or is_ahead(case, response), (case.as_curl_command(), response.text)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400 and case.method != "HEAD":
            said = response.json()
            assert said["kind"] == "Status" and said["code"] == response.status_code and said["message"], said

    attack()


@pytest.mark.parametrize("operation", [each for document in DOCUMENTS.values() for each in operations(document)])
def test_an_operation_bears_what_is_right_and_what_is_wrong(api: Api, session: requests.Session, operation: Any) -> None:
    attacked(operation, api, session)


def test_both_doors_describe_the_same(api: Api, session: requests.Session) -> None:
    """What is attacked here is what the server says at /openapi/v3, group by group, and at /openapi.json in one."""
    door = api.call("GET", "/openapi.json").json()
    served = {place: api.call("GET", f"/openapi/v3/{place}").json() for place in DOCUMENTS}
    assert set(api.call("GET", "/openapi/v3").json()["paths"]) == set(DOCUMENTS)
    for place, document in DOCUMENTS.items():
        assert served[place]["paths"] == document["paths"] and served[place]["components"] == document["components"]
        assert {path: door["paths"][path] for path in document["paths"]} == document["paths"]
    rest = {path: item for path, item in door["paths"].items() if not any(path in each["paths"] for each in DOCUMENTS.values())}
    assert rest and not [path for path in rest if path.startswith(("/api", "/openapi"))]
    for parameter in operations({**door, "paths": rest}):
        attacked(parameter.values[0], api, session)


PATHS = {path: item for document in DOCUMENTS.values() for path, item in document["paths"].items()}


@pytest.mark.parametrize("path", PATHS)
def test_a_method_that_is_not_documented_is_not_allowed(api: Api, path: str) -> None:
    place = path.replace("{namespace}", api.namespace).replace("{name}", "a1")
    place = place.replace("{sha256}", "0" * 64).replace("{revision}", "0" * 16)
    for method in METHODS - {method.upper() for method in PATHS[path]}:
        refused = api.call(method, place, content=b"{}")
        assert refused.status_code == 405, (method, refused.status_code, refused.text)
        assert (refused.json()["kind"], refused.json()["reason"]) == ("Status", "MethodNotAllowed")


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.kind)
def test_every_documented_method_of_a_kind_works(api: Api, kind: Kind) -> None:
    """One life of an object, by all the operations that are documented: each answers as it says it does."""
    left = {(path, method) for path, method in documented(kind) if method in ("get", "put", "post", "patch", "delete")}
    name = name_of(kind.kind, f"w-{kind.plural}")

    def call(method: str, subresource: str | None = None, named: bool = True, **more: Any) -> Any:
        namespace = api.namespace if kind.namespaced else None
        answer = api.call(method, kind.path(namespace, name if named else None, subresource), **more)
        template = kind.path("{namespace}" if kind.namespaced else None, "{name}" if named else None, subresource)
        left.discard((template, method.lower()))
        assert str(answer.status_code) in PATHS[template][method.lower()]["responses"], answer.text
        return answer.json()

    merge: Any = {"headers": {"content-type": MERGE}}
    patch: Any = {"headers": {"content-type": JSON_PATCH}}
    call("POST", named=False, json=sample(kind.kind, name))
    assert name in [item["metadata"]["name"] for item in call("GET", named=False)["items"]]
    call("PATCH", json=CHANGES.get(kind.kind, {}), **merge)
    call("PATCH", json=[{"op": "add", "path": "/metadata/labels", "value": {"of": name}}], **patch)
    assert call("PUT", json=call("GET"))["metadata"]["labels"]["of"] == name
    if kind.has_status:
        call("PATCH", "status", json={"status": {}}, **merge)
        call("PUT", "status", json=call("GET", "status"))
    if kind.namespaced:
        api.call("GET", kind.path(), params={"limit": 1}).raise_for_status()
        left.discard((kind.path(), "get"))
    call("DELETE")
    if (kind.path("{namespace}"), "delete") in left:
        call("DELETE", named=False, params={"labelSelector": f"of={name}"})
    assert not left


def documented(kind: Kind) -> Iterator[tuple[str, str]]:
    """The operations of a kind: not those of its own that are documented apart."""
    where = kind.path("{namespace}" if kind.namespaced else None)
    for path in (kind.path(), where, f"{where}/{{name}}", f"{where}/{{name}}/status"):
        yield from ((path, method) for method in PATHS.get(path, ()))


@pytest.mark.parametrize("path", ["/apis", "/api/v1/namespaces", "/openapi/v3"])
def test_pretty_spreads_an_answer_over_lines(api: Api, path: str) -> None:
    plain, pretty = api.call("GET", path), api.call("GET", path, params={"pretty": "true"})
    assert "\n  " not in plain.text and '\n  "' in pretty.text
    assert pretty.json().keys() == plain.json().keys()
