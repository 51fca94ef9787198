"""What hangs on an object that is deleted goes first, later or not at all, as the deletion says."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from casare_api.decisions import deletion
from casare_api.kinds import KINDS, Kind, Object
from casare_api.machinery.errors import ApiError
from casare_controller.duties.deletions import Deletions
from casare_controller.duties.garbage import Garbage
from casare_store import admission, objects, reads
from casare_store.operations import Operation
from casare_store.sealing import Sealer
from casare_store.store import Store

from ..store.conftest import with_store

__all__ = ["with_store"]
CONFIGMAP, SECRET, NAMESPACE, JOB = KINDS["ConfigMap"], KINDS["Secret"], KINDS["Namespace"], KINDS["Job"]
HOLD = "example.com/hold"


def owner(of: Object, blocks: bool = False) -> Object:
    meta = of["metadata"]
    ref = {"apiVersion": of["apiVersion"], "kind": of["kind"], "name": meta["name"], "uid": meta["uid"]}
    return ref | ({"blockOwnerDeletion": True} if blocks else {})


async def make(
    store: Store, name: str, *owners: Object, kind: Kind = CONFIGMAP, namespace: str = "default", finalizers: tuple[str, ...] = (), **obj: Any
) -> Object:
    meta: Object = {"name": name, **({"namespace": namespace} if kind.namespaced else {})}
    meta |= {"ownerReferences": list(owners)} if owners else {}
    meta |= {"finalizers": list(finalizers)} if finalizers else {}
    made = await store.writer.write(
        admission.create(kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **obj})
    )
    assert made is not None
    return made


async def delete(store: Store, name: str, policy: deletion.Propagation | None, kind: Kind = CONFIGMAP) -> Object | None:
    return await store.writer.write(admission.remove(kind, "default", name, propagation=policy))


async def change(store: Store, name: str, **meta: Any) -> None:
    """Other metadata of a ConfigMap, as a person would write it."""
    await store.writer.write(
        admission.update(CONFIGMAP, "default", name, lambda old, context: {**old, "metadata": {**old["metadata"], **meta}})
    )


async def there(store: Store, kind: Kind = CONFIGMAP) -> dict[str, Object]:
    page = await reads.read(store.pool, reads.Query(kind))
    return {one["metadata"]["name"]: one for one in orjson.loads(b"[" + b",".join(page.chunks) + b"]")}


async def run(store: Store) -> int:
    return (await Deletions(store).run_once())["deletions"]


async def waits(store: Store) -> int:
    async with store.pool.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM deletions")
        found = await cursor.fetchone()
    return int(found[0]) if found else -1


def test_in_the_foreground_dependents_go_first(with_store: Any) -> None:
    async def body(store: Store) -> None:
        root = await make(store, "root")
        await make(store, "child", owner(root, blocks=True))
        await make(store, "job", owner(root), kind=JOB, spec={"workflow": {"runner": "command", "args": ["true"]}})
        await make(store, "stranger")
        marked = await delete(store, "root", "Foreground")
        assert marked is not None and marked["metadata"]["finalizers"] == [deletion.FOREGROUND] and objects.is_held(marked)
        assert marked["metadata"]["generation"] == root["metadata"]["generation"] + 1
        assert sorted(await there(store)) == ["child", "root", "stranger"], "nothing goes before the duty runs"
        assert await run(store) == 3
        assert sorted(await there(store)) == ["stranger"] and not await there(store, JOB)
        assert await waits(store) == 0 and await run(store) == 0

    with_store(body)


def test_an_owner_waits_for_those_that_block_it_and_for_no_others(with_store: Any) -> None:
    async def body(store: Store) -> None:
        for name, blocks in (("waiting", True), ("free", False)):
            root = await make(store, name)
            await make(store, f"{name}-child", owner(root, blocks), finalizers=(HOLD,))
            await delete(store, name, "Foreground")
        await run(store)
        left = await there(store)
        assert sorted(left) == ["free-child", "waiting", "waiting-child"]
        assert all(objects.is_held(one) for one in left.values())
        await change(store, "waiting-child", finalizers=[])
        await run(store)
        assert sorted(await there(store)) == ["free-child"]

    with_store(body)


def test_dependents_of_dependents_go_first_too(with_store: Any) -> None:
    async def body(store: Store) -> None:
        above = await make(store, "a")
        for name in "bcd":
            above = await make(store, name, owner(above, blocks=True), finalizers=(HOLD,) if name == "d" else ())
        await delete(store, "a", "Foreground")
        await run(store)
        left = await there(store)
        assert sorted(left) == list("abcd") and all(objects.is_held(one) for one in left.values())
        await change(store, "d", finalizers=[])
        await run(store)
        assert await there(store) == {} and await waits(store) == 0

    with_store(body)


def test_what_has_another_owner_stays_without_this_one(with_store: Any) -> None:
    async def body(store: Store) -> None:
        first, second = await make(store, "first"), await make(store, "second")
        await make(store, "child", owner(first, blocks=True), owner(second))
        await delete(store, "first", "Foreground")
        await run(store)
        left = await there(store)
        assert sorted(left) == ["child", "second"]
        assert left["child"]["metadata"]["ownerReferences"] == [owner(second)]
        await delete(store, "second", "Foreground")
        await run(store)
        assert await there(store) == {}

    with_store(body)


def test_two_owners_that_go_together_take_their_dependent_along(with_store: Any) -> None:
    async def body(store: Store) -> None:
        first, second = await make(store, "first"), await make(store, "second")
        await make(store, "child", owner(first, blocks=True), owner(second, blocks=True))
        for name in ("first", "second"):
            await delete(store, name, "Foreground")
        await run(store)
        assert await there(store) == {}

    with_store(body)


def test_orphans_are_let_go_before_their_owner_goes(with_store: Any) -> None:
    async def body(store: Store) -> None:
        root, other = await make(store, "root"), await make(store, "other")
        await make(store, "child", owner(root, blocks=True))
        await make(store, "shared", owner(root), owner(other))
        marked = await delete(store, "root", "Orphan")
        assert marked is not None and marked["metadata"]["finalizers"] == [deletion.ORPHAN]
        await run(store)
        await Garbage(store).run_once()
        left = await there(store)
        assert sorted(left) == ["child", "other", "shared"]
        assert "ownerReferences" not in left["child"]["metadata"]
        assert left["shared"]["metadata"]["ownerReferences"] == [owner(other)]

    with_store(body)


def test_more_dependents_than_a_batch_takes(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from casare_controller.duties import deletions

    monkeypatch.setattr(deletions, "PER_BATCH", 3)

    async def body(store: Store) -> None:
        roots = [await make(store, f"root-{n}") for n in range(4)]
        for number in range(20):
            of = roots[number % 4]
            await make(store, f"child-{number}", owner(of, blocks=True), finalizers=(HOLD,) if number < 10 else ())
        for number, policy in enumerate(("Foreground", "Orphan", "Foreground", "Orphan")):
            await delete(store, f"root-{number}", policy)  # type: ignore[arg-type]
        await run(store)
        left = await there(store)
        assert [name for name in left if name.startswith("root")] == ["root-0", "root-2"], "those with held dependents"
        held = [n for n in range(20) if n % 2 == 0 and n < 10]
        let_go = [n for n in range(20) if n % 2]
        assert {name for name in left if name.startswith("child")} == {f"child-{n}" for n in held + let_go}
        for number in held:
            await change(store, f"child-{number}", finalizers=[])
        await run(store)
        assert sorted(await there(store)) == sorted(f"child-{n}" for n in let_go)

    with_store(body)


def test_those_that_own_each_other_do_not_wait_for_ever(with_store: Any) -> None:
    async def body(store: Store) -> None:
        first = await make(store, "first")
        second = await make(store, "second", owner(first, blocks=True))
        third = await make(store, "third", owner(second, blocks=True))
        await change(store, "first", ownerReferences=[owner(third, blocks=True), owner(first, blocks=True)])
        await delete(store, "first", "Foreground")
        await run(store)
        assert await there(store) == {} and await waits(store) == 0

    with_store(body)


def test_another_policy_takes_the_place_of_the_first(with_store: Any) -> None:
    async def body(store: Store) -> None:
        root = await make(store, "root")
        await make(store, "child", owner(root, blocks=True), finalizers=(HOLD,))
        await delete(store, "root", "Foreground")
        again = await delete(store, "root", None)
        assert again is not None and again["metadata"]["finalizers"] == [deletion.FOREGROUND], "as it was said before"
        changed = await delete(store, "root", "Orphan")
        assert changed is not None and changed["metadata"]["finalizers"] == [deletion.ORPHAN]
        await delete(store, "root", "Background")
        assert sorted(await there(store)) == ["child"]
        await run(store)
        assert await waits(store) == 0
        await Garbage(store).run_once()
        assert objects.is_held((await there(store))["child"]), "in the background it is deleted, and its finalizer holds it"

    with_store(body)


def test_a_finalizer_of_somebody_elses_holds_an_owner_whose_dependents_are_gone(with_store: Any) -> None:
    async def body(store: Store) -> None:
        root = await make(store, "root", finalizers=(HOLD,))
        await make(store, "child", owner(root))
        await delete(store, "root", "Foreground")
        await run(store)
        left = await there(store)
        assert sorted(left) == ["root"] and left["root"]["metadata"]["finalizers"] == [HOLD]
        assert await waits(store) == 0
        await change(store, "root", finalizers=[])
        assert await there(store) == {}

    with_store(body)


def test_a_dry_run_of_a_deletion_changes_nothing(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await make(store, "root")
        shown = await store.writer.write(admission.remove(CONFIGMAP, "default", "root", dry_run=True, propagation="Foreground"))
        assert shown is not None and objects.is_held(shown)
        assert await waits(store) == 0 and not objects.is_held((await there(store))["root"])

    with_store(body)


def test_a_secret_is_let_go_and_deleted_by_who_can_not_open_it(database: str) -> None:
    import asyncio

    async def main() -> None:
        apiserver = await Store.open(database, sealer=Sealer.from_text("k" * 32))
        controller = await Store.open(database)
        try:
            await apiserver.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "default"}}))
            for policy in ("Orphan", "Foreground"):
                root = await make(apiserver, policy.lower())
                await make(apiserver, f"s-{policy.lower()}", owner(root, blocks=True), kind=SECRET, stringData={"password": "hunter2"})
                await delete(apiserver, policy.lower(), policy)
            await run(controller)
            left = await there(apiserver, SECRET)
            assert list(left) == ["s-orphan"] and "ownerReferences" not in left["s-orphan"]["metadata"]
            assert apiserver.sealer is not None
            assert apiserver.sealer.open(left["s-orphan"])["data"] == {"password": "aHVudGVyMg=="}
        finally:
            await controller.close()
            await apiserver.close()

    asyncio.run(main())


# -- namespaces ---------------------------------------------------------------------------------------------------------


def test_a_namespace_names_itself_and_what_it_waits_for(with_store: Any) -> None:
    async def body(store: Store) -> None:
        made = await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "team", "labels": {"a": "b"}}}))
        assert made is not None
        assert made["metadata"]["labels"] == {"a": "b", "kubernetes.io/metadata.name": "team"}
        assert made["spec"] == {"finalizers": ["kubernetes"]} and made["status"] == {"phase": "Active"}

        def strip(current: Object, context: Any) -> Object:
            return {**current, "metadata": {"name": "team"}, "spec": {"finalizers": []}}

        stripped = await store.writer.write(admission.update(NAMESPACE, "", "team", strip))
        assert stripped is not None and stripped["spec"] == made["spec"]
        assert stripped["metadata"]["labels"] == {"kubernetes.io/metadata.name": "team"}

        def going(current: Object, context: Any) -> Object:
            return {**current, "status": {"phase": "Terminating"}}

        same = await store.writer.write(admission.update(NAMESPACE, "", "team", going, status=True))
        assert same is not None and same["status"] == {"phase": "Active"}, "only a DELETE empties a namespace"

    with_store(body)


def test_a_namespace_goes_with_every_kind_in_it(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "team"}}))
        for kind in (CONFIGMAP, KINDS["Lease"]):
            obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "x", "namespace": "team"}}
            await store.writer.write(admission.create(kind, obj))
        held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "namespace": "team", "finalizers": [HOLD]}}
        await store.writer.write(admission.create(CONFIGMAP, held))
        marked = await store.writer.write(admission.remove(NAMESPACE, "", "team", propagation="Foreground"))
        assert marked is not None and marked["status"] == {"phase": "Terminating"} and objects.is_held(marked)
        assert "finalizers" not in marked["metadata"] and marked["spec"] == {"finalizers": ["kubernetes"]}
        with pytest.raises(ApiError) as caught:
            await store.writer.write(admission.create(CONFIGMAP, {**held, "metadata": {"name": "late", "namespace": "team"}}))
        assert caught.value.status == 403 and caught.value.reason == "Forbidden"
        assert caught.value.message == (
            'configmaps "late" is forbidden: unable to create new content in namespace team because it is being terminated'
        )
        (cause,) = caught.value.causes
        assert (cause.reason, cause.field) == ("NamespaceTerminating", "metadata.namespace")
        await Garbage(store).run_once()
        assert sorted(await there(store, NAMESPACE)) == ["default", "team"] and sorted(await there(store)) == ["held"]
        release = admission.update(CONFIGMAP, "team", "held", lambda old, context: {**old, "metadata": {**old["metadata"], "finalizers": []}})
        await store.writer.write(release)
        await Garbage(store).run_once()
        assert sorted(await there(store, NAMESPACE)) == ["default"]

    with_store(body)


def test_a_namespace_that_an_older_release_is_deleting_goes_as_well(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "old"}}))

        def as_before(current: Object | None, context: Any) -> Object:
            assert current is not None
            meta = {**current["metadata"], "finalizers": [admission.CONTENT], "deletionTimestamp": "2026-01-01T00:00:00Z"}
            return {**{key: value for key, value in current.items() if key != "spec"}, "metadata": meta, "status": {"phase": "Terminating"}}

        await store.writer.write(Operation(NAMESPACE, "", "old", as_before))
        await Garbage(store).run_once()
        assert sorted(await there(store, NAMESPACE)) == ["default"]

    with_store(body)


def test_dependents_go_with_the_next_look_after_their_owner(with_store: Any) -> None:
    async def body(store: Store) -> None:
        duty = Deletions(store)
        await duty.run_once()
        parent = await make(store, "owner")
        child = await make(store, "child", owner(parent))
        await make(store, "grandchild", owner(child))
        other = await make(store, "other")
        await make(store, "shared", owner(parent), owner(other))
        await make(store, "held", owner(parent), finalizers=(HOLD,))
        await delete(store, "owner", "Background")
        assert await duty.run_once() == {"deletions": 3}
        left = await there(store)
        assert left.keys() == {"other", "shared", "held"} and left["held"]["metadata"]["deletionTimestamp"]
        assert await duty.run_once() == {"deletions": 0}

    with_store(body)
