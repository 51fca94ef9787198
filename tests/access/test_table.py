"""Every route x every role: allowed, 401 or 403. The routes are the server's own; what each role may do is written here.

A route that has no row here fails: whoever adds one says who may use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from casare_apiserver.routes import parse

from ..api.conftest import Api, Robot, in_phase, is_status, work
from .issuer import Issuer
from .routes import Caller, Route, documented, routes, undocumented

READ, WRITE = "get list watch", "create update patch delete deletecollection"
# Resource, verbs, and the roles that may. What a role may, it may in its own namespace (bound everywhere: everywhere).
TABLE = f"""
apikeys               {READ:60} viewer operator admin
apikeys               {WRITE:60} admin
apikeys/status        get                                                           viewer operator admin
apikeys/status        update patch                                                  admin
apikeys/rotate        create                                                        admin
apikeys/token         create                                                        admin
audit                 list
blobs                 get                                                           viewer operator admin
blobs                 create                                                        operator admin
clusterrolebindings   {READ:60} viewer operator admin
clusterrolebindings   {WRITE:60}
clusterroles          {READ:60} viewer operator admin
clusterroles          {WRITE:60}
configmaps            {READ:60} viewer operator admin
configmaps            {WRITE:60} operator admin
events                {READ:60} viewer operator admin
events                {WRITE:60} operator admin
fires                 {READ:60} viewer operator admin
fires                 {WRITE:60} operator admin
fires/status          get                                                           viewer operator admin
fires/status          update patch                                                  operator admin
jobs                  {READ:60} viewer operator admin
jobs                  {WRITE:60} operator admin
jobs/artifacts        get                                                           viewer operator admin
jobs/artifacts        update                                                        operator admin
jobs/log              get                                                           viewer operator admin
jobs/log              create                                                        operator admin
jobs/retry            create                                                        operator admin
jobs/status           get                                                           viewer operator admin
jobs/status           update patch                                                  operator admin
jobs/why              get                                                           viewer operator admin
jointokens            {READ:60} viewer operator admin
jointokens            {WRITE:60} admin
jointokens/status     get                                                           viewer operator admin
jointokens/status     update patch                                                  admin
jointokens/token      create                                                        admin
leases                {READ:60} viewer operator admin
leases                {WRITE:60} operator admin
namespaces            {READ:60} viewer operator admin
namespaces            {WRITE:60}
namespaces/status     get                                                           viewer operator admin
namespaces/status     update patch
quotas                {READ:60} viewer operator admin
quotas                {WRITE:60}
quotas/status         get                                                           viewer operator admin
quotas/status         update patch
robots                {READ:60} viewer operator admin
robots                {WRITE:60} operator admin
robots/report         create                                                        admin
robots/status         get                                                           viewer operator admin
robots/status         update patch                                                  operator admin
rolebindings          {READ:60} viewer operator admin
rolebindings          {WRITE:60} admin
roles                 {READ:60} viewer operator admin
roles                 {WRITE:60} admin
schedules             {READ:60} viewer operator admin
schedules             {WRITE:60} operator admin
schedules/status      get                                                           viewer operator admin
schedules/status      update patch                                                  operator admin
sealing               list create
secrets               {READ:60} admin
secrets               {WRITE:60} admin
workflows             {READ:60} viewer operator admin
workflows             {WRITE:60} operator admin
workflows/revisions   get                                                           viewer operator admin
workflows/status      get                                                           viewer operator admin
workflows/status      update patch                                                  operator admin
"""
ROLES = ("viewer", "operator", "admin")
# A robot's key: its own registration in its namespace; by hash, or looked at next (404 here), anywhere. Jobs are listed
# by its own selector alone.
OF_ROBOTS = {"robots create": False, "blobs get": True, "workflows/revisions get": True, "jobs get": True,
             "jobs/log create": True, "jobs/artifacts update": True}  # fmt: skip
# What needs no key: nothing of the fleet is in it.
ENROLMENT = "/apis/fleet.casare.net/v1/enroll"  # shows a join token instead: tests/api has what it refuses
OPEN = {"/healthz", "/readyz", "/metrics", "/version"}


def rows() -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for line in TABLE.strip().splitlines():
        resource, *words = line.split()
        roles = frozenset(word for word in words if word in ROLES)
        for verb in words:
            if verb not in ROLES:
                assert f"{resource} {verb}" not in found, line
                found[f"{resource} {verb}"] = roles
    return found


MAY = rows()


@contextmanager
def calling(api: Api, key: str) -> Iterator[Caller]:
    caller = Caller(api, key)
    try:
        yield caller
    finally:
        caller.close()


def every(api: Api) -> list[Route]:
    """In the test's namespace, in another one, and across all of them."""
    return list(routes(api, [api.namespace, "default"]))


def wrong(api: Api, key: str, may: Callable[[Route], bool]) -> list[str]:
    """The routes that are allowed and should not be, and those that should be and are not."""
    with calling(api, key) as caller:
        told = [(route, caller.asks(route), may(route)) for route in every(api)]
    assert 401 not in {code for _, code, _ in told}
    return [f"{'refused' if is_allowed else 'allowed'}: {route}" for route, code, is_allowed in told if (code == 403) is is_allowed]


def test_every_route_has_a_row_and_every_row_a_route(api: Api) -> None:
    there = {route.does for route in routes(api, ["x"])}
    deleted_together = {f"{kind} deletecollection" for kind in ("namespaces", "clusterroles", "clusterrolebindings")}
    assert there - MAY.keys() == set(), "who may use these? say it in TABLE"
    assert MAY.keys() - there - deleted_together == set(), "there are no such routes any more"
    assert undocumented(api) == set(), "these are served and in no document"


def test_what_is_open_to_everybody_is_listed(api: Api) -> None:
    """All paths that the server documents are resources, questions about the caller, or listed here."""
    everything = api.http.get("/openapi.json").json()["paths"]
    beside = {path for path in everything if path not in documented(api)}
    assert beside == OPEN
    questions = {path for path in documented(api) if parse(path.replace("{", "").replace("}", "")) is None} - {ENROLMENT}
    assert all(path.rpartition("/")[2].startswith("selfsubject") for path in questions) and len(questions) == 3
    for path in [*questions, "/api", "/apis", "/openapi/v3", "/openapi/v2", "/apis/fleet.casare.net/v1"]:
        method = "POST" if path in questions else "GET"
        assert is_status(api.http.request(method, path), 403)
        assert is_status(api.http.request(method, path, headers={"x-api-key": "crpa_wrong"}), 401)


@pytest.mark.parametrize(("key", "code"), [("", 403), ("crpa_nobodys", 401), ("eyJhbGciOiJub25lIn0.e30.", 401)])
def test_without_a_good_key_there_is_nothing(api: Api, key: str, code: int) -> None:
    with calling(api, key) as caller:
        assert [str(route) for route in routes(api, [api.namespace]) if caller.asks(route) != code] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_in_its_namespace_what_it_may_and_nothing_elsewhere(api: Api, role: str) -> None:
    key = api.issue_key("k", role)
    assert wrong(api, key, lambda route: route.namespace == api.namespace and role in MAY[route.does]) == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_is_bound_everywhere_may_everywhere_what_it_may(api: Api, issuer: Issuer, role: str) -> None:
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"casare:{role}"}
    name = f"{api.namespace}-{role}"
    api.create("ClusterRoleBinding", name, {"roleRef": ref, "subjects": [{"kind": "User", "name": f"oidc:{name}"}]})
    try:
        assert wrong(api, issuer.token(sub=name), lambda route: role in MAY[route.does]) == []
    finally:
        api.delete("ClusterRoleBinding", name)


def test_a_robots_key_may_what_a_robot_needs(api: Api) -> None:
    api.create("Robot", f"{api.namespace}-r")
    key = api.issue_key("k", "robot", robotName=f"{api.namespace}-r")

    def may(route: Route) -> bool:
        is_anywhere = OF_ROBOTS.get(route.does)
        return is_anywhere is not None and (is_anywhere or route.namespace == api.namespace)

    assert wrong(api, key, may) == []


def test_who_signs_in_and_is_bound_to_nothing_may_nothing(api: Api, issuer: Issuer) -> None:
    assert wrong(api, issuer.token(sub="nobody", groups=["nothing"]), lambda route: False) == []


def test_the_servers_admin_may_do_everything(api: Api) -> None:
    assert wrong(api, api.key, lambda route: True) == []


def test_a_robot_can_not_read_or_write_what_is_anothers(api: Api) -> None:
    """Not its jobs, logs, artifacts or heartbeats, nor its keys."""
    mine, other = Robot(api, f"{api.namespace}-a"), Robot(api, f"{api.namespace}-b")
    api.create("Job", "j", work(other))
    job = other.assigned(api, "j")
    assert other.say(job, "Running") == 200
    in_phase(api, "j", "Running")
    a, uid = mine.api, job["metadata"]["uid"]
    log = f"{api.path('Job', 'j', 'log')}?uid={uid}&attempt=1&seq=1"
    artifact = f"{api.path('Job', 'j', 'artifacts')}/f"
    by_uid = {"fieldSelector": f"status.robotUID={other.uid}"}
    refused = [
        a.call("GET", api.path("Job", "j")), a.call("GET", api.path("Job"), params=by_uid), a.call("GET", api.path("Job")),
        a.call("GET", api.path("Job"), params={**by_uid, "watch": "true"}), a.patch("Job", "j", {"spec": {"cancel": True}}),
        a.patch("Job", "j", {"status": {"phase": "Failed"}}, "status"), a.delete("Job", "j"),
        a.call("GET", api.path("Job", "j", "log")), a.call("GET", api.path("Job", "j", "why")),
        a.call("POST", api.path("Job", "j", "retry"), {}), a.call("GET", api.path("Job", "j", "artifacts")), a.call("GET", artifact),
        a.call("POST", other.path, {}), a.call("GET", api.path("Robot", other.name)), a.patch("Robot", other.name, {"spec": {"tags": []}}),
        a.call("GET", api.path("ApiKey", other.name)), a.call("POST", api.path("ApiKey", other.name, "token")),
        a.patch("ApiKey", other.name, {"spec": {"revoked": True}}),
    ]  # fmt: skip
    assert [(one.request.method, str(one.request.url)) for one in refused if one.status_code != 403] == []
    params = {"uid": uid, "attempt": "1"}
    assert a.call("POST", log, content=b"mine now").status_code in (403, 409)
    assert a.call("PUT", artifact, content=b"mine now", params=params).status_code in (403, 409)
    assert mine.say(job, "Succeeded", exitCode=0) in (404, 409), "its report says nothing of others' jobs"
    assert api.get("Job", "j")["status"]["phase"] == "Running"
    assert other.api.call("POST", log, content=b"hello").status_code == 204
    assert api.call("GET", api.path("Job", "j", "log")).text == "hello"
