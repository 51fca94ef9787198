"""What an attacker found, and what a large or unlucky user would have: each of these once stopped or fooled a server."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from ..conftest import until
from .conftest import Api, message

INLINE = {"runner": "command", "args": ["true"]}


def test_an_object_of_nearly_three_megabytes_is_written_and_others_go_on(api: Api) -> None:
    api.create("Job", "big", {"spec": {"workflow": {**INLINE, "args": ["x" * 2_900_000]}}})
    api.create("Job", "next", {"spec": {"workflow": INLINE}})
    assert api.names("Job") == ["big", "next"]


def test_an_object_does_not_grow_without_end(api: Api) -> None:
    api.create("Workflow", "w", {"spec": {**INLINE, "args": ["x" * 2_000_000]}})
    grown = api.patch("Workflow", "w", [{"op": "copy", "from": "/spec/args/0", "path": "/spec/args/1"}])
    assert grown.status_code == 413, message(grown, 413)
    assert len(api.get("Workflow", "w")["spec"]["args"]) == 1


def test_a_job_that_was_deleted_does_not_run_though_a_finalizer_holds_it(api: Api) -> None:
    api.create("Job", "j", {"spec": {"workflow": INLINE, "notBefore": "2099-01-01T00:00:00Z"}}, finalizers=["x.io/y"])
    assert api.delete("Job", "j").status_code == 200
    job = api.get("Job", "j")
    assert job["metadata"]["deletionTimestamp"] and job["status"]["phase"] == "Cancelled"


def test_a_job_runs_the_revision_that_the_workflow_has_now(api: Api) -> None:
    revision = api.create("Workflow", "w", {"spec": INLINE})["status"]["revision"]
    said: dict[str, Any] = {"spec": {"workflowRef": {"name": "w", "revision": revision}}}
    assert api.create("Job", "a", said)["spec"]["workflowRef"]["revision"] == revision
    said["spec"]["workflowRef"]["revision"] = "0" * 16
    body = {"metadata": {"name": "b"}, **said}
    told = message(api.call("POST", api.path("Job"), body), 422)
    assert "spec.workflowRef.revision" in told and revision in told


def test_two_keys_cannot_have_one_secret(api: Api) -> None:
    hashed = "sha256:" + hashlib.sha256(api.namespace.encode()).hexdigest()
    api.create("ApiKey", "one", {"spec": {"role": "viewer", "hash": hashed}})
    body = {"metadata": {"name": "two"}, "spec": {"role": "viewer", "hash": hashed}}
    told = message(api.call("POST", api.path("ApiKey"), body), 409)
    assert "another key has this spec.hash" in told and hashed not in told


def test_robots_of_two_namespaces_may_have_one_id_and_two_of_one_may_not(api: Api) -> None:
    api.create("Robot", "a", {"spec": {"robotId": "PC_01"}})
    body = {"metadata": {"name": "b"}, "spec": {"robotId": "PC_01"}}
    assert "another robot of this namespace has this spec.robotId" in message(
        api.call("POST", api.path("Robot"), body), 409
    )
    other = Api(api.server, "default")
    name = f"{api.namespace}-a"
    assert other.create("Robot", name, {"spec": {"robotId": "PC_01"}})["spec"]["robotId"] == "PC_01"
    assert other.delete("Robot", name).status_code == 200
    other.close()


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"robotId": "payroll-bot"}},
        {"metadata": {"labels": {"trusted": "yes"}}},
        {"metadata": {"finalizers": ["evil.io/stay"]}},
    ],
)
def test_a_robots_key_does_not_say_who_it_is_or_what_draws_jobs_to_it(api: Api, change: Any) -> None:
    api.create("Robot", "r", {"spec": {}})
    key = api.issue_key("r", "robot", robotName="r")
    assert api.patch("Robot", "r", {"spec": {"tags": ["sap"]}}, key=key).status_code == 200
    assert api.patch("Robot", "r", change, key=key).status_code == 403


def test_a_namespace_that_is_deleted_takes_its_content_and_keys_along(api: Api) -> None:
    name = f"{api.namespace}-gone"
    api.create("Namespace", name)
    inside = Api(api.server, name)
    key = inside.issue_key("k", "operator")
    inside.create("Job", "j", {"spec": {"workflow": INLINE, "notBefore": "2099-01-01T00:00:00Z"}})
    assert inside.call("GET", inside.path("Job"), key=key).status_code == 200
    gone = api.delete("Namespace", name)
    assert (gone.status_code, gone.json()["status"]["phase"]) == (200, "Terminating")
    body = {"metadata": {"name": "late"}, "spec": {"workflow": INLINE}}
    refused = inside.call("POST", inside.path("Job"), body)
    assert refused.status_code in (403, 404) and ("being terminated" in refused.text or "not found" in refused.text)
    until(lambda: api.find("Namespace", name) is None, "the namespace is gone")
    assert inside.names("Job") == []
    until(lambda: inside.call("GET", inside.path("Job"), key=key).status_code == 401, "its key is none any more")
    inside.close()
