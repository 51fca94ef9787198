"""Every kind can be created, read, changed and deleted, in the ways that Kubernetes clients know."""

from __future__ import annotations

import re
import secrets
from typing import Any

import pytest

from casare_api.kinds import Object, dig

from .conftest import (
    ALL_KINDS,
    AT_ONCE,
    CHANGEABLE,
    CHANGES,
    NAMESPACED,
    OVERWRITTEN,
    WITH_STATUS,
    Api,
    is_status,
    kind_of,
    message,
    sample,
)

STATUSES: dict[str, dict[str, Any]] = {
    "Robot": {"agent": {"version": "1.2.3"}},
    "Schedule": {"lastJobName": "nightly-1"},
    "Fire": {"outcome": "Missed"},
    "Workflow": {"note": "written by a controller"},
    "ApiKey": {"conditions": [{"type": "Audited", "status": "True"}]},
    "Namespace": {"phase": "Active", "note": "x"},
}  # a job's status has rules of its own: test_job_life


@pytest.fixture
def name(kind: str) -> str:
    return f"{kind.lower()}-{secrets.token_hex(4)}"


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_was_created_can_be_read_and_has_an_identity(api: Api, kind: str, name: str) -> None:
    made = api.create(kind, name, labels={"site": "berlin"})
    meta = made["metadata"]
    assert made["kind"] == kind and made["apiVersion"] == kind_of(kind).api_version
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", meta["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", meta["creationTimestamp"])
    assert meta["generation"] == 1 and int(meta["resourceVersion"]) > 0
    assert meta.get("namespace") == (api.namespace if kind in NAMESPACED else None)
    found = api.get(kind, name)
    assert found["metadata"] == meta
    assert [name] == [each for each in api.names(kind) if each == name]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_name_is_taken_once(api: Api, kind: str, name: str) -> None:
    api.create(kind, name)
    again = api.call("POST", api.path(kind), sample(kind, name))
    assert is_status(again, 409, "AlreadyExists")
    assert f'"{name}" already exists' in again.json()["message"]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_generated_name_is_a_name_behind_its_prefix(api: Api, kind: str) -> None:
    body = sample(kind, "x")
    body["metadata"] = {"generateName": "made-"}
    made = api.call("POST", api.path(kind), body)
    assert made.status_code == 201, made.text
    letters = 10 if kind == "Job" else 5
    assert re.fullmatch(rf"made-[bcdfghjklmnpqrstvwxz2456789]{{{letters}}}", made.json()["metadata"]["name"])
    nameless = api.call("POST", api.path(kind), {**body, "metadata": {}})
    assert "name or generateName is required" in message(nameless, 422)


@pytest.mark.parametrize("kind", CHANGEABLE)
@pytest.mark.parametrize("how", ["merge", "json", "put"])
def test_a_change_counts_the_generation_and_moves_the_version(api: Api, kind: str, name: str, how: str) -> None:
    before = api.create(kind, name)
    (field, change), *_ = CHANGES[kind].items()
    if how == "merge":
        answer = api.patch(kind, name, CHANGES[kind])
    elif how == "json":
        value = {**(before.get(field) or {}), **change} if isinstance(change, dict) else change
        answer = api.patch(kind, name, [{"op": "add", "path": f"/{field}", "value": value}])
    else:
        value = {**(before.get(field) or {}), **change} if isinstance(change, dict) else change
        answer = api.call("PUT", api.path(kind, name), {**before, field: value})
    assert answer.status_code == 200, answer.text
    after = answer.json()
    wanted = change if isinstance(change, dict) else {}
    assert {key: after[field][key] for key in wanted} == wanted if wanted else after[field] == change
    assert after["metadata"]["generation"] == 2
    assert int(after["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
    for kept in ("uid", "creationTimestamp"):
        assert after["metadata"][kept] == before["metadata"][kept]
    assert api.get(kind, name)["metadata"] == after["metadata"]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_labels_are_no_new_generation(api: Api, kind: str, name: str) -> None:
    api.create(kind, name)
    after = api.changed(kind, name, {"metadata": {"labels": {"site": "paris"}, "annotations": {"note": "x"}}})
    assert after["metadata"]["labels"]["site"] == "paris" and after["metadata"]["generation"] == 1


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_write_that_changes_nothing_keeps_the_version(api: Api, kind: str, name: str) -> None:
    made = api.create(kind, name, labels={"a": "b"})
    rv = made["metadata"]["resourceVersion"]
    unchanged = api.call("PUT", api.path(kind, name), made)
    assert unchanged.status_code == 200 and unchanged.json()["metadata"]["resourceVersion"] == rv
    assert api.changed(kind, name, {"metadata": {"labels": {"a": "b"}}})["metadata"]["resourceVersion"] == rv
    assert api.changed(kind, name, [])["metadata"]["resourceVersion"] == rv


@pytest.mark.parametrize("kind", sorted(STATUSES))
def test_a_status_is_written_at_status_alone(api: Api, kind: str, name: str) -> None:
    status = STATUSES[kind]
    body = {**sample(kind, name), "status": {"forged": "at birth"}}
    made = api.call("POST", api.path(kind), body)
    assert made.status_code == 201 and "forged" not in (made.json().get("status") or {}), "dropped on POST"

    written = api.changed(
        kind, name, {"status": status, "spec": {"forged": 1}, "metadata": {"labels": {"x": "y"}}}, "status"
    )
    assert {key: written["status"][key] for key in status} == status
    assert written.get("spec") == made.json().get("spec"), "/status leaves the spec"
    assert "x" not in written["metadata"].get("labels", {}) and written["metadata"]["generation"] == 1

    after = api.changed(kind, name, {**CHANGES.get(kind, {}), "status": {"forged": True}})
    assert "forged" not in after["status"], "the main endpoint leaves the status"
    assert {key: after["status"][key] for key in status} == status
    one, other = _two_reads_of_a_version(api, kind, name)
    assert one == other


def _two_reads_of_a_version(api: Api, kind: str, name: str) -> tuple[Object, Object]:
    """What /status and the object say at one version: a controller may write a condition between two reads."""
    for _ in range(100):
        one, other = api.call("GET", api.path(kind, name, "status")).json(), api.get(kind, name)
        if one["metadata"]["resourceVersion"] == other["metadata"]["resourceVersion"]:
            break
    return one, other


@pytest.mark.parametrize("kind", WITH_STATUS)
def test_status_can_be_put_with_the_version_it_was_read_at(api: Api, kind: str, name: str) -> None:
    made = api.create(kind, name)
    status = {**(made.get("status") or {}), "noted": "by hand"}
    path = api.path(kind, name, "status")
    nonsense = {
        "apiVersion": made["apiVersion"],
        "kind": kind,
        "metadata": made["metadata"],
        "status": status,
        "spec": {"ignored": True},
    }
    answer = api.call("PUT", path, nonsense)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"]["noted"] == "by hand" and answer.json().get("spec") == made.get("spec")
    assert is_status(api.call("PUT", path, nonsense), 409, "Conflict")
    unversioned = api.call("PUT", path, {**nonsense, "metadata": {"name": name}})
    if kind in OVERWRITTEN:
        assert unversioned.status_code == 200
    else:
        assert "must be specified for an update" in message(unversioned, 422)


@pytest.mark.parametrize("kind", AT_ONCE)
def test_what_was_deleted_is_gone_and_its_name_is_free(api: Api, kind: str, name: str) -> None:
    uid = api.create(kind, name)["metadata"]["uid"]
    answer = api.delete(kind, name)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["kind"], body["status"]) == ("Status", "Success")
    assert body["details"]["uid"] == uid and body["details"]["name"] == name
    assert body["details"]["kind"] == kind_of(kind).plural
    assert is_status(api.call("GET", api.path(kind, name)), 404, "NotFound")
    assert is_status(api.delete(kind, name), 404, "NotFound")
    assert api.create(kind, name)["metadata"]["uid"] != uid


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_dry_run_answers_as_if_and_keeps_nothing(api: Api, kind: str, name: str) -> None:
    dry = {"dryRun": "All"}
    made = api.call("POST", api.path(kind), sample(kind, name), params=dry)
    assert made.status_code == 201 and made.json()["metadata"]["name"] == name
    assert api.find(kind, name) is None
    before = api.create(kind, name)
    assert is_status(api.call("POST", api.path(kind), sample(kind, name), params=dry), 409, "AlreadyExists")
    patched = api.patch(kind, name, CHANGES.get(kind, {}), params=dry)
    assert patched.status_code == 200 and patched.json()["metadata"]["generation"] == 1 + (kind in CHANGES)
    labelled = {**before, "metadata": {**before["metadata"], "labels": {"a": "b"}}}
    put = api.call("PUT", api.path(kind, name), labelled, params=dry)
    assert put.status_code == 200 and put.json()["metadata"]["labels"]["a"] == "b"
    assert api.delete(kind, name, params=dry).status_code == 200
    in_body = api.call("DELETE", api.path(kind, name), {"dryRun": ["All"], "propagationPolicy": "Background"})
    assert in_body.status_code == 200
    assert api.get(kind, name)["metadata"] == before["metadata"]
    assert is_status(api.patch(kind, name, {}, params={"dryRun": "yes"}), 422, "Invalid")


@pytest.mark.parametrize("kind", NAMESPACED)
def test_a_collection_is_deleted_by_selector(api: Api, kind: str) -> None:
    for each, site in (("a", "berlin"), ("b", "paris"), ("c", "berlin")):
        api.create(kind, f"{api.namespace}-{each}", labels={"site": site})
    gone = api.call("DELETE", api.path(kind), params={"labelSelector": "site=berlin"})
    assert gone.status_code == 200, gone.text
    body = gone.json()
    assert body["kind"] == f"{kind}List" and len(body["items"]) == 2
    assert api.names(kind) == [f"{api.namespace}-b"]
    assert api.call("DELETE", api.path(kind), params={"dryRun": "All"}).status_code == 200
    assert api.names(kind) == [f"{api.namespace}-b"]
    assert is_status(api.call("DELETE", kind_of(kind).path(None)), 405, "MethodNotAllowed")


def test_namespaces_are_not_deleted_in_one_go(api: Api) -> None:
    assert is_status(api.call("DELETE", api.path("Namespace")), 405, "MethodNotAllowed")
    assert is_status(api.delete("Namespace", "default"), 403, "Forbidden")


@pytest.mark.parametrize("kind", NAMESPACED)
def test_nothing_is_created_in_a_namespace_that_there_is_not(api: Api, kind: str) -> None:
    nowhere = Api(api.server, "nowhere-at-all")
    answer = nowhere.call("POST", nowhere.path(kind), sample(kind, "x"))
    assert 'namespaces "nowhere-at-all" not found' in message(answer, 404)
    assert nowhere.list(kind)["items"] == [], "and lists of it are empty"


def test_a_name_belongs_to_its_namespace(api: Api) -> None:
    other = Api(api.server, f"{api.namespace}-2")
    other.create("Namespace", other.namespace, {})
    one, two = api.create("Workflow", "same"), other.create("Workflow", "same")
    assert one["metadata"]["uid"] != two["metadata"]["uid"]
    everywhere = api.call("GET", kind_of("Workflow").path(None), params={"fieldSelector": "metadata.name=same"}).json()
    spaces = {item["metadata"]["namespace"] for item in everywhere["items"]}
    assert {api.namespace, other.namespace} <= spaces


def test_defaults_stand_behind_what_was_written_and_order_is_kept(api: Api) -> None:
    spec = {"tags": ["z", "a"], "environment": "staging", "capabilities": ["gpu"]}
    made = api.create("Robot", f"{api.namespace}-r", {"spec": spec})
    assert list(made["spec"]) == [*spec, "maxConcurrentJobs", "desiredState"]
    assert list(api.get("Robot", f"{api.namespace}-r")["spec"]) == list(made["spec"])


def test_yaml_is_taken_where_it_says_that_it_is(api: Api) -> None:
    text = "metadata: {name: from-yaml}\nspec:\n  runner: command\n  args: [echo, 2026-01-01]\n  timeout:\n"
    made = api.call("POST", api.path("Workflow"), content=text, headers={"content-type": "application/yaml"})
    assert made.status_code == 201, made.text
    assert made.json()["spec"]["args"] == ["echo", "2026-01-01"], "a date stays the text that was written"
    assert "timeout" not in made.json()["spec"], "nothing behind a key means not set"


def test_a_head_request_is_a_get_without_the_body(api: Api) -> None:
    api.create("Workflow", "w")
    head = api.call("HEAD", api.path("Workflow", "w"))
    assert head.status_code == 200 and head.content == b""
    assert int(head.headers["content-length"]) == len(api.call("GET", api.path("Workflow", "w")).content)
    assert api.call("HEAD", api.path("Workflow", "nope")).status_code == 404
    assert api.call("HEAD", api.path("Workflow"), params={"watch": "true"}).status_code == 200


def test_a_workflow_keeps_each_of_its_revisions(api: Api) -> None:
    first = api.create("Workflow", "w")["status"]["revision"]
    second = api.changed("Workflow", "w", CHANGES["Workflow"])["status"]["revision"]
    assert first != second
    for revision, args in ((first, ["true"]), (second, ["false"])):
        found = api.call("GET", f"{api.path('Workflow', 'w')}/revisions/{revision}")
        assert found.status_code == 200 and found.json()["kind"] == "WorkflowRevision"
        assert found.json()["spec"]["args"] == args and "immutable" in found.headers["cache-control"]
    assert api.changed("Workflow", "w", {"spec": {"args": ["true"]}})["status"]["revision"] == first
    assert is_status(api.call("GET", f"{api.path('Workflow', 'w')}/revisions/{'0' * 16}"), 404)
    forged = api.changed("Workflow", "w", {"status": {"revision": second}}, "status")
    assert forged["status"]["revision"] == first, "nobody says what a workflow's content is but the content"


def test_true_is_not_one(api: Api) -> None:
    schema = {"properties": {"n": {"default": 1}}}
    api.create("Workflow", "w", {"spec": {"runner": "command", "args": ["x"], "parameters": schema}})
    change = {"spec": {"parameters": {"properties": {"n": {"default": True}}}}}
    assert dig(api.changed("Workflow", "w", change), "spec", "parameters", "properties", "n", "default") is True
    assert dig(api.get("Workflow", "w"), "spec", "parameters", "properties", "n", "default") is True
