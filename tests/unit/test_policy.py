"""What is bound to whom, and who may give what away: pure rules, held against each other."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.decisions.access import ANONYMOUS, Attempted, Identity, allowed, holds, may_serve
from casare_api.decisions.granting import check_grant, may_grant
from casare_api.decisions.listing import MOST_NAMES, MOST_RULES, VERBS
from casare_api.decisions.policy import MOST_HELD, NOTHING_BOUND, Policy, is_light
from casare_api.decisions.reviews import access_review, attempted, rules_review
from casare_api.decisions.roles import BUILT_IN, OF_ROLE, ROLE_RULES
from casare_api.decisions.rules import MOST, Permission, Rules, permissions, size
from casare_api.decisions.served import SERVED
from casare_api.kinds import GROUP, KINDS
from casare_api.machinery.errors import ApiError

Object = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
SERVER = Identity("admin", "admin")
BOSS = Identity("boss", "admin", "team-a", key_uid="1")
EYE = Identity("eye", "viewer", "team-a", key_uid="2")
ROBOT = Identity("pc-01", "robot", "team-a", "pc-01", "3")
ADA = Identity("oidc:ada", "user", groups=("oidc:auditors",))
READ_JOBS = {"verbs": ["get", "list"], "apiGroups": [GROUP], "resources": ["jobs", "jobs/log"]}


def role(name: str, *rules: Object, namespace: str | None = None) -> Object:
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"kind": "Role" if namespace else "ClusterRole", "metadata": {**meta, "uid": f"{namespace}/{name}", "resourceVersion": "1"}, "rules": [*rules]}


def binding(given: str, *subjects: tuple[str, str], namespace: str | None = None, kind: str = "ClusterRole", **meta: Any) -> Object:
    where = {"namespace": namespace} if namespace else {}
    return {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding", "metadata": {"name": "b", **where, **meta},
        "subjects": [{"kind": one, "name": name} for one, name in subjects],
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": given},
    }  # fmt: skip


def key(role: str, namespace: str = "team-a", name: str = "k", **spec: Any) -> Object:
    return {"kind": "ApiKey", "metadata": {"name": name, "namespace": namespace}, "spec": {"role": role, **spec}}


def jobs(verb: str, namespace: str | None, name: str | None = None) -> Attempted:
    return Attempted(verb, "jobs", None, namespace, name, GROUP)


# -- bindings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [("User", "oidc:ada"), ("Group", "oidc:auditors"), ("Group", "system:authenticated")])
def test_a_binding_gives_its_subjects_what_the_role_says_where_it_is(subject: tuple[str, str]) -> None:
    here = Policy.of([binding("casare:viewer", subject, namespace="team-a")])
    assert not allowed(ADA, jobs("list", "team-a")) and allowed(ADA, jobs("list", "team-a"), here)
    assert not any(allowed(ADA, jobs("list", where), here) for where in ("team-b", None))
    assert not allowed(ADA, jobs("create", "team-a"), here)
    everywhere = Policy.of([binding("casare:viewer", subject)])
    assert all(allowed(ADA, jobs("list", where), everywhere) for where in ("team-a", "team-b", None))


def test_a_key_is_bound_by_a_name_that_no_other_has() -> None:
    policy = Policy.of([binding("casare:operator", ("User", "casare:key:team-a:eye"), namespace="team-b")])
    assert allowed(EYE, jobs("delete", "team-b", "j"), policy) and not allowed(EYE, jobs("delete", "team-a", "j"), policy)
    other = Identity("eye", "viewer", "team-c", key_uid="9")
    assert not allowed(other, jobs("delete", "team-b", "j"), policy)
    assert not allowed(BOSS, jobs("list", "team-b"), policy)


def test_what_a_role_says_of_a_key_stays_beside_what_is_bound() -> None:
    policy = Policy.of([binding("casare:viewer", ("Group", "casare:role:viewer"), namespace="team-b")])
    assert allowed(EYE, jobs("list", "team-a"), policy) and allowed(EYE, jobs("list", "team-b"), policy)
    assert not allowed(EYE, jobs("list", None), policy)


def test_a_robot_has_never_more_than_itself_and_nobody_nothing() -> None:
    subjects = [("User", "casare:key:team-a:pc-01"), ("Group", "casare:role:robot"), ("Group", "system:authenticated"),
                ("User", "system:anonymous"), ("Group", "system:unauthenticated")]  # fmt: skip
    policy = Policy.of([binding("cluster-admin", *subjects)])
    assert allowed(ADA, jobs("delete", "team-a", "j"), policy), "the binding is there"
    for who in (ROBOT, ANONYMOUS):
        for verb in ("get", "list", "create", "delete", "update"):
            what = Attempted(verb, "secrets", None, "team-a", "s")
            assert not allowed(who, what, policy)
        assert not allowed(who, Attempted("get", "robots", None, "team-a", "pc-02"), policy)


def test_a_role_of_the_namespace_is_another_than_one_of_the_same_name_elsewhere() -> None:
    roles = [role("reader", READ_JOBS, namespace="team-a"), role("reader", namespace="team-b"), role("reader")]
    bound = [binding("reader", ("User", "oidc:ada"), namespace=where, kind="Role") for where in ("team-a", "team-b")]
    policy = Policy.of([*roles, *bound, binding("reader", ("User", "oidc:ada"))])
    assert allowed(ADA, jobs("get", "team-a", "j"), policy) and not allowed(ADA, jobs("get", "team-b", "j"), policy)
    assert not allowed(ADA, jobs("watch", "team-a"), policy)


def test_the_built_in_roles_are_what_they_are_whatever_is_stored() -> None:
    stored = role("casare:viewer", {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
    policy = Policy.of([stored, binding("casare:viewer", ("User", "oidc:ada"))])
    assert allowed(ADA, jobs("get", "x", "j"), policy) and not allowed(ADA, jobs("delete", "x", "j"), policy)


@pytest.mark.parametrize("gone", ["role", "binding"])
def test_what_is_being_deleted_gives_nothing_any_more(gone: str) -> None:
    marked = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    given, bound = role("r", READ_JOBS), binding("r", ("User", "oidc:ada"))
    assert allowed(ADA, jobs("get", "x", "j"), Policy.of([given, bound]))
    (given if gone == "role" else bound)["metadata"] |= marked
    assert not allowed(ADA, jobs("get", "x", "j"), Policy.of([given, bound]))
    assert not allowed(ADA, jobs("get", "x", "j"), Policy.of([bound])), "a role that there is not gives nothing"


def test_a_rule_for_one_name_is_for_no_other_and_for_no_list() -> None:
    rule = {**READ_JOBS, "resourceNames": ["mine"]}
    policy = Policy.of([role("r", rule), binding("r", ("User", "oidc:ada"))])
    assert allowed(ADA, jobs("get", "x", "mine"), policy) and allowed(ADA, jobs("list", "x", "mine"), policy)
    assert not allowed(ADA, jobs("get", "x", "other"), policy) and not allowed(ADA, jobs("list", "x"), policy)


def test_a_namespace_is_read_by_who_is_bound_in_it() -> None:
    policy = Policy.of([binding("casare:viewer", ("User", "oidc:ada"), namespace="team-a")])
    assert allowed(ADA, Attempted("get", "namespaces", None, None, "team-a"), policy)
    assert not allowed(ADA, Attempted("get", "namespaces", None, None, "team-b"), policy)
    assert not allowed(ADA, Attempted("list", "namespaces"), policy)
    assert not allowed(ADA, Attempted("list", "clusterroles", None, "team-a"), policy), "which are in no namespace"


def test_a_review_says_what_is_bound_and_names_what_is_named() -> None:
    rule = {**READ_JOBS, "resourceNames": ["mine"]}
    policy = Policy.of([role("r", rule), binding("r", ("User", "oidc:ada"), namespace="team-a")])
    listed = rules_review(ADA, {"spec": {"namespace": "team-a"}}, policy)["status"]["resourceRules"]
    named = [one for one in listed if one.get("resourceNames") == ["mine"]]
    assert [(one["verbs"], one["resources"]) for one in named] == [(["get", "list"], ["jobs", "jobs/log"])]

    def may(verb: str, name: str, namespace: str) -> bool:
        asked = {"verb": verb, "resource": "jobs", "group": GROUP, "name": name, "namespace": namespace}
        return bool(access_review(ADA, {"spec": {"resourceAttributes": asked}}, policy)["status"]["allowed"])

    assert may("get", "mine", "team-a") and not may("get", "other", "team-a") and not may("get", "mine", "team-b")


def test_who_is_bound_to_everything_is_told_so() -> None:
    policy = Policy.of([binding("cluster-admin", ("Group", "oidc:auditors"))])
    listed = rules_review(ADA, {"spec": {"namespace": "x"}}, policy)["status"]["resourceRules"]
    assert listed == [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    assert allowed(ADA, Attempted("create", "namespaces"), policy) and allowed(ADA, Attempted("escalate", "clusterroles"), policy)


LISTED = st.lists(st.fixed_dictionaries({
    "verbs": st.lists(st.sampled_from(["*", "get", "list", "create", "bind"]), min_size=1, max_size=2),
    "apiGroups": st.lists(st.sampled_from(["*", "", GROUP]), min_size=1, max_size=2),
    "resources": st.lists(st.sampled_from(["*", "*/status", "jobs", "jobs/log", "namespaces", "secrets"]), min_size=1, max_size=2),
}, optional={"resourceNames": st.lists(st.sampled_from(["mine", "team-a", "team-b"]), min_size=1, max_size=2)}), max_size=3)  # fmt: skip


def listed_as(rules: list[Object], group: str, path: str, verb: str, name: str | None) -> bool:
    return any(
        verb in rule["verbs"] and group in rule["apiGroups"] and path in rule["resources"]
        and name in rule.get("resourceNames", [name])
        for rule in rules
    )  # fmt: skip


@given(LISTED, st.sampled_from([None, "team-a", "team-b"]), st.sampled_from([ADA, EYE, BOSS, ROBOT]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_listed_is_what_is_allowed(rules: list[Object], where: str | None, who: Identity) -> None:
    subjects = [("Group", "system:authenticated"), ("User", "oidc:ada")]
    policy = Policy.of([role("r", *rules), binding("r", *subjects, namespace=where), binding("casare:viewer", subjects[1], namespace="team-b")])
    status = rules_review(who, {"spec": {"namespace": "team-a"}}, policy)["status"]
    assert status["incomplete"] is False
    if status["resourceRules"][0]["verbs"] == ["*"]:
        return
    for one in SERVED:
        for verb in VERBS:
            creates = verb == "create" and one.subresource is None  # never has a name
            # Other namespaces are listed where they are asked for.
            names = [None] if creates else [None, "mine", "team-a", "x"] + ([] if one.resource == "namespaces" else ["team-b"])
            for name in names:
                is_listed = listed_as(status["resourceRules"], one.group, one.path, verb, name)
                assert is_listed is allowed(who, attempted(one, verb, "team-a", name), policy), (one, verb, name)


@pytest.mark.parametrize("number, of_names", [(1, 20_000), (1000, 0), (1000, 2), (400, 5)])
def test_what_was_bound_in_masses_is_left_out_of_a_review_that_says_so(number: int, of_names: int) -> None:
    """Whoever may write roles in a namespace binds them to everybody who asks there."""
    rule = {"verbs": ["get"], "apiGroups": ["*"], "resources": ["*"]}
    mass = [{**rule, "resourceNames": [f"{one}-{name}" for name in range(of_names)]} if of_names else rule for one in range(number)]
    given = [role("r", *mass, namespace="team-a")] if number != 400 else [role(f"r{n}", one, namespace="team-a") for n, one in enumerate(mass)]
    bound = [binding(one["metadata"]["name"], ("Group", "system:authenticated"), namespace="team-a", kind="Role") for one in given]
    policy = Policy.of([*given, *bound])
    status = rules_review(EYE, {"spec": {"namespace": "team-a"}}, policy)["status"]
    assert status["incomplete"] is True and "some are left out" in status["evaluationError"]
    listed = status["resourceRules"]
    assert sum(len(one.get("resourceNames", [])) for one in listed) <= MOST_NAMES and len(listed) <= 10 * MOST_RULES
    assert listed_as(listed, GROUP, "jobs", "list", None), "what her own role says is there"
    for one in listed:
        for verb, path, name in product(one["verbs"], one["resources"], one.get("resourceNames", [None])):
            served = next(each for each in SERVED if each.path == path and each.group == one["apiGroups"][0])
            assert allowed(EYE, attempted(served, verb, "team-a", name), policy), (verb, path, name)


# -- rules -------------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["*", "get", "a", "b", "a/s", "*/s", "b/s"])
RULES = st.lists(st.fixed_dictionaries(
    {key: st.lists(WORDS, min_size=1, max_size=3) for key in ("verbs", "apiGroups", "resources")},
    optional={"resourceNames": st.lists(WORDS, min_size=1, max_size=2)},
), max_size=3)  # fmt: skip


@given(RULES, WORDS, WORDS, WORDS, st.none() | WORDS)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_rules_allow_what_kubernetes_own_authorizer_would(rules: list[Object], verb: str, group: str, path: str, name: str | None) -> None:
    def has(words: list[str], word: str) -> bool:
        return word in words or "*" in words

    def about(words: list[str]) -> bool:
        return has(words, path) or ("/" in path and f"*/{path.split('/')[1]}" in words)

    wanted = any(
        has(rule["verbs"], verb) and has(rule["apiGroups"], group) and about(rule["resources"])
        and ("resourceNames" not in rule or name in rule["resourceNames"])
        for rule in rules
    )  # fmt: skip
    assert Rules.of(rules).allow(verb, group, path, name) is wanted


@given(RULES, RULES)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_who_gives_away_rules_holds_all_that_they_allow(mine: list[Object], given_away: list[Object]) -> None:
    """Whatever could be requested by what was given could have been requested by the giver."""
    policy = Policy.of([role("mine", *mine), binding("mine", ("User", "oidc:ada"))])
    new = role("new", *given_away)
    try:
        check_grant(ADA, policy, KINDS["ClusterRole"], None, new)
    except ApiError as error:
        assert error.status == 403
        return
    held, given = Rules.of(mine), Rules.of(given_away)
    asked = [Permission(verb, group, path, name) for verb in ("get", "x") for group in ("a", "x")
             for path in ("a", "b", "x", "a/s", "x/s") for name in (None, "a", "x")]  # fmt: skip
    assert allowed(ADA, Attempted("escalate", "clusterroles", None, None, "new", RBAC), policy) or all(
        held.hold(one) for one in asked if given.hold(one)
    )


def test_a_rule_comes_to_as_many_permissions_as_it_is_counted_for() -> None:
    for rules in BUILT_IN.values():
        assert size(rules) == len(list(permissions(rules)))


@pytest.mark.parametrize("lower, higher", [("viewer", "operator"), ("operator", "admin"), ("robot", "admin")])
def test_each_built_in_role_holds_the_one_below_it(lower: str, higher: str) -> None:
    assert all(OF_ROLE[higher].hold(one) for one in permissions(ROLE_RULES[lower]))
    assert not all(OF_ROLE[lower].hold(one) for one in permissions(ROLE_RULES[higher]))


# -- giving away -------------------------------------------------------------------------------------------------------


def refusal(who: Identity, new: Object, policy: Policy = NOTHING_BOUND, old: Object | None = None) -> str:
    """Why it may not be given, "" where it may."""
    try:
        check_grant(who, policy, KINDS.get(new["kind"]) or KINDS["ApiKey"], old, new)
    except ApiError as error:
        assert error.status == 403
        return error.message
    return ""


def test_a_refusal_says_what_is_missing_as_kubernetes_does() -> None:
    told = refusal(EYE, role("more", {"verbs": ["delete"], "apiGroups": [GROUP], "resources": ["jobs"]}, namespace="team-a"))
    assert told == (
        f'roles.{RBAC} "more" is forbidden: user "eye" (groups=["system:authenticated", "casare:role:viewer"]) is attempting '
        f'to grant RBAC permissions not currently held: {{APIGroups:["{GROUP}"], Resources:["jobs"], Verbs:["delete"]}}'
    )
    many = role("more", {"verbs": ["*"], "apiGroups": [GROUP], "resources": list("abcdefgh")}, namespace="team-a")
    assert refusal(EYE, many).endswith("; and more")


def test_who_holds_the_rules_may_write_them_down_where_he_holds_them() -> None:
    for where, is_mine in (("team-a", True), ("team-b", False), (None, False)):
        assert (refusal(EYE, role("r", READ_JOBS, namespace=where)) == "") is is_mine
        assert (refusal(EYE, binding("casare:viewer", ("User", "x"), namespace=where)) == "") is is_mine
    assert refusal(EYE, binding("casare:operator", ("User", "x"), namespace="team-a"))
    assert refusal(BOSS, binding("casare:admin", ("User", "x"), namespace="team-a")) == ""
    assert refusal(BOSS, binding("cluster-admin", ("User", "x"), namespace="team-a")), "quotas are not his to write"


@pytest.mark.parametrize("kind", ["ClusterRole", "ClusterRoleBinding"])
def test_what_holds_everywhere_is_measured_everywhere_whatever_namespace_it_says(kind: str) -> None:
    new = role("r", READ_JOBS) if kind == "ClusterRole" else binding("casare:viewer", ("User", "x"))
    new["metadata"]["namespace"] = "team-a"
    assert refusal(BOSS, new)


def test_what_was_there_before_may_be_labelled_by_who_could_not_write_it() -> None:
    old = role("r", {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, namespace="team-a")
    labelled = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    assert refusal(BOSS, labelled, old=old) == "" and refusal(BOSS, labelled)
    bound = binding("cluster-admin", ("User", "x"), namespace="team-a")
    assert refusal(BOSS, {**bound, "subjects": []}, old=bound), "as in Kubernetes, who changes it holds it"
    assert refusal(BOSS, {**bound, "metadata": {**bound["metadata"], "labels": {}}}, old=bound) == ""


@pytest.mark.parametrize("verb, kind", [("escalate", "Role"), ("bind", "RoleBinding")])
def test_a_verb_lifts_the_limit_for_the_role_it_names(verb: str, kind: str) -> None:
    lifting = role("l", {"verbs": [verb], "apiGroups": [RBAC], "resources": ["roles"], "resourceNames": ["strong"]})
    strong = role("strong", {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, namespace="team-a")
    policy = Policy.of([lifting, binding("l", ("User", "oidc:ada"), namespace="team-a"), strong, {**strong, "metadata": {**strong["metadata"], "name": "other"}}])

    def new(name: str) -> Object:
        if kind == "Role":
            return {**strong, "metadata": {**strong["metadata"], "name": name}}
        return binding(name, ("User", "x"), namespace="team-a", kind="Role")

    assert refusal(ADA, new("strong"), policy) == "" and refusal(ADA, new("other"), policy)
    assert refusal(ADA, new("strong")) if kind == "Role" else True


def test_a_binding_to_a_role_that_there_is_not_is_not_made() -> None:
    with pytest.raises(ApiError) as error:
        check_grant(BOSS, NOTHING_BOUND, KINDS["RoleBinding"], None, binding("nope", ("User", "x"), namespace="team-a", kind="Role"))
    assert error.value.status == 404 and error.value.message == f'roles.{RBAC} "nope" not found'
    check_grant(SERVER, NOTHING_BOUND, KINDS["RoleBinding"], None, binding("nope", namespace="team-a", kind="Role"))


@pytest.mark.parametrize("granted", ["viewer", "operator", "admin", "robot"])
def test_a_namespaces_admin_gives_out_keys_there_and_a_key_clerk_only_what_he_is(granted: str) -> None:
    clerk = role("clerk", {"verbs": ["*"], "apiGroups": [GROUP], "resources": ["apikeys", "apikeys/token"]})
    policy = Policy.of([clerk, binding("clerk", ("User", "casare:key:team-a:eye"), namespace="team-a")])
    new = key(granted, robotName="pc-01")
    assert refusal(BOSS, new) == "" and refusal(BOSS, key(granted, "team-b", robotName="pc-01"))
    assert (refusal(EYE, new, policy) == "") is (granted == "viewer")


def test_a_key_grants_what_is_bound_to_its_name_and_its_groups() -> None:
    named = Policy.of([binding("cluster-admin", ("User", "casare:key:team-a:k"), namespace="team-a")])
    assert refusal(BOSS, key("viewer"), named) and refusal(BOSS, key("viewer", name="other"), named) == ""
    grouped = Policy.of([binding("casare:viewer", ("Group", "casare:role:viewer"))])
    assert refusal(BOSS, key("viewer"), grouped) and refusal(BOSS, key("operator"), grouped) == ""
    assert refusal(BOSS, key("robot", robotName="pc-01"), grouped) == "", "to robots nothing can be bound"
    both = Policy.of([binding("casare:viewer", ("Group", "casare:role:viewer"), ("Group", "casare:role:admin"))])
    assert refusal(BOSS, key("viewer"), both) == ""


@pytest.mark.parametrize("subject", [("User", "casare:key:team-a:k"), ("Group", "casare:role:viewer")])
def test_what_another_namespace_binds_to_a_key_holds_up_nobody_who_gives_keys(subject: tuple[str, str]) -> None:
    """Else a tenant could stop all others from making, issuing and rotating keys."""
    words = [f"w{n}" for n in range(100)]
    huge = role("huge", {"verbs": words, "apiGroups": words, "resources": words}, namespace="team-b")
    elsewhere = Policy.of([huge, *(binding(one, subject, namespace="team-b", kind=kind)
                                   for one, kind in (("cluster-admin", "ClusterRole"), ("huge", "Role")))])  # fmt: skip
    assert refusal(BOSS, key("viewer"), elsewhere) == ""
    assert refusal(BOSS, key("viewer", "team-b"), elsewhere), "where he is nobody"
    here, everywhere = (Policy.of([binding("cluster-admin", subject, namespace=where)]) for where in ("team-a", None))
    assert refusal(BOSS, key("viewer"), here) and refusal(BOSS, key("viewer"), everywhere), "who holds more is not his to be"


def test_what_takes_a_key_back_is_always_allowed_and_what_gives_it_anew_is_not() -> None:
    strong, revoked = key("admin"), key("admin", revoked=True)
    policy = NOTHING_BOUND
    assert refusal(EYE, revoked, policy, strong) == ""
    assert refusal(EYE, key("admin", description="x", onRevoke="Cancel"), policy, strong) == ""
    for changed in (key("admin"), key("admin", revoked=False)):
        assert refusal(EYE, changed, policy, revoked), "who takes a revocation back gives the key"
    for spec in ({"hash": "sha256:" + "0" * 64}, {"expiresAt": "2099-01-01T00:00:00Z"}, {"rotation": {"every": "1d"}}):
        assert refusal(EYE, key("admin", **spec), policy, strong)
    assert refusal(EYE, key("admin"), policy, key("viewer")), "another role"


@pytest.mark.parametrize("kind", ["JoinToken", "Source"])
def test_tokens_and_sources_grant_what_comes_of_them(kind: str) -> None:
    made = KINDS.get(kind) or type("Kind", (), {"kind": kind, "group": GROUP, "plural": kind.lower() + "s"})()

    def may(who: Identity, namespace: str, **spec: Any) -> bool:
        new = {"kind": kind, "metadata": {"name": "x", "namespace": namespace}, "spec": spec}
        return may_grant(who, NOTHING_BOUND, made, None, new)

    assert may(BOSS, "team-a", role="admin") and may(SERVER, "team-b", role="admin")
    assert not may(BOSS, "team-b", role="viewer") and not may(EYE, "team-a", role="operator")
    assert not may(ROBOT, "team-a", role="robot")


def test_rules_that_come_to_too_much_are_not_looked_at() -> None:
    words = [f"w{n}" for n in range(100)]
    huge = role("huge", {"verbs": words, "apiGroups": words, "resources": words}, namespace="team-a")
    assert f"more than {MOST} permissions" in refusal(BOSS, huge) and refusal(SERVER, huge) == ""


# -- hostile masses ----------------------------------------------------------------------------------------------------

DECOYS = [{"verbs": ["get"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": [f"n{n}"]} for n in range(1000)]
EVERYBODY = ("Group", "system:authenticated")


def test_what_would_take_long_to_compare_is_refused_and_what_only_names_much_is_not() -> None:
    """Whoever may write roles could make a thousand that say almost the same, and then give all of it away."""
    words = [f"w{n}" for n in range(100)]
    mine = {"verbs": words, "apiGroups": words, "resources": ["*"]}
    policy = Policy.of([role("mine", *DECOYS[1:], mine, namespace="team-a"), binding("mine", EVERYBODY, namespace="team-a", kind="Role")])
    huge = role("huge", {"verbs": words[:20], "apiGroups": words[:10], "resources": words}, namespace="team-a")
    told = refusal(EYE, huge, policy)
    assert told.endswith("too many rules are bound to the caller, or it says too much, to be compared: make several") and "\n" not in told
    assert "currently held" in refusal(EYE, huge)
    names = [f"n{n}" for n in range(1, 1000)]
    named = {"verbs": ["get"], "apiGroups": words[:2], "resources": words[:4], "resourceNames": names}
    assert refusal(EYE, role("named", named, namespace="team-a"), policy) == ""
    assert '["n1000"]' in refusal(EYE, role("named", {**named, "resourceNames": ["n1", "n1000"]}, namespace="team-a"), policy)


def test_paths_that_are_no_resources_are_compared_within_bounds_as_well() -> None:
    urls = [f"/{'x' * 20}/{n}" for n in range(1000)]
    rules = [{"verbs": ["get"], "nonResourceURLs": urls} for _ in range(10)]
    policy = Policy.of([role("many", *rules), binding("many", ("User", "oidc:ada"))])
    given_away = role("given", {"verbs": ["get"], "nonResourceURLs": [f"/none/{n}" for n in range(1000)]})
    assert "to be compared" in refusal(ADA, given_away, policy)
    assert refusal(ADA, role("given", {"verbs": ["get"], "nonResourceURLs": urls[:2]}), policy) == ""


def test_who_asks_for_everything_at_once_is_answered_within_bounds() -> None:
    policy = Policy.of([each for name in "ab" for each in (role(name, *DECOYS), binding(name, EVERYBODY))])
    everything = {"verb": "*", "group": "*", "resource": "*", "namespace": "team-a"}

    def status(who: Identity, held: Policy, **asked: str) -> Object:
        return access_review(who, {"spec": {"resourceAttributes": everything | asked}}, held)["status"]

    assert "ask for one thing" in status(EYE, policy)["evaluationError"] and not status(EYE, policy)["allowed"]
    assert status(EYE, policy, verb="list", group=GROUP, resource="jobs") == {"allowed": True, "reason": "the role viewer"}
    assert status(EYE, NOTHING_BOUND) == {"allowed": False}
    assert status(EYE, Policy.of([binding("casare:admin", EVERYBODY), binding("cluster-admin", EVERYBODY)]))["allowed"]


def test_how_long_a_policy_takes_to_work_out_is_told_by_what_its_objects_say_not_by_their_number() -> None:
    few = [role("r", READ_JOBS), binding("r", EVERYBODY)]
    assert is_light(few, 7) and not is_light(few, 6)
    assert not is_light([role("r", *DECOYS)], 2000) and not is_light([binding("r", *[EVERYBODY] * 2000)], 2000)
    assert not is_light([role("r", {"verbs": ["get"], "apiGroups": [""], "resources": ["x"] * 2000})], 2000)
    assert is_light([{"kind": "Role", "metadata": {"name": "r"}, "rules": None}], 2)


def test_rules_of_one_subject_in_one_place_count_up_to_a_bound_the_oldest_bindings_first() -> None:
    def bound(number: int, created: str, where: str | None = "team-a") -> Object:
        name = f"r{number}"
        return binding(name, EVERYBODY, namespace=where, kind="Role" if where else "ClusterRole", creationTimestamp=created, uid=name)

    said = [{**one, "verbs": ["delete"]} for one in DECOYS]
    given = [role(f"r{n}", *said, {**READ_JOBS, "resourceNames": [f"only-{n}"]}, namespace="team-a") for n in range(3)]
    whole = MOST_HELD // len(given[0]["rules"])
    assert whole == 1
    for order in ((0, 1, 2), (2, 1, 0)):
        policy = Policy.of([*given, *(bound(n, f"2026-01-0{3 - n}T00:00:00Z") for n in order)])
        assert [allowed(ADA, jobs("get", "team-a", f"only-{n}"), policy) for n in range(3)] == [False, False, True]
        assert policy.left_out == {(EVERYBODY, "team-a")}
    once = Policy.of([*given, *(bound(2, f"2026-01-0{n}T00:00:00Z") for n in range(1, 6))])
    assert not once.left_out, "a role that is bound twice counts once"
    third = bound(0, "2026-01-09T00:00:00Z")
    assert 'more than 2000 rules for group "system:authenticated"' in refusal(SERVER, third, once)
    assert refusal(SERVER, bound(2, ""), once) == "" and refusal(SERVER, third, once, third) == ""
    both = {**third, "subjects": [*third["subjects"], {"kind": "User", "name": "oidc:leaver"}]}
    assert refusal(SERVER, third, once, both) == "", "who stands in it already stops nobody from taking another out"


def test_a_robot_serves_where_its_maker_may_make_robots() -> None:
    policy = Policy.of([binding("casare:operator", ("User", "oidc:ada"), namespace="team-b")])

    def may(who: Identity, *serves: str) -> bool:
        return may_serve(who, None, {"spec": {"serves": [*serves]}}, policy)

    assert may(ADA, "team-b") and not may(ADA, "team-a") and not may(ADA, "*") and not may(ADA, "team-b", "*")
    assert may(SERVER, "*") and may(BOSS, "team-a") and not may(BOSS, "team-b") and not may(EYE, "team-a")


def test_a_robot_holds_nothing_that_it_could_give_away() -> None:
    assert not any(holds(ROBOT, one, "team-a", NOTHING_BOUND) for one in permissions(ROLE_RULES["robot"]))
