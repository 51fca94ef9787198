"""Many jobs in one request: each has its own answer, in order, and none holds up another."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import NOWHERE, Api

Object = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "default": 7}}}


def job(name: str | None = None, **spec: Any) -> Object:
    meta: Object = {"name": name} if name else {"generateName": "many-"}
    return {"metadata": meta, "spec": {"workflowRef": {"name": "w"}, **spec}}


@pytest.fixture
def api(api: Api) -> Api:
    wanted = {"tags": [NOWHERE]}
    spec = {"runner": "command", "args": ["true"], "requirements": wanted, "parameters": SCHEMA}
    api.create("Workflow", "w", {"spec": spec})
    return api


def submit(api: Api, *jobs: Any, **params: Any) -> Object:
    body = {"apiVersion": "fleet.casare.net/v1", "kind": "JobList", "items": list(jobs)}
    answer = api.call("POST", api.path("Job"), body, params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_each_job_of_a_list_is_made_and_named_in_order(api: Api) -> None:
    said = submit(api, *[job(f"j-{n}") for n in range(120)])
    assert (said["kind"], said["created"], said["existing"], said["failed"]) == ("JobSubmission", 120, 0, 0)
    assert [one["name"] for one in said["items"]] == [f"j-{n}" for n in range(120)]
    assert {one["code"] for one in said["items"]} == {201}
    assert sorted(api.names("Job")) == sorted(f"j-{n}" for n in range(120))


def test_a_bad_job_is_its_own_answer_and_holds_up_no_other(api: Api) -> None:
    said = submit(
        api,
        job("good"),
        job("bad-priority", priority=99),
        job("bad-parameter", parameters={"n": "seven"}),
        job("no-workflow") | {"spec": {"workflowRef": {"name": "nowhere"}}},
        "no job at all",
        job("good"),
        job("another"),
    )
    assert [one["code"] for one in said["items"]] == [201, 422, 422, 422, 400, 409, 201]
    assert (said["created"], said["failed"]) == (2, 5)
    assert "spec.priority" in said["items"][1]["message"]
    assert "spec.parameters.n" in said["items"][2]["message"]
    assert 'there is no workflow "nowhere"' in said["items"][3]["message"]
    assert said["items"][5]["reason"] == "AlreadyExists"
    assert sorted(api.names("Job")) == ["another", "good"]


def test_jobs_of_a_list_get_the_defaults_of_their_workflow(api: Api) -> None:
    name = submit(api, job(parameters={}))["items"][0]["name"]
    assert name.startswith("many-")
    assert api.get("Job", name)["spec"]["parameters"] == {"n": 7}


def test_a_dry_run_of_a_list_makes_nothing(api: Api) -> None:
    assert submit(api, job("a"), job("b"), dryRun="All")["created"] == 2
    assert api.names("Job") == []


def test_ten_thousand_jobs_go_in_one_request_and_one_more_does_not(api: Api) -> None:
    jobs = [job() for _ in range(10_000)]
    assert submit(api, *jobs)["created"] == 10_000
    more = api.call("POST", api.path("Job"), {"kind": "JobList", "items": [*jobs, job()]})
    assert (more.status_code, "at most 10000" in more.text) == (413, True)


@pytest.mark.parametrize("items", [None, [], {}, "x"])
def test_a_list_without_jobs_is_refused(api: Api, items: Any) -> None:
    answer = api.call("POST", api.path("Job"), {"kind": "JobList", "items": items})
    assert answer.status_code == 422
    assert "items: Required value" in answer.json()["message"]


def test_a_viewer_submits_nothing(api: Api) -> None:
    viewer = api.of(api.issue_key("eyes", "viewer"))
    answer = viewer.call("POST", api.path("Job"), {"kind": "JobList", "items": [job("a")]})
    assert answer.status_code == 403
    assert api.names("Job") == []
