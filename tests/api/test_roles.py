"""Which role may do what, beyond the routes that it may use: those are in tests/access."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from casare_api.kinds import GROUP

from .conftest import Api, Robot, is_status, message, work


def test_a_robots_key_writes_what_its_robot_is_and_not_what_people_decide(
    api: Api, robot: Callable[..., Robot]
) -> None:
    rob, other = robot(), robot("other")

    def patch(name: str, **spec: Any) -> int:
        return rob.api.patch("Robot", name, {"spec": spec}).status_code

    assert patch(rob.name, capabilities=["browser"], environment="staging", maxConcurrentJobs=4) == 200
    assert patch(other.name, capabilities=["browser"]) == 403
    for forbidden in (
        {"serves": ["*"]},
        {"desiredState": "Paused"},
        {"restartRequestedAt": "2026-01-01T00:00:00Z"},
        {"taints": [{"key": "a"}]},
        {"drain": {"deadline": "1m"}},
        {"maintenanceWindows": []},
    ):
        assert patch(rob.name, **forbidden) in (403, 200)
        assert api.get("Robot", rob.name)["spec"].get(next(iter(forbidden))) in (None, "Active", [])
    mine = api.get("Robot", rob.name)
    assert is_status(rob.api.call("PUT", api.path("Robot", rob.name), mine), 403)
    assert is_status(rob.api.delete("Robot", rob.name), 403)
    assert is_status(rob.api.patch("Robot", rob.name, {"status": {"note": "x"}}, "status"), 403)
    assert rob.api.call("POST", other.path, {}).status_code == 403, "reports of others"

    api.delete("Robot", rob.name)
    stranger = {"metadata": {"name": "stranger"}, "spec": {}}
    assert is_status(rob.api.call("POST", api.path("Robot"), stranger), 403)
    greedy = {"metadata": {"name": rob.name}, "spec": {"serves": ["*"]}}
    assert is_status(rob.api.call("POST", api.path("Robot"), greedy), 403)
    again = {"metadata": {"name": rob.name}, "spec": {"tags": ["back"]}}
    assert rob.api.call("POST", api.path("Robot"), again).status_code == 201, "it may register itself"


def test_a_namespaces_admin_gives_away_no_more_than_the_namespace(api: Api) -> None:
    admin = api.of(api.issue_key("boss", "admin"))
    elsewhere = {"metadata": {"name": "k", "namespace": "default"}, "spec": {"role": "admin"}}
    assert is_status(admin.call("POST", Api(api.server).path("ApiKey"), elsewhere), 403)
    assert is_status(admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": "more"}}), 403)
    name = f"{api.namespace}-r"
    for serves in (["*"], ["default"], [api.namespace, "default"]):
        body = {"metadata": {"name": name}, "spec": {"serves": serves}}
        assert "spec.serves can name no other" in message(admin.call("POST", api.path("Robot"), body), 403)
    made = admin.create("Robot", name, {"spec": {"serves": [api.namespace]}})
    assert is_status(admin.patch("Robot", name, {"spec": {"serves": ["*"]}}), 403)
    put = {**made, "spec": {**made["spec"], "serves": ["*"]}}
    assert is_status(admin.call("PUT", api.path("Robot", name), put), 403)
    api.changed("Robot", name, {"spec": {"serves": ["*"]}})  # the server's admin may
    assert admin.patch("Robot", name, {"spec": {"tags": ["a"]}}).status_code == 200, "what was given before stays"


def test_a_refusal_says_who_can_not_do_what_where(api: Api) -> None:
    viewer = api.of(api.issue_key("auditor", "viewer"))
    answer = viewer.call("POST", api.path("Robot"), {"metadata": {"name": "x"}})
    assert is_status(answer, 403, "Forbidden")
    assert answer.json()["message"] == (
        f'robots.{GROUP} is forbidden: User "auditor" cannot create resource "robots" in API group "{GROUP}" '
        f'in the namespace "{api.namespace}"'
    )
    assert answer.json()["details"] == {"group": GROUP, "kind": "robots"}


def test_a_namespace_can_be_seen_by_those_who_live_in_it(api: Api) -> None:
    viewer = api.of(api.issue_key("auditor", "viewer"))
    assert viewer.get("Namespace", api.namespace)["metadata"]["name"] == api.namespace
    assert is_status(viewer.call("GET", api.path("Namespace", "default")), 403)
    assert is_status(viewer.call("GET", api.path("Namespace")), 403)


def test_an_operator_puts_no_job_on_the_robot_of_another_by_its_status(api: Api, robot: Callable[..., Robot]) -> None:
    theirs = robot()
    tenant = f"{api.namespace}-tenant"
    api.call("POST", "/api/v1/namespaces", {"metadata": {"name": tenant}}).raise_for_status()
    operator = api.of(api.issue_key("op", "operator", tenant), tenant)
    made = operator.create("Job", "j", work())
    when = "2026-01-01T00:00:00Z"
    forged = {"attempt": 1, "robotName": theirs.name, "robotUID": theirs.uid, "assignedTime": when, "startedTime": when}
    for phase in ("Assigned", "Running"):
        assert "Forbidden" in message(operator.patch("Job", "j", {"status": {**forged, "phase": phase}}, "status"), 422)
    whole = {**made, "status": {**made["status"], **forged, "message": "noted"}}
    assert operator.call("PUT", operator.path("Job", "j", "status"), whole).status_code == 200
    status = operator.get("Job", "j")["status"]
    assert status["message"] == "noted" and status["phase"] == "Queued" and status["attempt"] == 0
    assert not {"robotName", "robotUID", "assignedTime", "startedTime"} & status.keys()
