"""What kubectl deletes: at once or held by finalizers, with dependents or without, by selector, and whole namespaces."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..api.conftest import Api
from ..conftest import Server, until
from .conftest import NEWEST, Kubectl, as_yaml, robot

FLEET = "fleet.casare.net"
HOLD = "example.com/hold"


def create(kubectl: Kubectl, *documents: dict[str, Any]) -> None:
    kubectl("create", "-f", "-", stdin=as_yaml(*documents))


def names(kubectl: Kubectl, what: str = "robots") -> list[str]:
    return [line.rpartition("/")[2] for line in kubectl("get", what, "-o", "name").lines]


def held(name: str = "pc-01", finalizer: str = HOLD) -> dict[str, Any]:
    return robot(name) | {"metadata": {"name": name, "finalizers": [finalizer]}}


def let_go(kubectl: Kubectl, name: str = "pc-01") -> None:
    kubectl("patch", "robot", name, "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers/0"}]')


# -- which ones ------------------------------------------------------------------------------------------------------


def test_delete_takes_away_and_waits_until_it_is_gone(kubectl: Kubectl) -> None:
    create(kubectl, robot())
    assert kubectl("delete", "robot", "pc-01").out.startswith(f'robot.{FLEET} "pc-01" deleted')
    assert names(kubectl) == []


@NEWEST
def test_deleting_what_there_is_not_says_so_unless_told_to_ignore_it(kubectl: Kubectl) -> None:
    assert kubectl("delete", "robot", "no", code=1).err == f'Error from server (NotFound): robots.{FLEET} "no" not found\n'
    assert kubectl("delete", "robot", "no", "--ignore-not-found").out == ""


@pytest.mark.parametrize(
    ("how", "left"),
    [
        (("-l", "site=paris"), ["a"]), (("-l", "site in (paris,rome)"), ["a"]), (("--field-selector=metadata.name=a",), ["b", "c"]),
        (("--all",), []), (("a", "c"), ["b"]), (("a", "--now"), ["b", "c"]), (("a", "--grace-period=0", "--force"), ["b", "c"]),
        (("a", "--wait=false"), ["b", "c"]),
    ],
    ids=lambda value: " ".join(value) or "none",
)  # fmt: skip
@NEWEST
def test_delete_takes_those_it_was_told(kubectl: Kubectl, how: tuple[str, ...], left: list[str]) -> None:
    create(kubectl, *(robot(name) for name in "abc"))
    kubectl("label", "robot", "b", "c", "site=paris", "--overwrite")
    kubectl("delete", "robots", *how)
    assert names(kubectl) == left


@NEWEST
def test_delete_takes_what_is_in_a_file(kubectl: Kubectl, tmp_path: Path) -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    (tmp_path / "all.yaml").write_text(as_yaml(robot("a"), settings))
    kubectl("create", "-f", str(tmp_path / "all.yaml"))
    create(kubectl, robot("b"))
    kubectl("delete", "-f", str(tmp_path / "all.yaml"))
    assert names(kubectl) == ["b"] and names(kubectl, "configmaps") == []


# -- finalizers ------------------------------------------------------------------------------------------------------


def test_a_finalizer_keeps_a_deleted_object_until_it_is_taken_away(kubectl: Kubectl) -> None:
    create(kubectl, held())
    kubectl("delete", "robot", "pc-01", "--wait=false")
    meta = kubectl.get("robot", "pc-01")["metadata"]
    assert meta["deletionTimestamp"] and meta["deletionGracePeriodSeconds"] == 0 and meta["generation"] == 2
    let_go(kubectl)
    assert names(kubectl) == []


@NEWEST
def test_deleting_a_held_object_again_changes_nothing(kubectl: Kubectl) -> None:
    create(kubectl, held())
    kubectl("delete", "robot", "pc-01", "--wait=false")
    before = kubectl.get("robot", "pc-01")
    kubectl("delete", "robot", "pc-01", "--wait=false")
    assert kubectl.get("robot", "pc-01") == before
    let_go(kubectl)


@NEWEST
def test_a_deleted_object_gets_no_new_finalizer_and_does_not_come_back(kubectl: Kubectl) -> None:
    create(kubectl, held())
    kubectl("delete", "robot", "pc-01", "--wait=false")
    more = json.dumps({"metadata": {"finalizers": [HOLD, "example.com/more"]}})
    ran = kubectl("patch", "robot", "pc-01", "--type=merge", "-p", more, code=1)
    why = "no new finalizers can be added if the object is being deleted, found new finalizers"
    assert ran.err == f'The Robot "pc-01" is invalid: metadata.finalizers: Forbidden: {why} []string{{"example.com/more"}}\n'
    kubectl("patch", "robot", "pc-01", "--type=merge", "-p", '{"metadata":{"deletionTimestamp":null}}')
    assert kubectl.get("robot", "pc-01")["metadata"]["deletionTimestamp"]
    let_go(kubectl)


@pytest.mark.parametrize(
    "command", [("delete", "robot", "pc-01"), ("wait", "--for=delete", "robot/pc-01", "--timeout=60s")], ids=["delete", "wait"]
)
def test_whoever_waits_for_a_deletion_hears_of_its_end(kubectl: Kubectl, command: tuple[str, ...]) -> None:
    create(kubectl, held())
    kubectl("delete", "robot", "pc-01", "--wait=false")
    with kubectl.start(*command) as waiting:
        if command[0] == "delete":
            assert waiting.stdout is not None and waiting.stdout.readline().startswith(f'robot.{FLEET} "pc-01" deleted')
        let_go(kubectl)
        assert waiting.wait(30) == 0
        assert waiting.stderr is not None and waiting.stderr.read() == ""


@NEWEST
def test_a_wait_that_takes_too_long_ends_with_words(kubectl: Kubectl) -> None:
    create(kubectl, held())
    ran = kubectl("delete", "robot", "pc-01", "--timeout=300ms", code=1)
    assert "timed out waiting for the condition on robots/pc-01" in ran.err
    let_go(kubectl)


# -- owners and dependents -------------------------------------------------------------------------------------------


def owner_and_dependent(kubectl: Kubectl, **more: Any) -> None:
    """The robot pc-01, and a workflow and a configmap that belong to it."""
    create(kubectl, robot())
    reference = {"apiVersion": f"{FLEET}/v1", "kind": "Robot", "name": "pc-01", "blockOwnerDeletion": True}
    reference["uid"] = kubectl.get("robot", "pc-01")["metadata"]["uid"]
    meta = {"name": "its", "ownerReferences": [reference], **more}
    create(
        kubectl,
        {"apiVersion": f"{FLEET}/v1", "kind": "Workflow", "metadata": meta, "spec": {"runner": "command", "args": ["true"]}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**meta, "finalizers": []}},
    )


@NEWEST
def test_dependents_go_after_their_owner(kubectl: Kubectl) -> None:
    owner_and_dependent(kubectl)
    kubectl("delete", "robot", "pc-01")
    assert names(kubectl) == []
    kubectl("wait", "--for=delete", "workflow/its", "configmap/its", "--timeout=30s")
    assert names(kubectl, "workflows,configmaps") == []


@NEWEST
def test_a_foreground_deletion_ends_after_all_dependents(kubectl: Kubectl) -> None:
    owner_and_dependent(kubectl)
    kubectl("delete", "robot", "pc-01", "--cascade=foreground")
    assert names(kubectl, "robots,workflows,configmaps") == []


@NEWEST
def test_a_foreground_deletion_waits_for_a_dependent_that_is_held(kubectl: Kubectl) -> None:
    owner_and_dependent(kubectl, finalizers=[HOLD])
    kubectl("delete", "robot", "pc-01", "--cascade=foreground", "--wait=false")
    until(lambda: kubectl.get("workflow", "its")["metadata"].get("deletionTimestamp"), "the workflow is being deleted")
    assert kubectl.get("robot", "pc-01")["metadata"]["finalizers"] == ["foregroundDeletion"]
    kubectl("patch", "workflow", "its", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    kubectl("wait", "--for=delete", "robot/pc-01", "--timeout=30s")


@NEWEST
def test_orphans_stay_and_belong_to_nobody(kubectl: Kubectl) -> None:
    owner_and_dependent(kubectl)
    kubectl("delete", "robot", "pc-01", "--cascade=orphan")
    assert names(kubectl) == []
    assert "ownerReferences" not in kubectl.get("workflow", "its")["metadata"]
    assert "ownerReferences" not in kubectl.get("configmap", "its")["metadata"]


# -- over plain HTTP -------------------------------------------------------------------------------------------------


@contextmanager
def calling(server: Server, namespace: str) -> Iterator[Api]:
    api = Api(server, namespace)
    try:
        yield api
    finally:
        api.close()


@pytest.fixture
def api(wire: Server, namespace: str) -> Iterator[Api]:
    with calling(wire, namespace) as found:
        yield found


def test_a_collection_is_deleted_by_selector_and_answers_with_what_it_took(api: Api) -> None:
    for name in "abc":
        api.create("Robot", name, labels={"site": "berlin" if name == "a" else "paris"})
    gone = api.call("DELETE", api.path("Robot"), params={"labelSelector": "site=paris"}).json()
    assert gone["kind"] == "RobotList" and [each["metadata"]["name"] for each in gone["items"]] == ["b", "c"]
    assert api.names("Robot") == ["a"]


def test_a_deletion_tells_what_was_deleted(api: Api) -> None:
    uid = api.create("Robot", "a")["metadata"]["uid"]
    said = api.delete("Robot", "a", json={"propagationPolicy": "Background"}).json()
    assert said == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": "a", "group": FLEET, "kind": "robots", "uid": uid},
    }  # fmt: skip


def test_a_deletion_that_only_begins_answers_with_the_object(api: Api) -> None:
    api.create("Robot", "a", finalizers=[HOLD])
    said = api.delete("Robot", "a").json()
    assert said["kind"] == "Robot" and said["metadata"]["deletionTimestamp"]
    gone = api.changed("Robot", "a", {"metadata": {"finalizers": None}})
    assert gone["metadata"]["name"] == "a" and api.find("Robot", "a") is None


@pytest.mark.parametrize(("field", "said", "fate"), [
    ("UID", "01a2071b-0985-7910-9420-5d72ae45fef9", "deleted and then recreated"), ("ResourceVersion", "1", "modified"),
])  # fmt: skip
def test_a_precondition_that_does_not_hold_says_what_was_found(api: Api, field: str, said: str, fate: str) -> None:
    found = api.create("Robot", "a")["metadata"]
    key = {"UID": "uid", "ResourceVersion": "resourceVersion"}[field]
    status = api.delete("Robot", "a", json={"preconditions": {key: said}}).json()
    assert status["message"] == (
        f'Operation cannot be fulfilled on Robot.{FLEET} "a": the {field} in the precondition ({said}) does not match '
        f"the {field} in record ({found[key]}). The object might have been {fate}"
    )
    assert (status["code"], status["reason"]) == (409, "Conflict") and api.find("Robot", "a")


def test_preconditions_that_hold_let_it_go(api: Api) -> None:
    meta = api.create("Robot", "a")["metadata"]
    wanted = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    assert api.delete("Robot", "a", json={"preconditions": wanted}).status_code == 200 and api.find("Robot", "a") is None


# -- namespaces ------------------------------------------------------------------------------------------------------


@NEWEST
def test_a_namespace_goes_with_its_content_of_every_kind(kubectl: Kubectl) -> None:
    name = f"{kubectl.namespace}-whole"
    kubectl("create", "namespace", name)
    inside = dataclasses.replace(kubectl, namespace=name)
    create(inside, robot(), *CONTENT)
    inside("create", "secret", "generic", "login", "--from-literal=user=anna")
    inside("create", "configmap", "settings")
    assert kubectl("delete", "namespace", name).out == f'namespace "{name}" deleted\n'
    assert kubectl("get", "namespace", name, code=1).err == f'Error from server (NotFound): namespaces "{name}" not found\n'
    kubectl("create", "namespace", name)
    assert names(inside, "robots,workflows,schedules,jobs,secrets,configmaps,leases,events,apikeys") == []
    kubectl("delete", "namespace", name)


@NEWEST
def test_nothing_is_made_in_a_namespace_that_is_going_away(kubectl: Kubectl) -> None:
    name = f"{kubectl.namespace}-going"
    kubectl("create", "namespace", name)
    inside = dataclasses.replace(kubectl, namespace=name)
    create(inside, held())
    kubectl("delete", "namespace", name, "--wait=false")
    until(lambda: inside.get("robot", "pc-01")["metadata"].get("deletionTimestamp"), "the robot is being deleted")
    assert kubectl("get", "namespace", name, "-o", "jsonpath={.status.phase}").out == "Terminating"
    ran = inside("create", "-f", "-", stdin=as_yaml(robot("pc-02")), code=1)
    why = f"unable to create new content in namespace {name} because it is being terminated"
    assert ran.err == f'Error from server (Forbidden): error when creating "STDIN": robots.{FLEET} "pc-02" is forbidden: {why}\n'
    let_go(inside)


def test_the_refusal_of_a_namespace_going_away_has_its_cause(api: Api, wire: Server) -> None:
    name = f"{api.namespace}-cause"
    api.create("Namespace", name, {})
    with calling(wire, name) as inside:
        inside.create("Robot", "a", finalizers=[HOLD])
        api.delete("Namespace", name)
        status = inside.call("POST", inside.path("Workflow"), {"metadata": {"name": "w"}, "spec": {"runner": "command", "args": ["true"]}}).json()
        assert (status["code"], status["reason"]) == (403, "Forbidden")
        assert status["details"] == {"name": "w", "group": FLEET, "kind": "workflows", "causes": [
            {"reason": "NamespaceTerminating", "message": f"namespace {name} is being terminated", "field": "metadata.namespace"}]}  # fmt: skip
        inside.changed("Robot", "a", {"metadata": {"finalizers": None}})
    until(lambda: api.find("Namespace", name) is None, "the namespace goes once nothing holds its content")


@NEWEST
def test_the_default_namespace_stays(kubectl: Kubectl) -> None:
    ran = kubectl("delete", "namespace", "default", code=1)
    assert ran.err.endswith('(Forbidden): namespaces "default" is forbidden: this namespace may not be deleted\n')


_WORK = {"runner": "command", "args": ["true"]}
CONTENT: list[dict[str, Any]] = [
    {"apiVersion": f"{FLEET}/v1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": _WORK},
    {"apiVersion": f"{FLEET}/v1", "kind": "Schedule", "metadata": {"name": "s"},
     "spec": {"cron": "0 3 * * *", "jobTemplate": {"spec": {"workflow": _WORK}}}},
    {"apiVersion": f"{FLEET}/v1", "kind": "Job", "metadata": {"name": "j"},
     "spec": {"workflow": {**_WORK, "requirements": {"tags": ["nobody-has-this"]}}}},
    {"apiVersion": f"{FLEET}/v1", "kind": "ApiKey", "metadata": {"name": "k"}, "spec": {"role": "viewer"}},
    {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}},
    {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"kind": "Robot", "name": "pc-01"},
     "reason": "Online", "message": "hello"},
]  # fmt: skip
