"""A deleted job that runs keeps its place, its key and its record until its robot has ended it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from casare_api.decisions.deletion import RUNNING

from ..conftest import until
from .commands import ran
from .conftest import Api, Robot, in_phase, is_status, message, work

Robots = Callable[..., Robot]
Object = dict[str, Any]
HOLD = "example.com/hold"
AT_ONCE = {"gracePeriodSeconds": 0}


def running(api: Api, robot: Robot, name: str, body: Object | None = None, **meta: Any) -> Object:
    """A job whose process this robot has begun."""
    api.create("Job", name, work(robot) if body is None else body, **meta)
    job = robot.assigned(api, name)
    assert robot.say(job, "Running") == 200
    return job


def looked(api: Api, robot: Robot, name: str) -> None:
    """Returns when placement has looked at all that was submitted before: a job that comes last has its robot."""
    api.create("Job", name, work(robot))
    robot.assigned(api, name)


# -- what others have of it ------------------------------------------------------------------------------------------


def test_the_key_of_a_deleted_job_is_free_when_its_robot_has_ended_it_and_not_before(api: Api, robot: Robots) -> None:
    rob = robot(maxConcurrentJobs=4)
    first = running(api, rob, "a", work(rob, concurrency={"key": "sap"}))
    assert api.delete("Job", "a").status_code == 200
    api.create("Job", "b", work(rob, concurrency={"key": "sap"}))
    for name in ("c", "d"):
        looked(api, rob, name)
        waiting = api.get("Job", "b")["status"]
        assert waiting["phase"] == "Queued" and waiting["reasons"][0]["rule"] == "concurrency", waiting
    assert rob.say(first, "Cancelled") == 200
    assert api.find("Job", "a") is None
    assert rob.assigned(api, "b")["status"]["attempt"] == 1


def test_the_slot_of_a_deleted_job_is_free_when_its_robot_has_ended_it_and_not_before(api: Api, robot: Robots) -> None:
    rob, other = robot(), robot("other")
    first = running(api, rob, "a")
    assert api.delete("Job", "a").status_code == 200
    api.create("Job", "b", work(rob))
    looked(api, other, "c")
    assert api.get("Job", "b")["status"]["phase"] == "Queued"
    assert api.get("Robot", rob.name)["status"]["slots"] == {"total": 1, "used": 1}
    assert rob.say(first, "Cancelled") == 200
    rob.assigned(api, "b")


def test_the_name_and_the_idempotency_key_of_a_deleted_job_are_its_own_until_it_has_ended(
    api: Api, robot: Robots
) -> None:
    rob = robot()
    job = running(api, rob, "a", work(rob, idempotencyKey="i"))
    api.delete("Job", "a")
    assert is_status(api.call("POST", api.path("Job"), {**work(rob), "metadata": {"name": "a"}}), 409, "AlreadyExists")
    again = api.call("POST", api.path("Job"), {**work(rob, idempotencyKey="i"), "metadata": {"name": "b"}})
    assert again.status_code == 200 and again.json()["metadata"]["deletionTimestamp"]
    assert rob.say(job, "Cancelled") == 200
    api.create("Job", "a", work(rob, idempotencyKey="i"))


# -- what it looks like ----------------------------------------------------------------------------------------------


def test_a_deleted_job_that_runs_is_cancelled_and_stays(api: Api, robot: Robots) -> None:
    job = running(api, robot(), "a")
    first = api.delete("Job", "a")
    assert first.status_code == 200 and first.json()["kind"] == "Job", "it is not gone yet"
    meta, found = first.json()["metadata"], api.get("Job", "a")
    assert meta["deletionTimestamp"] and meta["finalizers"] == [RUNNING]
    assert meta["generation"] == job["metadata"]["generation"] + 1
    assert found["spec"]["cancel"] is True and found["status"]["cancelTime"] and found["status"]["phase"] == "Running"
    again = api.delete("Job", "a")
    assert again.status_code == 200 and again.json()["kind"] == "Job"
    assert api.get("Job", "a") == found, "a second DELETE changes nothing"


def test_a_table_says_terminating(api: Api, robot: Robots) -> None:
    rob = robot()
    job = running(api, rob, "a", finalizers=[HOLD])

    def status() -> str:
        table = api.call("GET", api.path("Job"), headers={"accept": "application/json;as=Table;g=meta.k8s.io;v=v1"})
        at = [column["name"] for column in table.json()["columnDefinitions"]].index("Status")
        return str(table.json()["rows"][0]["cells"][at])

    assert status() == "Running"
    api.delete("Job", "a")
    assert status() == "Terminating"
    assert rob.say(job, "Cancelled") == 200
    assert status() == "Cancelled", "it has ended, whatever holds it"


def test_its_robot_sees_that_it_is_to_end_it_and_then_that_it_is_gone(api: Api, robot: Robots) -> None:
    rob = robot()
    job = running(api, rob, "a")
    own = f"status.robotUID={rob.uid},status.phase!=Cancelled,status.phase!=Succeeded"
    with api.watch("Job", fieldSelector=own) as watch:
        api.delete("Job", "a")
        asked = watch.next()
        assert asked["type"] == "MODIFIED" and asked["object"]["spec"]["cancel"] is True
        assert rob.say(job, "Running", progress={"percent": 99}) == 200, "it may take its time"
        assert watch.next()["object"]["status"]["progress"] == {"percent": 99}
        assert rob.say(job, "Cancelled") == 200
        assert watch.take(1) == [("DELETED", "a")]


def test_a_dry_run_shows_what_would_be_and_changes_nothing(api: Api, robot: Robots) -> None:
    running(api, robot(), "a")
    before = api.get("Job", "a")
    shown = api.delete("Job", "a", params={"dryRun": "All"}).json()
    assert shown["metadata"]["finalizers"] == [RUNNING] and shown["spec"]["cancel"] is True
    assert api.delete("Job", "a", json={**AT_ONCE, "dryRun": ["All"]}).json()["status"] == "Success"
    assert api.get("Job", "a") == before


def test_the_command_line_says_what_it_waits_for(api: Api, robot: Robots, capsys: pytest.CaptureFixture[str]) -> None:
    rob = robot()
    job = running(api, rob, "a")
    server, here = ("--server", api.server.url, "--key", api.key), ("-n", api.namespace)
    said = ran(capsys, *server, "delete", "job/a", *here)
    assert said.out == "job/a is being deleted; it waits for its robot to end it\n", said.err
    assert "Terminating" in ran(capsys, *server, "get", "jobs", *here).lines[1]
    assert rob.say(job, "Cancelled") == 200


# -- how it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["Cancelled", "Succeeded", "Failed", "Lost", "Drained"])
def test_whatever_its_robot_says_at_the_end_it_goes_and_is_not_tried_again(api: Api, robot: Robots, said: str) -> None:
    rob = robot()
    job = running(api, rob, "a", work(rob, retry={"limit": 5, "onRobotLost": "Requeue"}))
    api.delete("Job", "a")
    assert rob.say(job, said) == 200
    assert api.find("Job", "a") is None
    assert rob.say(job, said) == 404
    assert api.get("Robot", rob.name)["status"]["slots"]["used"] == 0


def test_what_has_not_begun_goes_at_once(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "queued")
    api.create("Job", "assigned", work(rob))
    job = rob.assigned(api, "assigned")
    for name in ("queued", "assigned"):
        assert api.delete("Job", name).json()["status"] == "Success"
        assert api.find("Job", name) is None
    assert rob.say(job, "Running") == 404, "so that it never begins"


def test_what_has_ended_goes_at_once(api: Api, robot: Robots) -> None:
    rob = robot()
    assert rob.say(running(api, rob, "a"), "Succeeded") == 200
    assert api.delete("Job", "a").json()["status"] == "Success" and api.find("Job", "a") is None


def test_one_that_was_being_cancelled_waits_no_longer_for_being_deleted(api: Api, robot: Robots) -> None:
    rob = robot()
    job = running(api, rob, "a")
    asked = api.changed("Job", "a", {"spec": {"cancel": True}})["status"]["cancelTime"]
    held = api.delete("Job", "a").json()
    assert held["metadata"]["finalizers"] == [RUNNING] and held["status"]["cancelTime"] == asked
    assert rob.say(job, "Cancelled") == 200 and api.find("Job", "a") is None


def test_finalizers_of_others_hold_it_beyond_its_end(api: Api, robot: Robots) -> None:
    rob = robot()
    job = running(api, rob, "a", work(rob, retry={"limit": 5}), finalizers=[HOLD])
    assert api.delete("Job", "a").json()["metadata"]["finalizers"] == [HOLD, RUNNING]
    assert rob.say(job, "Failed") == 200
    ended = api.get("Job", "a")
    assert ended["metadata"]["finalizers"] == [HOLD] and ended["status"]["phase"] == "Failed"
    assert api.patch("Job", "a", {"metadata": {"finalizers": None}}).status_code == 200
    assert api.find("Job", "a") is None


def test_when_the_finalizers_of_others_go_first_it_waits_for_its_robot_alone(api: Api, robot: Robots) -> None:
    rob = robot()
    job = running(api, rob, "a", finalizers=[HOLD])
    api.delete("Job", "a")
    left = api.changed("Job", "a", {"metadata": {"finalizers": [RUNNING]}})
    assert left["metadata"]["finalizers"] == [RUNNING] and api.find("Job", "a")
    assert rob.say(job, "Cancelled") == 200 and api.find("Job", "a") is None


def test_an_admin_who_writes_its_end_lets_it_go_and_can_not_send_it_back(api: Api, robot: Robots) -> None:
    running(api, robot(), "a")
    api.delete("Job", "a")
    refused = api.patch("Job", "a", {"status": {"phase": "Queued"}}, subresource="status")
    assert "Forbidden: only the server makes a job Queued" in message(refused, 422)
    ended = {"phase": "Cancelled", "finishedTime": "2026-11-22T20:00:00Z"}
    assert api.patch("Job", "a", {"status": ended}, subresource="status").status_code == 200
    assert api.find("Job", "a") is None


def test_when_its_robot_is_deleted_it_goes(api: Api, robot: Robots) -> None:
    rob = robot()
    running(api, rob, "a", work(rob, retry={"onRobotLost": "Wait"}))
    api.delete("Job", "a")
    api.delete("Robot", rob.name)
    until(lambda: api.find("Job", "a") is None, "nobody is left who could confirm its end")


# -- at once ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{"json": AT_ONCE}, {"params": AT_ONCE}], ids=["body", "query"])
@pytest.mark.parametrize("is_asked", [False, True], ids=["first", "after a DELETE"])
def test_without_any_grace_it_goes_at_once(api: Api, robot: Robots, said: Any, is_asked: bool) -> None:
    rob = robot()
    job = running(api, rob, "a")
    if is_asked:
        api.delete("Job", "a")
    gone = api.delete("Job", "a", **said)
    assert gone.status_code == 200 and gone.json()["status"] == "Success", gone.text
    assert gone.json()["details"]["uid"] == job["metadata"]["uid"]
    assert api.find("Job", "a") is None
    assert rob.say(job, "Cancelled") == 404


def test_without_any_grace_the_finalizers_of_others_hold_it_all_the_same(api: Api, robot: Robots) -> None:
    running(api, robot(), "a", finalizers=[HOLD])
    api.delete("Job", "a")
    held = api.delete("Job", "a", json=AT_ONCE).json()
    assert held["metadata"]["finalizers"] == [HOLD] and held["spec"]["cancel"] is True
    assert api.delete("Job", "a").json()["metadata"]["finalizers"] == [HOLD], "a second DELETE takes nothing back"
    api.changed("Job", "a", {"metadata": {"finalizers": None}})
    assert api.find("Job", "a") is None


def test_any_other_grace_is_that_of_the_job(api: Api, robot: Robots) -> None:
    running(api, robot(), "a")
    for seconds in (1, 30, -1):
        assert api.delete("Job", "a", json={"gracePeriodSeconds": seconds}).json()["metadata"]["finalizers"] == [
            RUNNING
        ]


@pytest.mark.parametrize("said", ["soon", True, 1.5, [0]])
def test_a_grace_that_is_no_number_is_refused(api: Api, said: Any) -> None:
    api.create("Job", "a")
    assert is_status(api.delete("Job", "a", json={"gracePeriodSeconds": said}), 400, "BadRequest")
    assert is_status(api.delete("Job", "a", params={"gracePeriodSeconds": str(said)}), 400, "BadRequest")
    assert api.find("Job", "a")


# -- whose finalizer it is -------------------------------------------------------------------------------------------


def test_nobody_adds_or_removes_the_finalizer_by_hand(api: Api, robot: Robots) -> None:
    rob = robot()
    forged = {**work(rob), "metadata": {"name": "b", "finalizers": [RUNNING]}}
    assert "only the server" in message(api.call("POST", api.path("Job"), forged), 422)
    job = running(api, rob, "a")
    assert "only the server" in message(api.patch("Job", "a", {"metadata": {"finalizers": [RUNNING]}}), 422)
    api.delete("Job", "a")
    for without in (None, [], [HOLD]):
        assert is_status(api.patch("Job", "a", {"metadata": {"finalizers": without}}), 422, "Invalid")
    said = message(api.patch("Job", "a", {"metadata": {"finalizers": None}}), 422)
    assert "metadata.finalizers: Forbidden" in said and "--grace-period=0" in said
    assert api.changed("Job", "a", {"metadata": {"labels": {"a": "b"}}})["metadata"]["finalizers"] == [RUNNING]
    assert rob.say(job, "Cancelled") == 200


def test_other_kinds_may_use_the_word(api: Api) -> None:
    api.create("Workflow", "w", finalizers=[RUNNING])
    api.changed("Workflow", "w", {"metadata": {"finalizers": None}})


# -- many, and what belongs to something -----------------------------------------------------------------------------


def test_of_a_collection_what_runs_stays_until_it_has_ended(api: Api, robot: Robots) -> None:
    rob = robot(maxConcurrentJobs=2)
    jobs = [running(api, rob, name) for name in ("a", "b")]
    api.create("Job", "c")
    assert api.call("DELETE", api.path("Job")).status_code == 200
    assert api.names("Job") == ["a", "b"]
    assert rob.say(jobs[0], "Cancelled") == 200 and api.names("Job") == ["b"]
    assert api.call("DELETE", api.path("Job"), AT_ONCE).status_code == 200
    assert api.names("Job") == []


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_what_belongs_to_a_deleted_owner_is_ended_first(api: Api, robot: Robots, policy: str) -> None:
    rob = robot()
    made = api.create("ConfigMap", "owner")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": made["metadata"]["uid"],
             "blockOwnerDeletion": True}  # fmt: skip
    job = running(api, rob, "a", ownerReferences=[owner])
    api.delete("ConfigMap", "owner", json={"propagationPolicy": policy})
    until(lambda: api.get("Job", "a")["metadata"].get("deletionTimestamp"), "the job is asked to end")
    found = api.get("Job", "a")
    assert found["metadata"]["finalizers"] == [RUNNING] and found["spec"]["cancel"] is True
    assert (api.find("ConfigMap", "owner") is None) == (policy == "Background")
    assert rob.say(job, "Cancelled") == 200 and api.find("Job", "a") is None
    until(lambda: api.find("ConfigMap", "owner") is None, "and then its owner goes")


@pytest.mark.parametrize("policy", ["Foreground", "Orphan"])
def test_as_an_owner_it_waits_for_its_robot_too(api: Api, robot: Robots, policy: str) -> None:
    rob = robot()
    job = running(api, rob, "a")
    owner = {"apiVersion": job["apiVersion"], "kind": "Job", "name": "a", "uid": job["metadata"]["uid"]}
    api.create("ConfigMap", "its", ownerReferences=[{**owner, "blockOwnerDeletion": True}])
    api.delete("Job", "a", json={"propagationPolicy": policy})
    until(lambda: api.get("Job", "a")["metadata"]["finalizers"] == [RUNNING], "only its robot is left to wait for")
    assert (api.find("ConfigMap", "its") is not None) == (policy == "Orphan")
    assert rob.say(job, "Cancelled") == 200 and api.find("Job", "a") is None


def test_a_namespace_that_is_deleted_waits_for_its_robots_to_end_what_runs(api: Api, robot: Robots) -> None:
    """Its robots and their keys go after that: they could not say so otherwise."""
    rob = robot()
    job = running(api, rob, "a")
    api.create("ConfigMap", "other")
    api.delete("Namespace", api.namespace)
    until(lambda: api.find("ConfigMap", "other") is None, "what does not run goes")
    until(lambda: "deletionTimestamp" in api.get("Job", "a")["metadata"], "what runs is asked to end")
    assert in_phase(api, "a", "Running")["metadata"]["finalizers"] == [RUNNING]
    assert api.find("Robot", rob.name) and rob.say(job, "Cancelled") == 200
    until(lambda: api.find("Namespace", api.namespace) is None, "then all is gone")
    until(lambda: api.create("Namespace", api.namespace, {}), "for what comes after the test")
