"""A job that has ended is retried by another one; it never changes itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from casare_api.decisions.retrying import RETRY_OF

from .conftest import NOWHERE, Api, Object, Robot, message, work

Robots = Callable[..., Robot]
FLOW: Object = {
    "runner": "command",
    "args": ["true"],
    "timeout": "30m",
    "requirements": {"tags": [NOWHERE]},
    "parameters": {"type": "object", "properties": {"month": {"type": "string"}}},
}


def cancelled(api: Api, name: str, body: Object, **meta: Any) -> Object:
    """A job that has ended: it was cancelled while it waited."""
    api.create("Job", name, body, **meta)
    return api.changed("Job", name, {"spec": {"cancel": True}})


def of_workflow(api: Api, name: str = "j", **spec: Any) -> Object:
    api.create("Workflow", "flow", {"spec": FLOW})
    return cancelled(api, name, {"spec": {"workflowRef": {"name": "flow"}, **spec}})


def retry(api: Api, name: str, **more: Any) -> Object:
    made = api.call("POST", api.path("Job", name, "retry"), **more)
    assert made.status_code == 201, made.text
    return dict(made.json())


def test_the_new_job_names_the_one_it_retries_and_does_the_same(api: Api) -> None:
    before = of_workflow(api, parameters={"month": "2026-10"}, priority=3)
    made = retry(api, "j")
    assert made["spec"]["retryOf"] == {"name": "j", "uid": before["metadata"]["uid"]}
    assert made["metadata"]["name"].startswith("j-")
    assert made["spec"]["parameters"] == {"month": "2026-10"} and made["spec"]["priority"] == 3
    assert "cancel" not in made["spec"] and made["status"]["phase"] == "Queued" and made["status"]["attempt"] == 0
    assert api.get("Job", made["metadata"]["name"])["spec"] == made["spec"], "what was answered is what is kept"
    assert api.get("Job", "j") == before, "the job that ended is as it was"
    assert api.names("Job", labelSelector=f"{RETRY_OF}={before['metadata']['uid']}") == [made["metadata"]["name"]]


def test_it_runs_the_workflow_as_it_is_now(api: Api) -> None:
    before = of_workflow(api, requirements={"robotName": "pc-01"})
    changed = {"timeout": "2h", "requirements": {"tags": [NOWHERE, "sap"]}}
    now = api.changed("Workflow", "flow", {"spec": changed})
    made = retry(api, "j")["spec"]
    assert made["workflowRef"]["revision"] == now["status"]["revision"] != before["spec"]["workflowRef"]["revision"]
    assert made["timeout"] == "2h"
    assert made["requirements"] == {"tags": [NOWHERE, "sap"], "robotName": "pc-01"}


def test_parameters_that_the_workflow_no_longer_takes_are_told_with_their_path(api: Api) -> None:
    of_workflow(api, parameters={"month": "2026-10"})
    api.changed("Workflow", "flow", {"spec": {"parameters": {"properties": {"month": {"type": "integer"}}}}})
    refused = api.call("POST", api.path("Job", "j", "retry"))
    assert "spec.parameters.month" in message(refused, 422)


def test_a_job_that_failed_runs_again_on_a_robot(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    assert rob.say(rob.assigned(api, "j"), "Failed", exitCode=3) == 200
    name = retry(api, "j")["metadata"]["name"]
    assert rob.say(rob.assigned(api, name), "Succeeded") == 200
    assert [api.get("Job", one)["status"]["phase"] for one in ("j", name)] == ["Failed", "Succeeded"]


def test_a_job_that_has_not_ended_is_not_retried(api: Api) -> None:
    api.create("Job", "j", work())
    why = message(api.call("POST", api.path("Job", "j", "retry")), 409)
    assert "it is Queued, and only a job that has ended can be retried" in why
    assert api.names("Job") == ["j"]


def test_a_retry_may_be_retried(api: Api) -> None:
    cancelled(api, "j", work())
    first = retry(api, "j")
    api.changed("Job", first["metadata"]["name"], {"spec": {"cancel": True}})
    second = retry(api, first["metadata"]["name"])
    assert second["spec"]["retryOf"] == {"name": first["metadata"]["name"], "uid": first["metadata"]["uid"]}
    assert len(second["metadata"]["name"]) == len(first["metadata"]["name"])


def test_of_many_who_retry_a_job_at_once_one_makes_a_job_and_the_others_hear_which(api: Api) -> None:
    cancelled(api, "j", work())
    with ThreadPoolExecutor(12) as many:
        answers = list(many.map(lambda _: api.call("POST", api.path("Job", "j", "retry")), range(24)))
    assert sorted(one.status_code for one in answers) == [201] + [409] * 23
    (name,) = (one.json()["metadata"]["name"] for one in answers if one.status_code == 201)
    told = {message(one, 409) for one in answers if one.status_code == 409}
    assert all(f'its retry "{name}" is Queued: wait for its end or cancel it' in why for why in told), told
    assert sorted(api.names("Job")) == sorted(["j", name])


def test_a_job_is_retried_again_once_its_retry_has_ended_or_by_force(api: Api) -> None:
    cancelled(api, "j", work())
    first = retry(api, "j")["metadata"]["name"]
    forced = retry(api, "j", params={"force": "true"})["metadata"]["name"]
    api.changed("Job", first, {"spec": {"cancel": True}})
    assert f'its retry "{forced}" is Queued' in message(api.call("POST", api.path("Job", "j", "retry")), 409)
    api.changed("Job", forced, {"spec": {"cancel": True}})
    third = retry(api, "j")["metadata"]["name"]
    assert len({first, forced, third}) == 3
    api.changed("Job", third, {"spec": {"cancel": True}, "metadata": {"labels": {RETRY_OF: None}}})
    assert retry(api, "j")["metadata"]["name"] != third, "a name that is taken by whatever else is in nobody's way"


def test_nobody_else_says_of_a_job_that_it_retries_another(api: Api) -> None:
    body = work(retryOf={"name": "j", "uid": "0"})
    refused = api.call("POST", api.path("Job"), {**body, "metadata": {"name": "k"}})
    assert "spec.retryOf: Forbidden: only the server says this" in message(refused, 422)
    cancelled(api, "j", work())
    name = retry(api, "j")["metadata"]["name"]
    changed = api.patch("Job", name, {"spec": {"retryOf": {"name": "other", "uid": "1"}}})
    assert "spec.retryOf: Forbidden: a submitted job can change only in" in message(changed, 422)


def test_a_dry_run_tells_what_would_come_of_it_and_keeps_nothing(api: Api) -> None:
    cancelled(api, "j", work())
    assert retry(api, "j", params={"dryRun": "All"})["spec"]["retryOf"]["name"] == "j"
    assert api.names("Job") == ["j"]


def test_a_body_that_asks_for_something_is_refused_and_an_empty_one_is_fine(api: Api) -> None:
    cancelled(api, "j", work())
    path = api.path("Job", "j", "retry")
    assert "a retry takes no body" in message(api.call("POST", path, {"spec": {"priority": 0}}), 400)
    assert message(api.call("POST", path, content=b"{"), 400)
    assert api.call("POST", path, {}).status_code == 201


def test_what_is_not_there_is_not_retried(api: Api) -> None:
    assert 'jobs.fleet.casare.net "nobody" not found' in message(api.call("POST", api.path("Job", "nobody", "retry")), 404)
    assert message(api.call("GET", api.path("Job", "nobody", "retry")), 405)


def test_operators_may_retry_and_viewers_and_robots_may_not(api: Api, robot: Robots) -> None:
    cancelled(api, "j", work())
    path = api.path("Job", "j", "retry")
    codes = {role: api.call("POST", path, key=api.issue_key(role, role)).status_code for role in ("operator", "viewer")}
    assert codes == {"operator": 201, "viewer": 403}
    assert api.call("POST", path, key=robot().api.key).status_code == 403
