"""kubectl's server-side apply: whose is which field, who is in conflict with whom, and what goes when nobody wants it."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from ..conftest import Server
from .conftest import NEWEST, Kubectl, Ran, robot

FLEET = "fleet.casare.net"
LAST = "kubectl.kubernetes.io/last-applied-configuration"


def apply(kubectl: Kubectl, document: dict[str, Any], manager: str = "", *args: str, code: int = 0) -> Ran:
    """`kubectl apply --server-side` by this manager."""
    named = (f"--field-manager={manager}",) if manager else ()
    return kubectl.apply(document, args=("--server-side", *named, *args), code=code)


def bare(name: str = "pc-01", **spec: Any) -> dict[str, Any]:
    """A robot of which only this is said."""
    return {"apiVersion": f"{FLEET}/v1", "kind": "Robot", "metadata": {"name": name}, "spec": spec}


def configmap(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": data}


def owned(obj: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """Whose is what: fields by manager, operation and subresource."""
    entries = obj["metadata"].get("managedFields") or []
    return {(each["manager"], each["operation"], each.get("subresource", "")): each["fieldsV1"] for each in entries}


# -- who owns what ---------------------------------------------------------------------------------------------------


def test_an_apply_owns_what_it_says_and_no_default(kubectl: Kubectl) -> None:
    assert apply(kubectl, robot()).out == f"robot.{FLEET}/pc-01 serverside-applied\n"
    made = kubectl.get("robot", "pc-01")
    assert made["spec"]["environment"] == "default"
    entry = made["metadata"]["managedFields"][0]
    assert entry | {"time": ""} == {
        "manager": "kubectl", "operation": "Apply", "apiVersion": f"{FLEET}/v1", "time": "", "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:labels": {"f:site": {}}},
            "f:spec": {"f:maxConcurrentJobs": {}, "f:tags": {'v:"finance"': {}}},
        },
    }  # fmt: skip
    assert len(made["metadata"]["managedFields"]) == 1 and entry["time"] == made["metadata"]["creationTimestamp"]


@NEWEST
def test_an_update_owns_what_it_sets_with_the_defaults(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", "--field-manager=me", stdin=json.dumps(bare(tags=["a"])))
    assert owned(kubectl.get("robot", "pc-01")) == {("me", "Update", ""): {
        "f:spec": {".": {}, "f:desiredState": {}, "f:environment": {}, "f:maxConcurrentJobs": {}, "f:tags": {".": {}, 'v:"a"': {}}},
    }}  # fmt: skip


@pytest.mark.parametrize(
    ("command", "manager"),
    [
        (("patch", "robot", "pc-01", "--type=merge", "-p", '{"spec":{"displayName":"Anna"}}'), "kubectl-patch"),
        (("label", "robot", "pc-01", "a=b"), "kubectl-label"),
        (("annotate", "robot", "pc-01", "a=b"), "kubectl-annotate"),
        (("annotate", "robot", "pc-01", "a=b", "--field-manager=me"), "me"),
    ],
)
def test_each_command_writes_under_its_name(newest_kubectl: Kubectl, command: tuple[str, ...], manager: str) -> None:
    apply(newest_kubectl, robot())
    newest_kubectl(*command)
    assert (manager, "Update", "") in owned(newest_kubectl.get("robot", "pc-01"))


@NEWEST
def test_managed_fields_are_shown_to_those_alone_who_ask(kubectl: Kubectl) -> None:
    apply(kubectl, robot())
    assert "managedFields" not in kubectl("get", "robot", "pc-01", "-o", "yaml").out
    assert "managedFields" in kubectl("get", "robot", "pc-01", "-o", "yaml", "--show-managed-fields").out


@pytest.mark.parametrize("document", [robot(), configmap(a="1")], ids=lambda document: document["kind"])
@NEWEST
def test_applying_the_same_again_keeps_version_and_time(kubectl: Kubectl, document: dict[str, Any]) -> None:
    kind, name = document["kind"].lower(), document["metadata"]["name"]
    apply(kubectl, document)
    before = kubectl.get(kind, name)["metadata"]
    apply(kubectl, document)
    assert kubectl.get(kind, name)["metadata"] == before


def test_the_first_apply_answers_201_and_the_next_200(wire: Server, namespace: str) -> None:
    path = f"{wire.url}/apis/{FLEET}/v1/namespaces/{namespace}/robots/pc-01?fieldManager=me"
    headers = {"authorization": f"Bearer {wire.admin_key}", "content-type": "application/apply-patch+yaml"}
    text = f"apiVersion: {FLEET}/v1\nkind: Robot\nmetadata: {{name: pc-01}}\nspec: {{tags: [a]}}\n"
    assert [httpx2.patch(path, content=text, headers=headers).status_code for _ in range(2)] == [201, 200]


# -- conflicts -------------------------------------------------------------------------------------------------------


def test_a_conflict_names_field_and_manager(kubectl: Kubectl) -> None:
    apply(kubectl, robot())
    ran = apply(kubectl, bare(maxConcurrentJobs=3), "other", code=1)
    assert ran.err.startswith('error: Apply failed with 1 conflict: conflict with "kubectl": .spec.maxConcurrentJobs\n')
    assert kubectl.get("robot", "pc-01")["spec"]["maxConcurrentJobs"] == 2


@NEWEST
def test_several_conflicts_are_listed_by_manager_line_by_line(kubectl: Kubectl) -> None:
    apply(kubectl, robot())
    kubectl("patch", "robot", "pc-01", "--type=merge", "-p", '{"spec":{"environment":"staging"}}')
    wanted = robot(maxConcurrentJobs=3, environment="production")
    wanted["metadata"]["labels"]["site"] = "paris"
    assert apply(kubectl, wanted, "other", code=1).err.startswith(
        'error: Apply failed with 3 conflicts: conflicts with "kubectl":\n'
        "- .metadata.labels.site\n- .spec.maxConcurrentJobs\n"
        f'conflicts with "kubectl-patch" using {FLEET}/v1:\n- .spec.environment\n'
    )


@NEWEST
def test_force_takes_the_field_over(kubectl: Kubectl) -> None:
    apply(kubectl, robot())
    apply(kubectl, bare(maxConcurrentJobs=3), "other", "--force-conflicts")
    made = kubectl.get("robot", "pc-01")
    assert made["spec"]["maxConcurrentJobs"] == 3
    assert owned(made)["other", "Apply", ""] == {"f:spec": {"f:maxConcurrentJobs": {}}}
    assert "f:maxConcurrentJobs" not in owned(made)["kubectl", "Apply", ""]["f:spec"]


@NEWEST
def test_an_ordinary_write_takes_a_field_over_without_asking(kubectl: Kubectl) -> None:
    apply(kubectl, robot())
    kubectl("patch", "robot", "pc-01", "--type=merge", "-p", '{"spec":{"maxConcurrentJobs":5}}')
    made = owned(kubectl.get("robot", "pc-01"))
    assert made["kubectl-patch", "Update", ""] == {"f:spec": {"f:maxConcurrentJobs": {}}}
    ran = apply(kubectl, robot(), code=1)
    assert f'conflict with "kubectl-patch" using {FLEET}/v1: .spec.maxConcurrentJobs' in ran.err


@NEWEST
def test_a_conflict_in_a_built_in_kind_reads_the_same(kubectl: Kubectl) -> None:
    apply(kubectl, configmap(a="1"))
    ran = apply(kubectl, configmap(a="2"), "other", code=1)
    assert ran.err.startswith('error: Apply failed with 1 conflict: conflict with "kubectl": .data.a\n')


# -- sharing and letting go ------------------------------------------------------------------------------------------


@NEWEST
def test_the_same_value_is_owned_by_both_and_stays_until_both_let_go(kubectl: Kubectl) -> None:
    wanted, nothing = bare(displayName="Anna"), bare()
    apply(kubectl, wanted, "one")
    apply(kubectl, wanted, "two")
    apply(kubectl, nothing, "one")
    assert kubectl.get("robot", "pc-01")["spec"]["displayName"] == "Anna"
    apply(kubectl, nothing, "two")
    assert "displayName" not in kubectl.get("robot", "pc-01")["spec"]


@NEWEST
def test_a_field_left_out_goes_back_to_its_default(kubectl: Kubectl) -> None:
    apply(kubectl, bare(environment="staging", maxConcurrentJobs=4))
    apply(kubectl, bare(maxConcurrentJobs=4))
    assert kubectl.get("robot", "pc-01")["spec"] == {"environment": "default", "maxConcurrentJobs": 4, "desiredState": "Active"}


@NEWEST
def test_a_field_that_only_an_ordinary_write_set_stays(kubectl: Kubectl) -> None:
    apply(kubectl, bare(maxConcurrentJobs=4))
    kubectl("patch", "robot", "pc-01", "--type=merge", "-p", '{"spec":{"displayName":"Anna"}}')
    apply(kubectl, bare())
    spec = kubectl.get("robot", "pc-01")["spec"]
    assert (spec["displayName"], spec["maxConcurrentJobs"]) == ("Anna", 1)


@NEWEST
def test_two_managers_own_one_item_each_of_a_keyed_list(kubectl: Kubectl) -> None:
    apply(kubectl, bare(taints=[{"key": "repair", "value": "1"}]), "one")
    apply(kubectl, bare(taints=[{"key": "holiday"}]), "two")
    made = kubectl.get("robot", "pc-01")
    assert [taint["key"] for taint in made["spec"]["taints"]] == ["repair", "holiday"]
    assert owned(made)["one", "Apply", ""] == {
        "f:spec": {"f:taints": {'k:{"key":"repair"}': {".": {}, "f:key": {}, "f:value": {}}}},
    }  # fmt: skip
    apply(kubectl, bare(), "one")
    assert [taint["key"] for taint in kubectl.get("robot", "pc-01")["spec"]["taints"]] == ["holiday"]


@NEWEST
def test_two_managers_own_one_variable_each_of_a_workflow(kubectl: Kubectl) -> None:
    def workflow(**env: str) -> dict[str, Any]:
        spec = {"runner": "command", "args": ["true"], "env": [{"name": name, "value": value} for name, value in env.items()]}
        return {"apiVersion": f"{FLEET}/v1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": spec}

    apply(kubectl, workflow(A="1"), "one")
    apply(kubectl, workflow(B="2"), "two")
    made = kubectl.get("workflow", "w")
    assert [each["name"] for each in made["spec"]["env"]] == ["A", "B"]
    assert list(owned(made)["two", "Apply", ""]["f:spec"]["f:env"]) == ['k:{"name":"B"}']
    ran = apply(kubectl, workflow(A="9"), "two", code=1)
    assert 'conflict with "one": .spec.env[name="A"].value' in ran.err


@NEWEST
def test_two_managers_own_one_value_each_of_a_set(kubectl: Kubectl) -> None:
    apply(kubectl, bare(tags=["finance", "both"]), "one")
    apply(kubectl, bare(tags=["sap", "both"]), "two")
    assert kubectl.get("robot", "pc-01")["spec"]["tags"] == ["finance", "sap", "both"]
    apply(kubectl, bare(), "one")
    assert kubectl.get("robot", "pc-01")["spec"]["tags"] == ["sap", "both"]


@NEWEST
def test_a_list_without_keys_belongs_to_one_as_a_whole(kubectl: Kubectl) -> None:
    def workflow(*args: str) -> dict[str, Any]:
        return {"apiVersion": f"{FLEET}/v1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": {"runner": "command", "args": list(args)}}

    apply(kubectl, workflow("a"), "one")
    assert owned(kubectl.get("workflow", "w"))["one", "Apply", ""]["f:spec"]["f:args"] == {}
    assert 'conflict with "one": .spec.args\n' in apply(kubectl, workflow("b"), "two", code=1).err


@NEWEST
def test_finalizers_are_a_set_of_which_each_manager_has_his_own(kubectl: Kubectl) -> None:
    def held(*finalizers: str) -> dict[str, Any]:
        return bare() | {"metadata": {"name": "pc-01", "finalizers": list(finalizers)}}

    apply(kubectl, held("example.com/one"), "one")
    apply(kubectl, held("example.com/two"), "two")
    assert kubectl.get("robot", "pc-01")["metadata"]["finalizers"] == ["example.com/one", "example.com/two"]
    apply(kubectl, bare(), "one")
    assert kubectl.get("robot", "pc-01")["metadata"]["finalizers"] == ["example.com/two"]
    apply(kubectl, bare(), "two")
    assert "finalizers" not in kubectl.get("robot", "pc-01")["metadata"]


@NEWEST
def test_an_unknown_field_is_refused_whatever_the_validation(kubectl: Kubectl) -> None:
    ran = apply(kubectl, robot(zzz=1), "", "--validate=ignore", code=1)
    what = f"failed to create typed patch object ({kubectl.namespace}/pc-01; {FLEET}/v1, Kind=Robot)"
    assert ran.err.endswith(f"{what}: .spec.zzz: field not declared in schema\n")


# -- status ----------------------------------------------------------------------------------------------------------


def condition(kind: str) -> dict[str, Any]:
    return bare() | {"status": {"conditions": [{"type": kind, "status": "True"}]}}


def test_the_status_is_applied_by_its_subresource_and_owned_apart(kubectl: Kubectl) -> None:
    apply(kubectl, robot())
    apply(kubectl, condition("Calibrated"), "lab", "--subresource=status")
    made = kubectl.get("robot", "pc-01")
    assert "Calibrated" in [each["type"] for each in made["status"]["conditions"]]
    assert owned(made)["lab", "Apply", "status"] == {
        "f:status": {"f:conditions": {'k:{"type":"Calibrated"}': {".": {}, "f:status": {}, "f:type": {}}}},
    }  # fmt: skip
    assert made["metadata"]["generation"] == 1 and made["spec"]["maxConcurrentJobs"] == 2


@NEWEST
def test_a_conflict_in_the_status_names_the_subresource(kubectl: Kubectl) -> None:
    apply(kubectl, robot())
    kubectl("patch", "robot", "pc-01", "--subresource=status", "--type=merge", "-p", '{"status":{"note":"a"}}')
    ran = apply(kubectl, bare() | {"status": {"note": "b"}}, "lab", "--subresource=status", code=1)
    assert f'conflict with "kubectl-patch" with subresource "status" using {FLEET}/v1: .status.note' in ran.err


@NEWEST
def test_a_status_is_applied_to_nothing_but_what_there_is(kubectl: Kubectl) -> None:
    ran = apply(kubectl, condition("Ready"), "lab", "--subresource=status", code=1)
    assert ran.err == f'Error from server (NotFound): robots.{FLEET} "pc-01" not found\n'


# -- from the client's side to the server's, and back ----------------------------------------------------------------


def test_whoever_applied_from_the_client_goes_over_without_a_conflict(kubectl: Kubectl) -> None:
    kubectl.apply(robot(environment="staging"))
    assert apply(kubectl, robot(maxConcurrentJobs=3)).code == 0
    made = kubectl.get("robot", "pc-01")
    assert (made["spec"]["maxConcurrentJobs"], made["spec"]["environment"]) == (3, "default")
    assert set(owned(made)) == {("kubectl", "Apply", ""), ("kubectl-last-applied", "Apply", "")}
    assert json.loads(made["metadata"]["annotations"][LAST])["spec"]["maxConcurrentJobs"] == 3


@NEWEST
def test_whoever_went_over_can_go_back(kubectl: Kubectl) -> None:
    kubectl.apply(robot(environment="staging"))
    apply(kubectl, robot(environment="staging", maxConcurrentJobs=3))
    kubectl.apply(robot(maxConcurrentJobs=4))
    spec = kubectl.get("robot", "pc-01")["spec"]
    assert (spec["maxConcurrentJobs"], spec["environment"]) == (4, "default")


@NEWEST
def test_a_built_in_kind_goes_over_as_well(kubectl: Kubectl) -> None:
    kubectl.apply(configmap(a="1", b="2"))
    apply(kubectl, configmap(a="10"))
    assert kubectl.get("configmap", "settings")["data"] == {"a": "10"}


@NEWEST
def test_a_secret_goes_over_with_its_values(kubectl: Kubectl) -> None:
    def secret(**data: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "data": data}

    kubectl.apply(secret(user="YW5uYQ==", old="YW5uYQ=="))
    apply(kubectl, secret(user="YmVydGE="))
    assert kubectl.get("secret", "login")["data"] == {"user": "YmVydGE="}


def test_forgotten_managers_make_way_for_the_next_one(kubectl: Kubectl) -> None:
    apply(kubectl, robot(), "one")
    for nobody in ("[{}]", "[]"):
        kubectl("patch", "robot", "pc-01", "--type=merge", "-p", f'{{"metadata":{{"managedFields":{nobody}}}}}')
        assert "managedFields" not in kubectl.get("robot", "pc-01")["metadata"]
    apply(kubectl, robot(), "two")
    assert "two" in [manager for manager, _, _ in owned(kubectl.get("robot", "pc-01"))]
