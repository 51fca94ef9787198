"""Secrets come under another key: what they hold stays, nobody who watches sees it, and nothing is lost on the way."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import psycopg
import pytest

from casare_api.decisions.auditing import Caller
from casare_api.kinds import KINDS, Object
from casare_api.machinery.errors import ApiError
from casare_store import admission, auditing, batch, past, queries, reads, resealing
from casare_store.auditing import CALLER
from casare_store.batch import OutcomeUnknown
from casare_store.connection import connect_for_batches, snapshot
from casare_store.resealing import Broken, Envelope, Place, Server, Step
from casare_store.sealing import Sealer
from casare_store.store import Store

from ..history import somebody_waits
from .conftest import run

SECRET, NAMESPACE = KINDS["Secret"], KINDS["Namespace"]
TEXTS = [f"{number} is a text that only apiservers know" for number in range(3)]
OLD, NEW = Sealer.from_text(TEXTS[0], [TEXTS[1]]), Sealer.from_text(TEXTS[1], [TEXTS[0]])
NEW_ALONE, THIRD = Sealer.from_text(TEXTS[1]), Sealer.from_text(TEXTS[2])
Body = Callable[[Store], Awaitable[None]]


def secret(name: str, value: str = "hunter2") -> Object:
    meta = {"name": name, "namespace": "default", "annotations": {"a": value}}
    data = {"password": base64.b64encode(value.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": data}


async def create(store: Store, *names: str) -> None:
    for name in names:
        await store.writer.write(admission.create(SECRET, secret(name)))


async def three(store: Store) -> None:
    """A Secret that was changed, one that was not, and one that is gone."""
    await create(store, "a", "b", "gone")
    await store.writer.write(labelled("a", x="y"))
    await store.writer.write(admission.remove(SECRET, "default", "gone"))


def labelled(name: str, **labels: str) -> Any:
    return admission.update(
        SECRET, "default", name, lambda old, context: {**old, "metadata": {**old["metadata"], "labels": labels}}
    )


async def walk(store: Store, sealer: Sealer, *, writes: bool = True) -> dict[str, Step]:
    """All steps, summed up by part."""
    found = {"secrets": Step("secrets"), "log": Step("log")}
    place: Place | None = Place()
    while place is not None:
        one = await resealing.step(store, sealer, Place.parse(str(place)), writes=writes)
        whole = found[one.part]
        found[one.part] = Step(one.part, whole.found + one.found, whole.resealed + one.resealed, whole.broken + one.broken)
        place = one.next
    return found


async def texts(store: Store) -> tuple[dict[str, Object], dict[int, Object]]:
    """The stored objects: rows by name, entries of the log by revision."""
    async with store.pool.connection() as connection:
        rows = await (await connection.execute("SELECT name, head || tail FROM secrets")).fetchall()
        log = await (await connection.execute("SELECT rv, object FROM changes WHERE kind = 'Secret'")).fetchall()
    return {name: orjson.loads(text) for name, text in rows}, {rv: orjson.loads(text) for rv, text in log}


def test_after_it_the_old_key_is_needed_for_nothing(database: str) -> None:
    before: list[Any] = []

    async def remember(store: Store) -> None:
        await three(store)
        before.extend(await texts(store))
        before.append(await store.head())

    async def reseal(store: Store) -> None:
        done = await walk(store, NEW)
        assert done["secrets"].resealed == 2 and done["secrets"].found == {NEW.key_id: 2}
        assert done["log"].resealed == 5 and done["log"].found == {NEW.key_id: 5}
        assert (await store.head()).rv == before[2].rv, "no version was made"

    async def look(store: Store) -> None:
        rows, log = await texts(store)
        for old, new in ((before[0], rows), (before[1], log)):
            assert new.keys() == old.keys() and len(new) in (2, 5)
            for key, obj in new.items():
                assert NEW_ALONE.open(obj) == OLD.open(old[key]), "what it holds and which version it has stays"
                assert list(obj) == list(old[key]) and {**obj, "sealed": ""} == {**old[key], "sealed": ""}
        assert (await walk(store, NEW_ALONE))["log"].resealed == 0
        await store.writer.write(labelled("b", z="z"))
        with psycopg.connect(database) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            everything = [str(row) for (name,) in tables for row in connection.execute(f'SELECT t::text FROM "{name}" t')]
        assert any(f"v1:{NEW.key_id}:" in row for row in everything)
        assert not any(f"v1:{OLD.key_id}:" in row for row in everything)

    run(database, (OLD, remember), (NEW, reseal), (NEW_ALONE, look))


def test_a_list_of_a_past_revision_shows_the_same_under_the_new_key(database: str) -> None:
    at: list[int] = []

    async def make(store: Store) -> None:
        await create(store, "a", "b", "gone")
        at.append((await store.head()).rv)
        await store.writer.write(labelled("a", x="y"))
        await store.writer.write(admission.remove(SECRET, "default", "gone"))

    async def shown(store: Store, sealer: Sealer) -> list[Object]:
        async with store.pool.connection() as connection, snapshot(connection, with_log=True) as head:
            rows, _ = await past.read(connection, queries.Query(SECRET), at[0], head)
        return [sealer.open(orjson.loads(row.text or b"")) for row in rows]

    async def reseal(store: Store) -> None:
        before = await shown(store, OLD)
        await walk(store, NEW)
        after = await shown(store, NEW_ALONE)
        assert after == before and [obj["metadata"]["name"] for obj in after] == ["a", "b", "gone"]

    run(database, (OLD, make), (NEW, reseal))


def test_it_may_end_anywhere_and_begin_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resealing, "MOST", 2)
    monkeypatch.setattr(resealing, "SPAN", 3)

    async def make(store: Store) -> None:
        await create(store, *(f"s{n}" for n in range(5)))

    async def reseal(store: Store) -> None:
        first = await resealing.step(store, NEW, Place(), writes=True)
        assert first.resealed == 2 and first.next is not None and first.next.part == "secrets"
        counted = await walk(store, NEW, writes=False)
        assert counted["secrets"].found == {NEW.key_id: 2, OLD.key_id: 3} and not counted["secrets"].resealed
        assert counted["log"].found == {OLD.key_id: 5}
        done = await walk(store, NEW)
        assert (done["secrets"].resealed, done["log"].resealed) == (3, 5)
        assert done["secrets"].found == done["log"].found == {NEW.key_id: 5}

    run(database, (OLD, make), (NEW, reseal))


def test_two_walks_and_writes_at_once_lose_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One apiserver still seals with the old key, one with the new one, and both seal anew while people write."""
    monkeypatch.setattr(resealing, "MOST", 3)

    async def both(store: Store) -> None:
        other = await Store.open(database, sealer=NEW)
        try:
            await create(store, *(f"s{n}" for n in range(12)))
            changes = [(store, other)[n % 2].writer.write(with_value(f"s{n}", f"v{n}")) for n in range(12)]
            walks = [walk(one, sealer) for one, sealer in ((store, OLD), (other, NEW), (other, NEW))]
            await asyncio.gather(*changes, *walks, *(one.writer.write(labelled(f"s{n}", n=str(n))) for n, one in enumerate([store, other] * 6)))
            await walk(other, NEW)
        finally:
            await other.close()

    async def look(store: Store) -> None:
        rows, log = await texts(store)
        assert {name: NEW_ALONE.open(obj)["data"]["password"] for name, obj in rows.items()} == {
            f"s{n}": base64.b64encode(f"v{n}".encode()).decode() for n in range(12)
        }
        assert all(rows[f"s{n}"]["metadata"]["labels"] == {"n": str(n)} for n in range(12))
        assert len(log) == 36 and all(NEW_ALONE.open(obj) for obj in log.values())

    run(database, (OLD, both), (NEW_ALONE, look))


def with_value(name: str, value: str) -> Any:
    return admission.update(SECRET, "default", name, lambda old, context: {**old, "data": secret(name, value)["data"]})


def test_a_write_that_read_the_object_before_does_not_bring_the_old_key_back(database: str) -> None:
    """The controller has no key and writes the envelope that it has read: it read it under the lock."""

    async def controller(store: Store) -> None:
        apiserver = await Store.open(database, sealer=NEW)
        try:
            async with store.batch([("Secret", "default", "a")]) as held:
                (found,) = held.known.values()
                walking = asyncio.create_task(walk(apiserver, NEW))
                await somebody_waits(database)
                held.stage(SECRET, found, {**found, "metadata": {**found["metadata"], "finalizers": ["example.com/x"]}})
                await held.commit()
            await walking
            assert (await walk(apiserver, NEW))["secrets"].found == {NEW.key_id: 1}
            rows, _ = await texts(store)
            assert NEW_ALONE.open(rows["a"])["metadata"]["finalizers"] == ["example.com/x"]
        finally:
            await apiserver.close()

    async def make(store: Store) -> None:
        await create(store, "a")

    run(database, (OLD, make), (None, controller))


def test_what_no_key_opens_and_what_is_broken_stays_as_it_is_and_is_counted(database: str) -> None:
    async def others(store: Store) -> None:
        await create(store, "third")

    async def reseal(store: Store) -> None:
        before, _ = await texts(store)
        for _ in range(2):
            done = await walk(store, NEW)
            assert done["secrets"].found == {THIRD.key_id: 1, OLD.key_id: 1, NEW.key_id: 1}
            assert done["secrets"].broken == [Broken(OLD.key_id, "default/broken")] and not done["log"].broken
            assert done["log"].found[THIRD.key_id] == 1
        after, _ = await texts(store)
        assert after["third"] == before["third"] and after["broken"] == before["broken"]
        NEW_ALONE.open(after["well"])

    run(database, (THIRD, others), (OLD, one_broken), (NEW, reseal))


async def one_broken(store: Store) -> None:
    """A Secret that has another one's envelope, and that one."""
    await create(store, "broken", "well")
    async with store.pool.connection() as connection:
        sealed = """substring(head FROM '"sealed":"[^"]*"')"""
        await connection.execute(
            f"UPDATE secrets SET head = replace(head, {sealed}, (SELECT {sealed} FROM secrets WHERE name = 'well')) "
            "WHERE name = 'broken'"
        )


def test_what_is_broken_can_only_be_deleted_and_that_is_what_a_write_of_it_says(database: str) -> None:
    async def mend(store: Store) -> None:
        await walk(store, NEW)
        for write in (with_value("broken", "x"), labelled("broken", a="b")):
            with pytest.raises(ApiError, match="delete it") as caught:
                await store.writer.write(write)
            assert caught.value.status == 500 and "CASARE_SECRET_KEY" not in caught.value.message
        await store.writer.write(admission.remove(SECRET, "default", "broken"))
        await create(store, "broken")
        done = await walk(store, NEW)
        assert done["secrets"].found == {NEW.key_id: 2} and not done["secrets"].broken
        assert done["log"].broken == [Broken(OLD.key_id, "default/broken")], "the deletion's entry has the envelope"
        assert done["log"].found == {NEW.key_id: 3, OLD.key_id: 1} and not done["log"].resealed

    run(database, (OLD, one_broken), (NEW, mend))


def test_each_step_that_changed_something_is_in_the_audit_log(database: str) -> None:
    async def make(store: Store) -> None:
        await create(store, "a", "b")

    async def reseal(store: Store) -> None:
        CALLER.set(Caller("admin", "admin", "127.0.0.1", "reseal", "secrets"))
        await walk(store, NEW)
        await walk(store, NEW)
        rows = [orjson.loads(row.entry) for row in (await auditing.read(store.pool, auditing.Query(after=0))).rows]
        assert [(row["actor"], row["effect"], row["part"], row["count"], row["key"]) for row in rows] == [
            ("admin", "resealed", "secrets", 2, NEW.key_id), ("admin", "resealed", "log", 2, NEW.key_id)
        ]  # fmt: skip

    run(database, (OLD, make), (NEW, reseal))


def test_apiservers_are_known_by_their_keys(database: str) -> None:
    async def look(store: Store) -> None:
        others = [await Store.open(database, sealer=sealer) for sealer in (NEW, NEW_ALONE, None)]
        found = await resealing.servers(store)
        for one in others:
            await one.close()
        assert Counter(one.keys for one in found) == Counter([OLD.key_ids, NEW.key_ids, NEW_ALONE.key_ids])
        most = Sealer.from_text(TEXTS[0], [f"{n} is one of the most keys that there may be" for n in range(4)])
        whole = await Store.open(database, sealer=most)
        assert most.key_ids in {one.keys for one in await resealing.servers(store)}, "the name is not cut off"
        await whole.close()
        assert all(isinstance(one, Server) for one in found)

    run(database, (OLD, look))


def test_a_step_is_bounded_by_what_it_writes() -> None:
    def envelopes(*sizes: int, key: str = OLD.key_id) -> list[Envelope]:
        return [Envelope(str(n), n, key, size) for n, size in enumerate(sizes)]

    most = resealing.MOST_BYTES
    for there, taken, wanted in (
        (envelopes(most, 1), 1, 1), (envelopes(3 * most, 1), 1, 1), (envelopes(1, most), 1, 1), (envelopes(1, 1), 2, 2),
        (envelopes(most, most, key=NEW.key_id), 2, 0), (envelopes(most, most, key=THIRD.key_id), 2, 0), ([], 0, 0),
    ):  # fmt: skip
        found = resealing.chosen(there, NEW, True)
        assert (len(found[0]), len(found[1])) == (taken, wanted), there
        assert resealing.chosen(there, NEW, False) == (there, [])


@pytest.mark.parametrize("text", ["secrets", "log:", "log:-1", "log:1x", "secrets:x", "x:1", "log:" + "1" * 19, "log:1\n", "log:١"])
def test_a_place_that_no_answer_gave_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        Place.parse(text)
    assert caught.value.status == 400


def test_places_are_what_they_were() -> None:
    for place in (Place(), Place("log", "17"), Place("secrets", "0198ab00-0000-7000-8000-0123456789ab")):
        assert Place.parse(str(place)) == place
    assert Place.parse("") == Place()


# -- a commit whose connection broke ---------------------------------------------------------------------------------


def test_a_commit_is_found_though_its_entry_was_sealed_anew_since(database: str) -> None:
    async def body(store: Store) -> None:
        await create(store, "b")
        keys = [("Secret", "default", "b")]
        async with store.batch(keys) as kept:
            old = kept.known[keys[0]]
            kept.stage(SECRET, old, {**old, "metadata": {**old["metadata"], "labels": {"mine": "1"}}})
            await kept.commit()
        unknown = OutcomeUnknown(kept.changes[0].logged, kept.xid)
        await walk(store, NEW)
        async with store.batches.connection() as other:
            assert await batch.committed(other, unknown)
            assert not await batch.committed(other, OutcomeUnknown(unknown.first, str(2**40))), "a number nobody has yet"
            changed = unknown.first._replace(object=unknown.first.object.replace(b"mine", b"ours"))
            assert not await batch.committed(other, OutcomeUnknown(changed, kept.xid))

    run(database, (OLD, body))


def test_another_batch_that_was_sealed_anew_is_not_taken_for_the_one_that_broke(database: str) -> None:
    async def body(store: Store) -> None:
        await create(store, "b")
        keys = [("Secret", "default", "b")]
        connection = await connect_for_batches(store.url, "test")
        with pytest.raises(ConnectionAbortedError):
            async with batch.begin(connection, keys, OLD) as lost:
                old = lost.known[keys[0]]
                lost.stage(SECRET, old, {**old, "metadata": {**old["metadata"], "labels": {"mine": "1"}}})
                await lost.send()
                raise ConnectionAbortedError
        await connection.close()
        made = await store.writer.write(labelled("b", mine="1"))
        assert made is not None and made["metadata"]["resourceVersion"] == str(lost.rv)
        await walk(store, NEW)
        async with store.batches.connection() as other:
            assert not await batch.committed(other, OutcomeUnknown(lost.changes[0].logged, lost.xid))

    run(database, (OLD, body))


def test_it_reads_what_it_writes(database: str) -> None:
    """A row that was sealed anew is read and changed as ever."""

    async def body(store: Store) -> None:
        await walk(store, NEW)
        await store.writer.write(with_value("a", "swordfish"))
        text = await reads.get(store.pool, SECRET, "default", "a")
        assert text is not None
        assert NEW_ALONE.open(orjson.loads(text))["data"] == secret("a", "swordfish")["data"]

    async def make(store: Store) -> None:
        await create(store, "a")

    run(database, (OLD, make), (NEW, body))
