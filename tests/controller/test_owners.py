"""Whom can an object belong to? To what is in its own namespace, or in none; all other references are to nobody."""

from __future__ import annotations

from typing import Any

import pytest

from casare_api.decisions.deletion import Propagation
from casare_api.kinds import KINDS
from casare_controller.duties import garbage
from casare_controller.duties.deletions import Deletions
from casare_controller.duties.garbage import Garbage
from casare_store import admission, objects
from casare_store.store import Store

from ..store.conftest import with_store
from .test_deletion_policies import HOLD, NAMESPACE, change, delete, make, owner, run, there, waits

__all__ = ["with_store"]
POLICIES = pytest.mark.parametrize("policy", ["Foreground", "Background", "Orphan"])


async def collect(store: Store) -> None:
    await Garbage(store).run_once()


async def remove_namespace(store: Store, name: str) -> None:
    await store.writer.write(admission.remove(NAMESPACE, "", name))
    await collect(store)


@POLICIES
def test_nobody_waits_for_a_dependent_in_another_namespace_or_takes_it_along(with_store: Any, policy: Propagation) -> None:
    async def body(store: Store) -> None:
        await make(store, "b", kind=NAMESPACE)
        duty = Deletions(store)
        await duty.run_once()
        root = await make(store, "root")
        own = await make(store, "own", namespace="b")
        foreign = await make(store, "foreign", owner(root, blocks=True), owner(own), namespace="b", finalizers=(HOLD,))
        intruder = await make(store, "intruder", owner(root, blocks=True), namespace="b", finalizers=(HOLD,))
        await delete(store, "root", policy)
        await duty.run_once()
        left = await there(store)
        assert "root" not in left and await waits(store) == 0
        assert left["foreign"] == foreign and left["intruder"] == intruder

    with_store(body)


@POLICIES
def test_a_dependent_in_the_same_namespace_is_treated_as_the_deletion_says(with_store: Any, policy: Propagation) -> None:
    async def body(store: Store) -> None:
        await make(store, "b", kind=NAMESPACE)
        duty = Deletions(store)
        await duty.run_once()
        root = await make(store, "root")
        await make(store, "child", owner(root, blocks=True))
        await make(store, "foreign", owner(root, blocks=True), namespace="b")
        await delete(store, "root", policy)
        await duty.run_once()
        left = await there(store)
        assert sorted(left) == (["child", "foreign"] if policy == "Orphan" else ["foreign"])
        assert "ownerReferences" not in left.get("child", {"metadata": {}})["metadata"]

    with_store(body)


def test_what_belongs_to_nobody_but_objects_of_another_namespace_is_collected(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await make(store, "b", kind=NAMESPACE)
        root = await make(store, "root")
        await make(store, "child", owner(root))
        await make(store, "foreign", owner(root), namespace="b")
        own = await make(store, "own", namespace="b")
        await make(store, "shared", owner(root), owner(own), namespace="b")
        await collect(store)
        assert sorted(await there(store)) == ["child", "own", "root", "shared"]

    with_store(body)


def test_an_owner_in_another_namespace_keeps_nothing_from_going(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await make(store, "b", kind=NAMESPACE)
        elsewhere = await make(store, "elsewhere", namespace="b")
        duty = Deletions(store)
        await duty.run_once()
        for name, policy in (("first", "Foreground"), ("second", "Background")):
            root = await make(store, name)
            await make(store, f"{name}-child", owner(root, blocks=True), owner(elsewhere))
            await delete(store, name, policy)  # type: ignore[arg-type]
        await duty.run_once()
        assert sorted(await there(store)) == ["elsewhere"]

    with_store(body)


def test_an_owner_is_not_let_go_because_of_a_circle_through_another_namespace(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await make(store, "b", kind=NAMESPACE)
        root = await make(store, "root")
        child = await make(store, "child", owner(root, blocks=True), finalizers=(HOLD,))
        foreign = await make(store, "foreign", owner(child), namespace="b", finalizers=(HOLD,))
        await make(store, "its", owner(foreign, blocks=True), namespace="b", finalizers=(HOLD,))
        await change(store, "root", ownerReferences=[owner(foreign)])
        for name in ("root", "child"):
            await delete(store, name, "Foreground")
        await store.writer.write(admission.remove(KINDS["ConfigMap"], "b", "foreign", propagation="Foreground"))
        await run(store)
        assert objects.is_held((await there(store))["root"])
        await change(store, "child", finalizers=[])
        await run(store)
        assert sorted(await there(store)) == ["foreign", "its"]

    with_store(body)


@pytest.mark.parametrize("duty", [Deletions, Garbage])
def test_what_belongs_to_a_namespace_goes_after_it(with_store: Any, duty: Any) -> None:
    async def body(store: Store) -> None:
        team = await make(store, "team", kind=NAMESPACE)
        looking = duty(store)
        await make(store, "dependent", owner(team, blocks=True))
        await make(store, "below", owner(team), kind=NAMESPACE)
        await looking.run_once()
        assert sorted(await there(store)) == ["dependent"] and "below" in await there(store, NAMESPACE)
        await store.writer.write(admission.remove(NAMESPACE, "", "team"))
        await store.writer.write(admission.emptied("team"))
        await looking.run_once()
        assert await there(store) == {}
        below = (await there(store, NAMESPACE)).get("below")
        assert below is None or objects.is_held(below), "it is emptied first"

    with_store(body)


@POLICIES
def test_a_namespace_belongs_to_nothing_that_is_in_one(with_store: Any, policy: Propagation) -> None:
    async def body(store: Store) -> None:
        duty = Deletions(store)
        await duty.run_once()
        root = await make(store, "root")
        team = await make(store, "team", owner(root, blocks=True), kind=NAMESPACE)
        above = await make(store, "above", kind=NAMESPACE)
        both = await make(store, "both", owner(root, blocks=True), owner(above), kind=NAMESPACE)
        await collect(store)
        await delete(store, "root", policy)
        await duty.run_once()
        await remove_namespace(store, "above")
        await duty.run_once()
        await collect(store)
        assert await there(store) == {}
        left = await there(store, NAMESPACE)
        assert left["team"] == team and left["both"] == both, "nobody can tell which object is meant: they stay"
        assert "above" not in left

    with_store(body)


def test_orphans_that_are_held_do_not_keep_a_new_one_from_being_found(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "PER_RUN", 3)

    async def body(store: Store) -> None:
        root = await make(store, "root")
        kept = {f"held-{number}" for number in range(7)}
        for name in sorted(kept):
            await make(store, name, owner(root), finalizers=(HOLD,))
        await delete(store, "root", "Background")
        for _ in range(3):
            await collect(store)
        left = await there(store)
        assert left.keys() == kept and all(objects.is_held(one) for one in left.values())
        await make(store, "late", owner(root), data={"deletionTimestamp": "a text like any other"})
        await collect(store)
        assert (await there(store)).keys() == kept

    with_store(body)
