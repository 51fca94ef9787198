"""Why a job waits, asked of a real server about real rows: the whole answer, the short one, and who may have it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ..conftest import until
from .conftest import NOWHERE, Api, Object, Robot, in_phase, is_status, message, work

Robots = Callable[..., Robot]


def why(api: Api, name: str) -> Object:
    found = api.call("GET", api.path("Job", name, "why"))
    assert found.status_code == 200, found.text
    return dict(found.json())


def tried(api: Api, body: Object, name: str = "tried", **params: Any) -> Any:
    sent = {"apiVersion": "fleet.casare.net/v1", "kind": "Job", "metadata": {"name": name}, **body}
    return api.call("POST", api.path("Job"), sent, params={"dryRun": "All", "why": "true", **params})


def rules(said: Object) -> list[str]:
    return [reason["rule"] for reason in said["reasons"]]


def told(api: Api, name: str, rule: str) -> str:
    """What the job's status says by that rule, once it does."""

    def look() -> str | None:
        found = api.get("Job", name)["status"].get("reasons") or []
        return next((reason["message"] for reason in found if reason["rule"] == rule), None)

    return str(until(look, lambda: f"{rule} among {api.get('Job', name)['status'].get('reasons')}"))


def is_here(api: Api, robot: Robot) -> None:
    """The robot is online, and has nothing to do."""
    robot.report()
    until(lambda: api.get("Robot", robot.name)["status"]["phase"] == "Idle", "the robot is there")


def test_a_job_that_nobody_can_do_hears_how_many_lack_what_and_who_is_nearest(api: Api, robot: Robots) -> None:
    near, far = robot("near", capabilities=["browser"]), robot("far")
    for one in (near, far):
        is_here(api, one)
    needs = {"capabilities": ["browser"], "tags": [near.name, NOWHERE]}
    api.create("Job", "j", {"spec": {"workflow": {"runner": "command", "args": ["true"], "requirements": needs}}})
    said = why(api, "j")
    assert (said["kind"], said["apiVersion"]) == ("JobExplanation", "fleet.casare.net/v1")
    assert (said["metadata"]["namespace"], said["metadata"]["name"]) == (api.namespace, "j")
    assert said["phase"] == "Queued" and f"{near.name} is nearest and lacks tag {NOWHERE}" in said["message"]
    counts = {reason["rule"]: reason["robots"] for reason in said["reasons"]}
    robots = said["robots"]
    assert counts["capabilities"] >= 1 and counts["tags"] == 1, "robots of others may serve every namespace"
    assert sum(counts.values()) == robots["total"] and robots["serving"] >= 2 and robots["matching"] == 0
    assert said["nearest"][0] == {
        "name": near.name,
        "lacks": [f"tag {NOWHERE}"],
        "changes": [f"add tag {NOWHERE} to robot {near.name}"],
    }
    assert NOWHERE in told(api, "j", "tags")


def test_the_place_in_the_queue_is_that_of_the_ranks(api: Api) -> None:
    for name, priority in (("later", 10), ("last", 20), ("first", 0), ("latest", 10)):
        api.create("Job", name, work(priority=priority))
    places = {name: why(api, name)["place"] for name in ("first", "later", "latest", "last")}
    assert [place["position"] for place in places.values()] == [1, 2, 3, 4]
    assert places["last"] == {"position": 4, "ahead": 3, "isExact": True, "queued": 4, "queuedIsExact": True}


def test_jobs_of_one_moment_have_a_place_each(api: Api) -> None:
    items = [{"kind": "Job", "metadata": {"name": f"j{number}"}, **work()} for number in range(20)]
    made = api.call("POST", api.path("Job"), {"apiVersion": "fleet.casare.net/v1", "kind": "JobList", "items": items})
    assert made.status_code == 200, made.text
    assert sorted(why(api, f"j{number}")["place"]["position"] for number in range(20)) == list(range(1, 21))


def test_a_full_robot_and_how_long_its_jobs_usually_take(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Workflow", "usual", {"spec": {"runner": "command", "args": ["true"], "requirements": {"tags": [rob.name]}}})
    body = {"spec": {"workflowRef": {"name": "usual"}}}
    api.create("Job", "before", body)
    assert rob.say(rob.assigned(api, "before"), "Running") == 200
    began = datetime.now(UTC) - timedelta(hours=1)
    past = {"phase": "Succeeded", "startedTime": began.isoformat(), "finishedTime": datetime.now(UTC).isoformat()}
    api.changed("Job", "before", {"status": past}, "status")
    api.create("Job", "now", body)
    assert rob.say(rob.assigned(api, "now"), "Running") == 200
    api.create("Job", "next", body)
    said = why(api, "next")
    assert said["message"] == "all robots that could run it now are full; one usually has room in 1h"
    assert said["wouldServe"] == [
        {"name": rob.name, "state": "Busy", "freeSlots": 0, "message": "is full; its jobs usually end in 1h"}
    ]
    assert (said["robots"]["matching"], said["robots"]["online"], said["robots"]["free"]) == (1, 1, 0)
    assert "is full" in told(api, "next", "slots")


def test_a_job_that_is_with_a_robot_or_over_says_so(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    assigned = rob.assigned(api, "j")
    assert why(api, "j")["message"].startswith(f"it was given to {rob.name} at 2")
    rob.say(assigned, "Running")
    said = why(api, "j")
    assert said["phase"] == "Running" and said["message"].startswith(f"it runs on {rob.name} since 2")
    assert said.keys() == {"apiVersion", "kind", "metadata", "phase", "message"}
    rob.say(assigned, "Failed", message="no such file")
    assert why(api, "j")["message"].endswith("because no such file")


def test_a_time_that_was_asked_for_and_one_after_a_failure_are_told_apart(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "held", work(rob, notBefore="2999-01-01T00:00:00Z"))
    api.create("Job", "again", work(rob, retry={"limit": 1, "backoff": {"initial": "1h", "max": "1h"}}))
    assert rob.say(rob.assigned(api, "again"), "Failed", message="no such file") == 200
    assert "2999-01-01 00:00:00 UTC" in told(api, "held", "notBefore")
    assert told(api, "again", "backoff").startswith("attempt 1 did not succeed; it is tried again at 2")
    assert why(api, "held")["message"] == "it waits for its notBefore, 2999-01-01 00:00:00 UTC"
    assert why(api, "again")["message"].startswith("attempt 1 ended as Failed; it is tried again at 2")
    assert why(api, "again")["robots"]["free"] == 1, "and that is not for want of a robot"


def test_a_time_before_which_it_expires_is_not_taken_for_the_one_it_waits_for(api: Api) -> None:
    api.create("Job", "again", work(notBefore="2999-01-01T00:00:00Z", startDeadline="1h"))
    assert "2999-01-01 00:00:00 UTC" in told(api, "again", "notBefore")
    assert "it expires at 2999-01-01 01:00:00 UTC" in why(api, "again")["boundedBy"]


def test_a_full_concurrency_key_says_who_has_it(api: Api, robot: Robots) -> None:
    rob = robot(maxConcurrentJobs=5)
    key = {"concurrency": {"key": 'login "sap"', "limit": 1}}
    api.create("Job", "one", work(rob, **key))
    assert rob.say(rob.assigned(api, "one"), "Running") == 200
    for name in ("two", "three"):
        api.create("Job", name, work(rob, **key))
    said = why(api, "three")
    assert said["message"] == 'one has the concurrency key "login "sap"", which 1 may have at a time'
    assert said["concurrency"] == {"key": 'login "sap"', "limit": 1, "live": 1, "holders": ["one"]}
    assert said["robots"]["free"] == 1 and "placement" not in rules(said)
    assert (why(api, "two")["place"]["position"], said["place"]["position"]) == (1, 2)
    assert told(api, "three", "concurrency").endswith('"login "sap"", which 1 may have at a time; one has it')


def test_a_used_up_quota_is_told(api: Api, robot: Robots) -> None:
    rob = robot(maxConcurrentJobs=5)
    api.create("Quota", "default", {"spec": {"maxRunning": 1}})
    api.create("Job", "one", work(rob))
    assert rob.say(rob.assigned(api, "one"), "Running") == 200
    api.create("Job", "two", work(rob))
    said = why(api, "two")
    assert said["quota"] == {"maxRunning": 1, "running": 1, "weight": 1} and rules(said)[0] == "quota"
    assert said["message"] == f"namespace {api.namespace} runs 1 job, as many as its quota allows (maxRunning 1)"
    assert told(api, "two", "quota") == said["message"]


# -- of a job that is not there ---------------------------------------------------------------------------------------


def test_a_job_that_was_not_submitted_is_explained_and_not_kept(api: Api, robot: Robots) -> None:
    rob = robot()
    is_here(api, rob)
    said = tried(api, work(rob))
    assert said.status_code == 200, said.text
    assert said.json()["message"] == f"{rob.name} is free: it will be placed in a moment"
    assert said.json()["place"]["position"] == 1 and said.json()["metadata"]["name"] == "tried"
    assert tried(api, work(), "other").json()["nearest"][0]["name"] == rob.name
    assert api.names("Job") == []


def test_its_place_is_behind_those_that_wait(api: Api) -> None:
    for name in ("a", "b"):
        api.create("Job", name, work())
    assert tried(api, work()).json()["place"]["position"] == 3
    assert tried(api, work(priority=0)).json()["place"]["position"] == 1


def test_it_is_validated_as_if_it_were_submitted(api: Api) -> None:
    assert is_status(tried(api, {"spec": {}}), 422)
    assert is_status(tried(api, work(priority=99)), 422)
    assert 'there is no workflow "nothing"' in message(tried(api, {"spec": {"workflowRef": {"name": "nothing"}}}), 422)
    assert "dryRun=All" in message(tried(api, work(), dryRun=""), 422)
    assert is_status(tried(api, {"kind": "JobList", "items": [work()]}), 400)
    api.create("Job", "there", work())
    assert is_status(tried(api, work(), "there"), 409)
    assert tried(api, work(), why="false").json()["kind"] == "Job", "which is an ordinary try"


# -- who may ask --------------------------------------------------------------------------------------------------------


def test_whoever_may_read_the_job_may_ask_and_nobody_else(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work())
    path, viewer = api.path("Job", "j", "why"), api.of(api.issue_key("v", "viewer"))
    assert viewer.call("GET", path).status_code == 200
    assert is_status(tried(viewer, work()), 403), "who may not submit one may not try"
    assert is_status(rob.api.call("GET", path), 403)
    assert is_status(api.call("GET", api.path("Job", "none", "why")), 404)
    assert is_status(api.call("POST", path, {}), 405) and is_status(api.call("GET", path + "/x"), 404)
    elsewhere = Api(api.server, "default")
    stranger = elsewhere.of(elsewhere.issue_key(f"v-{api.namespace}", "viewer"))
    assert is_status(stranger.call("GET", path), 403)


def test_a_viewer_hears_of_robots_elsewhere_only_if_they_serve_his_namespace(api: Api, robot: Robots) -> None:
    elsewhere = Api(api.server, f"{api.namespace}-b")
    elsewhere.create("Namespace", elsewhere.namespace, {})
    shared = Robot(elsewhere, f"{api.namespace}-s", serves=[api.namespace])
    hidden = Robot(elsewhere, "hidden", capabilities=["gpu"], tags=[shared.name])
    for one in (hidden, shared):
        is_here(elsewhere, one)
    api.create("Job", "j", work(shared, requirements={"robotName": hidden.name}))
    viewer = api.of(api.issue_key("v", "viewer"))
    answers = [viewer.call("GET", viewer.path("Job", "j", part)).text for part in ("why", None)]
    assert shared.name in answers[0], "it serves the namespace"
    assert "no robot named hidden serves this namespace" in answers[0]
    assert not any("gpu" in text for text in answers)
    seen = [
        [each["name"] for each in one.call("GET", api.path("Job", "j", "why")).json()["nearest"]] for one in (viewer, api)
    ]
    assert seen[0][0] == shared.name and hidden.name not in seen[0]
    assert hidden.name in seen[1], "the server's admin sees all robots anyway"


def test_reasons_are_no_part_of_history(api: Api, robot: Robots) -> None:
    rob = robot(maxConcurrentJobs=1)
    api.create("Job", "j", work())
    version = api.get("Job", "j")["metadata"]["resourceVersion"]
    assert NOWHERE in told(api, "j", "tags")
    with api.watch("Job", resourceVersion=version) as watch:
        rob.report()
        api.changed("Robot", rob.name, {"spec": {"tags": [NOWHERE], "desiredState": "Paused"}})
        assert "paused" in told(api, "j", "paused")
        api.create("Job", "after", work())
        assert watch.take(1) == [("ADDED", "after")]
    assert in_phase(api, "j", "Queued")["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize("query", ["", "?pretty=true"])
def test_it_is_listed_among_what_a_job_has_and_is_plain_json(api: Api, query: str) -> None:
    api.create("Job", "j", work())
    found = api.call("GET", "/apis/fleet.casare.net/v1").json()["resources"]
    (one,) = [each for each in found if each["name"] == "jobs/why"]
    assert (one["kind"], one["verbs"]) == ("JobExplanation", ["get"])
    said = api.call("GET", api.path("Job", "j", "why") + query, headers={"accept": "application/json, */*"})
    assert said.headers["content-type"] == "application/json" and said.json()["kind"] == "JobExplanation"
