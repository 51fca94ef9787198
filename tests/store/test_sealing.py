"""Secrets at rest: nothing of them is clear in any table, no envelope opens anything but its own, no key loses any."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import psycopg
import pytest

from casare_api.kinds import KINDS, Object
from casare_api.machinery.errors import ApiError
from casare_api.machinery.selectors import FieldSelector
from casare_store import admission, reads, sealing
from casare_store.operations import Operation
from casare_store.sealing import Sealer
from casare_store.store import Store

from .conftest import run

SECRET, NAMESPACE, CONFIGMAP = KINDS["Secret"], KINDS["Namespace"], KINDS["ConfigMap"]
KEY = Sealer.from_text("a text that only apiservers know, 1")
OTHER = Sealer.from_text("a text that only apiservers know, 2")
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
CLEAR = ("hunter2", "swordfish", "opensesame", "iambase64")
Body = Callable[[Store], Awaitable[None]]


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(name: str = "db", **obj: Any) -> Object:
    meta = {"name": name, "namespace": "default", "labels": {"app": "db"}, "annotations": {APPLIED: "opensesame"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": {"password": b64("hunter2")}, **obj}


def with_data(**data: str) -> Operation:
    def change(current: Object, context: Any) -> Object:
        return {**current, "data": {**current["data"], **data}}

    return admission.update(SECRET, "default", "db", change)


async def create(store: Store) -> None:
    await store.writer.write(admission.create(SECRET, secret()))


async def row(store: Store, name: str = "db") -> Object:
    text = await reads.get(store.pool, SECRET, "default", name)
    assert text is not None
    found: Object = orjson.loads(text)
    return found


def all_text(url: str) -> str:
    """Every row of every table, as text, and with what is base64 in it decoded once."""
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return "\n".join(str(line) for (table,) in tables for line in connection.execute(f'SELECT t::text FROM "{table}" t').fetchall())


def test_nothing_of_a_secret_is_clear_in_any_table(database: str) -> None:
    async def body(store: Store) -> None:
        made = await store.writer.write(admission.create(SECRET, secret(stringData={"token": "swordfish"})))
        assert made is not None and made["data"] == {"password": b64("hunter2"), "token": b64("swordfish")}
        await store.writer.write(with_data(more=b64("iambase64")))
        await store.writer.write(admission.create(SECRET, secret("gone")))
        await store.writer.write(admission.remove(SECRET, "default", "gone"))

    run(database, (KEY, body))
    text = all_text(database)
    assert '"name":"db"' in text.replace('""', '"'), "the scan sees no rows: the test tested nothing"
    for clear in CLEAR:
        assert clear not in text and b64(clear) not in text and b64(clear).rstrip("=")[:-1] not in text
    assert text.count("v1:" + KEY.key_id) >= 5  # one row, four entries of the log


def test_names_labels_type_and_who_owns_which_field_stay_readable(database: str) -> None:
    async def body(store: Store) -> None:
        await create(store)
        found = await row(store)
        assert found["metadata"]["labels"] == {"app": "db"} and found["type"] == "Opaque"
        assert "annotations" not in found["metadata"] and not {"data", "stringData"} & found.keys()
        for text, names in (("type=Opaque", ["db"]), ("type!=Opaque", [])):
            page = await reads.read(store.pool, reads.Query(SECRET, fields=FieldSelector.parse(text, SECRET.selectable)))
            assert [one["metadata"]["name"] for one in orjson.loads(b"[" + b",".join(page.chunks) + b"]")] == names

    run(database, (KEY, body))


def test_who_writes_sees_it_clear_and_who_reads_opens_it(database: str) -> None:
    async def body(store: Store) -> None:
        made = await store.writer.write(admission.create(SECRET, secret()))
        changed = await store.writer.write(with_data(more=b64("x")))
        assert made is not None and changed is not None
        assert changed["data"] == {"password": b64("hunter2"), "more": b64("x")}
        assert changed["metadata"]["annotations"] == {APPLIED: "opensesame"} and "sealed" not in changed
        assert KEY.open(await row(store)) == changed
        text = await reads.get(store.pool, SECRET, "default", "db")
        assert text is not None and orjson.loads(KEY.open_text(text)) == changed
        async with store.batch([("Secret", "default", "db")]) as batch:
            assert list(batch.known.values()) == [changed] == await batch.objects(SECRET, "t.name = 'db'")
            assert list((await batch.read([("Secret", "default", "db")])).values()) == [changed]

    run(database, (KEY, body))


def test_nothing_changed_is_no_change_and_a_change_is_sealed_anew(database: str) -> None:
    async def body(store: Store) -> None:
        await create(store)
        before = await row(store)
        await store.writer.write(with_data(password=b64("hunter2")))
        assert await row(store) == before
        await store.writer.write(admission.update(
            SECRET, "default", "db", lambda old, context: {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
        ))  # fmt: skip
        after = await row(store)
        assert after["metadata"]["labels"] == {"a": "b"} and after["sealed"] != before["sealed"]
        assert KEY.open(after)["data"] == KEY.open(before)["data"]

    run(database, (KEY, body))


async def refused(store: Store, operation: Operation) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await store.writer.write(operation)
    assert "\n" not in caught.value.message and not any(clear in str(caught.value.body()) for clear in CLEAR)
    return caught.value


def test_without_a_key_secrets_are_read_sealed_deleted_and_never_written(database: str) -> None:
    async def without(store: Store) -> None:
        before = await row(store)
        error = await refused(store, admission.create(SECRET, secret("new")))
        assert error.status == 503 and "set CASARE_SECRET_KEY" in error.message
        for operation in (with_data(more=b64("x")), admission.update(SECRET, "default", "db", lambda old, context: secret())):
            assert (await refused(store, operation)).status == 503
        # Not even one that goes around admission can lose what is sealed.
        blind = Operation(SECRET, "default", "db", lambda old, context: {k: v for k, v in (old or {}).items() if k != "sealed"})
        added = Operation(SECRET, "default", "db", lambda old, context: {**(old or {}), "data": {"a": b64("x")}})
        for operation in (blind, added):
            assert (await refused(store, operation)).status == 503
        assert await row(store) == before
        held = Operation(SECRET, "default", "db", lambda old, context: {
            **(old or {}), "metadata": {**(old or {})["metadata"], "finalizers": ["example.com/hold"]}})  # fmt: skip
        await store.writer.write(held)
        marked = await store.writer.write(admission.remove(SECRET, "default", "db"))
        assert marked is not None and marked["metadata"]["deletionTimestamp"]
        assert (await row(store))["sealed"] == before["sealed"], "the envelope is as it was"
        await store.writer.write(admission.create(CONFIGMAP, {**secret("plain"), "kind": "ConfigMap", "data": {"a": "b"}}))

    async def with_it(store: Store) -> None:
        opened = KEY.open(await row(store))
        assert opened["data"] == {"password": b64("hunter2")} and opened["metadata"]["finalizers"]

    async def delete(store: Store) -> None:
        await store.writer.write(Operation(SECRET, "default", "db", lambda old, context: None))
        assert await reads.get(store.pool, SECRET, "default", "db") is None

    run(database, (KEY, create), (None, without), (KEY, with_it), (None, delete))


def test_a_wrong_key_is_told_in_words_and_harms_nothing(database: str) -> None:
    async def wrong(store: Store) -> None:
        before = await row(store)
        error = await refused(store, with_data(more=b64("x")))
        assert error.status == 503 and KEY.key_id in error.message and "CASARE_SECRET_KEY" in error.message
        with pytest.raises(ApiError) as caught:
            OTHER.open(before)
        assert caught.value.status == 503 and KEY.key_id in caught.value.message and OTHER.key_id in caught.value.message
        replaced = admission.update(SECRET, "default", "db", lambda old, context: secret())
        assert (await refused(store, replaced)).status == 503
        assert await row(store) == before
        await store.writer.write(admission.create(SECRET, secret("mine")))  # neighbours are written as ever
        assert OTHER.open(await row(store, "mine"))["data"] == {"password": b64("hunter2")}

    async def delete(store: Store) -> None:
        gone = await store.writer.write(admission.remove(SECRET, "default", "db"))
        assert gone is not None and await reads.get(store.pool, SECRET, "default", "db") is None

    run(database, (KEY, create), (OTHER, wrong), (OTHER, delete))


def test_an_envelope_opens_its_own_object_and_no_other(database: str) -> None:
    async def body(store: Store) -> None:
        await create(store)
        await store.writer.write(admission.create(SECRET, secret("other")))
        one, other = await row(store), await row(store, "other")
        with pytest.raises(ApiError, match="can't be opened") as caught:
            KEY.open({**other, "sealed": one["sealed"]})
        assert caught.value.status == 500
        meta = one["metadata"]
        for key, value in (("name", "x"), ("namespace", "x"), ("uid", other["metadata"]["uid"])):
            with pytest.raises(ApiError, match="can't be opened"):
                KEY.open({**one, "metadata": {**meta, key: value}})
        relabelled = {**one, "metadata": {**meta, "labels": {"x": "y"}, "resourceVersion": "9"}}
        assert KEY.open(relabelled)["data"] == {"password": b64("hunter2")}, "what may change without the key"
        async with store.pool.connection() as connection:  # somebody with the database, but without the key
            await connection.execute("UPDATE secrets SET head = %s WHERE name = 'other'",
                                     (orjson.dumps({**other, "sealed": one["sealed"]}).decode(),))  # fmt: skip
        error = await refused(store, admission.update(SECRET, "default", "other", lambda old, context: {**old, "data": {}}))
        assert error.status == 500 and "broken: delete it" in error.message, "no other key would help"
        await store.writer.write(with_data(more=b64("x")))  # its neighbour in the batch is well

    run(database, (KEY, body))


@pytest.mark.parametrize("change", ["flip", "cut", "empty", "version", "parts", "not base64"])
def test_a_broken_envelope_is_told_and_never_guessed(change: str) -> None:
    sealed = KEY.seal({**secret(), "metadata": {"name": "db", "uid": "u"}})
    box = bytearray(base64.b64decode(sealed["sealed"].split(":")[2]))
    box[20] ^= 1
    version, key_id, text = sealed["sealed"].split(":")
    broken = {
        "flip": f"{version}:{key_id}:{base64.b64encode(box).decode()}", "cut": f"{version}:{key_id}:{text[:8]}",
        "empty": f"{version}:{key_id}:", "version": f"v2:{key_id}:{text}", "parts": "x", "not base64": f"{version}:{key_id}:ü",
    }[change]  # fmt: skip
    with pytest.raises(ApiError) as caught:
        KEY.open({**sealed, "sealed": broken})
    assert caught.value.status in (500, 503)


def test_sealing_and_opening_are_inverse_whatever_there_is() -> None:
    meta = {"name": "db", "namespace": "default", "uid": "u"}
    for obj in (
        {"kind": "Secret", "metadata": meta}, {"kind": "Secret", "metadata": meta, "type": "x", "immutable": True},
        {"kind": "Secret", "metadata": {**meta, "annotations": {"a": "ä\U0001f916"}}, "data": {}},
        {"kind": "Secret", "metadata": meta, "data": {"a": "b"}, "stringData": {"c": "d"}},
    ):  # fmt: skip
        sealed = KEY.seal(obj)
        assert KEY.open(sealed) == obj and not {"data", "stringData"} & sealed.keys()
        assert KEY.seal(obj)["sealed"] != sealed["sealed"], "a nonce is used once"
    assert KEY.open({"metadata": meta, "data": {}}) == {"metadata": meta, "data": {}}, "what is clear stays so"


def test_a_key_is_any_long_text_and_its_id_says_nothing_of_it() -> None:
    assert Sealer.from_text("x" * 32).key_id == Sealer.from_text(" " + "x" * 32 + "\n").key_id != KEY.key_id
    for short in ("", "x" * 31, " " * 40):
        with pytest.raises(ValueError, match="at least 32 characters"):
            Sealer.from_text(short)
    assert "text that only" not in repr(KEY)


NEXT = Sealer.from_text("a text that only apiservers know, 2", ["a text that only apiservers know, 1"])


def test_a_fallback_opens_and_what_is_written_is_sealed_with_the_key_itself(database: str) -> None:
    async def body(store: Store) -> None:
        assert KEY.open(await row(store)) == NEXT.open(await row(store))
        await store.writer.write(with_data(more=b64("x")))
        found = await row(store)
        assert OTHER.open(found)["data"] == {"password": b64("hunter2"), "more": b64("x")}
        with pytest.raises(ApiError) as caught:
            KEY.open(found)
        assert "CASARE_SECRET_KEY_FALLBACKS" in caught.value.message and OTHER.key_id in caught.value.message

    run(database, (KEY, create), (NEXT, body))


def test_an_envelope_that_is_sealed_anew_holds_the_same_and_belongs_to_the_same_object() -> None:
    meta = {"name": "db", "namespace": "default", "uid": "u", "labels": {"a": "b"}}
    old = KEY.seal({"kind": "Secret", "metadata": {**meta, "annotations": {"a": "b"}}, "data": {"c": "d"}, "type": "x"})
    new = NEXT.reseal(old)
    assert list(new) == list(old) and {**new, "sealed": ""} == {**old, "sealed": ""}
    assert OTHER.open(new) == KEY.open(old)
    assert sealing.is_resealed(new, old) and not sealing.is_resealed(old, old) and not sealing.is_resealed(old, meta)
    assert not sealing.is_resealed({**new, "type": "y"}, old)
    with pytest.raises(ApiError, match="can't be opened"):
        OTHER.open({**new, "metadata": {**meta, "uid": "v"}})


def test_keys_that_open_are_listed_once_the_one_that_seals_first_and_not_without_end() -> None:
    texts = [f"{number} is one of the many keys of this test" for number in range(6)]
    assert NEXT.key_ids == (OTHER.key_id, KEY.key_id)
    assert Sealer.from_text(texts[0], [texts[1], f"{texts[0]}\n", texts[1]]).key_ids == Sealer.from_text(texts[0], texts[1:2]).key_ids
    assert len(Sealer.from_text(texts[0], texts[:5]).key_ids) == 5
    with pytest.raises(ValueError, match="4 are the most"):
        Sealer.from_text(texts[0], texts[1:])
    with pytest.raises(ValueError, match="each key of CASARE_SECRET_KEY_FALLBACKS needs at least 32"):
        Sealer.from_text(texts[0], ["short"])


def test_a_large_secret_fits_and_one_that_grew_too_large_is_refused(database: str) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(SECRET, secret(data={"a": base64.b64encode(bytes(2**20)).decode()})))
        assert len(KEY.open(await row(store))["data"]["a"]) > 2**20
        too_large = secret("big", data={"a": base64.b64encode(bytes(2 * 2**20)).decode()})
        assert (await refused(store, admission.create(SECRET, too_large))).status == 413

    run(database, (KEY, body))


def test_what_was_sealed_once_is_in_no_repr(database: str) -> None:
    async def body(store: Store) -> None:
        await create(store)
        async with store.batch([("Secret", "default", "db")]) as batch:
            (found,) = batch.known.values()
            batch.stage(SECRET, found, {**found, "data": {"a": b64("swordfish")}})
            shown = repr(batch) + repr(batch.changes) + repr(store)
            assert not any(clear in shown or b64(clear) in shown for clear in CLEAR)

    run(database, (KEY, body))


def test_other_kinds_never_meet_the_sealer(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(store: Store) -> None:
        for name in ("opened", "sealed", "check_same"):
            monkeypatch.setattr(sealing, name, None)
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"a": "b"}}
        await store.writer.write(admission.create(CONFIGMAP, obj))
        await store.writer.write(admission.remove(CONFIGMAP, "default", "a"))

    run(database, (KEY, body))
