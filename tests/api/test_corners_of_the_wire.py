"""Corners of Kubernetes' rules in which something was wrong once: what leaked, what was lost, what was believed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from casare_api.kinds import KINDS
from casare_store import admission, sealing
from casare_store.sealing import Sealer
from casare_store.store import Store

from ..conftest import until
from .conftest import Api, Robot, is_status, message, sample

APPLY = "application/apply-patch+yaml"
SAID = "hunter2-of-the-bank"
SEALED = base64.b64encode(SAID.encode()).decode()


def apply(
    api: Api, kind: str, name: str, body: dict[str, Any], manager: str = "me", subresource: str | None = None,
    **params: str,
) -> httpx2.Response:
    """Server-side apply."""
    meta = {"name": name, **body.pop("metadata", {})}
    whole = {"apiVersion": KINDS[kind].api_version, "kind": kind, "metadata": meta, **body}
    return api.call(
        "PATCH", api.path(kind, name, subresource), whole, headers={"content-type": APPLY},
        params={"fieldManager": manager, **params},
    )  # fmt: skip


# -- what a refusal says about a Secret ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "body"),
    [
        (APPLY, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": [SAID]}),
        (APPLY, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"pw": {"a": SAID}}}),
        ("application/json-patch+json", [{"op": "copy", "from": "/data/pw", "path": "/metadata/name"}]),
        ("application/json-patch+json", [{"op": "copy", "from": "/data/pw", "path": "/metadata/uid"}]),
        ("application/json-patch+json", [{"op": "test", "path": "/data/pw", "value": SAID}]),
        ("application/strategic-merge-patch+json", {"data": {"$patch": SAID}}),
        ("application/merge-patch+json", {"data": {"pw": SAID}}),
        ("application/merge-patch+json", {"data": {"pw": [SAID]}}),
    ],
)
def test_a_refused_patch_of_a_secret_shows_no_value(api: Api, type_: str, body: Any) -> None:
    api.create("Secret", "s", {"data": {"pw": SEALED}})
    answer = api.call(
        "PATCH", api.path("Secret", "s"), body, headers={"content-type": type_}, params={"fieldManager": "me"}
    )
    assert 400 <= answer.status_code < 500 and is_status(answer, answer.status_code)
    assert SAID not in answer.text and SEALED not in answer.text
    assert api.get("Secret", "s")["data"] == {"pw": SEALED}


def test_yaml_that_does_not_fit_its_tag_is_not_quoted(api: Api) -> None:
    body = f"metadata: {{name: s}}\ndata: {{pw: !!int {SAID}}}\n".encode()
    answer = api.call("POST", api.path("Secret"), content=body, headers={"content-type": "application/yaml"})
    assert is_status(answer, 400) and SAID not in answer.text


@pytest.mark.parametrize(("type_", "key"), [("kubernetes.io/tls", "tls.crt"), ("kubernetes.io/ssh-auth", "ssh-privatekey")])
def test_a_secret_of_a_type_has_what_the_type_needs(api: Api, type_: str, key: str) -> None:
    body = {**sample("Secret", "s", {"data": {"a": SEALED}}), "type": type_}
    assert f"data[{key}]: Required value" in message(api.call("POST", api.path("Secret"), body), 422)


def test_secrets_are_counted_by_their_keys(database: str) -> None:
    mine, other = Sealer.from_text("m" * 40), Sealer.from_text("o" * 40)

    async def write(sealer: Sealer, name: str) -> dict[str, int]:
        store = await Store.open(database, sealer=sealer)
        try:
            if name == "first":
                await store.writer.write(admission.create(KINDS["Namespace"], {"metadata": {"name": "default"}}))
            made = sample("Secret", name, {"data": {"pw": SEALED}, "type": "Opaque"}, namespace="default")
            await store.writer.write(admission.create(KINDS["Secret"], made))
            return await sealing.sealed_with(store.pool)
        finally:
            await store.close()

    assert asyncio.run(write(mine, "first")) == {mine.key_id: 1}
    assert asyncio.run(write(other, "second")) == {mine.key_id: 1, other.key_id: 1}


# -- apply -----------------------------------------------------------------------------------------------------------


def test_a_robots_key_can_not_apply_nor_rewrite_who_owns_what(api: Api, robot: Callable[..., Robot]) -> None:
    rob = robot()
    labels = {"pool": "a"}
    assert apply(api, "Robot", rob.name, {"metadata": {"labels": labels}}, "gitops").status_code == 200
    mine = apply(rob.api, "Robot", rob.name, {"metadata": {"labels": labels}}, "gitops")
    assert "a robot's key can't apply" in message(mine, 403)

    before = api.get("Robot", rob.name)["metadata"]["managedFields"]
    forged = {"metadata": {"managedFields": [{}]}, "spec": {"capabilities": ["gpu"]}}
    assert rob.api.patch("Robot", rob.name, forged).status_code == 200
    after = api.get("Robot", rob.name)["metadata"]["managedFields"]
    assert before[0] in after, "what people said is theirs stays theirs"

    left = apply(api, "Robot", rob.name, {}, "gitops").json()
    assert "labels" not in left["metadata"] and left["spec"]["capabilities"] == ["gpu"]


def test_an_apply_that_lets_go_takes_nothing_of_what_duties_wrote(api: Api) -> None:
    body = {"spec": {"every": "1h", "jobTemplate": sample("Job", "x")}}
    del body["spec"]["jobTemplate"]["metadata"]
    api.create("Schedule", "s", body)
    next_time = api.get("Schedule", "s")["status"]["nextFireTime"]
    noted = {"conditions": [{"type": "Seen", "status": "True"}]}
    assert apply(api, "Schedule", "s", {"status": noted}, "m3", "status").status_code == 200
    assert api.get("Schedule", "s")["status"]["conditions"]
    left = apply(api, "Schedule", "s", {}, "m3", "status").json()
    assert left["status"]["nextFireTime"] == next_time and not left["status"].get("conditions")


def test_an_apply_that_would_change_nothing_is_bound_by_its_preconditions_all_the_same(api: Api) -> None:
    body = {"spec": {"tags": ["a"]}}
    made = apply(api, "Robot", "r", dict(body)).json()
    for meta in ({"resourceVersion": "1"}, {"uid": "00000000-0000-4000-8000-000000000000"}):
        assert is_status(apply(api, "Robot", "r", {**body, "metadata": meta}), 409, "Conflict")
    right = {"resourceVersion": made["metadata"]["resourceVersion"], "uid": made["metadata"]["uid"]}
    assert apply(api, "Robot", "r", {**body, "metadata": right}).status_code == 200


def test_many_conflicts_are_told_by_some_and_a_number(api: Api) -> None:
    data = {f"k{n:04}": "1" for n in range(1000)}
    assert apply(api, "ConfigMap", "c", {"data": data}, "one").status_code == 201
    refused = apply(api, "ConfigMap", "c", {"data": dict.fromkeys(data, "2")}, "two")
    assert refused.status_code == 409 and len(refused.json()["details"]["causes"]) == 200
    assert "Apply failed with 1000 conflicts" in refused.json()["message"] and "and 800 more" in refused.text


# -- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_is_tried_and_compared_before_its_workflow_is_there(api: Api) -> None:
    body = {"spec": {"workflowRef": {"name": "later"}}}
    dry = api.call("POST", api.path("Job"), sample("Job", "j", body), params={"dryRun": "All"})
    assert dry.status_code == 201, dry.text
    assert apply(api, "Job", "j", dict(body), dryRun="All").status_code == 201
    refused = api.call("POST", api.path("Job"), sample("Job", "j", body))
    assert "spec.workflowRef.name: Not found" in message(refused, 422)
    assert api.find("Job", "j") is None


def test_a_job_whose_priority_is_let_go_of_keeps_it(api: Api) -> None:
    job = sample("Job", "j")
    assert apply(api, "Job", "j", {"spec": {**job["spec"], "priority": 3}}).status_code == 201
    assert apply(api, "Job", "j", {"spec": job["spec"]}).json()["spec"]["priority"] == 3
    assert api.changed("Job", "j", {"spec": {"priority": None}})["spec"]["priority"] == 3


# -- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value"), [("y", True), ("N", False), ("yes", True), ("yard", "yard"), ("'y'", "y")])
def test_yaml_is_read_as_kubectl_reads_it(api: Api, text: str, value: object) -> None:
    body = f"metadata: {{name: w}}\nspec: {{runner: command, args: ['true'], parameters: {{default: {text}}}}}".encode()
    made = api.call("POST", api.path("Workflow"), content=body, headers={"content-type": "application/yaml"})
    assert made.status_code == 201, made.text
    found = made.json()["spec"]["parameters"]["default"]
    assert type(found) is type(value) and found == value


@pytest.mark.parametrize("type_", ["application/yaml", "application/json"])
def test_the_body_of_a_delete_is_small(api: Api, type_: str) -> None:
    api.create("ConfigMap", "c")
    body = b"[" + b"a," * 10_000 + b"a]"
    refused = api.call("DELETE", api.path("ConfigMap", "c"), content=body, headers={"content-type": type_})
    assert is_status(refused, 413)
    assert api.find("ConfigMap", "c")
    assert until(lambda: api.delete("ConfigMap", "c").status_code == 200, "it can be deleted with a small one")
