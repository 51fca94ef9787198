"""Two who write the same object: the second one is told, and what names the wrong object is refused."""

from __future__ import annotations

import threading

import pytest

from .conftest import ALL_KINDS, NAMESPACED, OVERWRITTEN, Api, is_status, kind_of, message, sample


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_put_of_a_version_that_is_over_is_a_conflict(api: Api, kind: str) -> None:
    name = f"{api.namespace}-x"
    old = api.create(kind, name)
    api.changed(kind, name, {"metadata": {"labels": {"a": "1"}}})
    late = api.call("PUT", api.path(kind, name), {**old, "metadata": {**old["metadata"], "labels": {"a": "2"}}})
    assert is_status(late, 409, "Conflict")
    assert "the object has been modified" in late.json()["message"]
    assert api.get(kind, name)["metadata"]["labels"]["a"] == "1"


@pytest.mark.parametrize("kind", OVERWRITTEN)
def test_a_put_without_a_version_overwrites_a_core_kind_as_kubernetes_has_it(api: Api, kind: str) -> None:
    name = f"{api.namespace}-x"
    made = api.create(kind, name, labels={"a": "1"})
    written = api.call("PUT", api.path(kind, name), sample(kind, name, labels={"a": "2"}))
    assert written.status_code == 200 and written.json()["metadata"]["labels"]["a"] == "2"
    assert written.json()["metadata"]["uid"] == made["metadata"]["uid"]


@pytest.mark.parametrize("kind", [kind for kind in ALL_KINDS if kind not in OVERWRITTEN])
def test_a_put_without_a_version_is_refused(api: Api, kind: str) -> None:
    name = f"{api.namespace}-x"
    api.create(kind, name)
    said = message(api.call("PUT", api.path(kind, name), sample(kind, name)), 422)
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in said


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_put_never_creates(api: Api, kind: str) -> None:
    body = sample(kind, "missing", resourceVersion="1")
    assert is_status(api.call("PUT", api.path(kind, "missing"), body), 404, "NotFound")
    assert is_status(api.patch(kind, "missing", {}), 404, "NotFound")
    assert is_status(api.patch(kind, "missing", [{"op": "add", "path": "/x", "value": 1}]), 404, "NotFound")


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_name_in_the_body_is_the_name_in_the_path(api: Api, kind: str) -> None:
    name = f"{api.namespace}-x"
    made = api.create(kind, name)
    renamed = {**made, "metadata": {**made["metadata"], "name": "other"}}
    put = api.call("PUT", api.path(kind, name), renamed)
    assert message(put, 400) == f"the name of the object (other) does not match the name on the URL ({name})"
    shown = "hidden" if kind == "Secret" else "other"  # a patch may have copied a value of the Secret there
    for answer in (
        api.patch(kind, name, {"metadata": {"name": "other"}}),
        api.patch(kind, name, [{"op": "replace", "path": "/metadata/name", "value": "other"}]),
    ):
        assert message(answer, 400) == f"the name of the object ({shown}) does not match the name on the URL ({name})"
    assert is_status(api.patch(kind, name, {"metadata": {"name": None}}), 400)
    assert is_status(api.patch(kind, name, [{"op": "remove", "path": "/metadata"}]), 422)
    assert api.get(kind, name)["metadata"] == made["metadata"]


@pytest.mark.parametrize("kind", NAMESPACED)
def test_the_namespace_in_the_body_is_the_one_in_the_path(api: Api, kind: str) -> None:
    name = f"{api.namespace}-x"
    elsewhere = sample(kind, name, namespace="elsewhere")
    assert "namespace of the provided object does not match" in message(
        api.call("POST", api.path(kind), elsewhere), 400
    )
    made = api.create(kind, name, namespace=api.namespace)
    moved = {**made, "metadata": {**made["metadata"], "namespace": "elsewhere"}}
    assert is_status(api.call("PUT", api.path(kind, name), moved), 400)
    assert is_status(api.patch(kind, name, {"metadata": {"namespace": "elsewhere"}}), 400)
    kept = api.changed(kind, name, {"metadata": {"namespace": None, "labels": {"a": "b"}}})
    assert kept["metadata"]["namespace"] == api.namespace


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_another_kind_or_version_is_refused(api: Api, kind: str) -> None:
    body = sample(kind, f"{api.namespace}-x")
    assert f'kind: Invalid value: "Pod": must be {kind}' in message(
        api.call("POST", api.path(kind), {**body, "kind": "Pod"}), 422
    )
    assert "does not match the expected API version" in message(
        api.call("POST", api.path(kind), {**body, "apiVersion": "fleet.casare.net/v0"}), 400
    )
    typed = {**body, "kind": kind, "apiVersion": kind_of(kind).api_version}
    assert api.call("POST", api.path(kind), typed).status_code == 201


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_uid_names_one_life_of_an_object(api: Api, kind: str) -> None:
    name, other = f"{api.namespace}-x", "00000000-0000-4000-8000-000000000000"
    made = api.create(kind, name)
    put = api.call("PUT", api.path(kind, name), {**made, "metadata": {**made["metadata"], "uid": other}})
    assert "Precondition failed: UID" in message(put, 409)
    assert is_status(api.patch(kind, name, {"metadata": {"uid": other}}), 409, "Conflict")
    assert is_status(api.delete(kind, name, json={"preconditions": {"uid": other}}), 409, "Conflict")
    assert is_status(api.delete(kind, name, json={"preconditions": {"resourceVersion": "1"}}), 409, "Conflict")
    rv = made["metadata"]["resourceVersion"]
    wanted = {"preconditions": {"uid": made["metadata"]["uid"], "resourceVersion": rv}}
    assert api.delete(kind, name, json=wanted).status_code == 200


def test_a_version_in_a_patch_is_a_precondition(api: Api) -> None:
    rv = api.create("Workflow", "w")["metadata"]["resourceVersion"]
    change = {"metadata": {"resourceVersion": rv, "labels": {"a": "1"}}}
    assert api.patch("Workflow", "w", change).status_code == 200
    assert is_status(api.patch("Workflow", "w", change), 409, "Conflict")
    assert is_status(api.patch("Workflow", "w", change, "status"), 409, "Conflict")


def test_a_json_patch_is_carried_out_whole_or_not_at_all(api: Api) -> None:
    before = api.create("Workflow", "w", labels={"a": "1"})
    failing = [
        {"op": "replace", "path": "/metadata/labels/a", "value": "2"},
        {"op": "test", "path": "/spec/runner", "value": "python"},
    ]
    assert "operation 2" in message(api.patch("Workflow", "w", failing), 422)
    assert is_status(api.patch("Workflow", "w", [{"op": "remove", "path": "/spec/nothing"}]), 422, "Invalid")
    assert is_status(api.patch("Workflow", "w", [{"op": "vanish", "path": "/spec"}]), 422, "Invalid")
    assert is_status(api.patch("Workflow", "w", [{"path": "/spec"}]), 400, "BadRequest")
    assert is_status(api.patch("Workflow", "w", [{"op": "replace", "path": "", "value": []}]), 400)
    assert api.get("Workflow", "w") == before


def test_of_many_who_write_at_once_each_version_has_one_winner(api: Api) -> None:
    """Eight threads count up an annotation with PUT and retry: no count is lost."""
    api.create("Workflow", "w", annotations={"count": "0"})
    conflicts = []

    def count_up() -> None:
        mine, done = Api(api.server, api.namespace), 0
        while done < 5:
            obj = mine.get("Workflow", "w")
            obj["metadata"]["annotations"]["count"] = str(int(obj["metadata"]["annotations"]["count"]) + 1)
            answer = mine.call("PUT", mine.path("Workflow", "w"), obj)
            assert answer.status_code in (200, 409), answer.text
            done += answer.status_code == 200
            if answer.status_code == 409:
                conflicts.append(1)
        mine.close()

    threads = [threading.Thread(target=count_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert api.get("Workflow", "w")["metadata"]["annotations"]["count"] == "40"
    assert conflicts, "they did meet"
