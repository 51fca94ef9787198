"""The four roles: who may do what, where. (Every route is tried for every role in tests/access.)"""

from __future__ import annotations

import itertools
from typing import Any, get_args

import pytest

from casare_api.decisions.access import (
    ANONYMOUS,
    READ,
    REVIEWS,
    Attempted,
    Identity,
    Verb,
    allowed,
    may_serve,
    robot_may_write,
)
from casare_api.kinds import KINDS

VERBS: tuple[Verb, ...] = get_args(Verb)
RESOURCES = [kind.plural for kind in KINDS.values()] + ["blobs"]
SUBRESOURCES = [None, "status", "log", "artifacts", "token", "rotate", "report", "revisions", "retry", "why"]
SERVER = Identity("admin", "admin")
EVERYBODY = {
    "server": SERVER,
    "admin": Identity("boss", "admin", "team-a", key_uid="1"),
    "operator": Identity("op", "operator", "team-a", key_uid="2"),
    "viewer": Identity("eye", "viewer", "team-a", key_uid="3"),
    "robot": Identity("pc-01", "robot", "team-a", "pc-01", "4", key_name="pc-01"),
    "nobody": ANONYMOUS,
}
HERE, NAMES = "team-a", [None, "pc-01", "other"]


def everything(namespace: str | None) -> list[Attempted]:
    return [Attempted(verb, resource, sub, namespace, name)
            for verb, resource, sub, name in itertools.product(VERBS, RESOURCES, SUBRESOURCES, NAMES)]  # fmt: skip


def granted(who: str, namespace: str | None) -> set[Attempted]:
    return {what for what in everything(namespace) if allowed(EVERYBODY[who], what)}


def test_only_the_server_is_let_do_everything() -> None:
    assert granted("server", None) == set(everything(None)) and granted("server", HERE) == set(everything(HERE))


@pytest.mark.parametrize("who", ["admin", "operator", "viewer"])
@pytest.mark.parametrize("where", [None, "team-b"])
def test_a_namespaces_keys_reach_no_further(who: str, where: str | None) -> None:
    assert granted(who, where) == set()


def test_each_role_may_what_the_one_below_it_may() -> None:
    assert granted("viewer", HERE) < granted("operator", HERE) < granted("admin", HERE) < granted("server", HERE)


def test_a_viewer_changes_nothing() -> None:
    assert {what.verb for what in granted("viewer", HERE)} == {"get", "list", "watch"}


def test_an_operator_runs_the_fleet_and_gives_out_no_keys() -> None:
    written = {what.resource for what in granted("operator", HERE) if what.verb not in ("get", "list", "watch")}
    assert written == {"robots", "workflows", "jobs", "schedules", "fires", "events", "blobs", "configmaps", "leases"}


@pytest.mark.parametrize("where", [None, HERE, "team-b"])
def test_without_a_key_nothing_is_allowed(where: str | None) -> None:
    assert granted("nobody", where) == set()
    assert not any(allowed(ANONYMOUS, Attempted(verb, review)) for verb in VERBS for review in REVIEWS)


@pytest.mark.parametrize("where", [None, HERE, "team-b"])
def test_secrets_are_for_admins_alone(where: str | None) -> None:
    who_may = {who for who in EVERYBODY if any(what.resource == "secrets" for what in granted(who, where))}
    assert who_may == ({"server", "admin"} if where == HERE else {"server"})
    secret = {what for what in everything(HERE) if (what.resource, what.subresource) == ("secrets", None)}
    assert secret <= granted("admin", HERE), "and they may do everything with them"


@pytest.mark.parametrize("resource", ["configmaps", "leases"])
def test_settings_and_leases_are_read_by_viewers_and_written_by_operators(resource: str) -> None:
    def verbs(who: str) -> set[Verb]:
        return {what.verb for what in granted(who, HERE) if what.resource == resource}

    assert verbs("viewer") == READ and verbs("operator") == verbs("admin") == set(VERBS)
    assert verbs("robot") == set()


def test_a_namespaces_share_is_decided_by_the_server_and_read_by_all_who_live_there() -> None:
    def verbs(who: str) -> set[Verb]:
        return {what.verb for what in granted(who, HERE) if what.resource == "quotas"}

    assert verbs("viewer") == verbs("operator") == verbs("admin") == READ
    assert verbs("server") == set(VERBS) and verbs("robot") == set()


def test_whoever_shows_a_key_may_ask_about_himself() -> None:
    for (name, who), where, review in itertools.product(EVERYBODY.items(), [None, HERE, "team-b"], REVIEWS):
        verbs = {verb for verb in VERBS if allowed(who, Attempted(verb, review, None, where))}
        assert verbs == {"server": set(VERBS), "nobody": set()}.get(name, {"create"})


def test_a_namespaces_admin_makes_no_namespaces() -> None:
    namespaces = {what.verb for what in granted("admin", HERE) if what.resource == "namespaces"}
    assert namespaces <= {"get", "list", "watch"}
    own = Attempted("get", "namespaces", None, None, HERE)
    assert all(allowed(EVERYBODY[who], own) for who in ("server", "admin", "operator", "viewer"))
    assert not any(allowed(EVERYBODY[who], Attempted("get", "namespaces", None, None, "team-b"))
                   for who in ("admin", "operator", "viewer", "robot"))  # fmt: skip


def test_a_report_is_the_robots_own_or_an_admins() -> None:
    def reports(who: str) -> set[str | None]:
        return {what.name for what in granted(who, HERE)
                if (what.verb, what.resource, what.subresource) == ("create", "robots", "report")}  # fmt: skip

    assert reports("robot") == {"pc-01"}
    assert reports("admin") == reports("server") == set(NAMES)
    assert reports("operator") == reports("viewer") == set()


def test_a_robot_has_itself_its_jobs_and_what_it_knows_by_hash() -> None:
    here = {(what.verb, what.resource, what.subresource, what.name) for what in granted("robot", HERE)}
    assert {one for one in here if one[1] == "robots"} == {
        ("get", "robots", None, "pc-01"),
        ("patch", "robots", None, "pc-01"),
        ("create", "robots", "report", "pc-01"),
        ("create", "robots", None, None),
    }
    assert {one[1] for one in here} == {"robots", "jobs", "workflows", "blobs", "apikeys"}
    assert {one for one in here if one[1] == "apikeys"} == {("create", "apikeys", "rotate", "pc-01")}
    assert {(verb, sub) for verb, resource, sub, _ in here if resource == "jobs"} == {
        ("get", None), ("list", None), ("watch", None), ("create", "log"), ("update", "artifacts"),
    }  # fmt: skip
    elsewhere = {(what.verb, what.resource, what.subresource) for what in granted("robot", "team-b")}
    assert elsewhere == {("get", "workflows", "revisions"), ("get", "blobs", None), ("create", "jobs", "log"),
                         ("update", "jobs", "artifacts"),
                         ("get", "jobs", None), ("list", "jobs", None), ("watch", "jobs", None)}  # fmt: skip


def a_robot(name: str = "pc-01", namespace: str = HERE, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


@pytest.mark.parametrize("decision", [{"serves": ["*"]}, {"desiredState": "Paused"}, {"drain": {}}, {"taints": []},
                                      {"restartRequestedAt": "x"}, {"maintenanceWindows": []}])  # fmt: skip
def test_a_robot_does_not_decide_what_people_decide(decision: dict[str, Any]) -> None:
    who = EVERYBODY["robot"]
    assert not robot_may_write(who, None, a_robot(**decision))
    assert not robot_may_write(who, a_robot(), a_robot(**decision))
    assert not robot_may_write(who, a_robot(**decision), a_robot())
    assert robot_may_write(who, a_robot(**decision), a_robot(**decision, tags=["a"], environment="dev"))


def test_a_robot_writes_itself_alone() -> None:
    who = EVERYBODY["robot"]
    assert robot_may_write(who, None, a_robot(desiredState="Active", capabilities=["gpu"]))
    assert not robot_may_write(who, None, a_robot("pc-02"))
    assert not robot_may_write(who, None, a_robot(namespace="team-b"))


@pytest.mark.parametrize(
    ("serves", "may"), [(None, True), ([], True), ([HERE], True), (["*"], False), ([HERE, "team-b"], False)]
)
def test_nobodys_robots_reach_beyond_his_key(serves: list[str] | None, may: bool) -> None:
    new = a_robot(serves=serves)
    for who in ("admin", "operator"):
        assert may_serve(EVERYBODY[who], None, new) is may
        assert may_serve(EVERYBODY[who], a_robot(serves=["*", "team-b"]), new), "what was given before stays"
    assert may_serve(SERVER, None, new)
