"""A job goes its way exactly once, whatever its robot says, twice, too late or not at all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from ..conftest import until
from .conftest import NOWHERE, Api, Robot, in_phase, is_status, message, work

Robots = Callable[..., Robot]


def events(api: Api, name: str) -> list[str]:
    found = api.list("Event", fieldSelector=f"involvedObject.name={name}")["items"]
    return sorted(event["reason"] for event in found)


def test_from_queued_to_succeeded(api: Api, robot: Robots) -> None:
    rob = robot()
    made = api.create("Job", "j", work(rob))
    assert made["status"]["phase"] == "Queued" and made["status"]["attempt"] == 0
    job = rob.assigned(api, "j")
    status = job["status"]
    assert (status["attempt"], status["robotName"], status["robotUID"]) == (1, rob.name, rob.uid)
    assert rob.say(job, "Running", progress={"percent": 10, "message": "page 1"}) == 200
    running = api.get("Job", "j")["status"]
    assert running["phase"] == "Running" and running["progress"]["percent"] == 10
    assert rob.say(job, "Running", progress={"percent": 60}) == 200, "progress comes with Running again"
    facts = {"exitCode": 0, "message": "matched 312", "outputs": {"matched": 312}}
    assert rob.say(job, "Succeeded", **facts) == 200
    done = api.get("Job", "j")["status"]
    assert done["phase"] == "Succeeded" and {key: done[key] for key in facts} == facts
    assert done["queuedTime"] <= done["assignedTime"] <= done["startedTime"] <= done["finishedTime"]
    (attempt,) = done["attempts"]
    assert (attempt["number"], attempt["phase"], attempt["robotName"]) == (1, "Succeeded", rob.name)
    until(lambda: {"Assigned", "Started", "Succeeded"} <= set(events(api, "j")), "people are told of it")


def test_running_and_succeeded_may_come_in_one_report(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    meta = rob.assigned(api, "j")["metadata"]
    said = {"namespace": api.namespace, "name": "j", "uid": meta["uid"], "attempt": 1}
    answer = rob.report({**said, "phase": "Running"}, {**said, "phase": "Succeeded"})
    assert [outcome["code"] for outcome in answer["jobs"]] == [200, 200]
    assert api.get("Job", "j")["status"]["phase"] == "Succeeded"


def test_a_short_job_may_be_over_before_it_was_said_to_run(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    assert rob.say(rob.assigned(api, "j"), "Succeeded") == 200
    status = api.get("Job", "j")["status"]
    assert status["phase"] == "Succeeded" and status["startedTime"]


def test_a_report_that_says_too_much_of_one_job_holds_up_nobody_else(api: Api, robot: Robots) -> None:
    """Changes of one job are written one after the other: a flood of them would keep all others waiting."""
    rob = robot(maxConcurrentJobs=2)
    known = []
    for name in ("a", "b"):
        api.create("Job", name, work(rob))
        uid = rob.assigned(api, name)["metadata"]["uid"]
        known.append({"namespace": api.namespace, "name": name, "uid": uid, "attempt": 1, "phase": "Running"})
    flood = [{**known[0], "progress": {"step": number}} for number in range(9)]
    outcomes = rob.report(*flood, known[1])["jobs"]
    assert [one["code"] for one in outcomes] == [422] * 9 + [200]
    assert "more than 8 transitions of one job" in outcomes[0]["message"]


def test_what_was_said_already_is_fine_and_changes_nothing(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    job = rob.assigned(api, "j")
    assert [rob.say(job, "Running"), rob.say(job, "Running"), rob.say(job, "Succeeded")] == [200, 200, 200]
    version = api.get("Job", "j")["metadata"]["resourceVersion"]
    assert [rob.say(job, "Succeeded"), rob.say(job, "Succeeded", exitCode=5)] == [200, 200]
    assert api.get("Job", "j")["metadata"]["resourceVersion"] == version


@pytest.mark.parametrize("said", ["Running", "Failed", "Cancelled", "Lost", "Drained"])
def test_the_end_absorbs_what_comes_later(api: Api, robot: Robots, said: str) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    job = rob.assigned(api, "j")
    rob.say(job, "Succeeded")
    before = api.get("Job", "j")
    assert rob.say(job, said) == 409
    assert api.get("Job", "j") == before


def test_only_the_robot_that_has_the_attempt_is_believed(api: Api, robot: Robots) -> None:
    rob, other = robot(), robot("other")
    api.create("Job", "j", work(rob))
    job = rob.assigned(api, "j")
    assert other.say(job, "Succeeded") == 409, "another robot"
    later = {**job, "status": {**job["status"], "attempt": 2}}
    assert rob.say(later, "Succeeded") == 409, "an attempt that there is not"
    elsewhere = {**job, "metadata": {**job["metadata"], "namespace": "default"}}
    assert rob.say(elsewhere, "Succeeded") == 404
    another_life = {**job, "metadata": {**job["metadata"], "uid": "00000000-0000-4000-8000-000000000000"}}
    assert rob.say(another_life, "Succeeded") == 404
    assert rob.say(job, "Sleeping") == 422
    assert api.get("Job", "j")["status"]["phase"] == "Assigned"
    assert rob.say(job, "Succeeded") == 200


def test_a_failure_is_tried_again_after_a_pause_as_often_as_was_said(api: Api, robot: Robots) -> None:
    rob = robot()
    retry = {"limit": 1, "backoff": {"initial": "2s", "factor": 3}}
    api.create("Job", "j", work(rob, retry=retry))
    first = rob.assigned(api, "j")
    assert rob.say(first, "Failed", exitCode=3, message="no such page") == 200
    waiting = api.get("Job", "j")["status"]
    assert waiting["phase"] == "Queued" and "robotUID" not in waiting and "exitCode" not in waiting
    assert waiting["heldUntil"] > waiting["attempts"][0]["finishedTime"]
    assert waiting["reasons"][0]["rule"] == "backoff"
    second = rob.assigned(api, "j")
    assert second["status"]["attempt"] == 2
    assert rob.say(first, "Failed") == 200, "the first attempt's failure was recorded"
    assert rob.say(first, "Succeeded") == 409, "and can't become something else"
    assert rob.say(second, "Failed", exitCode=4, message="still none") == 200
    status = api.get("Job", "j")["status"]
    ended = (status["phase"], status["exitCode"], status["message"])
    assert ended == ("Failed", 4, "failed after 2 attempts: still none")
    assert [(one["number"], one["phase"], one["exitCode"]) for one in status["attempts"]] == [
        (1, "Failed", 3),
        (2, "Failed", 4),
    ]


def test_a_drained_attempt_goes_back_at_once_and_does_not_count_as_a_failure(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    first = rob.assigned(api, "j")
    assert [rob.say(first, "Running"), rob.say(first, "Drained")] == [200, 200]
    second = rob.assigned(api, "j")
    assert second["status"]["attempt"] == 2 and second["status"]["attempts"][0]["phase"] == "Drained"
    assert rob.say(second, "Succeeded") == 200


@pytest.mark.parametrize(("policy", "phase"), [("Requeue", "Queued"), ("Fail", "Failed"), ("Wait", "Failed")])
def test_a_robot_that_gives_an_attempt_up_says_so(api: Api, robot: Robots, policy: str, phase: str) -> None:
    """As an agent does that was killed in the middle: with Wait it came back, and has nothing to wait for."""
    rob = robot()
    api.create("Job", "j", work(rob, retry={"onRobotLost": policy}))
    job = rob.assigned(api, "j")
    assert [rob.say(job, "Running"), rob.say(job, "Lost", reason="AgentRestarted")] == [200, 200]
    found = api.get("Job", "j")["status"]
    assert found["attempts"][0]["phase"] == "Lost" and found["attempts"][0]["reason"] == "AgentRestarted"
    assert found["phase"] == phase or (phase == "Queued" and found["phase"] == "Assigned" and found["attempt"] == 2)


def test_a_queued_job_is_cancelled_at_once(api: Api) -> None:
    api.create("Job", "j")
    status = api.changed("Job", "j", {"spec": {"cancel": True}})["status"]
    assert (status["phase"], status["reason"]) == ("Cancelled", "Cancelled") and status["finishedTime"]
    assert "Forbidden" in message(api.patch("Job", "j", {"spec": {"cancel": False}}), 422)
    born = api.create("Job", "k", work(cancel=True))
    assert born["status"]["phase"] == "Cancelled"


def test_a_running_job_is_cancelled_by_its_robot(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob, retry={"limit": 5}))
    job = rob.assigned(api, "j")
    rob.say(job, "Running")
    asked = api.changed("Job", "j", {"spec": {"cancel": True}})
    assert asked["status"]["phase"] == "Running" and asked["status"]["cancelTime"]
    assert rob.say(job, "Running", progress={"percent": 99}) == 200, "it may take its time"
    assert rob.say(job, "Cancelled") == 200
    assert api.get("Job", "j")["status"]["phase"] == "Cancelled"


def test_a_job_that_fails_while_it_is_cancelled_is_not_tried_again(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob, retry={"limit": 5}))
    job = rob.assigned(api, "j")
    assert rob.say(job, "Running") == 200
    api.changed("Job", "j", {"spec": {"cancel": True}})
    assert rob.say(job, "Failed", exitCode=143) == 200
    assert api.get("Job", "j")["status"]["phase"] == "Failed"


def test_a_job_whose_robot_has_not_begun_is_cancelled_at_once(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    job = rob.assigned(api, "j")
    assert api.changed("Job", "j", {"spec": {"cancel": True}})["status"]["phase"] == "Cancelled"
    assert rob.say(job, "Running") == 409, "so that it never begins"
    assert api.get("Robot", rob.name)["status"]["slots"]["used"] == 0
    assert api.get("Job", "j")["status"]["phase"] == "Cancelled"


def test_robots_clocks_decide_nothing(api: Api, robot: Robots) -> None:
    rob = robot()
    for name, clock in (("behind", "2001-01-01T00:00:00Z"), ("ahead", "2999-01-01T00:00:00Z")):
        api.create("Job", name, work(rob, timeout="1h"))
        job = rob.assigned(api, name)
        assert rob.say(job, "Running", startedTime=clock) == 200
        status = api.get("Job", name)["status"]
        assert status["assignedTime"] <= status["startedTime"] < "2900", "within what the database's clock knows"
        assert rob.say(job, "Succeeded", startedTime=clock, finishedTime=clock) == 200
        assert api.get("Job", name)["status"]["finishedTime"] >= status["startedTime"]


def test_the_first_in_line_is_the_one_with_the_lowest_number(api: Api, robot: Robots) -> None:
    for name, priority in (("last", 20), ("middle", 10), ("first", 0), ("second", 1)):
        api.create("Job", name, {"spec": {**work()["spec"], "priority": priority, "requirements": {"tags": ["later"]}}})
    api.changed("Job", "second", {"spec": {"priority": 2}})
    rob = robot(tags=[NOWHERE, "later"])
    order = []
    while len(order) < 4:
        rob.report()
        for job in api.list("Job", fieldSelector=f"status.robotUID={rob.uid},status.phase=Assigned")["items"]:
            order.append(job["metadata"]["name"])
            assert rob.say(job, "Succeeded") == 200
    assert order == ["first", "second", "middle", "last"]


def test_a_robot_gets_no_more_than_it_has_slots(api: Api, robot: Robots) -> None:
    rob = robot(maxConcurrentJobs=2)
    for number in range(5):
        api.create("Job", f"j{number}", work(rob))
    rob.assigned(api, "j0")
    rob.assigned(api, "j1")
    full = {"fieldSelector": f"status.robotUID={rob.uid},status.phase=Assigned"}
    assert len(api.names("Job", **full)) == 2
    robot_now = api.get("Robot", rob.name)["status"]
    assert robot_now["phase"] == "Busy" and robot_now["slots"] == {"total": 2, "used": 2}
    assert rob.say(api.get("Job", "j0"), "Succeeded") == 200
    rob.assigned(api, "j2")
    assert len(api.names("Job", **full)) == 2


def test_a_job_that_waits_says_why(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "tags", work())
    api.create("Job", "held", work(rob, notBefore="2999-01-01T00:00:00Z"))

    def told() -> str:
        rob.report()
        return " ".join(reason["message"] for reason in api.get("Job", "tags")["status"].get("reasons", []))

    until(lambda: NOWHERE in told(), "the missing tag is named")
    held = api.get("Job", "held")["status"]["reasons"]
    assert held[0]["rule"] == "notBefore" and "2999-01-01" in held[0]["message"]
    assert api.list("Job")["items"][1]["status"]["reasons"], "lists show it too"
    api.changed("Robot", rob.name, {"spec": {"tags": [NOWHERE]}})
    assert "reasons" not in rob.assigned(api, "tags")["status"], "and not once it waits no more"


def test_a_submitted_job_can_change_in_three_fields(api: Api) -> None:
    api.create("Job", "j", work(parameters={"month": "2026-10"}))
    changed = api.changed("Job", "j", {"spec": {"priority": 0, "ttlAfterFinished": "1h"}})
    assert changed["spec"]["priority"] == 0 and changed["status"]["phase"] == "Queued"
    for spec in (
        {"parameters": {"month": "2026-11"}},
        {"timeout": "1h"},
        {"workflow": {"args": ["false"]}},
        {"requirements": {"tags": []}},
        {"notBefore": "2026-01-01T00:00:00Z"},
    ):
        said = message(api.patch("Job", "j", {"spec": spec}), 422)
        assert (
            f"spec.{next(iter(spec))}: Forbidden: a submitted job can change only in cancel, priority, ttlAfterFinished"
            in said
        )


def test_parameters_are_checked_against_the_workflows_schema(api: Api) -> None:
    schema = {
        "type": "object",
        "required": ["month"],
        "additionalProperties": False,
        "properties": {"month": {"type": "string", "pattern": "^\\d{4}-\\d{2}$"}, "n": {"maximum": 5}},
    }
    api.create("Workflow", "w", {"spec": {"runner": "command", "args": ["true"], "parameters": schema}})

    def submit(**parameters: Any) -> Any:
        body = {"metadata": {"generateName": "j-"}, "spec": {"workflowRef": {"name": "w"}, "parameters": parameters}}
        return api.call("POST", api.path("Job"), body)

    assert submit(month="2026-10", n=5).status_code == 201
    assert "spec.parameters.month: Invalid value: 'October' does not match" in message(submit(month="October"), 422)
    assert "'month' is a required property" in message(submit(), 422)
    both = submit(month="2026-10", n=6, extra=1)
    assert "spec.parameters.n" in message(both, 422) and "extra" in message(both, 422)
    circular = {"runner": "x", "parameters": {"$ref": "#"}}
    api.create("Workflow", "circle", {"spec": circular})
    body = {"metadata": {"name": "j"}, "spec": {"workflowRef": {"name": "circle"}}}
    assert "JSON Schema can't be used" in message(api.call("POST", api.path("Job"), body), 422)


def test_a_job_takes_from_its_workflow_what_it_does_not_say_itself(api: Api) -> None:
    spec = {
        "runner": "command",
        "args": ["true"],
        "priority": 3,
        "timeout": "30m",
        "lostAfter": "5m",
        "ttlAfterFinished": "1d",
        "retry": {"limit": 2},
        "requirements": {"environment": "staging", "tags": ["sap"], "capabilities": ["gpu"]},
    }
    revision = api.create("Workflow", "w", {"spec": spec})["status"]["revision"]
    mine = {
        "workflowRef": {"name": "w"},
        "timeout": "5m",
        "requirements": {"tags": ["finance"], "environment": "production"},
    }
    job = api.create("Job", "j", {"spec": mine})["spec"]
    assert job["workflowRef"] == {"name": "w", "revision": revision}
    assert (job["priority"], job["timeout"], job["lostAfter"], job["gracePeriod"]) == (3, "5m", "5m", "20s")
    assert job["retry"]["limit"] == 2 and job["ttlAfterFinished"] == "1d"
    assert job["requirements"] == {"environment": "production", "tags": ["sap", "finance"], "capabilities": ["gpu"]}
    api.changed("Workflow", "w", {"spec": {"args": ["false"], "timeout": "1h"}})
    after = api.get("Job", "j")["spec"]
    assert after["workflowRef"]["revision"] == revision and after["timeout"] == "5m", "a queued job stays as it is"


def test_files_must_have_been_sent_along(api: Api) -> None:
    data = b"invoice,amount\n1,100\n"
    spec = {
        "runner": "python",
        "source": {"file": "reconcile.py"},
        "files": [{"name": "invoices.csv", "path": "data/invoices.csv"}],
    }
    body = {"metadata": {"name": "w"}, "spec": spec}
    said = message(api.call("POST", api.path("Workflow"), body), 422)
    assert 'spec.source.file: Invalid value: "reconcile.py": the file was not sent along' in said
    assert 'spec.files[0].path: Invalid value: "data/invoices.csv"' in said
    inline = {"metadata": {"name": "j"}, "spec": {"workflow": spec}}
    assert "was not sent along" in message(api.call("POST", api.path("Job"), inline), 422)

    wrong, right = "0" * 64, hashlib.sha256(data).hexdigest()
    blob = f"/apis/fleet.casare.net/v1/namespaces/{api.namespace}/blobs"
    assert is_status(api.call("PUT", f"{blob}/{wrong}", content=data), 422, "Invalid")
    assert api.call("HEAD", f"{blob}/{right}").status_code == 404
    assert api.call("PUT", f"{blob}/{right}", content=data).status_code == 201
    assert api.call("PUT", f"{blob}/{right}", content=data).status_code == 200, "sending it again is fine"
    head = api.call("HEAD", f"{blob}/{right}")
    assert head.status_code == 200 and head.headers["x-size"] == str(len(data))
    found = api.call("GET", f"{blob}/{right}")
    assert found.content == data and found.headers.get_list("cache-control") == ["private, max-age=31536000, immutable"]
    assert is_status(api.call("GET", f"{blob}/{right[:-1]}"), 400)
    nowhere = f"/apis/fleet.casare.net/v1/namespaces/nowhere/blobs/{right}"
    assert is_status(api.call("PUT", nowhere, content=data), 404, "NotFound")

    spec["source"]["sha256"] = spec["files"][0]["sha256"] = right  # type: ignore[index,call-overload]
    assert api.call("POST", api.path("Workflow"), body).status_code == 201
    assert is_status(api.patch("Workflow", "w", {"spec": {"source": {"sha256": wrong}}}), 422)
    assert api.call("POST", api.path("Job"), {"metadata": {"name": "j"}, "spec": {"workflow": spec}}).status_code == 201


def test_a_declared_job_runs_once_for_its_content(api: Api) -> None:
    declared = "fleet.casare.net/declared"
    api.create("Job", "j", work(cancel=True, ttlAfterFinished="0s"), annotations={declared: "content-1"})
    until(lambda: api.find("Job", "j") is None, "its time to live is over")
    body = {**work(), "metadata": {"name": "j", "annotations": {declared: "content-1"}}}
    again = api.call("POST", api.path("Job"), body)
    assert is_status(again, 409, "AlreadyDeclared") and "has run" in again.json()["message"]
    assert is_status(api.call("POST", api.path("Job"), body, params={"dryRun": "All"}), 409, "AlreadyDeclared")
    body["metadata"]["annotations"][declared] = "content-2"  # type: ignore[index]
    assert api.call("POST", api.path("Job"), body).status_code == 201
    assert is_status(api.call("POST", api.path("Job"), body), 409, "AlreadyExists")


def test_a_dry_run_declares_nothing(api: Api) -> None:
    body = {**work(), "metadata": {"name": "j", "annotations": {"fleet.casare.net/declared": "x"}}}
    assert api.call("POST", api.path("Job"), body, params={"dryRun": "All"}).status_code == 201
    assert api.call("POST", api.path("Job"), body).status_code == 201


def test_a_jobs_time_to_live_begins_when_it_ends(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "short", work(rob, ttlAfterFinished="0s"))
    api.create("Job", "waiting", work(ttlAfterFinished="0s"))
    api.create("Job", "long", work(cancel=True, ttlAfterFinished="1h"))
    api.create("Job", "held", work(cancel=True, ttlAfterFinished="0s"), finalizers=["example.com/hold"])
    assert rob.say(rob.assigned(api, "short"), "Succeeded") == 200
    until(lambda: api.find("Job", "short") is None, "it goes")
    until(lambda: "deletionTimestamp" in api.get("Job", "held")["metadata"], "what is held is marked")
    assert api.find("Job", "waiting") and api.find("Job", "long")


def test_a_job_nobody_can_start_in_time_expires(api: Api, robot: Robots) -> None:
    api.create("Job", "j", work(startDeadline="0s"))
    expired = in_phase(api, "j", "Expired")["status"]
    assert expired["reason"] == "StartDeadline" and "no robot could start it" in expired["message"]
    rob = robot()
    api.create("Job", "k", work(rob, startDeadline="2s", retry={"limit": 1, "backoff": {"initial": "3s"}}))
    assert rob.say(rob.assigned(api, "k"), "Failed") == 200
    again = rob.assigned(api, "k")
    assert again["status"]["attempt"] == 2, "the deadline is for the first start"


def test_a_robot_that_is_silent_is_offline_and_its_job_goes_on_elsewhere(api: Api, robot: Robots) -> None:
    """Offline stops placement; lost (here at once) ends the attempt; late reports of the dead are refused."""
    dead, alive, patient = robot(), robot("alive", tags=[]), robot("patient")
    spec = work(lostAfter="1s")["spec"]
    spec["workflow"]["requirements"]["tags"] = ["both"]
    for each in (dead, alive):
        api.changed("Robot", each.name, {"spec": {"tags": [each.name, "both"]}})
    api.changed("Robot", alive.name, {"spec": {"desiredState": "Paused"}})
    api.create("Job", "j", {"spec": spec})
    api.create("Job", "failing", work(patient, lostAfter="1s", retry={"onRobotLost": "Fail"}))
    waiting, failing = dead.assigned(api, "j"), patient.assigned(api, "failing")
    assert [dead.say(waiting, "Running"), patient.say(failing, "Running")] == [200, 200]
    assert api.get("Robot", dead.name)["status"]["phase"] == "Busy"
    api.changed("Robot", alive.name, {"spec": {"desiredState": "Active"}})

    def phase() -> str:
        alive.report()
        return str(api.get("Robot", dead.name)["status"]["phase"])

    until(lambda: phase() == "Offline", "it is offline", 40)
    conditions = {one["type"]: one for one in api.get("Robot", dead.name)["status"]["conditions"]}
    assert conditions["Ready"]["status"] == "False" and conditions["Ready"]["reason"] == "Silent"
    moved = alive.assigned(api, "j")
    assert moved["status"]["attempt"] == 2
    (lost,) = moved["status"]["attempts"]
    assert (lost["phase"], lost["reason"], lost["robotName"]) == ("Lost", "RobotOffline", dead.name)
    assert in_phase(api, "failing", "Failed")["status"]["reason"] == "RobotOffline"
    assert dead.say(waiting, "Succeeded") == 409 and patient.say(failing, "Succeeded") == 409
    assert alive.say(moved, "Succeeded") == 200
    until(lambda: phase() == "Idle", "it is back")
    until(lambda: "Offline" in events(api, dead.name), "people are told of it")


def test_a_robot_that_is_deleted_takes_no_job_with_it(api: Api, robot: Robots) -> None:
    gone, waiter = robot(), robot("waiter")
    api.create("Job", "j", work(gone))
    api.create("Job", "waits", work(waiter, retry={"onRobotLost": "Wait"}))
    for rob, name in ((gone, "j"), (waiter, "waits")):
        assert rob.say(rob.assigned(api, name), "Running") == 200
        api.delete("Robot", rob.name)
    status = in_phase(api, "j", "Queued")["status"]
    assert status["attempts"][0]["reason"] == "RobotDeleted"
    assert in_phase(api, "waits", "Failed")["status"]["reason"] == "RobotDeleted", (
        "a robot that is gone does not come back"
    )
    said = gone.api.call("POST", gone.path, {})
    assert re.search(r"robots.* not found", message(said, 404))


def test_a_robot_that_leaves_is_offline_at_once(api: Api, robot: Robots) -> None:
    rob = robot()
    rob.report()
    until(lambda: api.get("Robot", rob.name)["status"]["phase"] == "Idle", "it is there")
    rob.report(leaving=True)
    until(lambda: api.get("Robot", rob.name)["status"]["phase"] == "Offline", "it is gone", 40)


def test_the_answer_to_a_report_carries_what_people_decided(api: Api, robot: Robots) -> None:
    rob = robot()
    answer = rob.report(agent={"version": "1.2.3", "hostname": "pc-01"}, telemetry={"cpuPercent": 5})
    assert answer["intervalSeconds"] == 3 and answer["desiredState"] == "Active" and answer["jobs"] == []
    assert api.get("Robot", rob.name)["status"]["agent"] == {"version": "1.2.3", "hostname": "pc-01"}
    wish = {
        "desiredState": "Drained",
        "drain": {"deadline": "5m", "then": "Cancel"},
        "restartRequestedAt": "2026-01-01T00:00:00Z",
    }
    api.changed("Robot", rob.name, {"spec": wish})
    until(lambda: wish.items() <= rob.report().items(), "the next answer says so")
    generation = api.get("Robot", rob.name)["metadata"]["generation"]
    rob.report(agent={"version": "1.2.3", "hostname": "pc-01"})
    assert api.get("Robot", rob.name)["metadata"]["generation"] == generation, "a heartbeat is nobody's wish"


def test_defaults_of_the_schema_are_the_jobs_parameters(api: Api) -> None:
    schema = {"properties": {"month": {"type": "string"}, "dryRun": {"type": "boolean", "default": True}}}
    api.create("Workflow", "w", {"spec": {"runner": "command", "args": ["true"], "parameters": schema}})
    job = api.create("Job", "j", {"spec": {"workflowRef": {"name": "w"}, "parameters": {"month": "2026-10"}}})
    assert job["spec"]["parameters"] == {"month": "2026-10", "dryRun": True}


def test_a_workflow_that_changes_is_checked_as_it_is_now(api: Api) -> None:
    def workflow(most: int) -> dict[str, Any]:
        schema = {"properties": {"n": {"maximum": most}}}
        return {"spec": {"runner": "command", "args": ["true"], "parameters": schema}}

    def submit(n: int) -> Any:
        body = {"metadata": {"generateName": "j-"}, "spec": {"workflowRef": {"name": "w"}, "parameters": {"n": n}}}
        return api.call("POST", api.path("Job"), body)

    api.create("Workflow", "w", workflow(5))
    assert submit(5).status_code == 201
    for most in (9, 3, 7):
        merge = {"content-type": "application/merge-patch+json"}
        patch = api.call("PATCH", api.path("Workflow", "w"), workflow(most), headers=merge)
        assert patch.status_code == 200
        assert submit(most).status_code == 201
        assert "spec.parameters.n" in message(submit(most + 1), 422)


def test_a_job_with_a_workflow_of_its_own_is_checked_against_it(api: Api) -> None:
    def submit(schema: dict[str, Any], **parameters: Any) -> Any:
        inline = {"runner": "command", "args": ["true"], "parameters": schema}
        body = {"metadata": {"generateName": "j-"}, "spec": {"workflow": inline, "parameters": parameters}}
        return api.call("POST", api.path("Job"), body)

    made = submit({"properties": {"n": {"default": 4}}})
    assert made.status_code == 201 and made.json()["spec"]["parameters"] == {"n": 4}
    assert "spec.parameters.n" in message(submit({"properties": {"n": {"maximum": 3}}}, n=4), 422)
    assert "spec.workflow.parameters.type" in message(submit({"type": "nonsense"}), 422)
