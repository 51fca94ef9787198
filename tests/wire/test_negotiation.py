"""In which form an answer comes: whole, as a table, as metadata alone, as YAML, packed, or not at all."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
import yaml

from casare_api.kinds import KINDS

from ..api.conftest import MERGE, Api, message, name_of
from .test_kubectl_reading import BODIES

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
KUBECTL = f"{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
ONE = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
MANY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
PROTOBUF = "application/vnd.kubernetes.protobuf"
LARGE = 128 * 1024  # bytes from which on answers are packed


def ask(api: Api, path: str, accept: str | None, **params: str) -> httpx2.Response:
    return api.call("GET", path, headers={"accept": accept} if accept is not None else {}, params=params)


def table(api: Api, kind: str = "Robot", name: str | None = None, **params: str) -> Any:
    answer = ask(api, api.path(kind, name), KUBECTL, **params)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert (found["kind"], found["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    return found


def events(api: Api, accept: str, kind: str = "Robot", **params: str) -> list[Any]:
    """The events of a watch of one second that begins with what there is."""
    asked = {"watch": "true", "timeoutSeconds": "1", **params}
    answer = ask(api, api.path(kind), accept, **asked)
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def robots(api: Api) -> Api:
    for name in ("a", "b"):
        api.create("Robot", name, labels={"site": "berlin"})
    return api


# -- JSON and others -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accept",
    ["application/json", "*/*", "application/*", "application/json, */*", "", f"{PROTOBUF},application/json",
     "text/html, application/json;q=0.9", "application/json;stream=watch", f"{PROTOBUF},application/json,application/cbor"],
)  # fmt: skip
def test_json_is_for_who_takes_it(robots: Api, accept: str) -> None:
    answer = ask(robots, robots.path("Robot", "a"), accept)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json()["kind"] == "Robot" and answer.text.count("\n") == 1 and answer.text.endswith("\n")


@pytest.mark.parametrize("accept", ["text/html", "application/cbor", PROTOBUF, "image/*", f"{TABLE.replace('v=v1', 'v=v9')}"])
@pytest.mark.parametrize("params", [{}, {"watch": "true", "timeoutSeconds": "1"}])
def test_who_takes_nothing_that_there_is_gets_nothing(robots: Api, accept: str, params: dict[str, str]) -> None:
    refused = ask(robots, robots.path("Robot"), accept, **params)
    assert message(refused, 406) == "only the following media types are accepted: application/json, application/yaml"
    assert refused.json()["reason"] == "NotAcceptable"


@pytest.mark.parametrize("kind", ["Robot", "Secret", "Namespace"])
def test_yaml_says_the_same_as_json(api: Api, kind: str) -> None:
    name = "x" if KINDS[kind].namespaced else api.namespace
    if KINDS[kind].namespaced:
        api.create(kind, name, BODIES[kind])
    answer = ask(api, api.path(kind, name), "application/yaml")
    assert answer.headers["content-type"] == "application/yaml"
    assert yaml.safe_load(answer.text) == api.get(kind, name)


def test_a_list_comes_as_yaml(robots: Api) -> None:
    listed = yaml.safe_load(ask(robots, robots.path("Robot"), "application/yaml").text)
    assert listed["kind"] == "RobotList" and [item["metadata"]["name"] for item in listed["items"]] == ["a", "b"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_answer_to_a_write_comes_in_the_form_that_was_asked_for(robots: Api, method: str) -> None:
    body, path = robots.get("Robot", "a"), robots.path("Robot", None if method == "POST" else "a")
    if method == "POST":
        body = {"metadata": {"name": "c"}}
    type_ = MERGE if method == "PATCH" else "application/json"
    if method == "DELETE":
        robots.changed("Robot", "a", {"metadata": {"finalizers": ["example.com/hold"]}})
        body = {}
    for accept, kind in ((TABLE, "Table"), (ONE, "PartialObjectMetadata")):
        dry = {"dryRun": "All"}
        answer = robots.call(method, path, body, headers={"accept": accept, "content-type": type_}, params=dry)
        assert answer.status_code in (200, 201) and answer.json()["kind"] == kind, answer.text


# -- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kinds_table_describes_its_columns(api: Api, kind: str) -> None:
    columns = table(api, kind)["columnDefinitions"]
    assert all(set(one) == {"name", "type", "format", "description", "priority"} for one in columns)
    assert all(one["description"] and one["type"] in ("string", "integer") for one in columns)
    assert {one["priority"] for one in columns} <= {0, 1} and columns[0]["priority"] == 0
    assert kind == "Event" or (columns[0]["name"], columns[0]["format"]) == ("Name", "name")


def test_a_row_has_a_cell_for_each_column_and_null_for_what_is_not_known(robots: Api) -> None:
    before, found, after = robots.rv(), table(robots), robots.rv()
    columns = [one["name"] for one in found["columnDefinitions"]]
    cells = dict(zip(columns, found["rows"][0]["cells"], strict=True))
    assert (cells["Name"], cells["Status"], cells["Seen"], cells["Version"]) == ("a", "Pending", None, None)
    assert int(before) <= int(found["metadata"]["resourceVersion"]) <= int(after), "others may write meanwhile"


@pytest.mark.parametrize(("include", "kind"), [(None, "PartialObjectMetadata"), ("Metadata", "PartialObjectMetadata"), ("Object", "Robot")])
def test_a_row_carries_as_much_of_its_object_as_was_asked_for(robots: Api, include: str | None, kind: str) -> None:
    params = {"includeObject": include} if include else {}
    first = table(robots, **params)["rows"][0]["object"]
    assert first["kind"] == kind and first["metadata"] == robots.get("Robot", "a")["metadata"]
    assert ("spec" in first) == (include == "Object")


def test_a_row_carries_nothing_where_nothing_was_asked_for(robots: Api) -> None:
    assert [row["object"] for row in table(robots, includeObject="None")["rows"]] == [None, None]
    assert "includeObject" in message(ask(robots, robots.path("Robot"), KUBECTL, includeObject="All"), 400)


def test_one_object_is_a_table_of_one_row(robots: Api) -> None:
    found = table(robots, name="a")
    assert [row["cells"][0] for row in found["rows"]] == ["a"]
    assert found["metadata"]["resourceVersion"] == robots.get("Robot", "a")["metadata"]["resourceVersion"]


def test_a_table_has_pages(robots: Api) -> None:
    first = table(robots, limit="1")
    rest = table(robots, limit="1", **{"continue": first["metadata"]["continue"]})
    assert [row["cells"][0] for page in (first, rest) for row in page["rows"]] == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 1 and not rest["metadata"].get("continue")


def test_a_watched_table_names_its_columns_once(robots: Api) -> None:
    first, second = events(robots, KUBECTL)
    assert [one["type"] for one in (first, second)] == ["ADDED", "ADDED"]
    assert first["object"]["columnDefinitions"] == table(robots)["columnDefinitions"]
    assert second["object"]["columnDefinitions"] is None
    assert [row["cells"][0] for row in second["object"]["rows"]] == ["b"]
    assert second["object"]["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


def test_a_watched_table_tells_of_later_changes_alike(robots: Api) -> None:
    since = robots.rv()
    robots.changed("Robot", "a", {"spec": {"environment": "staging"}})  # nothing that a duty answers to
    robots.delete("Robot", "b")
    changed, gone = events(robots, KUBECTL, resourceVersion=since, includeObject="Object")
    assert changed["type"] == "MODIFIED" and changed["object"]["rows"][0]["cells"][:4] == ["a", "Pending", "0/1", "staging"]
    assert changed["object"]["rows"][0]["object"]["spec"]["environment"] == "staging"
    assert gone["type"] == "DELETED" and gone["object"]["rows"][0]["cells"][0] == "b"
    assert int(changed["object"]["metadata"]["resourceVersion"]) < int(gone["object"]["metadata"]["resourceVersion"])


# -- metadata alone --------------------------------------------------------------------------------------------------


def test_metadata_alone_is_told_of_one_object(robots: Api) -> None:
    found = ask(robots, robots.path("Robot", "a"), ONE).json()
    wanted = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": robots.get("Robot", "a")["metadata"]}
    assert found == wanted


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_metadata_alone_is_told_of_a_list(api: Api, kind: str) -> None:
    name = name_of(kind, "x") if KINDS[kind].namespaced else api.namespace
    if kind != "Namespace":
        api.create(kind, name, BODIES[kind])
    found = ask(api, api.path(kind), MANY, fieldSelector=f"metadata.name={name}").json()
    assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert int(found["metadata"]["resourceVersion"]) > 0
    (item,) = found["items"]
    assert set(item) == {"kind", "apiVersion", "metadata"} and item["kind"] == "PartialObjectMetadata"


def test_metadata_alone_is_told_in_a_watch(robots: Api) -> None:
    found = events(robots, ONE, allowWatchBookmarks="true")
    assert [one["type"] for one in found[:3]] == ["ADDED", "ADDED", "BOOKMARK"]
    assert {one["type"] for one in found[2:]} == {"BOOKMARK"}, "there is one more where half a minute ends meanwhile"
    assert all(set(one["object"]) == {"kind", "apiVersion", "metadata"} for one in found)
    assert {one["object"]["kind"] for one in found} == {"PartialObjectMetadata"}
    assert found[0]["object"]["metadata"] == robots.get("Robot", "a")["metadata"]


# -- headers and packing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["application/json", "application/yaml", TABLE, MANY])
def test_every_answer_can_be_found_again_and_is_not_kept(robots: Api, accept: str) -> None:
    found = [ask(robots, robots.path("Robot"), accept).headers for _ in range(2)]
    assert len({one["audit-id"] for one in found}) == 2
    assert {one["cache-control"] for one in found} == {"no-cache, private"}


def test_watches_and_refusals_can_be_found_again(api: Api) -> None:
    watch = ask(api, api.path("Robot"), None, watch="true", timeoutSeconds="1")
    for answer in (watch, ask(api, api.path("Robot", "nope"), None), ask(api, api.path("Robot"), None, limit="x")):
        assert len(answer.headers["audit-id"]) == 36 and answer.headers["cache-control"] == "no-cache, private"
    assert watch.headers["transfer-encoding"] == "chunked" and watch.headers["content-type"] == "application/json"


def sized(api: Api, size: int) -> dict[str, str]:
    """What was said of an answer of this many bytes, whose content was looked at."""
    api.create("ConfigMap", "x", {"data": {"a": ""}})
    text = ""
    while missing := size - len(api.call("GET", api.path("ConfigMap", "x")).content):  # its resourceVersion grows as well
        text = "y" * (len(text) + missing)
        api.changed("ConfigMap", "x", {"data": {"a": text}})
    plain = api.call("GET", api.path("ConfigMap", "x"), headers={"accept-encoding": "identity"})
    assert len(plain.content) == size and "content-encoding" not in plain.headers
    packed = api.call("GET", api.path("ConfigMap", "x"), headers={"accept-encoding": "gzip"})
    assert packed.content == plain.content
    return dict(packed.headers)


def test_a_large_answer_is_packed_for_who_can_unpack_it(api: Api) -> None:
    headers = sized(api, LARGE)
    assert headers["content-encoding"] == "gzip" and int(headers["content-length"]) < LARGE // 10
    assert "Accept-Encoding" in headers["vary"]


def test_a_smaller_answer_is_not_packed(api: Api) -> None:
    headers = sized(api, LARGE - 1)
    assert "content-encoding" not in headers and int(headers["content-length"]) == LARGE - 1
