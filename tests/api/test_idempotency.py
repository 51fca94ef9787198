"""A job is submitted twice and made once: idempotencyKey, whoever asks, however often and through whichever door."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .conftest import NOWHERE, Api, message, sample, work

Object = dict[str, Any]


def keyed(key: str, **spec: Any) -> Object:
    return work(idempotencyKey=key, **spec)


def post(api: Api, name: str, body: Object, **params: str) -> tuple[int, Object]:
    answer = api.call("POST", api.path("Job"), sample("Job", name, body), params=params)
    return answer.status_code, dict(answer.json())


def test_a_second_submission_gets_the_first_job_as_it_is(api: Api) -> None:
    code, first = post(api, "first", keyed("k", priority=3))
    assert code == 201
    code, second = post(api, "second", keyed("k", priority=9))
    assert (code, second["metadata"], second["spec"]) == (200, first["metadata"], first["spec"])
    assert second["spec"]["priority"] == 3 and second["status"]["queuedTime"] == first["status"]["queuedTime"]
    assert api.names("Job") == ["first"]
    again, same = post(api, "first", keyed("k"))
    assert (again, same["metadata"]["uid"]) == (200, first["metadata"]["uid"]), "the very same request, sent twice"


def test_a_generated_name_makes_no_difference(api: Api) -> None:
    body = {**keyed("k"), "metadata": {"generateName": "run-"}}
    made = [api.call("POST", api.path("Job"), body) for _ in range(3)]
    assert [one.status_code for one in made] == [201, 200, 200]
    assert len({one.json()["metadata"]["name"] for one in made}) == 1


def test_many_who_ask_at_once_get_one_job(api: Api) -> None:
    with ThreadPoolExecutor(16) as many:
        answers = list(many.map(lambda number: post(api, f"j{number}", keyed("k")), range(48)))
    assert sorted(code for code, _ in answers) == [200] * 47 + [201]
    assert len({job["metadata"]["uid"] for _, job in answers}) == 1 and len(api.names("Job")) == 1


def test_many_of_one_list_are_one_job(api: Api) -> None:
    jobs = [sample("Job", f"j{number}", keyed(f"k{number % 3}")) for number in range(30)]
    said = api.call("POST", api.path("Job"), {"kind": "JobList", "items": jobs}).json()
    assert (said["created"], said["existing"], said["failed"]) == (3, 27, 0)
    assert [one["code"] for one in said["items"]] == [201] * 3 + [200] * 27
    assert [one["name"] for one in said["items"]] == [f"j{number % 3}" for number in range(30)]
    assert sorted(api.names("Job")) == ["j0", "j1", "j2"]


def test_a_key_is_free_again_once_its_job_is_gone(api: Api) -> None:
    post(api, "first", keyed("k"))
    api.changed("Job", "first", {"spec": {"cancel": True}})
    assert post(api, "second", keyed("k"))[0] == 200, "one that has ended is still there"
    assert api.delete("Job", "first").status_code == 200
    code, made = post(api, "second", keyed("k"))
    assert (code, made["metadata"]["name"]) == (201, "second")


def test_a_key_is_of_one_namespace(api: Api) -> None:
    post(api, "j", keyed("k"))
    other = Api(api.server, f"{api.namespace}-b")
    other.create("Namespace", other.namespace, {})
    assert post(other, "j", keyed("k"))[0] == 201
    assert other.delete("Namespace", other.namespace).status_code == 200


def test_a_dry_run_says_what_would_come_of_it(api: Api) -> None:
    assert post(api, "first", keyed("k"), dryRun="All")[0] == 201
    assert api.names("Job") == []
    post(api, "first", keyed("k"))
    code, found = post(api, "second", keyed("k"), dryRun="All")
    assert (code, found["metadata"]["name"]) == (200, "first")


def test_an_applied_job_says_which_one_has_its_key(api: Api) -> None:
    post(api, "first", keyed("k"))
    body = {"apiVersion": "fleet.casare.net/v1", "kind": "Job", **sample("Job", "second", keyed("k"))}
    apply = {"headers": {"content-type": "application/apply-patch+yaml"}, "params": {"fieldManager": "t"}}
    refused = api.call("PATCH", api.path("Job", "second"), body, **apply)
    assert 'job "first" has the same spec.idempotencyKey' in message(refused, 409)
    assert api.names("Job") == ["first"]


def test_a_second_submission_gets_the_first_job_though_the_workflow_takes_other_parameters_now(api: Api) -> None:
    flow: Object = {"runner": "command", "args": ["true"], "parameters": {"properties": {"month": {"type": "string"}}}}
    api.create("Workflow", "flow", {"spec": flow})

    def job(key: str) -> Object:
        spec = {"workflowRef": {"name": "flow"}, "parameters": {"month": "2026-10"}, "idempotencyKey": key}
        return sample("Job", key, {"spec": {**spec, "requirements": {"tags": [NOWHERE]}}})

    path = api.path("Job")
    first = api.call("POST", path, job("k")).json()
    api.changed("Workflow", "flow", {"spec": {"parameters": {"properties": {"month": {"type": "integer"}}}}})
    again = api.call("POST", path, job("k"))
    assert (again.status_code, again.json()["metadata"]["uid"]) == (200, first["metadata"]["uid"])
    said = api.call("POST", path, {"kind": "JobList", "items": [job("k"), job("new"), job("k")]}).json()
    assert [one["code"] for one in said["items"]] == [200, 422, 200] and said["existing"] == 2
    assert {one.get("uid") for one in said["items"]} == {first["metadata"]["uid"], None}
    wrong = job("k") | {"spec": {"workflowRef": {"name": "flow"}, "idempotencyKey": "k", "priority": 99}}
    assert "spec.priority" in message(api.call("POST", path, wrong), 422), "what no job may look like is still refused"
