"""What a job's concurrency key is once it is submitted: its places are filled in, or the answer says what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import NOWHERE, Api, message, sample, work

Object = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"site": {"type": "string", "default": "berlin"}, "floor": {}}}


def workflow(api: Api, **spec: Any) -> None:
    base = {"runner": "command", "args": ["true"], "parameters": SCHEMA, "requirements": {"tags": [NOWHERE]}}
    api.create("Workflow", "w", {"spec": {**base, **spec}})


def of_workflow(**spec: Any) -> Object:
    return {"spec": {"workflowRef": {"name": "w"}, **spec}}


def concurrency(made: Object) -> tuple[str, int]:
    found = made["spec"]["concurrency"]
    return found["key"], found["limit"]


def test_the_places_in_a_key_are_filled_in_at_submission(api: Api) -> None:
    workflow(api, concurrency={"key": "sap-{{ parameters.site }}-{{ parameters.floor }}", "limit": 2})
    made = api.create("Job", "a", of_workflow(parameters={"floor": 3}))
    assert concurrency(made) == ("sap-berlin-3", 2), "a default is filled in, too"
    assert api.get("Workflow", "w")["spec"]["concurrency"]["key"] == "sap-{{ parameters.site }}-{{ parameters.floor }}"
    upper = work(parameters={"site": "paris"}, concurrency={"key": "{{ parameters.site | upper }}"})
    assert concurrency(api.create("Job", "b", upper)) == ("PARIS", 1)


def test_a_job_of_its_own_mind_has_its_own_key(api: Api) -> None:
    workflow(api, concurrency={"key": "theirs"})
    assert concurrency(api.create("Job", "a", of_workflow(concurrency={"key": "mine", "limit": 7}))) == ("mine", 7)
    assert concurrency(api.create("Job", "b", of_workflow())) == ("theirs", 1)


def test_a_key_is_not_filled_in_twice(api: Api) -> None:
    sly = work(parameters={"site": "{{ parameters.floor }}"}, concurrency={"key": "{{ parameters.site }}"})
    assert concurrency(api.create("Job", "a", sly)) == ("{{ parameters.floor }}", 1)


@pytest.mark.parametrize(("key", "said"), [
    ("sap-{{ parameters.floor }}", "unknown name 'parameters.floor': parameters has site"),
    ("{{ secrets.sap }}", "unknown name 'secrets.sap': there is parameters"),
    ("sap-{{ parameters.site", "is never closed"),
    ("{{ parameters.site }}" * 12, "filled in, it has 300 characters: it must have 1 to 253"),
    ("{{ parameters.none }}", "filled in, it has 0 characters: it must have 1 to 253"),
])  # fmt: skip
def test_a_key_that_cannot_be_filled_in_is_refused_with_its_path(api: Api, key: str, said: str) -> None:
    given = {"site": "x" * 25} if "floor" not in key else {"site": "x"}
    given |= {"none": ""} if "none" in key else {}
    refused = api.call("POST", api.path("Job"), sample("Job", "a", work(parameters=given, concurrency={"key": key})))
    told = message(refused, 422)
    assert "spec.concurrency.key: " in told and said in told
    assert refused.json()["details"]["causes"][0]["field"] == "spec.concurrency.key"
    assert api.names("Job") == []


def test_a_submitted_jobs_key_cannot_be_changed(api: Api) -> None:
    api.create("Job", "a", work(concurrency={"key": "k"}))
    assert "Forbidden" in message(api.patch("Job", "a", {"spec": {"concurrency": {"key": "other"}}}), 422)


def test_what_a_job_prefers_comes_before_what_its_workflow_prefers(api: Api) -> None:
    floor, site = {"labels": {"floor": "2"}}, {"labels": {"site": "berlin"}}
    workflow(api, requirements={"tags": [NOWHERE], "prefer": [{"sameRobot": True}, floor]})
    made = api.create("Job", "a", of_workflow(requirements={"prefer": [site, floor]}))
    assert made["spec"]["requirements"]["prefer"] == [site, floor, {"sameRobot": True}]
    assert made["spec"]["requirements"]["tags"] == [NOWHERE]


def test_nothing_of_this_is_without_effect_any_more(api: Api) -> None:
    body = work(concurrency={"key": "k"}, idempotencyKey="i", requirements={"prefer": [{"sameRobot": True}]})
    made = api.call("POST", api.path("Job"), sample("Job", "a", body))
    assert made.status_code == 201 and "warning" not in made.headers
