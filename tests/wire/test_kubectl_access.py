"""Roles and bindings with an unmodified kubectl: made, shown, edited, taken away, and true from then on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from casare_api.kinds import GROUP

from ..api.conftest import Api
from .conftest import NEWEST, Kubectl

RBAC = "rbac.authorization.k8s.io"
Keyed = Callable[..., Kubectl]


@pytest.fixture
def as_key(api: Api, make_kubectl: Callable[..., Kubectl]) -> Keyed:
    """A kubectl for a new key of a role."""

    def make(role: str, name: str = "someone", version: str = "1.37") -> Kubectl:
        return make_kubectl(version, api.namespace, api.issue_key(name, role))

    return make


def test_roles_and_bindings_are_made_shown_and_deleted(kubectl: Kubectl, namespace: str) -> None:
    assert kubectl("create", "role", "reader", "--verb=get,list", f"--resource=jobs.{GROUP},jobs.{GROUP}/log").out == (
        f"role.{RBAC}/reader created\n"
    )
    bound = kubectl("create", "rolebinding", "readers", "--role=reader", "--user=oidc:ada", "--group=oidc:auditors")
    assert bound.out == f"rolebinding.{RBAC}/readers created\n"
    assert kubectl("get", "roles").lines[0].split() == ["NAME", "CREATED", "AT"]
    assert kubectl("get", "rolebindings").rows()[0][:2] == ["readers", "Role/reader"]
    wide = kubectl("get", "rolebindings", "-o", "wide")
    assert wide.lines[0].split() == ["NAME", "ROLE", "AGE", "USERS", "GROUPS"]
    assert wide.rows()[0][3:] == ["oidc:ada", "oidc:auditors"]
    told = kubectl("describe", "role", "reader").out
    assert f"jobs.{GROUP}/log" in told and "[get list]" in told
    told = kubectl("describe", "rolebinding", "readers").out.split()
    assert {"Role", "reader", "User", "oidc:ada", "Group", "oidc:auditors"} <= set(told)
    assert kubectl("delete", "rolebinding,role", "--all").out.count("deleted") == 2


def test_cluster_roles_too(kubectl: Kubectl, namespace: str) -> None:
    name = f"team:{namespace}:Jobs"  # as Kubernetes lets them be called
    kubectl("create", "clusterrole", name, "--verb=*", f"--resource=configmaps,jobs.{GROUP}", "--resource-name=j")
    kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", "--group=oidc:auditors")
    try:
        assert kubectl("get", "clusterrolebinding", name).rows()[0][:2] == [name, f"ClusterRole/{name}"]
        assert "[j]" in kubectl("describe", "clusterrole", name).out
        rules = kubectl.get("clusterrole", name)["rules"]
        named = {"verbs": ["*"], "resourceNames": ["j"]}
        assert rules == [{**named, "apiGroups": [""], "resources": ["configmaps"]},
                         {**named, "apiGroups": [GROUP], "resources": ["jobs"]}]
        edit = {"EDITOR": "sed -i s/oidc:auditors/oidc:editors/"}
        Kubectl(kubectl.program, kubectl.version, kubectl.home, kubectl.namespace, edit)("edit", "clusterrolebinding", name)
        assert kubectl.get("clusterrolebinding", name)["subjects"][0]["name"] == "oidc:editors"
    finally:
        kubectl("delete", "clusterrole,clusterrolebinding", name)


@pytest.mark.parametrize("how", [(), ("--server-side",)])
@NEWEST
def test_they_are_applied_from_files_and_what_is_given_stays(kubectl: Kubectl, namespace: str, how: tuple[str, ...]) -> None:
    meta = {"name": "readers", "namespace": namespace}
    role: dict[str, Any] = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": meta,
                            "rules": [{"apiGroups": [GROUP], "resources": ["jobs"], "verbs": ["get"]}]}  # fmt: skip
    bound: dict[str, Any] = {
        "apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": meta,
        "subjects": [{"kind": "Group", "apiGroup": RBAC, "name": "oidc:auditors"}],
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "readers"},
    }  # fmt: skip
    kubectl.apply(role, bound, args=how)
    unchanged = kubectl.apply(role, bound, args=how).out
    assert unchanged.count("unchanged") == 2 or unchanged.count("serverside-applied") == 2
    other = {**bound, "roleRef": {**bound["roleRef"], "kind": "ClusterRole", "name": "casare:viewer"}}
    assert "cannot change roleRef" in kubectl.apply(other, args=how, code=1).err


@NEWEST
def test_what_there_is_not_is_refused_in_plain_words(kubectl: Kubectl, namespace: str) -> None:
    refused = kubectl("create", "rolebinding", "x", "--clusterrole=casare:viewer", f"--serviceaccount={namespace}:default", code=1)
    assert "subjects[0].kind" in refused.err and "name an ApiKey instead, as kind User" in refused.err
    refused = kubectl("create", "clusterrole", "x", "--aggregation-rule=a=b", code=1)
    assert "aggregationRule: Forbidden" in refused.err and "write the rules down" in refused.err
    rule = {"verbs": ["get"], "nonResourceURLs": ["/metrics"]}
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": "x"}, "rules": [rule]}
    assert "namespaced rules cannot apply to non-resource URLs" in kubectl.apply(role, code=1).err


@NEWEST
def test_the_built_in_roles_are_read_and_never_changed(kubectl: Kubectl) -> None:
    names = {row[0] for row in kubectl("get", "clusterroles").rows()}
    assert {"casare:robot", "casare:viewer", "casare:operator", "casare:admin", "cluster-admin"} <= names
    assert f"robots.{GROUP}/status" in kubectl("describe", "clusterrole", "casare:operator").out
    patch = json.dumps({"rules": []})
    for args in (("delete", "clusterrole", "casare:viewer"), ("patch", "clusterrole", "casare:viewer", "-p", patch),
                 ("label", "clusterrole", "casare:viewer", "a=b")):  # fmt: skip
        assert 'clusterroles.rbac.authorization.k8s.io "casare:viewer" is forbidden: it is built in' in kubectl(*args, code=1).err


def test_can_i_and_whoami_say_what_is_bound(kubectl: Kubectl, as_key: Keyed, api: Api) -> None:
    mine = as_key("viewer", version=kubectl.version)
    me = mine("auth", "whoami", "-o", "json").json()["status"]["userInfo"]["username"]
    assert me == f"casare:key:{api.namespace}:someone"
    assert mine("auth", "can-i", "delete", "jobs", code=1).out == "no\n"
    kubectl("create", "rolebinding", "b", "--clusterrole=casare:operator", f"--user={me}")
    assert mine("auth", "can-i", "delete", "jobs").out == "yes\n"
    assert mine("auth", "can-i", "delete", "jobs", "--all-namespaces", code=1).out == "no\n"
    assert f"jobs.{GROUP}/retry" in mine("auth", "can-i", "--list").out
    assert mine("delete", "jobs", "--all").out == "No resources found\n"
    kubectl("delete", "rolebinding", "b")
    assert mine("auth", "can-i", "delete", "jobs", code=1).out == "no\n"


@NEWEST
def test_nobody_gives_away_with_kubectl_what_he_does_not_hold(kubectl: Kubectl, as_key: Keyed, api: Api) -> None:
    boss = as_key("admin", "boss")
    boss("create", "rolebinding", "mine", "--clusterrole=casare:admin", "--user=oidc:ada")
    refused = boss("create", "rolebinding", "more", "--clusterrole=cluster-admin", "--user=oidc:ada", code=1).err
    assert 'is attempting to grant RBAC permissions not currently held: {APIGroups:["*"], Resources:["*"], Verbs:["*"]}' in refused
    refused = boss("create", "clusterrolebinding", "more", "--clusterrole=casare:viewer", "--user=oidc:ada", code=1).err
    assert 'cannot create resource "clusterrolebindings"' in refused
    refused = boss("create", "role", "more", "--verb=patch", f"--resource=quotas.{GROUP}", code=1).err
    assert 'Resources:["quotas"], Verbs:["patch"]' in refused
    assert boss("auth", "can-i", "escalate", "roles", code=1).out == "no\n"
    assert kubectl("auth", "can-i", "escalate", "roles").out == "yes\n"
