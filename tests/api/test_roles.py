"""Which role may do what: every route, tried by every role, in its own namespace, in another one and across all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from casare_api.kinds import GROUP, KINDS

from .conftest import MERGE, Api, Robot, is_status, message

FLEET = {"robots", "workflows", "jobs", "schedules", "fires", "events", "configmaps", "leases"}
NEVER = {"resourceVersion": "999999999999"}  # a watch from then is refused at once, if it is allowed at all


@dataclass(frozen=True)
class Route:
    """A route, and what it comes to: reading, writing, or something special."""

    method: str
    path: str
    namespace: str | None
    resource: str
    does: str

    def __str__(self) -> str:
        return f"{self.method} {self.path} ({self.does})"


def routes(namespaces: list[str | None]) -> Iterator[Route]:
    """All routes of the resource API, for objects that there are not."""
    for kind in KINDS.values():
        for namespace in namespaces if kind.namespaced else [None]:
            collection, one = kind.path(namespace), kind.path(namespace, "nobody")
            for does in ("list", "watch"):
                yield Route("GET", collection, namespace, kind.plural, does)
            for method in ("POST", "DELETE"):
                yield Route(method, collection, namespace, kind.plural, "write")
            yield Route("GET", one, namespace, kind.plural, "get")
            for method in ("PUT", "PATCH", "DELETE"):
                yield Route(method, one, namespace, kind.plural, "write")
            if kind.has_status:
                yield Route("GET", f"{one}/status", namespace, kind.plural, "get")
                for method in ("PUT", "PATCH"):
                    yield Route(method, f"{one}/status", namespace, kind.plural, "write")
    for namespace in namespaces:
        if namespace is None:
            continue
        root = f"/apis/{GROUP}/v1/namespaces/{namespace}"
        yield Route("POST", f"{root}/robots/nobody/report", namespace, "robots", "report")
        yield Route("POST", f"{root}/jobs/nobody/log?uid=x&attempt=1&seq=1", namespace, "jobs", "add log")
        yield Route("GET", f"{root}/jobs/nobody/log", namespace, "jobs", "get")
        yield Route("GET", f"{root}/jobs/nobody/why", namespace, "jobs", "get")
        for method, path, does in (("GET", "", "list"), ("GET", "/f", "get"), ("HEAD", "/f", "get"), ("PUT", "/f", "add file")):
            yield Route(method, f"{root}/jobs/nobody/artifacts{path}", namespace, "jobs", does)
        yield Route("POST", f"{root}/jobs/nobody/retry", namespace, "jobs", "write")
        yield Route("POST", f"{root}/apikeys/nobody/token", namespace, "apikeys", "write")
        yield Route("POST", f"{root}/apikeys/nobody/rotate", namespace, "apikeys", "write")
        yield Route("GET", f"{root}/workflows/nobody/revisions/{'0' * 16}", namespace, "workflows", "get content")
        yield Route("GET", f"{root}/blobs/{'0' * 64}", namespace, "blobs", "get content")
        yield Route("HEAD", f"{root}/blobs/{'0' * 64}", namespace, "blobs", "get content")
        yield Route("PUT", f"{root}/blobs/{'0' * 64}", namespace, "blobs", "write")


def reads(route: Route) -> bool:
    return route.does in ("list", "watch", "get", "get content") and route.resource != "secrets"


# What each role may do in its own namespace. None of them may do anything elsewhere.
MAY: dict[str, Callable[[Route], bool]] = {
    "viewer": reads,
    "operator": lambda route: (
        reads(route) or (route.does in ("write", "add log", "add file") and route.resource in FLEET | {"blobs"})
    ),
    "admin": lambda route: reads(route) or route.resource != "quotas",
}


def is_refused(api: Api, route: Route, key: str) -> bool:
    params = {"watch": "true", **NEVER} if route.does == "watch" else {}
    content, headers = b"{}", {"content-type": "application/json"}
    if route.method == "PATCH":
        headers = {"content-type": MERGE}
    if route.method == "DELETE" and not route.path.endswith("nobody"):
        params = {"dryRun": "All"}
    answer = api.call(route.method, route.path, key=key, content=content, headers=headers, params=params or None)
    assert answer.status_code != 401 and answer.status_code < 500, (str(route), answer.text)
    return answer.status_code == 403


@pytest.mark.parametrize("role", sorted(MAY))
def test_a_role_may_do_in_its_namespace_what_it_may_and_nothing_elsewhere(api: Api, role: str) -> None:
    key = api.issue_key("k", role)
    wrong = []
    for route in routes([api.namespace, "default", None]):
        may = route.namespace == api.namespace and MAY[role](route)
        if is_refused(api, route, key) == may:
            wrong.append(f"{'allowed' if not may else 'refused'}: {route}")
    assert wrong == []


def test_the_servers_admin_may_do_everything(api: Api) -> None:
    key = api.key
    assert [str(route) for route in routes([api.namespace, "default", None]) if is_refused(api, route, key)] == []


def test_a_robot_may_reach_itself_and_content_by_its_hash(api: Api, robot: Callable[..., Robot]) -> None:
    """All else is refused, even that it does not exist; its jobs need its own selector (test_watch)."""
    rob = robot()
    may_reach = []
    for route in routes([api.namespace, "default", None]):
        if not is_refused(api, route, rob.api.key):
            may_reach.append(f"{route.method} {route.does} {route.resource} {route.namespace == api.namespace}")
    own = ["POST write robots True"]  # its own registration: the name is looked at next
    content = [
        f"{method} get content {resource} {here}"
        for here in (True, False)
        for method, resource in (("GET", "workflows"), ("GET", "blobs"), ("HEAD", "blobs"))
    ]
    log = [f"{what} jobs {here}" for here in (True, False) for what in ("POST add log", "PUT add file")]  # looked at next
    get_job = [line for line in may_reach if line.startswith("GET get jobs")]  # 404: there is none to be hidden
    assert sorted(may_reach) == sorted([*own, *content, *log, *get_job])


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
