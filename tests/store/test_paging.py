"""Pages of a list show one moment, the first page's, whatever happens between them; or they say that they can't."""

from __future__ import annotations

import asyncio
import base64
import random
from datetime import timedelta
from typing import Any

import orjson
import pytest

from casare_api.kinds import KINDS, Object
from casare_api.machinery.errors import ApiError
from casare_api.machinery.selectors import FieldSelector, LabelSelector
from casare_store import admission, changes, partitions, past, reads
from casare_store.connection import connect
from casare_store.reads import Query
from casare_store.store import Store

from .conftest import ROBOT, labelled, relabel, robot

CONFIGMAP, NAMESPACE = KINDS["ConfigMap"], KINDS["Namespace"]
SITES = ("berlin", "paris", "")


def configmap(name: str, namespace: str = "default", site: str = "", **data: str) -> Object:
    meta: Object = {"name": name, "namespace": namespace} | ({"labels": {"site": site}} if site else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def objects_of(page: reads.Page) -> list[Object]:
    found: list[Object] = orjson.loads(b"[" + b",".join(page.chunks) + b"]")
    return found


def names_of(page: reads.Page) -> list[str]:
    return [one["metadata"]["name"] for one in objects_of(page)]


async def next_page(store: Store, query: Query, page: reads.Page) -> reads.Page:
    """As a client goes on: by the token alone."""
    assert page.after is not None
    rv, after = reads.decode_continue(reads.encode_continue(page.rv, page.after))
    return await reads.read(store.pool, Query(query.kind, query.namespace, query.labels, query.fields, query.limit, after), rv)


async def rename(store: Store, *names: str) -> None:
    """A change of each of these robots."""
    await asyncio.gather(*(store.writer.write(relabel(name, seen="yes")) for name in names))


async def fill(store: Store, *names: str) -> None:
    await asyncio.gather(*(store.writer.write(admission.create(ROBOT, robot(name))) for name in names))


# -- against a model ------------------------------------------------------------------------------------------------


class Random:
    """Random writes of a few ConfigMaps, so that names are deleted and taken again."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store, self.chance = store, random.Random(seed)

    async def write(self, count: int) -> None:
        for _ in range(count):
            namespace, name = self.chance.choice(("default", "team")), f"c{self.chance.randrange(12):02}"
            try:
                await self.store.writer.write(self.operation(namespace, name))
            except ApiError as error:
                assert error.status in (404, 409), error

    def operation(self, namespace: str, name: str) -> Any:
        site, value = self.chance.choice(SITES), str(self.chance.random())
        wanted = self.chance.choice(("create", "create", "update", "delete"))
        if wanted == "create":
            return admission.create(CONFIGMAP, configmap(name, namespace, site, value=value))
        if wanted == "delete":
            return admission.remove(CONFIGMAP, namespace, name)
        made = configmap(name, namespace, site, value=value)
        return admission.update(CONFIGMAP, namespace, name, lambda current, context: made)

    def query(self) -> Query:
        labels = self.chance.choice((None, "site=berlin", "site!=paris", "!site", "site in (berlin,paris)"))
        fields = self.chance.choice((None, None, "metadata.name!=c03", "metadata.namespace=team"))
        return Query(
            CONFIGMAP, self.chance.choice((None, "default")), LabelSelector.parse(labels) if labels else None,
            FieldSelector.parse(fields) if fields else None, limit=self.chance.randrange(1, 6),
        )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_pages_are_what_was_there_when_the_first_was_read(with_store: Any, seed: int) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "team"}}))
        world = Random(store, seed)
        await world.write(20)
        went_on = 0
        for _ in range(30):
            query = world.query()
            page = await reads.read(store.pool, query)
            whole = objects_of(await reads.read(store.pool, Query(query.kind, query.namespace, query.labels, query.fields)))
            found = objects_of(page)
            if not (query.labels or query.fields) and page.after:
                assert page.remaining == len(whole) - len(found)
            first = page.rv
            while page.after is not None:
                await world.write(world.chance.randrange(6))
                page = await next_page(store, query, page)
                found += objects_of(page)
                went_on += 1
                assert page.rv == first
                if page.after and not (query.labels or query.fields):
                    assert page.remaining == len(whole) - len(found)
            assert found == whole, query
            again = await reads.read(store.pool, Query(query.kind, query.namespace, query.labels, query.fields), first)
            assert objects_of(again) == whole, "the same moment without pages"
        assert went_on > 10, "there was hardly a second page: the test tested nothing"

    with_store(body)


def test_pages_under_writers_that_never_stop_are_one_moment(with_store: Any) -> None:
    async def body(store: Store) -> None:
        names = [f"r{n:03}" for n in range(120)]
        await asyncio.gather(*(store.writer.write(admission.create(ROBOT, labelled(name, n="0"))) for name in names))
        stop = asyncio.Event()

        async def churn(part: list[str]) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                await asyncio.gather(*(store.writer.write(relabel(name, n=str(count))) for name in part[::2]))
                await asyncio.gather(*(store.writer.write(admission.remove(ROBOT, "default", name)) for name in part[1::4]))
                await asyncio.gather(*(store.writer.write(admission.create(ROBOT, robot(name))) for name in part[1::4]))

        writing = [asyncio.create_task(churn(names[:60])), asyncio.create_task(churn(names[60:]))]
        listed: list[tuple[int, list[Object]]] = []
        query = Query(ROBOT, limit=13)
        for _ in range(12):
            page = await reads.read(store.pool, query)
            found, first = objects_of(page), page.rv
            while page.after is not None:
                page = await next_page(store, query, page)
                found += objects_of(page)
            listed.append((first, found))
        stop.set()
        await asyncio.gather(*writing)
        for rv, found in listed:
            assert {(one["metadata"]["name"], one["metadata"]["resourceVersion"]) for one in found} == await replayed(store, rv)

    with_store(body)


async def replayed(store: Store, rv: int) -> set[tuple[str, str]]:
    """Names and versions of all robots as of a revision, from the log alone."""
    connection = await connect(store.url, "test")
    state: dict[str, str] = {}
    seen = 0
    while found := await changes.read_since(connection, seen):
        seen = found[-1].rv
        for change in found:
            if change.kind == "Robot" and change.rv <= rv:
                state.pop(change.name, None)
                state |= {} if change.type == "DELETED" else {change.name: str(change.rv)}
    await connection.close()
    return set(state.items())


# -- what is out of reach ---------------------------------------------------------------------------------------------


async def compacted(store: Store) -> None:
    """As if the first partition were full and old."""
    async with store.pool.connection() as connection:
        await connection.execute("UPDATE heads SET rv = %s", (partitions.WIDTH,))
    await store.writer.write(admission.create(ROBOT, robot("z-in-the-next-partition")))
    async with store.pool.connection() as connection:
        assert await partitions.compact(connection, timedelta(0)) == partitions.WIDTH


async def refused(store: Store, query: Query, page: reads.Page) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await next_page(store, query, page)
    return caught.value


def test_after_a_compaction_a_list_is_told_to_begin_anew_or_to_go_on_as_it_is_now(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await fill(store, "a", "b", "c", "d")
        query = Query(ROBOT, limit=2)
        page = await reads.read(store.pool, query)
        await store.writer.write(admission.remove(ROBOT, "default", "c"))
        await compacted(store)
        error = await refused(store, query, page)
        assert (error.status, error.reason) == (410, "Expired")
        assert error.message.startswith("The provided continue parameter is too old to display a consistent list result.")
        assert error.message.endswith("between the time the first chunk was returned and now may show up in the list.")
        rv, after = reads.decode_continue(error.body()["metadata"]["continue"])
        assert rv == -1
        rest = await reads.read(store.pool, Query(ROBOT, limit=2, after=after), rv)
        assert names_of(rest) == ["d", "z-in-the-next-partition"], "what there is now"
        assert rest.rv == (await store.head()).rv

    with_store(body)


def test_a_state_that_the_log_lost_is_out_of_reach_and_a_deleted_one_is_not(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await fill(store, "a", "b", "c", "d")
        await compacted(store)
        query = Query(ROBOT, limit=2)
        page = await reads.read(store.pool, query)
        await store.writer.write(admission.remove(ROBOT, "default", "c"))
        assert names_of(await next_page(store, query, page)) == ["c", "d"], "its deletion says what it was"
        await rename(store, "d")
        assert (await refused(store, query, page)).status == 410
        assert names_of(await next_page(store, Query(ROBOT, limit=1), page)) == ["c"], "this page needs nothing that is lost"

    with_store(body)


def test_what_the_previous_release_changed_is_out_of_reach(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await fill(store, "a", "b", "c")
        query = Query(ROBOT, limit=1)
        page = await reads.read(store.pool, query)
        await rename(store, "c")
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE changes SET prev_rv = NULL WHERE rv > %s", (page.rv,))
        assert names_of(await next_page(store, query, page)) == ["b"]
        assert (await refused(store, Query(ROBOT, limit=5), page)).status == 410
        selected = Query(ROBOT, labels=LabelSelector.parse("seen=yes"), limit=5, after=("", ""))
        assert names_of(await reads.read(store.pool, selected, page.rv)) == [], "it was not selected then"

    with_store(body)


def test_a_revision_too_far_back_is_out_of_reach(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "FARTHEST", 3)

    async def body(store: Store) -> None:
        await fill(store, "a", "b", "c")
        query = Query(ROBOT, limit=1)
        page = await reads.read(store.pool, query)
        await rename(store, "a", "b", "c")
        assert names_of(await next_page(store, query, page)) == ["b"]
        await fill(store, "d")
        assert (await refused(store, query, page)).status == 410

    with_store(body)


def test_an_exact_revision_is_shown_gone_or_to_come(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await fill(store, "a", "b")
        then = (await store.head()).rv
        await store.writer.write(admission.remove(ROBOT, "default", "a"))
        await fill(store, "c")
        page = await reads.read(store.pool, Query(ROBOT), then)
        assert (names_of(page), page.rv) == (["a", "b"], then)
        limited = await reads.read(store.pool, Query(ROBOT, limit=1), then)
        assert names_of(limited) == ["a"] and limited.after == ("default", "a") and limited.remaining == 1
        head = (await store.head()).rv
        assert names_of(await reads.read(store.pool, Query(ROBOT), head)) == ["b", "c"]
        with pytest.raises(ApiError) as caught:
            await reads.read(store.pool, Query(ROBOT), head + 1)
        assert caught.value.status == 504 and caught.value.retry_after == 1
        await compacted(store)
        with pytest.raises(ApiError, match="The resourceVersion for the provided list is too old") as caught:
            await reads.read(store.pool, Query(ROBOT), then)
        assert caught.value.status == 410 and caught.value.body()["metadata"] == {}

    with_store(body)


def test_a_list_of_the_past_holds_the_log_until_it_is_read(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that goes between the snapshot and the look at the log would leave a hole that nobody notices."""

    async def body(store: Store) -> None:
        await fill(store, "a", "b")
        then = (await store.head()).rv
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE heads SET rv = %s", (partitions.WIDTH,))
        await fill(store, "c")
        read_live = past._live

        async def compact_meanwhile(*args: Any) -> Any:
            async with store.pool.connection() as connection:
                assert await partitions.compact(connection, timedelta(0)) == 0, "the list is in the way"
            return await read_live(*args)

        monkeypatch.setattr(past, "_live", compact_meanwhile)
        monkeypatch.setattr(past, "FARTHEST", 10**9)
        assert names_of(await reads.read(store.pool, Query(ROBOT), then)) == ["a", "b"]

    with_store(body)


def test_what_remains_is_counted_up_to_a_number(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(store: Store) -> None:
        await fill(store, *"abcdef")
        for limit, expected in ((2, 4), (5, 1), (6, None), (0, None)):
            assert (await reads.read(store.pool, Query(ROBOT, limit=limit))).remaining == expected
        selected = Query(ROBOT, labels=LabelSelector.parse("!x"), limit=2)
        assert (await reads.read(store.pool, selected)).remaining is None
        monkeypatch.setattr(reads, "MOST_COUNTED", 3)
        assert (await reads.read(store.pool, Query(ROBOT, limit=2))).remaining is None
        assert (await reads.read(store.pool, Query(ROBOT, limit=3))).remaining == 3

    with_store(body)


# -- tokens ------------------------------------------------------------------------------------------------------------

BAD = [
    {"v": 1, "rv": 2**63, "after": ["a", "b"]}, {"v": 1, "rv": -2, "after": ["a", "b"]}, {"v": 1, "rv": True, "after": ["a", "b"]},
    {"v": 1, "rv": 1.5, "after": ["a", "b"]}, {"v": 1, "rv": "1", "after": ["a", "b"]}, {"v": 1, "rv": 1, "after": ["a\0", "b"]},
    {"v": 1, "rv": 1, "after": ["a"]}, {"v": 1, "rv": 1, "after": [1, 2]}, {"v": 1, "rv": 1, "after": None},
    {"v": 1, "rv": 1}, {"rv": 10**400}, [], None, 7, "x", {"v": 1, "rv": 1, "after": [["a"], {}]},
]  # fmt: skip


@pytest.mark.parametrize("said", BAD, ids=str)
def test_a_token_of_somebody_elses_making_is_a_bad_request(said: object) -> None:
    text = str(said).replace("'", '"') if isinstance(said, dict) and "rv" in said and said["rv"] == 10**400 else None
    token = base64.urlsafe_b64encode(text.encode() if text else orjson.dumps(said)).decode()
    with pytest.raises(ApiError) as caught:
        reads.decode_continue(token)
    assert caught.value.status == 400


@pytest.mark.parametrize("token", ["", "x", "ü", "====", "AAAA", "eyJ", "\ud800", base64.b64encode(b'{"rv":1,"after":["\\ud800","b"]}').decode()])
def test_a_text_that_is_no_token_is_a_bad_request(token: str) -> None:
    with pytest.raises(ApiError) as caught:
        reads.decode_continue(token)
    assert caught.value.status == 400


def test_every_revision_that_a_token_can_name_is_answered(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await fill(store, "a", "b")
        assert names_of(await reads.read(store.pool, Query(ROBOT, limit=1, after=("", "ä'%")), 1)) == []
        for rv in (2**63 - 1, 2**62, 10**12):
            with pytest.raises(ApiError) as caught:
                await reads.read(store.pool, Query(ROBOT, limit=1, after=("", "ä'%")), rv)
            assert caught.value.status == 410
        for rv in (None, 0, -1):
            assert names_of(await reads.read(store.pool, Query(ROBOT, limit=1, after=("", "")), rv)) == ["a"]

    with_store(body)
