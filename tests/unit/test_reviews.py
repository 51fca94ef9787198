"""What a review says is what a request then meets: everything here is held against `allowed()`."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.decisions.access import ANONYMOUS, REVIEWS, Attempted, Identity, Verb, allowed
from casare_api.decisions.reviews import READABLE, VERBS, access_review, attempted, rules_review, self_review
from casare_api.decisions.served import SERVED, Served
from casare_api.kinds import GROUP, KINDS
from casare_api.kinds import reviews as kinds
from casare_api.machinery.errors import ApiError

Object = dict[str, Any]
EVERYBODY = {
    "server": Identity("admin", "admin"),
    "admin": Identity("boss", "admin", "team-a", key_uid="1"),
    "operator": Identity("op", "operator", "team-a", key_uid="2"),
    "viewer": Identity("eye", "viewer", "team-a", key_uid="3"),
    "robot": Identity("key-of-pc-01", "robot", "team-a", "pc-01", "4"),
    "operator of all": Identity("op", "operator"),
    "viewer of all": Identity("eye", "viewer"),
    "nobody": ANONYMOUS,
}
NAMESPACES, NAMES = ["team-a", "team-b"], [None, "pc-01", "team-a", "other"]


def can_i(who: str, verb: str, resource: str, namespace: str = "", **more: str) -> Object:
    attributes = {"verb": verb, "resource": resource, "namespace": namespace} | more
    status = access_review(EVERYBODY[who], {"spec": {"resourceAttributes": attributes}})["status"]
    assert isinstance(status, dict)
    return status


def says_yes(rules: list[Object], group: str, path: str, verb: str, name: str | None) -> bool:
    """As Kubernetes' own authorizer reads rules."""

    def has(rule: Object, key: str, value: str) -> bool:
        return value in rule[key] or "*" in rule[key]

    return any(
        has(rule, "verbs", verb) and has(rule, "apiGroups", group) and has(rule, "resources", path)
        and ("resourceNames" not in rule or name in rule["resourceNames"])
        for rule in rules
    )  # fmt: skip


def asked(namespace: str) -> list[tuple[Served, Verb, str | None, Attempted]]:
    """Everything a request can be: what is created has no name yet."""
    return [
        (one, verb, name, attempted(one, verb, namespace, name))
        for one, verb, name in itertools.product(SERVED, VERBS, NAMES)
        if not (verb == "create" and one.subresource is None and name)
    ]


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_rules_say_yes_where_a_request_is_allowed_and_only_there(who: str, namespace: str) -> None:
    rules = rules_review(EVERYBODY[who], {"spec": {"namespace": namespace}})["status"]["resourceRules"]
    for one, verb, name, what in asked(namespace):
        assert says_yes(rules, one.group, one.path, verb, name) is allowed(EVERYBODY[who], what), what


@pytest.mark.parametrize("who", EVERYBODY)
@pytest.mark.parametrize("namespace", ["", *NAMESPACES])
def test_can_i_says_yes_where_a_request_is_allowed_and_only_there(who: str, namespace: str) -> None:
    for one, verb, name, what in asked(namespace):
        what = Attempted(what.verb, what.resource, what.subresource, what.namespace or None, what.name)
        more = {"group": one.group, "subresource": one.subresource or "", "name": name or ""}
        assert can_i(who, verb, one.resource, namespace, **more)["allowed"] is allowed(EVERYBODY[who], what), what


def test_what_is_served_is_every_kind_with_what_lies_below_it() -> None:
    assert {one.resource for one in SERVED} == {kind.plural for kind in KINDS.values()} | {"blobs"} | REVIEWS
    assert {each.plural for each in kinds.REVIEWS} == REVIEWS
    paths = [(one.group, one.path) for one in SERVED]
    assert len(paths) == len(set(paths))
    assert {(GROUP, "robots/status"), (GROUP, "robots/report"), (GROUP, "jobs/log"), ("", "secrets")} < set(paths)


def test_resources_with_the_same_verbs_share_a_rule() -> None:
    status = rules_review(EVERYBODY["viewer"], {"spec": {"namespace": "team-a"}})["status"]
    fleet = [rule for rule in status["resourceRules"] if rule["apiGroups"] == [GROUP]]
    assert len(fleet) == 1 and fleet[0]["verbs"] == ["get", "list", "watch"] and "robots" in fleet[0]["resources"]
    assert status["incomplete"] is False
    seen = [(rule["apiGroups"][0], tuple(rule["verbs"]), str(rule.get("resourceNames"))) for rule in status["resourceRules"]]
    assert len(seen) == len(set(seen))


def test_a_robots_rules_name_the_robot() -> None:
    rules = rules_review(EVERYBODY["robot"], {"spec": {"namespace": "team-a"}})["status"]["resourceRules"]
    named = {(verb, path): rule["resourceNames"] for rule in rules if "resourceNames" in rule
             for verb in rule["verbs"] for path in rule["resources"]}  # fmt: skip
    assert named == {("get", "robots"): ["pc-01"], ("patch", "robots"): ["pc-01"], ("create", "robots/report"): ["pc-01"]}


def test_an_admin_of_everything_is_told_so_in_stars() -> None:
    status = rules_review(EVERYBODY["server"], {"spec": {"namespace": "team-a"}})["status"]
    assert status["resourceRules"] == [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    assert status["nonResourceRules"] == [{"verbs": ["*"], "nonResourceURLs": ["*"]}]


def test_a_star_is_all_of_it() -> None:
    assert can_i("server", "*", "*")["allowed"] and can_i("server", "*", "*", group="*")["allowed"]
    assert can_i("admin", "*", "robots", "team-a", group=GROUP)["allowed"]
    assert can_i("admin", "get", "*", "team-a")["allowed"], "all that there is in a namespace"
    assert not can_i("admin", "*", "*", "team-a")["allowed"], "its quota is decided by others"
    assert not can_i("admin", "*", "*")["allowed"] and not can_i("admin", "*", "*", "team-b")["allowed"]
    assert not can_i("viewer", "*", "robots", "team-a", group=GROUP)["allowed"]
    assert can_i("operator", "*", "robots", "team-a", group=GROUP)["allowed"]
    assert can_i("viewer", "get", "*", "team-a", group=GROUP)["allowed"]
    assert not can_i("viewer", "get", "*", "team-a")["allowed"], "secrets are among them"
    assert can_i("viewer", "get", "jobs", "team-a", group="*", subresource="*")["allowed"]
    assert not can_i("viewer", "create", "*", "team-a", group=GROUP, subresource="status")["allowed"], "all of nothing"
    own = "selfsubjectreviews"
    assert can_i("robot", "*", own, group="authentication.k8s.io")["allowed"], "to create is all that can be done"


def test_what_there_is_not_is_allowed_to_nobody_but_an_admin_of_everything() -> None:
    for who in EVERYBODY.keys() - {"server"}:
        status = can_i(who, "get", "pods", "team-a")
        assert status == {"allowed": False, "reason": 'the server has no resource "pods" in API group ""'}
    assert can_i("server", "get", "pods")["allowed"] and can_i("server", "fly", "robots")["allowed"]
    assert can_i("viewer", "get", "robots", "team-a")["reason"].endswith(f'in API group ""; it is in "{GROUP}"')
    assert "no resource \"robots/wings\"" in can_i("admin", "get", "robots", "team-a", group=GROUP, subresource="wings")["reason"]
    assert can_i("admin", "fly", "robots", "team-a", group=GROUP)["reason"].startswith('there is no verb "fly": get,')
    assert can_i("viewer", "delete", "robots", "team-a", group=GROUP) == {"allowed": False}, "no reason: kubectl says no"


def test_a_robot_registers_itself_under_its_own_name() -> None:
    assert can_i("robot", "create", "robots", "team-a", group=GROUP)["allowed"]
    assert can_i("robot", "create", "robots", "team-a", group=GROUP, name="pc-01")["allowed"]
    assert not can_i("robot", "create", "robots", "team-a", group=GROUP, name="pc-02")["allowed"]
    assert can_i("operator", "create", "robots", "team-a", group=GROUP, name="pc-02")["allowed"]


@pytest.mark.parametrize("who", EVERYBODY)
def test_paths_are_readable_with_a_key_and_nothing_else_can_be_done_with_them(who: str) -> None:
    def may(verb: str, path: str) -> bool:
        spec = {"nonResourceAttributes": {"verb": verb, "path": path}}
        return bool(access_review(EVERYBODY[who], {"spec": spec})["status"]["allowed"])

    has_key, is_all = who != "nobody", who == "server"
    paths = ["/healthz", "/version", "/api", "/apis/", "/openapi/v3/apis/x", "/metrics", "/docs", "/livez/ping"]
    assert all(may("get", path) is has_key for path in paths)
    assert all(may("post", path) is is_all for path in paths)
    assert may("get", "/secret") is is_all and may("get", "/healthzz") is is_all and may("*", "/docs") is is_all
    listed = rules_review(EVERYBODY[who], {"spec": {"namespace": "x"}})["status"]["nonResourceRules"]
    if not is_all:
        assert listed == ([{"verbs": ["get"], "nonResourceURLs": list(READABLE)}] if has_key else [])


def test_who_am_i() -> None:
    assert self_review(EVERYBODY["robot"]) == {
        "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {},
        "status": {"userInfo": {
            "username": "casare:key:team-a:key-of-pc-01", "uid": "4", "groups": ["system:authenticated", "casare:role:robot"],
            "extra": {"fleet.casare.net/namespace": ["team-a"], "fleet.casare.net/robot": ["pc-01"]},
        }},
    }  # fmt: skip
    assert self_review(EVERYBODY["server"])["status"]["userInfo"] == {
        "username": "admin", "groups": ["system:authenticated", "casare:role:admin"],
    }  # fmt: skip
    assert self_review(ANONYMOUS)["status"]["userInfo"]["groups"] == ["system:unauthenticated"]


def test_a_review_comes_back_with_its_question() -> None:
    spec = {"resourceAttributes": {"verb": "get", "resource": "robots", "group": GROUP, "namespace": "team-a"}}
    assert access_review(EVERYBODY["viewer"], {"spec": spec}) == {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": spec,
        "status": {"allowed": True, "reason": "the role viewer"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "problem"),
    [
        ([], 400, "the body must be a SelfSubjectAccessReview"),
        ({"kind": "Pod"}, 400, "its kind must be SelfSubjectAccessReview"),
        ({"kind": ["Pod"]}, 400, "its kind must be SelfSubjectAccessReview"),
        ({"apiVersion": "v1"}, 400, "its apiVersion must be authorization.k8s.io/v1"),
        ({}, 422, "exactly one of nonResourceAttributes or resourceAttributes must be specified"),
        ({"spec": 7}, 422, "spec: Invalid value: 7: must be an object"),
        ({"spec": {"resourceAttributes": []}}, 422, "spec.resourceAttributes: Invalid value: []: must be an object"),
        ({"spec": {"resourceAttributes": {"verb": 1, "name": ["x"]}}}, 422, "[spec.resourceAttributes.verb: Invalid value: 1: must be a string, "),
        ({"spec": {"resourceAttributes": {}, "nonResourceAttributes": {}}}, 422, "cannot be specified in combination"),
        ({"spec": {"nonResourceAttributes": {"path": {}}}}, 422, "spec.nonResourceAttributes.path: Invalid value: {}"),
    ],
)  # fmt: skip
def test_a_malformed_question_is_refused(body: Any, code: int, problem: str) -> None:
    with pytest.raises(ApiError) as caught:
        access_review(EVERYBODY["viewer"], body)
    assert caught.value.status == code and problem in caught.value.message


@pytest.mark.parametrize(
    ("body", "code", "problem"),
    [
        ({"spec": {}}, 400, "no namespace on request"),
        ({}, 400, "no namespace on request"),
        ({"spec": {"namespace": 5}}, 422, "spec.namespace: Invalid value: 5: must be a string"),
        ("x", 400, "the body must be a SelfSubjectRulesReview"),
    ],
)
def test_rules_are_asked_for_one_namespace(body: Any, code: int, problem: str) -> None:
    with pytest.raises(ApiError) as caught:
        rules_review(EVERYBODY["viewer"], body)
    assert caught.value.status == code and problem in caught.value.message


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from(["*", "get", "robots", GROUP]))
KEYS = st.sampled_from(["spec", "resourceAttributes", "nonResourceAttributes", "namespace", "verb", "resource", "group",
                        "subresource", "name", "path", "kind"])  # fmt: skip
BODIES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=5))


@settings(deadline=None)
@given(BODIES | st.builds(lambda part, value: {"spec": {part: value}}, KEYS, BODIES), st.sampled_from(sorted(EVERYBODY)))
def test_any_body_is_answered_or_refused_in_one_line(body: Any, who: str) -> None:
    for review in (access_review, rules_review):
        try:
            answer = review(EVERYBODY[who], body)
        except ApiError as error:
            assert error.status in (400, 422) and "\n" not in error.message
        else:
            assert "\n" not in answer["status"].get("reason", "")
