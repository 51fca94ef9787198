"""Nobody gives away more than he holds, whichever way it is written; what takes away needs only the right to write."""

from __future__ import annotations

from typing import Any

import pytest

from casare_api.kinds import GROUP

from ..api.conftest import MERGE, Api, is_status, message

RBAC = "rbac.authorization.k8s.io"
APPLY = "application/apply-patch+yaml"


def role_ref(name: str, kind: str = "ClusterRole") -> dict[str, str]:
    return {"apiGroup": RBAC, "kind": kind, "name": name}


@pytest.fixture
def clerk(api: Api) -> Api:
    """A viewer who may do everything with keys, and nothing else."""
    api.create("Role", "clerk", {"rules": [{"verbs": ["*"], "apiGroups": [GROUP], "resources": ["apikeys", "apikeys/rotate", "*/token"]}]})
    subject = {"kind": "User", "name": f"casare:key:{api.namespace}:clerk"}
    api.create("RoleBinding", "clerk", {"roleRef": role_ref("clerk", "Role"), "subjects": [subject]})
    return api.of(api.issue_key("clerk", "viewer"))


def refused(answer: Any) -> bool:
    return "is attempting to grant RBAC permissions not currently held: {" in message(answer, 403)


def test_a_key_of_more_is_neither_made_nor_changed_nor_shown(api: Api, clerk: Api) -> None:
    api.create("ApiKey", "strong", {"spec": {"role": "admin"}})
    weak = clerk.create("ApiKey", "weak", {"spec": {"role": "viewer"}})
    assert clerk.call("POST", api.path("ApiKey", "weak", "token")).status_code == 201
    weak = clerk.get("ApiKey", "weak")
    strong = {"role": "admin"}
    for meta in ({"name": "new"}, {"generateName": "new-"}):
        assert refused(clerk.call("POST", api.path("ApiKey"), {"metadata": meta, "spec": strong}))
    assert refused(clerk.patch("ApiKey", "weak", {"spec": strong}))
    assert refused(clerk.patch("ApiKey", "weak", [{"op": "replace", "path": "/spec/role", "value": "admin"}]))
    assert refused(clerk.call("PUT", api.path("ApiKey", "weak"), {**weak, "spec": {**weak["spec"], **strong}}))
    for name in ("weak", "other"):
        body = {"apiVersion": f"{GROUP}/v1", "kind": "ApiKey", "metadata": {"name": name}, "spec": strong}
        params = {"fieldManager": "clerk", "force": "true"}
        assert refused(clerk.call("PATCH", api.path("ApiKey", name), body, params=params, headers={"content-type": APPLY}))
    assert refused(clerk.call("POST", api.path("ApiKey", "strong", "token")))
    assert refused(clerk.patch("ApiKey", "strong", {"spec": {"hash": "sha256:" + "0" * 64}}))
    assert api.get("ApiKey", "weak")["spec"]["role"] == "viewer" and "hash" not in api.get("ApiKey", "strong")["spec"]
    assert api.find("ApiKey", "new") is None and api.find("ApiKey", "other") is None


def test_a_key_is_rotated_and_issued_by_who_holds_what_it_does_here_whatever_others_bound(api: Api, clerk: Api) -> None:
    apart = Api(api.server, f"{api.namespace}-b")
    apart.create("Namespace", apart.namespace, {})
    keys = {name: api.path("ApiKey", name) for name in ("dash", "new", "strong")}
    for name, role in (("dash", "viewer"), ("new", "viewer"), ("strong", "admin")):
        api.create("ApiKey", name, {"spec": {"role": role}})
    for name in ("dash", "strong"):
        assert api.call("POST", keys[name] + "/token").status_code == 201
    subjects = [{"kind": "Group", "name": "casare:role:viewer"}, {"kind": "User", "name": f"casare:key:{api.namespace}:dash"}]
    apart.create("RoleBinding", "given", {"roleRef": role_ref("casare:admin"), "subjects": subjects})
    boss = api.of(api.issue_key("boss", "admin"))
    assert boss.call("POST", keys["dash"] + "/rotate", {"overlap": "0"}).status_code == 201
    assert clerk.call("POST", keys["dash"] + "/rotate", {"overlap": "0"}).status_code == 201
    assert boss.call("POST", keys["new"] + "/token").status_code == 201
    assert boss.call("POST", api.path("ApiKey"), {"metadata": {"name": "more"}, "spec": {"role": "viewer"}}).status_code == 201
    assert refused(clerk.call("POST", keys["strong"] + "/rotate", {"overlap": "0"})), "he would be an admin"
    api.create("RoleBinding", "given", {"roleRef": role_ref("casare:operator"), "subjects": subjects[1:]})
    assert refused(clerk.call("POST", keys["dash"] + "/rotate", {"overlap": "0"})), "it holds more than he does here"
    assert boss.call("POST", keys["dash"] + "/rotate", {"overlap": "0"}).status_code == 201


def test_what_takes_a_key_back_is_allowed_and_its_undoing_is_not(api: Api, clerk: Api) -> None:
    api.create("ApiKey", "strong", {"spec": {"role": "admin"}})
    assert clerk.patch("ApiKey", "strong", {"metadata": {"labels": {"a": "b"}}}).status_code == 200
    assert clerk.patch("ApiKey", "strong", {"spec": {"revoked": True}}).status_code == 200
    assert refused(clerk.patch("ApiKey", "strong", {"spec": {"revoked": False}}))
    assert refused(clerk.patch("ApiKey", "strong", {"spec": {"revoked": None}}))
    assert clerk.delete("ApiKey", "strong").status_code == 200


def test_the_key_of_a_robot_that_serves_another_namespace_is_for_who_may_make_robots_there(api: Api) -> None:
    """Whoever has it gets that namespace's jobs."""
    apart = Api(api.server, f"{api.namespace}-b")
    apart.create("Namespace", apart.namespace, {})
    api.create("Robot", "shared", {"spec": {"serves": [apart.namespace]}})
    api.create("Robot", "own", {"spec": {}})
    boss = api.of(api.issue_key("boss", "admin"))

    def key(robot: str, name: str) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"role": "robot", "robotName": robot}}

    def is_refused(answer: Any) -> bool:
        return 'can\'t have keys of robot "shared"' in message(answer, 403)

    assert boss.call("POST", api.path("ApiKey"), key("own", "own")).status_code == 201
    assert is_refused(boss.call("POST", api.path("ApiKey"), key("shared", "steal")))
    assert is_refused(boss.patch("ApiKey", "own", {"spec": {"robotName": "shared"}}))
    api.create("ApiKey", "shared", {"spec": key("shared", "")["spec"]})
    assert is_refused(boss.call("POST", api.path("ApiKey", "shared", "token")))
    assert is_refused(boss.call("POST", api.path("ApiKey", "shared", "rotate"), {"overlap": "0"}))
    assert boss.patch("ApiKey", "shared", {"spec": {"revoked": True}}).status_code == 200, "taken back"
    assert is_refused(boss.patch("ApiKey", "shared", {"spec": {"revoked": False}}))
    subjects = [{"kind": "User", "name": f"casare:key:{api.namespace}:boss"}]
    apart.create("RoleBinding", "given", {"roleRef": role_ref("casare:operator"), "subjects": subjects})
    assert boss.call("POST", api.path("ApiKey"), key("shared", "given")).status_code == 201


def test_a_name_that_is_bound_already_is_not_for_everybody_to_take(api: Api) -> None:
    boss, name = api.of(api.issue_key("boss", "admin")), f"{api.namespace}-future"
    subject = {"kind": "User", "name": f"casare:key:{api.namespace}:future"}
    api.create("ClusterRoleBinding", name, {"roleRef": role_ref("casare:viewer"), "subjects": [subject]})
    try:
        key = {"metadata": {"name": "future"}, "spec": {"role": "viewer"}}
        assert refused(boss.call("POST", api.path("ApiKey"), key))
        assert boss.call("POST", api.path("ApiKey"), {**key, "metadata": {"name": "other"}}).status_code == 201
    finally:
        api.delete("ClusterRoleBinding", name)
    assert boss.call("POST", api.path("ApiKey"), key).status_code == 201, "counted as soon as it was answered"


def test_roles_and_bindings_of_more_are_not_written_and_may_be_deleted(api: Api) -> None:
    boss = api.of(api.issue_key("boss", "admin"))
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    shares = {"verbs": ["update"], "apiGroups": [GROUP], "resources": ["quotas"]}
    boss.create("Role", "mine")
    for rule in (everything, shares):
        assert refused(boss.call("POST", api.path("Role"), {"metadata": {"name": "more"}, "rules": [rule]}))
        assert refused(boss.patch("Role", "mine", {"rules": [rule]}))
    api.create("Role", "strong", {"rules": [everything]})
    subjects = [{"kind": "User", "name": "oidc:ada"}]
    for ref in (role_ref("cluster-admin"), role_ref("strong", "Role")):
        assert refused(boss.call("POST", api.path("RoleBinding"), {"metadata": {"name": "more"}, "roleRef": ref, "subjects": subjects}))
    missing = {"metadata": {"name": "more"}, "roleRef": role_ref("nope", "Role"), "subjects": subjects}
    assert is_status(boss.call("POST", api.path("RoleBinding"), missing), 404, "NotFound")
    api.create("RoleBinding", "strong", {"roleRef": role_ref("strong", "Role"), "subjects": []})
    assert refused(boss.patch("RoleBinding", "strong", {"subjects": subjects}))
    boss.create("RoleBinding", "fine", {"roleRef": role_ref("casare:admin"), "subjects": subjects})
    for kind, name in (("RoleBinding", "strong"), ("Role", "strong"), ("RoleBinding", "fine")):
        assert boss.delete(kind, name).status_code == 200


def test_what_is_in_no_namespace_does_not_count_as_in_one(api: Api) -> None:
    """Who may write ClusterRoles and holds all of one namespace puts nothing of that into a ClusterRole."""
    name = f"{api.namespace}-writer"
    rule = {"verbs": ["create"], "apiGroups": [RBAC], "resources": ["clusterroles"]}
    api.create("ClusterRole", name, {"rules": [rule]})
    subject = {"kind": "User", "name": f"casare:key:{api.namespace}:boss"}
    api.create("ClusterRoleBinding", name, {"roleRef": role_ref(name), "subjects": [subject]})
    try:
        boss = api.of(api.issue_key("boss", "admin"))
        jobs = {"verbs": ["get"], "apiGroups": [GROUP], "resources": ["jobs"]}
        new = {"metadata": {"name": f"{name}-2", "namespace": api.namespace}, "rules": [jobs]}
        assert refused(boss.call("POST", api.path("ClusterRole"), new))
    finally:
        for kind in ("ClusterRoleBinding", "ClusterRole"):
            api.delete(kind, name)


def test_a_patch_with_another_type_is_no_way_around(api: Api, clerk: Api) -> None:
    api.create("ApiKey", "weak", {"spec": {"role": "viewer"}})
    for type_ in (MERGE, "application/strategic-merge-patch+json"):
        answer = clerk.call("PATCH", api.path("ApiKey", "weak"), {"spec": {"role": "operator"}}, headers={"content-type": type_})
        assert answer.status_code in (403, 415)
    assert api.get("ApiKey", "weak")["spec"]["role"] == "viewer"
