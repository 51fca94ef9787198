"""kr8s, in both of its forms: it finds our kinds by discovery and treats them as its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import kr8s
import kr8s.asyncio
import pytest
from kr8s.asyncio.objects import new_class as new_async_class
from kr8s.objects import ConfigMap, Namespace, Secret, new_class, object_from_spec, objects_from_files

from ..conftest import Server, until
from .conftest import as_yaml, kubeconfig, robot

# It warns of servers whose version it was not made for: that is an error here.
pytestmark = [pytest.mark.filterwarnings("error::UserWarning"), pytest.mark.filterwarnings("error::DeprecationWarning")]
ROBOT = "fleet.casare.net/v1"


@pytest.fixture
def config(wire: Server, namespace: str, tmp_path: Path) -> str:
    (tmp_path / "kubeconfig").write_text(kubeconfig(wire, wire.admin_key, namespace))
    return str(tmp_path / "kubeconfig")


@pytest.fixture
def api(config: str) -> Any:
    """The synchronous API in the namespace of this test."""
    return kr8s.api(kubeconfig=config)


@pytest.fixture
def make(api: Any) -> Callable[..., Any]:
    """Makes robots."""
    kind = new_class("Robot", ROBOT, namespaced=True)

    def made(name: str = "pc-01", **spec: Any) -> Any:
        found = kind(robot(name, **spec), api=api)
        found.create()
        return found

    return made


def names(found: Any) -> list[str]:
    return [each.name for each in found]


def test_it_knows_the_version_and_warns_of_nothing(api: Any) -> None:
    assert api.version()["major"] == "1"


@pytest.mark.parametrize("word", ["robots", "robot", "Robot", "rb", "robots.fleet.casare.net", "Robot.v1.fleet.casare.net"])
def test_it_finds_our_kinds_by_every_name(api: Any, make: Callable[..., Any], word: str) -> None:
    make("pc-01")
    assert names(api.get(word)) == ["pc-01"]


def test_it_lists_the_resources_of_all_groups(api: Any) -> None:
    found = {(each["version"], each["kind"]) for each in api.api_resources()}
    assert {(ROBOT, "Robot"), ("v1", "Namespace"), ("coordination.k8s.io/v1", "Lease")} <= found


def test_an_object_is_created_read_and_refreshed(make: Callable[..., Any], api: Any) -> None:
    made = make(maxConcurrentJobs=3)
    assert made.exists() and made.metadata.uid
    (found,) = api.get("robots", "pc-01")
    assert found.spec.maxConcurrentJobs == 3 and found == made
    made.patch({"spec": {"maxConcurrentJobs": 7}})
    found.refresh()
    assert found.spec.maxConcurrentJobs == 7


def test_objects_are_listed_by_selectors(make: Callable[..., Any], api: Any) -> None:
    make("pc-01")
    make("pc-02").label({"site": "paris"})
    assert names(api.get("robots")) == ["pc-01", "pc-02"]
    assert names(api.get("robots", label_selector={"site": "paris"})) == ["pc-02"]
    assert names(api.get("robots", field_selector="metadata.name=pc-01")) == ["pc-01"]


def test_objects_of_all_namespaces_are_listed_together(make: Callable[..., Any], api: Any, namespace: str) -> None:
    make("pc-01")
    found = api.get("robots", namespace=kr8s.ALL)
    assert (namespace, "pc-01") in [(each.namespace, each.name) for each in found]


def test_an_object_is_patched_both_ways(make: Callable[..., Any]) -> None:
    made = make()
    made.patch({"spec": {"maxConcurrentJobs": 4}})
    made.patch([{"op": "replace", "path": "/spec/tags", "value": ["sap"]}], type="json")
    assert (made.spec.maxConcurrentJobs, made.spec.tags) == (4, ["sap"])


def test_labels_and_annotations_come_and_go(make: Callable[..., Any]) -> None:
    made = make()
    made.label(floor="2")
    made.annotate({"casare.example/why": "because"})
    assert made.labels == {"site": "berlin", "floor": "2"} and made.annotations == {"casare.example/why": "because"}
    made.label("floor-")
    assert made.labels == {"site": "berlin"}


def test_a_status_is_patched_apart(make: Callable[..., Any]) -> None:
    made = make()
    made.patch({"status": {"agent": {"version": "9"}}, "spec": {"maxConcurrentJobs": 9}}, subresource="status")
    assert made.status.agent.version == "9" and made.spec.maxConcurrentJobs == 2


def test_it_waits_for_a_condition(make: Callable[..., Any]) -> None:
    made = make()
    oiled = {"type": "Oiled", "status": "True", "reason": "Done", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    elsewhere(made, {"status": {"conditions": [oiled]}}, "status", lambda: made.wait("condition=Oiled", timeout=20))
    assert "Oiled" in [condition.type for condition in made.status.conditions]


def test_it_waits_for_a_value(make: Callable[..., Any]) -> None:
    made = make()
    change = {"spec": {"desiredState": "Paused"}}
    elsewhere(made, change, None, lambda: made.wait("jsonpath='{.spec.desiredState}'=Paused", timeout=20))
    assert made.spec.desiredState == "Paused"


def elsewhere(made: Any, change: Any, subresource: str | None, wait: Callable[[], Any]) -> None:
    """Waits, after somebody else changed the object behind this one's back."""
    new_class("Robot", ROBOT)({**robot(made.name)}, namespace=made.namespace, api=made.api).patch(change, subresource=subresource)
    wait()


def test_it_waits_for_a_deletion(make: Callable[..., Any]) -> None:
    made = make()
    made.delete()
    made.wait("delete", timeout=20)
    assert not made.exists()


def test_a_deletion_of_what_is_not_there_is_not_found(make: Callable[..., Any]) -> None:
    made = make()
    made.delete()
    with pytest.raises(kr8s.NotFoundError):
        made.delete()


def test_a_refusal_carries_the_message(make: Callable[..., Any]) -> None:
    with pytest.raises(kr8s.ServerError, match='Unsupported value: "sleepy"'):
        make(desiredState="sleepy")


def test_it_watches(make: Callable[..., Any], api: Any) -> None:
    make("pc-01")
    seen = []
    for type_, found in api.watch("robots"):
        seen.append((type_, found.name))
        if seen == [("ADDED", "pc-01")]:
            make("pc-02")
        elif seen[-1] == ("ADDED", "pc-02"):
            found.delete()
        elif type_ == "DELETED":
            break
    assert seen == [("ADDED", "pc-01"), ("ADDED", "pc-02"), ("DELETED", "pc-02")]


def test_an_owner_adopts_and_its_deletion_takes_what_it_owns(make: Callable[..., Any]) -> None:
    owner, owned = make("pc-01"), make("pc-02")
    owned.set_owner(owner)
    assert owned.metadata.ownerReferences[0].uid == owner.metadata.uid
    owner.delete(propagation_policy="Background")
    until(lambda: not owned.exists(), "what it owned is gone")


def test_manifests_are_read_from_files(api: Any, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(as_yaml(robot("pc-01"), robot("pc-02")))
    for each in objects_from_files(tmp_path / "fleet.yaml", api=api):
        each.create()
    assert names(api.get("robots")) == ["pc-01", "pc-02"]


def test_the_core_kinds_are_its_own_classes(api: Any, namespace: str) -> None:
    made: Any = object_from_spec({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}, api=api)
    made.create()
    assert isinstance(made, ConfigMap) and ConfigMap.get("c", namespace=namespace, api=api).data == {"a": "b"}
    hidden: Any = Secret({"metadata": {"name": "s"}, "data": {"pin": "MTIzNA=="}}, api=api)
    hidden.create()
    assert Secret.get("s", namespace=namespace, api=api).data.pin == "MTIzNA=="
    found: Any = Namespace.get(namespace, api=api)
    assert found.status.phase == "Active"


# -- the same asynchronously -------------------------------------------------------------------------------------


def run(config: str, work: Callable[[Any, Any], Awaitable[None]]) -> None:
    """Runs work with the asynchronous API and its class of robots."""

    async def all_of_it() -> None:
        await work(await kr8s.asyncio.api(kubeconfig=config), new_async_class("Robot", ROBOT, namespaced=True))

    asyncio.run(all_of_it())


def test_asynchronously_an_object_lives_and_dies(config: str) -> None:
    async def work(api: Any, kind: Any) -> None:
        made = await kind(robot("pc-01"), api=api)
        await made.create()
        await made.label(floor="2")
        await made.patch({"spec": {"maxConcurrentJobs": 4}})
        (found,) = [each async for each in api.get("robots", "pc-01")]
        assert (found.labels.floor, found.spec.maxConcurrentJobs) == ("2", 4)
        await found.delete()
        await found.wait("delete", timeout=20)
        assert not await made.exists()

    run(config, work)


def test_asynchronously_a_wait_sees_what_is_changed_meanwhile(config: str) -> None:
    async def work(api: Any, kind: Any) -> None:
        made = await kind(robot("pc-01"), api=api)
        await made.create()
        other = await kind.get("pc-01", api=api)
        waiting = asyncio.create_task(made.wait("jsonpath='{.spec.desiredState}'=Drained", timeout=20))
        for state in ("Paused", "Drained"):
            await other.patch({"spec": {"desiredState": state}})
        await waiting
        assert made.spec.desiredState == "Drained"

    run(config, work)


def test_asynchronously_it_watches(config: str) -> None:
    async def work(api: Any, kind: Any) -> None:
        await (await kind(robot("pc-01"), api=api)).create()
        seen = []
        async for type_, found in api.watch("robots"):
            seen.append(type_)
            if type_ == "ADDED":
                await found.annotate({"seen": "yes"})
            elif type_ == "MODIFIED":
                assert found.annotations == {"seen": "yes"}
                await found.delete()
            else:
                break
        assert seen == ["ADDED", "MODIFIED", "DELETED"]

    run(config, work)
