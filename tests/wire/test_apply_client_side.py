"""kubectl's own apply: it computes the patch itself, from what it applied before, what is there and what the file says."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

import pytest

from .conftest import NEWEST, Kubectl, as_yaml, robot

FLEET = "fleet.casare.net"
LAST = "kubectl.kubernetes.io/last-applied-configuration"
MANIFESTS = Path(__file__).parents[2] / "manifests"


def configmap(name: str = "settings", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def version(kubectl: Kubectl, what: str, name: str) -> str:
    return str(kubectl.get(what, name)["metadata"]["resourceVersion"])


def labelled(document: dict[str, Any], app: str = "mine") -> dict[str, Any]:
    return document | {"metadata": {**document["metadata"], "labels": {"app": app}}}


# -- three ways ------------------------------------------------------------------------------------------------------


def test_the_first_apply_creates_and_remembers_what_was_applied(kubectl: Kubectl) -> None:
    assert kubectl.apply(robot()).out == f"robot.{FLEET}/pc-01 created\n"
    made = kubectl.get("robot", "pc-01")["metadata"]
    assert json.loads(made["annotations"][LAST])["spec"] == robot()["spec"]
    assert [(each["manager"], each["operation"]) for each in made["managedFields"]] == [("kubectl-client-side-apply", "Update")]


def test_what_the_file_no_longer_says_goes_and_what_others_set_stays(kubectl: Kubectl) -> None:
    kubectl.apply(robot(environment="staging"))
    kubectl("patch", "robot", "pc-01", "--type=merge", "-p", '{"spec":{"displayName":"Anna"}}')
    assert kubectl.apply(robot(maxConcurrentJobs=3)).out == f"robot.{FLEET}/pc-01 configured\n"
    spec = kubectl.get("robot", "pc-01")["spec"]
    assert (spec["maxConcurrentJobs"], spec["environment"], spec["displayName"]) == (3, "default", "Anna")


@pytest.mark.parametrize("document", [robot(), configmap(a="1")], ids=lambda document: document["kind"])
@NEWEST
def test_applying_the_same_again_writes_nothing(kubectl: Kubectl, document: dict[str, Any]) -> None:
    kubectl.apply(document)
    kind, name = document["kind"].lower(), document["metadata"]["name"]
    before = version(kubectl, kind, name)
    assert kubectl.apply(document).out.endswith(" unchanged\n")
    assert version(kubectl, kind, name) == before


@NEWEST
def test_a_built_in_kind_is_merged_key_by_key(kubectl: Kubectl) -> None:
    kubectl.apply(configmap(a="1", b="2"))
    kubectl("patch", "configmap", "settings", "-p", '{"data":{"theirs":"3"}}')
    kubectl.apply(configmap(a="10"))
    assert kubectl.get("configmap", "settings")["data"] == {"a": "10", "theirs": "3"}


@NEWEST
def test_finalizers_of_a_built_in_kind_merge_with_those_of_others(kubectl: Kubectl) -> None:
    document = configmap(a="1")
    document["metadata"]["finalizers"] = ["example.com/mine"]
    kubectl.apply(document)
    kubectl("patch", "configmap", "settings", "-p", '{"metadata":{"finalizers":["example.com/theirs"]}}')
    document["metadata"]["finalizers"] = ["example.com/other"]
    kubectl.apply(document)
    found = kubectl.get("configmap", "settings")["metadata"]["finalizers"]
    kubectl("patch", "configmap", "settings", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert sorted(found) == ["example.com/other", "example.com/theirs"]


@NEWEST
def test_a_secrets_data_is_applied_as_text(kubectl: Kubectl) -> None:
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"user": "anna"}}
    kubectl.apply(document)
    kubectl.apply({**document, "stringData": {"user": "berta"}})
    found = kubectl.get("secret", "login")
    assert found["data"] == {"user": "YmVydGE="} and "stringData" not in found


@NEWEST
def test_applying_over_what_was_created_warns_and_goes_on(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", stdin=as_yaml(robot()))
    ran = kubectl.apply(robot(maxConcurrentJobs=3))
    assert f"Warning: resource robots/pc-01 is missing the {LAST} annotation" in ran.err
    assert kubectl.get("robot", "pc-01")["spec"]["maxConcurrentJobs"] == 3


@NEWEST
def test_a_refused_apply_shows_the_patch_and_the_reason(kubectl: Kubectl) -> None:
    kubectl.apply(robot())
    ran = kubectl.apply(robot(maxConcurrentJobs=400), code=1)
    assert ran.err == 'The Robot "pc-01" is invalid: spec.maxConcurrentJobs: Invalid value: 400: must be at most 100\n'


# -- prune -----------------------------------------------------------------------------------------------------------

ALLOWED = (f"--prune-allowlist={FLEET}/v1/Robot", "--prune-allowlist=core/v1/ConfigMap")


def test_prune_removes_what_was_applied_and_is_in_no_file_any_more(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", stdin=as_yaml(labelled(robot("by-hand"))))
    kubectl.apply(labelled(robot("a")), labelled(robot("b")), labelled(configmap(a="1")), labelled(robot("other"), app="theirs"))
    ran = kubectl.apply(labelled(robot("a")), args=("--prune", "-l", "app=mine", *ALLOWED))
    assert ran.lines == [f"robot.{FLEET}/a unchanged", f"robot.{FLEET}/b pruned", "configmap/settings pruned"]
    assert kubectl("get", "robots", "-o", "name").lines == [f"robot.{FLEET}/{name}" for name in ("a", "by-hand", "other")]


def with_sets(kubectl: Kubectl) -> Kubectl:
    """A kubectl that may use applysets, which are an alpha feature of it."""
    kubectl.environment["KUBECTL_APPLYSET"] = "true"
    return kubectl


@pytest.mark.parametrize(
    ("kubectl", "parent", "kind", "way"),
    [("1.37", "tools", "secret", ()), ("1.32", "configmaps/tools", "configmap", ("--server-side",))],
    indirect=["kubectl"],
)
def test_an_applyset_prunes_what_left_it(kubectl: Kubectl, parent: str, kind: str, way: tuple[str, ...]) -> None:
    kubectl, args = with_sets(kubectl), ("--prune", f"--applyset={parent}", *way)
    kubectl("create", "-f", "-", stdin=as_yaml(robot("not-mine")))
    kubectl.apply(robot("a"), robot("b"), args=args)
    ran = kubectl.apply(robot("a"), args=args)
    assert ran.lines[-1] == f"robot.{FLEET}/b pruned"
    assert kubectl("get", "robots", "-o", "name").lines == [f"robot.{FLEET}/a", f"robot.{FLEET}/not-mine"]
    meta = kubectl.get(kind, "tools")["metadata"]
    assert meta["annotations"]["applyset.kubernetes.io/contains-group-kinds"] == f"Robot.{FLEET}"
    assert kubectl.get("robot", "a")["metadata"]["labels"]["applyset.kubernetes.io/part-of"] == meta["labels"]["applyset.kubernetes.io/id"]


# -- directories -----------------------------------------------------------------------------------------------------


def kustomized(place: Path) -> Path:
    (place / "robot.yaml").write_text(as_yaml(robot()))
    (place / "settings.yaml").write_text(as_yaml(configmap(a="1")))
    wanted = {"resources": ["robot.yaml", "settings.yaml"], "namePrefix": "dev-", "commonLabels": {"team": "finance"}}
    (place / "kustomization.yaml").write_text(as_yaml(wanted))
    return place


@NEWEST
def test_a_kustomize_directory_is_applied_compared_and_deleted(kubectl: Kubectl, tmp_path: Path) -> None:
    place = str(kustomized(tmp_path))
    assert kubectl("apply", "-k", place).lines == ["configmap/dev-settings created", f"robot.{FLEET}/dev-pc-01 created"]
    assert kubectl.get("robot", "dev-pc-01")["metadata"]["labels"] == {"site": "berlin", "team": "finance"}
    assert kubectl("diff", "-k", place).out == ""
    kubectl("delete", "-k", place)
    assert kubectl("get", "robots,configmaps", "-o", "name").out == ""


def of_my_own(place: Path) -> Path:
    """The repository's manifests with another key: there can be only one of each in a server."""
    shutil.copytree(MANIFESTS, place / "manifests")
    keys = place / "manifests/keys.yaml"
    keys.write_text(re.sub("sha256:.*", f"sha256:{secrets.token_hex(32)}", keys.read_text()))
    return place / "manifests"


@NEWEST
def test_this_repositorys_manifests_go_as_far_as_no_files_lie_beside_them(kubectl: Kubectl, tmp_path: Path) -> None:
    ran = kubectl("apply", "-R", "-f", str(of_my_own(tmp_path)), code=1)
    assert sorted(ran.lines) == [
        f"apikey.{FLEET}/pc-berlin-1 created", f"robot.{FLEET}/pc-berlin-1 created", f"schedule.{FLEET}/nightly-cleanup created",
    ]  # fmt: skip
    assert 'spec.files[0].path: Invalid value: "cleanup.py": the file was not sent along; `casare apply` does that' in ran.err
    assert 'spec.workflowRef.name: Not found: there is no workflow "price-watch" in namespace ' in ran.err
    assert len(ran.err.splitlines()) == 5, "one line for each file that kubectl alone can't apply"
    assert "Internal" not in ran.err


# -- diff ------------------------------------------------------------------------------------------------------------

SIDES = pytest.mark.parametrize("side", [(), ("--server-side",)], ids=["client-side", "server-side"])


def diff(kubectl: Kubectl, document: dict[str, Any], *args: str, code: int = 1) -> list[str]:
    """The lines that a diff marks."""
    ran = kubectl("diff", "-f", "-", *args, stdin=as_yaml(document), code=code)
    return [line for line in ran.lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


@SIDES
def test_diff_ends_with_1_and_shows_the_lines_that_would_change(kubectl: Kubectl, side: tuple[str, ...]) -> None:
    kubectl.apply(robot(), args=side)
    shown = diff(kubectl, robot(maxConcurrentJobs=3), *side)
    assert "-  maxConcurrentJobs: 2" in shown and "+  maxConcurrentJobs: 3" in shown
    assert not [line for line in shown if "managedFields" in line or "resourceVersion" in line]
    assert kubectl.get("robot", "pc-01")["spec"]["maxConcurrentJobs"] == 2


@SIDES
@NEWEST
def test_diff_ends_with_0_where_nothing_would_change(kubectl: Kubectl, side: tuple[str, ...]) -> None:
    kubectl.apply(robot(), args=side)
    assert diff(kubectl, robot(), *side, code=0) == []


@SIDES
@NEWEST
def test_diff_shows_a_new_object_whole_and_makes_none(kubectl: Kubectl, side: tuple[str, ...]) -> None:
    shown = diff(kubectl, robot(), *side)
    assert {"+kind: Robot", "+  environment: default", "+  name: pc-01"} <= set(shown)
    assert not [line for line in shown if line.startswith("-")]
    assert kubectl("get", "robots", "-o", "name").out == ""


@SIDES
@NEWEST
def test_diff_ends_with_more_than_1_where_the_server_refuses(kubectl: Kubectl, side: tuple[str, ...]) -> None:
    ran = kubectl("diff", "-f", "-", *side, stdin=as_yaml(robot(maxConcurrentJobs=400)), code=None)
    assert ran.code > 1 and "must be at most 100" in ran.err


@SIDES
@NEWEST
def test_diff_works_on_a_built_in_kind(kubectl: Kubectl, side: tuple[str, ...]) -> None:
    kubectl.apply(configmap(a="1"), args=side)
    shown = diff(kubectl, configmap(a="2"), *side)
    assert '-  a: "1"' in shown and '+  a: "2"' in shown
