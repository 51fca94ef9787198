"""Which HTTP request asks for what."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.kinds import KINDS
from casare_api.machinery.errors import ApiError
from casare_client import requests
from casare_client.requests import LogChunk, Patch, Selection, kind_of

ROOT = "/apis/fleet.casare.net/v1"


def test_a_kind_is_known_by_any_of_its_names() -> None:
    assert {kind_of(word).kind for word in ("Job", "job", "jobs")} == {"Job"}
    assert kind_of(KINDS["Robot"]) is KINDS["Robot"]
    with pytest.raises(ApiError, match="no kind"):
        kind_of("nonsense")


def test_paths_of_objects_and_collections() -> None:
    assert requests.get(KINDS["Job"], "ns", "a").path == f"{ROOT}/namespaces/ns/jobs/a"
    assert requests.get(KINDS["Namespace"], None, "a").path == "/api/v1/namespaces/a"
    assert requests.list_(Selection(KINDS["Job"])).path == f"{ROOT}/jobs"
    assert requests.revision("ns", "w", "abc").path == f"{ROOT}/namespaces/ns/workflows/w/revisions/abc"
    assert requests.blob("HEAD", "ns", "abc").path == f"{ROOT}/namespaces/ns/blobs/abc"


def test_paths_of_what_is_below_a_job() -> None:
    assert requests.retry("ns", "a", dry_run=True).params == {"dryRun": "All"}
    assert requests.why("ns", "a").path == f"{ROOT}/namespaces/ns/jobs/a/why"
    assert requests.why_of("ns", {}).params == {"fieldValidation": "Strict", "dryRun": "All", "why": "true"}
    file = requests.artifact("ns", "a", "../b c", attempt=2)
    assert file.path == f"{ROOT}/namespaces/ns/jobs/a/artifacts/..%2Fb%20c" and file.params == {"attempt": "2"}


def test_many_jobs_are_one_list() -> None:
    sent = json.loads(requests.submit("ns", [{"spec": {}}, {"spec": {}}]).content or b"")
    assert (sent["kind"], sent["apiVersion"], len(sent["items"])) == ("JobList", "fleet.casare.net/v1", 2)


@given(st.text(min_size=1))
def test_no_name_reaches_another_path(name: str) -> None:
    path = requests.get(KINDS["Job"], "ns", name).path
    last = path.removeprefix(f"{ROOT}/namespaces/ns/jobs/")
    assert "/" not in last
    assert last not in (".", "..")
    assert "?" not in last and "#" not in last


def test_lists_and_watches_select() -> None:
    chosen = Selection(KINDS["Job"], "ns", "a=b", "status.phase!=Failed")
    assert requests.list_(chosen, 5, "next").params == {
        "labelSelector": "a=b", "fieldSelector": "status.phase!=Failed", "limit": "5", "continue": "next",
    }  # fmt: skip
    assert requests.watch(chosen, "7").params == {
        "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "7",
        "labelSelector": "a=b", "fieldSelector": "status.phase!=Failed",
    }  # fmt: skip


def test_writes_are_strict_and_say_who_they_are() -> None:
    request = requests.create(KINDS["Workflow"], "ns", {"a": 1}, dry_run=True)
    assert (request.method, request.params) == (
        "POST",
        {"fieldManager": "casare", "fieldValidation": "Strict", "dryRun": "All"},
    )
    assert request.content == b'{"a":1}'


def test_a_jobs_creator_does_not_ask_for_its_fields() -> None:
    assert requests.create(KINDS["Job"], "ns", {}).params == {"fieldValidation": "Strict"}


@pytest.mark.parametrize(("kind", "content_type"), [("merge", "merge-patch"), ("json", "json-patch")])
def test_a_patch_has_the_type_of_its_kind(kind: requests.PatchType, content_type: str) -> None:
    request = requests.patch(KINDS["Job"], "ns", "a", Patch({}, kind, "status"))
    assert request.content_type == f"application/{content_type}+json"
    assert request.path.endswith("/jobs/a/status")


def test_a_delete_can_be_for_one_uid_alone() -> None:
    body = json.loads(requests.delete(KINDS["Job"], "ns", "a", "u-1").content or b"")
    assert body["preconditions"] == {"uid": "u-1"}
    assert "preconditions" not in json.loads(requests.delete(KINDS["Job"], "ns", "a").content or b"")


def test_a_log_chunk_is_numbered_and_never_fails_for_its_text() -> None:
    request = requests.send_log("ns", "a", LogChunk("u", 2, 3, "\ud800x"))
    assert (request.params, request.content) == ({"uid": "u", "attempt": "2", "seq": "3"}, b"?x")


@pytest.mark.parametrize("value", ["\ud800", 2**70, {1, 2}])
def test_what_json_can_not_say_is_an_error_in_words(value: object) -> None:
    with pytest.raises(ApiError, match="can't be sent as JSON"):
        requests.create(KINDS["Job"], "ns", {"a": value})


def test_a_request_does_not_show_what_it_carries() -> None:
    assert "secret" not in repr(requests.create(KINDS["ApiKey"], "ns", {"key": "secret"}))
