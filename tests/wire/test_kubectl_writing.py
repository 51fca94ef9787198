"""What kubectl creates, patches, edits, labels, annotates and replaces: for kinds of ours and for the built-in ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..api.conftest import Api
from .conftest import NEWEST, Kubectl, as_yaml, robot

FLEET = "fleet.casare.net"
UNKNOWN = 'strict decoding error: unknown field "spec.zzz"'


def create(kubectl: Kubectl, *documents: dict[str, Any], args: tuple[str, ...] = (), code: int = 0) -> str:
    """`kubectl create -f -`: what it printed, or what it complained of."""
    ran = kubectl("create", "-f", "-", *args, stdin=as_yaml(*documents), code=code)
    return ran.err if code else ran.out


def configmap(name: str = "settings", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


# -- create ----------------------------------------------------------------------------------------------------------

LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"}, "spec": {"holderIdentity": "me"}}
EVENT = {
    "apiVersion": "v1", "kind": "Event", "metadata": {"name": "pc-01.1"}, "reason": "Online", "message": "hello",
    "involvedObject": {"kind": "Robot", "name": "pc-01"},
}  # fmt: skip
WORKFLOW = {"apiVersion": f"{FLEET}/v1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": {"runner": "command", "args": ["true"]}}


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        (robot(), "robot.fleet.casare.net/pc-01"), (WORKFLOW, "workflow.fleet.casare.net/w"),
        (configmap(a="1"), "configmap/settings"), (LEASE, "lease.coordination.k8s.io/leader"), (EVENT, "event/pc-01.1"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)  # fmt: skip
@NEWEST
def test_create_makes_an_object_of_a_file(kubectl: Kubectl, document: dict[str, Any], shown: str) -> None:
    assert create(kubectl, document) == f"{shown} created\n"
    assert kubectl("get", shown, "-o", "name").out == f"{shown}\n"


@NEWEST
def test_creating_what_exists_is_told_by_name(kubectl: Kubectl) -> None:
    create(kubectl, robot())
    said = create(kubectl, robot(), code=1)
    assert said == f'Error from server (AlreadyExists): error when creating "STDIN": robots.{FLEET} "pc-01" already exists\n'


@NEWEST
def test_a_generated_name_has_five_letters_behind_its_beginning(kubectl: Kubectl) -> None:
    document = robot() | {"metadata": {"generateName": "pc-"}}
    first, second = create(kubectl, document, args=("-o", "name")), create(kubectl, document, args=("-o", "name"))
    assert len({first, second}) == 2
    assert all(len(each.strip().removeprefix(f"robot.{FLEET}/pc-")) == 5 for each in (first, second))


@NEWEST
def test_the_typed_command_makes_a_namespace(kubectl: Kubectl) -> None:
    name = f"{kubectl.namespace}-own"
    assert kubectl("create", "namespace", name).out == f"namespace/{name} created\n"
    made = kubectl.get("namespace", name)
    assert made["status"]["phase"] == "Active" and made["metadata"]["labels"]["kubernetes.io/metadata.name"] == name
    assert kubectl("create", "namespace", name, code=1).err == f'Error from server (AlreadyExists): namespaces "{name}" already exists\n'
    kubectl("delete", "namespace", name)


def test_the_typed_command_makes_a_secret(kubectl: Kubectl) -> None:
    assert kubectl("create", "secret", "generic", "login", "--from-literal=user=anna").out == "secret/login created\n"
    made = kubectl.get("secret", "login")
    assert made["data"] == {"user": "YW5uYQ=="} and made["type"] == "Opaque"


@NEWEST
def test_the_typed_command_makes_a_configmap(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "logo.bin").write_bytes(b"\xff\x00")
    kubectl("create", "configmap", "settings", "--from-literal=a=1", f"--from-file={tmp_path}/logo.bin")
    made = kubectl.get("configmap", "settings")
    assert made["data"] == {"a": "1"} and made["binaryData"] == {"logo.bin": "/wA="}
    assert [(each["manager"], each["operation"]) for each in made["metadata"]["managedFields"]] == [("kubectl-create", "Update")]


def test_creating_in_a_namespace_that_does_not_exist_names_it(newest_kubectl: Kubectl) -> None:
    nowhere = dataclasses.replace(newest_kubectl, namespace=f"{newest_kubectl.namespace}-not")
    assert create(nowhere, robot(), code=1).endswith(f'namespaces "{nowhere.namespace}" not found\n')


@NEWEST
def test_what_is_wrong_is_told_field_by_field(kubectl: Kubectl) -> None:
    said = create(kubectl, robot(maxConcurrentJobs=400, desiredState="Asleep"), code=1)
    assert said.startswith('The Robot "pc-01" is invalid: \n* spec.maxConcurrentJobs: Invalid value: 400: must be at most 100\n')
    assert '* spec.desiredState: Unsupported value: "Asleep": supported values: "Active", "Paused", "Drained"' in said


# -- many in one file ------------------------------------------------------------------------------------------------


def test_a_list_in_one_file_is_created_item_by_item(kubectl: Kubectl) -> None:
    said = create(kubectl, {"apiVersion": "v1", "kind": "List", "items": [robot("a"), configmap(a="1")]})
    assert said.splitlines() == [f"robot.{FLEET}/a created", "configmap/settings created"]


@NEWEST
def test_an_unknown_field_of_an_item_of_a_list_is_refused_by_the_server(kubectl: Kubectl) -> None:
    said = create(kubectl, {"apiVersion": "v1", "kind": "List", "items": [robot("a"), robot("b", zzz=1)]}, code=1)
    assert said.endswith(f"{UNKNOWN}\n")


@NEWEST
def test_what_get_shows_of_all_makes_them_again(kubectl: Kubectl) -> None:
    create(kubectl, robot("a"), robot("b"))
    shown = kubectl("get", "robots", "-o", "yaml").out
    kubectl("delete", "robots", "--all")
    kubectl("create", "-f", "-", stdin=shown)
    assert kubectl("get", "robots", "-o", "name").lines == [f"robot.{FLEET}/a", f"robot.{FLEET}/b"]


def test_one_wrong_document_of_200_does_not_keep_the_good_ones_away(newest_kubectl: Kubectl) -> None:
    documents = [robot(f"pc-{number:03}", maxConcurrentJobs=0 if number == 77 else 1) for number in range(200)]
    ran = newest_kubectl.apply(*documents, code=1)
    assert ran.out.count(" created\n") == 199
    assert ran.err == 'The Robot "pc-077" is invalid: spec.maxConcurrentJobs: Invalid value: 0: must be at least 1\n'


# -- validation ------------------------------------------------------------------------------------------------------


def test_strict_validation_names_the_unknown_field(kubectl: Kubectl) -> None:
    said = create(kubectl, robot(zzz=1), args=("--validate=strict",), code=1)
    assert said == (
        'Error from server (BadRequest): error when creating "STDIN": '
        f'Robot in version "v1" cannot be handled as a Robot: {UNKNOWN}\n'
    )


@NEWEST
def test_warn_validation_warns_of_the_unknown_field_and_drops_it(kubectl: Kubectl) -> None:
    ran = kubectl("create", "-f", "-", "--validate=warn", stdin=as_yaml(robot(zzz=1)))
    assert ran.err == 'Warning: unknown field "spec.zzz"\n'
    assert "zzz" not in kubectl.get("robot", "pc-01")["spec"]


@NEWEST
def test_no_validation_drops_the_unknown_field_in_silence(kubectl: Kubectl) -> None:
    ran = kubectl("create", "-f", "-", "--validate=ignore", stdin=as_yaml(robot(zzz=1)))
    assert ran.err == "" and "zzz" not in kubectl.get("robot", "pc-01")["spec"]


@NEWEST
def test_built_in_kinds_are_validated_alike(kubectl: Kubectl) -> None:
    said = create(kubectl, configmap(a="1") | {"dta": {}}, args=("--validate=strict",), code=1)
    assert said.endswith('strict decoding error: unknown field "dta"\n')


# -- patch -----------------------------------------------------------------------------------------------------------


@NEWEST
def test_a_merge_patch_changes_and_removes(kubectl: Kubectl) -> None:
    create(kubectl, robot(environment="staging"))
    patch = '{"spec":{"maxConcurrentJobs":5,"environment":null}}'
    assert kubectl("patch", "robot", "pc-01", "--type=merge", "-p", patch).out == f"robot.{FLEET}/pc-01 patched\n"
    made = kubectl.get("robot", "pc-01")
    assert made["spec"]["maxConcurrentJobs"] == 5 and made["spec"]["environment"] == "default"


def test_a_patch_of_a_robot_that_is_there_and_stays_as_it_is_says_so(
    kubectl: Kubectl, api: Api, until: Callable[..., object]
) -> None:
    create(kubectl, robot())
    path = f"/apis/{FLEET}/v1/namespaces/{kubectl.namespace}/robots/pc-01"

    def is_there() -> bool:
        api.call("POST", f"{path}/report", {"telemetry": {"cpuPercent": 7}})
        return "telemetry" in api.call("GET", path).json()["status"]

    until(is_there, "its agent has measured something")
    same = ("patch", "robot", "pc-01", "--type=merge", "-p", '{"spec":{"maxConcurrentJobs":2}}')
    # What the server says of a robot may change between the two looks of kubectl, but not each time.
    until(lambda: kubectl(*same).out == f"robot.{FLEET}/pc-01 patched (no change)\n", "nothing has changed")
    assert kubectl("label", "robot", "pc-01", "site=berlin").out == f"robot.{FLEET}/pc-01 not labeled\n"


@NEWEST
def test_a_json_patch_goes_operation_by_operation(kubectl: Kubectl) -> None:
    create(kubectl, robot())
    patch = '[{"op":"test","path":"/spec/tags/0","value":"finance"},{"op":"add","path":"/spec/tags/-","value":"sap"}]'
    kubectl("patch", "robot", "pc-01", "--type=json", "-p", patch)
    assert kubectl.get("robot", "pc-01")["spec"]["tags"] == ["finance", "sap"]


@NEWEST
def test_a_json_patch_whose_test_fails_changes_nothing(kubectl: Kubectl) -> None:
    create(kubectl, robot())
    patch = '[{"op":"replace","path":"/spec/tags","value":[]},{"op":"test","path":"/spec/maxConcurrentJobs","value":7}]'
    ran = kubectl("patch", "robot", "pc-01", "--type=json", "-p", patch, code=1)
    assert ran.err.startswith("The request is invalid: the server rejected our request due to an error in our request")
    assert kubectl.get("robot", "pc-01")["spec"]["tags"] == ["finance"]


def test_a_plain_patch_is_strategic_and_refused_for_our_kinds_in_kubectls_words(kubectl: Kubectl) -> None:
    create(kubectl, robot())
    ran = kubectl("patch", "robot", "pc-01", "-p", '{"spec":{"maxConcurrentJobs":5}}', code=1)
    assert f"application/strategic-merge-patch+json is not supported by {FLEET}/v1, Kind=Robot" in ran.err


@NEWEST
def test_a_plain_patch_works_on_a_built_in_kind(kubectl: Kubectl) -> None:
    create(kubectl, configmap(a="1", b="2"))
    kubectl("patch", "configmap", "settings", "-p", '{"data":{"a":null,"c":"3"}}')
    assert kubectl.get("configmap", "settings")["data"] == {"b": "2", "c": "3"}


@NEWEST
def test_a_strategic_patch_deletes_a_finalizer_by_its_directive(kubectl: Kubectl) -> None:
    document = configmap(a="1")
    document["metadata"]["finalizers"] = ["example.com/one", "example.com/two"]
    create(kubectl, document)
    kubectl("patch", "configmap", "settings", "-p", '{"metadata":{"$deleteFromPrimitiveList/finalizers":["example.com/one"]}}')
    assert kubectl.get("configmap", "settings")["metadata"]["finalizers"] == ["example.com/two"]
    kubectl("patch", "configmap", "settings", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


@NEWEST
def test_a_patch_of_the_status_leaves_the_rest_alone(kubectl: Kubectl) -> None:
    create(kubectl, robot())
    patch = '{"status":{"note":"hello"},"spec":{"maxConcurrentJobs":9},"metadata":{"labels":{"a":"b"}}}'
    kubectl("patch", "robot", "pc-01", "--type=merge", "--subresource=status", "-p", patch)
    made = kubectl.get("robot", "pc-01")
    assert made["status"]["note"] == "hello"
    assert (made["spec"]["maxConcurrentJobs"], made["metadata"]["labels"], made["metadata"]["generation"]) == (2, {"site": "berlin"}, 1)


# -- edit ------------------------------------------------------------------------------------------------------------


def edit(kubectl: Kubectl, place: Path, script: str, *args: str, code: int = 0) -> tuple[str, str]:
    """`kubectl edit` of the robot with a sed script as the editor: what it printed, and the last text it opened."""
    editor = place / "editor"
    editor.write_text(f'#!/bin/sh\nsed -i "{script}" "$1"\ncp "$1" {place}/seen\n')
    editor.chmod(0o755)
    ran = dataclasses.replace(kubectl, environment={"KUBE_EDITOR": str(editor), "TMPDIR": str(place)})("edit", "robot", "pc-01", *args, code=code)
    return ran.out + ran.err, (place / "seen").read_text()


def test_edit_sends_what_the_editor_left(kubectl: Kubectl, tmp_path: Path) -> None:
    create(kubectl, robot())
    said, _ = edit(kubectl, tmp_path, "s/^  maxConcurrentJobs: .*/  maxConcurrentJobs: 9/")
    assert said == f"robot.{FLEET}/pc-01 edited\n"
    made = kubectl.get("robot", "pc-01")
    assert made["spec"]["maxConcurrentJobs"] == 9
    assert "kubectl-edit" in [each["manager"] for each in made["metadata"]["managedFields"]]


@NEWEST
def test_edit_without_a_change_writes_nothing(kubectl: Kubectl, tmp_path: Path) -> None:
    create(kubectl, robot())
    assert edit(kubectl, tmp_path, "")[0] == "Edit cancelled, no changes made.\n"


@NEWEST
def test_a_refused_edit_opens_the_editor_again_with_the_reason(kubectl: Kubectl, tmp_path: Path) -> None:
    create(kubectl, robot())
    said, seen = edit(kubectl, tmp_path, "s/^  maxConcurrentJobs: .*/  maxConcurrentJobs: 900/", code=1)
    assert "Edit cancelled, no valid changes were saved." in said
    assert "# * spec.maxConcurrentJobs: Invalid value: 900: must be at most 100" in seen
    assert kubectl.get("robot", "pc-01")["spec"]["maxConcurrentJobs"] == 2


# -- label, annotate -------------------------------------------------------------------------------------------------


@NEWEST
def test_a_label_is_set_changed_and_taken_away(kubectl: Kubectl) -> None:
    create(kubectl, robot())
    kubectl("label", "robot", "pc-01", "floor=2")
    assert kubectl("label", "robot", "pc-01", "floor=3", code=1).err == "error: 'floor' already has a value (2), and --overwrite is false\n"
    kubectl("label", "robot", "pc-01", "floor=3", "--overwrite")
    assert kubectl.get("robot", "pc-01")["metadata"]["labels"] == {"site": "berlin", "floor": "3"}
    kubectl("label", "robot", "pc-01", "floor-")
    assert kubectl.get("robot", "pc-01")["metadata"]["labels"] == {"site": "berlin"}


@NEWEST
def test_an_annotation_is_set_changed_and_taken_away(kubectl: Kubectl) -> None:
    create(kubectl, robot())
    kubectl("annotate", "robot", "pc-01", "note=old")
    kubectl("annotate", "robot", "pc-01", "note=new", "--overwrite")
    assert kubectl.get("robot", "pc-01")["metadata"]["annotations"] == {"note": "new"}
    kubectl("annotate", "robot", "pc-01", "note-")
    assert "annotations" not in kubectl.get("robot", "pc-01")["metadata"]


@pytest.mark.parametrize("command", ["label", "annotate"])
@NEWEST
def test_marking_a_version_that_is_gone_is_a_conflict(kubectl: Kubectl, command: str) -> None:
    create(kubectl, robot())
    ran = kubectl(command, "robot", "pc-01", "a=b", "--resource-version=1", code=1)
    assert ran.err == (
        f'Error from server (Conflict): Operation cannot be fulfilled on robots.{FLEET} "pc-01": '
        "the object has been modified; please apply your changes to the latest version and try again\n"
    )


def test_a_label_that_none_can_be_is_refused_in_words(newest_kubectl: Kubectl) -> None:
    create(newest_kubectl, robot())
    said = create(newest_kubectl, robot("pc-02") | {"metadata": {"name": "pc-02", "labels": {"a": "no spaces"}}}, code=1)
    assert said.startswith('The Robot "pc-02" is invalid: metadata.labels: Invalid value: "a=no spaces": ')


# -- replace ---------------------------------------------------------------------------------------------------------


def test_replace_puts_the_whole_object_in_its_place(kubectl: Kubectl) -> None:
    create(kubectl, robot(environment="staging"))
    before = kubectl.get("robot", "pc-01")
    ran = kubectl("replace", "-f", "-", stdin=as_yaml(robot(maxConcurrentJobs=4)))
    assert ran.out == f"robot.{FLEET}/pc-01 replaced\n"
    made = kubectl.get("robot", "pc-01")
    assert (made["spec"]["maxConcurrentJobs"], made["spec"]["environment"]) == (4, "default")
    assert made["metadata"]["uid"] == before["metadata"]["uid"]


@NEWEST
def test_replacing_an_old_version_is_a_conflict(kubectl: Kubectl) -> None:
    create(kubectl, robot())
    old = kubectl.get("robot", "pc-01")
    kubectl("label", "robot", "pc-01", "a=b")
    ran = kubectl("replace", "-f", "-", stdin=as_yaml(old), code=1)
    assert "the object has been modified; please apply your changes to the latest version and try again" in ran.err


@NEWEST
def test_replacing_what_there_is_not_creates_nothing(kubectl: Kubectl) -> None:
    ran = kubectl("replace", "-f", "-", stdin=as_yaml(robot()), code=1)
    assert ran.err.endswith(f'robots.{FLEET} "pc-01" not found\n')
    assert kubectl("get", "robots", "-o", "name").out == ""


@NEWEST
def test_replace_by_force_makes_a_new_object(kubectl: Kubectl) -> None:
    create(kubectl, robot())
    before = kubectl.get("robot", "pc-01")
    kubectl("replace", "--force", "-f", "-", stdin=as_yaml(robot()))
    assert kubectl.get("robot", "pc-01")["metadata"]["uid"] != before["metadata"]["uid"]


# -- dry run ---------------------------------------------------------------------------------------------------------

DRY = "--dry-run=server"


@pytest.mark.parametrize(
    "command",
    [
        ("apply", "-f", "-", DRY), ("apply", "--server-side", "--force-conflicts", "-f", "-", DRY), ("replace", "-f", "-", DRY),
        ("patch", "robot", "pc-01", "--type=merge", "-p", '{"spec":{"maxConcurrentJobs":5}}', DRY),
        ("delete", "robot", "pc-01", DRY), ("label", "robot", "pc-01", "a=b", DRY), ("annotate", "robot", "pc-01", "a=b", DRY),
    ],
    ids=lambda command: " ".join(command[:2]),
)  # fmt: skip
@NEWEST
def test_a_dry_run_of_a_change_changes_nothing(kubectl: Kubectl, command: tuple[str, ...]) -> None:
    kubectl.apply(robot())
    before = kubectl.get("robot", "pc-01")
    kubectl(*command, stdin=as_yaml(robot(maxConcurrentJobs=5)))
    assert kubectl.get("robot", "pc-01") == before


@pytest.mark.parametrize("command", [("create", "-f", "-"), ("apply", "-f", "-"), ("apply", "--server-side", "-f", "-")])
@NEWEST
def test_a_dry_run_shows_the_object_and_makes_none(kubectl: Kubectl, command: tuple[str, ...]) -> None:
    shown = kubectl(*command, DRY, "-o", "json", stdin=as_yaml(robot())).json()
    assert shown["spec"]["environment"] == "default" and shown["metadata"]["uid"]
    assert kubectl("get", "robots", "-o", "name").out == ""


@NEWEST
def test_a_dry_run_refuses_what_the_real_run_would_refuse(kubectl: Kubectl) -> None:
    said = create(kubectl, robot(maxConcurrentJobs=400), args=(DRY,), code=1)
    assert said == 'The Robot "pc-01" is invalid: spec.maxConcurrentJobs: Invalid value: 400: must be at most 100\n'
