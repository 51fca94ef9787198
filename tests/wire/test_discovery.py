"""What there is, told to programs: discovery in both forms, OpenAPI, and how long clients may keep what they were told."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest

from casare_api.kinds import GROUP, KINDS

from ..api.conftest import Api, message

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
BETA = AGGREGATED.replace("v=v2", "v=v2beta1")
KUBECTL = f"{AGGREGATED},application/json"
KUBECTL_1_32 = f"{AGGREGATED},{BETA},application/json"
HERE = f"apis/{GROUP}/v1"


def ask(api: Api, path: str, accept: str | None = None, **headers: str) -> httpx2.Response:
    return api.call("GET", path, headers={**({"accept": accept} if accept else {}), **headers})


def told(api: Api, path: str, accept: str | None = None) -> Any:
    answer = ask(api, path, accept)
    assert answer.status_code == 200, answer.text
    return answer.json()


# -- aggregated discovery --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api", "/apis", "/api/", "/apis/"])
@pytest.mark.parametrize(
    ("accept", "type_"), [(KUBECTL, AGGREGATED), (KUBECTL_1_32, AGGREGATED), (f"{BETA},application/json", BETA)]
)
def test_everything_is_told_at_once_to_who_asks_for_it(api: Api, path: str, accept: str, type_: str) -> None:
    answer = ask(api, path, accept)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == type_, "clients compare it word by word"
    assert answer.headers["vary"] == "Accept" and answer.headers["cache-control"] == "public"
    version = "v2beta1" if type_ == BETA else "v2"
    assert (answer.json()["kind"], answer.json()["apiVersion"]) == ("APIGroupDiscoveryList", f"apidiscovery.k8s.io/{version}")


def test_both_forms_tell_of_the_same_resources(api: Api) -> None:
    found = set()
    for path in ("/api", "/apis"):
        for group in told(api, path, KUBECTL)["items"]:
            name = group["metadata"].get("name", "")
            root = f"/apis/{name}" if name else "/api"
            for version in group["versions"]:
                listed = {row["name"]: row for row in told(api, f"{root}/{version['version']}")["resources"]}
                assert {name for name in listed if "/" not in name} == {row["resource"] for row in version["resources"]}
                assert all(listed[row["resource"]]["verbs"] == row["verbs"] for row in version["resources"])
                found |= {(name, row["resource"]) for row in version["resources"]}
    assert found >= {(kind.group, kind.plural) for kind in KINDS.values()}


@pytest.mark.parametrize("accept", [None, "application/json", "*/*", f"application/json,{AGGREGATED}", "application/json, */*"])
def test_the_lists_are_for_all_others(api: Api, accept: str | None) -> None:
    assert told(api, "/api", accept)["kind"] == "APIVersions" and told(api, "/api", accept)["versions"] == ["v1"]
    groups = told(api, "/apis", accept)
    assert groups["kind"] == "APIGroupList" and GROUP in {group["name"] for group in groups["groups"]}
    assert ask(api, "/apis", accept).headers["content-type"] == "application/json"


def test_an_unknown_version_of_the_whole_is_not_answered_with_another(api: Api) -> None:
    accept = AGGREGATED.replace("v=v2", "v=v9")
    assert told(api, "/apis", f"{accept},application/json")["kind"] == "APIGroupList"
    assert "only the following media types" in message(ask(api, "/apis", accept), 406)


# -- the older form --------------------------------------------------------------------------------------------------


def test_a_group_and_its_versions_are_told(api: Api) -> None:
    version = {"groupVersion": f"{GROUP}/v1", "version": "v1"}
    told_of = told(api, f"/apis/{GROUP}")
    assert told_of == {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version}
    for path in (f"/{HERE}", f"/{HERE}/", "/api/v1", "/api/v1/"):
        assert told(api, path)["kind"] == "APIResourceList"


def test_an_older_list_names_subresources_short_names_and_categories(api: Api) -> None:
    rows = {row["name"]: row for row in told(api, f"/{HERE}")["resources"]}
    assert rows["robots"]["shortNames"] == ["rb"] and rows["robots"]["categories"] == ["fleet", "all"]
    assert rows["robots/status"] == {"name": "robots/status", "singularName": "", "namespaced": True, "kind": "Robot",
                                     "verbs": ["get", "patch", "update"]}  # fmt: skip


@pytest.mark.parametrize("path", ["/version", "/version/"])
def test_the_version_is_told_with_and_without_a_slash(api: Api, path: str) -> None:
    version = api.http.get(path, follow_redirects=False)
    assert version.status_code == 200 and version.json()["major"] == "1"
    assert {"minor", "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"} <= set(version.json())
    assert 28 <= int(version.json()["minor"]) <= 35, "what kr8s takes without a warning"


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/readyz?verbose"])
def test_probes_are_plain_text(api: Api, path: str) -> None:
    probe = api.http.get(path)
    assert probe.text.startswith("ok") and probe.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "/apis/x", f"/apis/{GROUP}/v9"])
def test_what_there_is_not_is_told_as_text(api: Api, path: str) -> None:
    missing = ask(api, path)
    assert (missing.status_code, missing.text) == (404, "404 page not found\n")
    assert missing.headers["content-type"].startswith("text/plain")


# -- keeping what was told -------------------------------------------------------------------------------------------

KEPT = ["/api", "/apis", f"/{HERE}", "/openapi/v3", f"/openapi/v3/{HERE}"]


@pytest.mark.parametrize("path", KEPT)
def test_who_has_it_already_is_told_so(api: Api, path: str) -> None:
    accept = KUBECTL if path in KEPT[:2] else None
    first = ask(api, path, accept)
    tag = first.headers["etag"]
    assert tag.startswith('"') and tag.endswith('"') and len(tag) > 10
    again = ask(api, path, accept, **{"if-none-match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = ask(api, path, accept, **{"if-none-match": '"ANOTHER"'})
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize("path", ["/api", "/apis"])
def test_each_form_has_a_tag_of_its_own(api: Api, path: str) -> None:
    whole = ask(api, path, KUBECTL).headers["etag"]
    assert len({whole, ask(api, path).headers["etag"], ask(api, path, BETA).headers["etag"]}) == 3
    assert ask(api, path, **{"if-none-match": whole}).status_code == 200


# -- OpenAPI ---------------------------------------------------------------------------------------------------------


def test_the_index_leads_to_a_document_for_every_version(api: Api) -> None:
    paths = told(api, "/openapi/v3")["paths"]
    versions = {f"apis/{kind.api_version}" if kind.group else "api/v1" for kind in KINDS.values()}
    assert versions <= set(paths)
    for place, found in paths.items():
        address = found["serverRelativeURL"]
        assert address.startswith(f"/openapi/v3/{place}?hash=")
        assert told(api, address)["openapi"].startswith("3.0")


def test_a_document_is_kept_for_ever_under_its_hash(api: Api) -> None:
    address = told(api, "/openapi/v3")["paths"][HERE]["serverRelativeURL"]
    found = ask(api, address)
    assert "public" in found.headers["cache-control"] and "immutable" in found.headers["cache-control"]
    left = parsedate_to_datetime(found.headers["expires"]) - parsedate_to_datetime(found.headers["date"])
    assert 364 <= left.days <= 366


@pytest.mark.parametrize("query", ["", "?hash=", "?hash=0123456789ABCDEF"])
def test_a_document_is_not_kept_under_any_other_address(api: Api, query: str) -> None:
    """An older server may be asked for what a newer one's index promised: nobody may keep that answer for a year."""
    found = ask(api, f"/openapi/v3/{HERE}{query}")
    assert found.status_code == 200 and found.json()["paths"]
    assert found.headers["cache-control"] == "no-cache, private" and "expires" not in found.headers


def test_kubectl_finds_what_its_validation_looks_for(api: Api) -> None:
    document = told(api, f"/openapi/v3/{HERE}")
    patch = document["paths"][f"/{HERE}/namespaces/{{namespace}}/robots/{{name}}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": GROUP, "version": "v1", "kind": "Robot"}
    assert {"dryRun", "fieldManager", "fieldValidation", "force"} <= {one["name"] for one in patch["parameters"]}
    bodies = {"application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"}
    assert set(patch["requestBody"]["content"]) == bodies
    schema = document["components"]["schemas"]["net.casare.fleet.v1.Robot"]
    assert schema["x-kubernetes-group-version-kind"] == [{"group": GROUP, "version": "v1", "kind": "Robot"}]


@pytest.mark.parametrize("accept", ["application/json", "*/*", None])
def test_the_second_openapi_is_not_told_as_json(api: Api, accept: str | None) -> None:
    assert "only the following media types are accepted" in message(ask(api, "/openapi/v2", accept), 406)


def test_who_takes_the_second_openapi_in_protobuf_learns_that_nothing_is_in_it(api: Api) -> None:
    """kubectl reads it before it sends a `kind: List`."""
    found = ask(api, "/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
    assert found.headers["content-type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert found.status_code == 200 and found.content.startswith(b"\n\x032.0")


@pytest.mark.parametrize("path", [*KEPT, "/openapi/v3/nope", "/version", "/healthz", "/apis/x", "/nope"])
def test_every_answer_can_be_found_again(api: Api, path: str) -> None:
    first, second = ask(api, path).headers, ask(api, path).headers
    assert len(first["audit-id"]) == 36 and first["audit-id"] != second["audit-id"]
    assert first["cache-control"] in ("public", "no-cache, private")


@pytest.mark.parametrize("path", KEPT)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_documents_are_read_and_nothing_else(api: Api, path: str, method: str) -> None:
    assert "does not allow this method" in message(api.call(method, path), 405)
