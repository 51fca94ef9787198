"""The group-commit writer: per-item results, exact history, and what happens when things break."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import psycopg
import pytest

from casare_api.decisions.auditing import Caller
from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_store import admission, changes, reads
from casare_store.batch import Batch
from casare_store.connection import connect
from casare_store.operations import Context, Operation
from casare_store.store import Store
from casare_store.writer import MAX_OF_ONE

from .conftest import ROBOT, labelled, relabel, robot


async def all_changes(url: str) -> list[changes.Change]:
    connection = await connect(url, "test")
    try:
        found: list[changes.Change] = []
        while page := await changes.read_since(connection, found[-1].rv if found else 0):
            found += page
        return found
    finally:
        await connection.close()


def test_every_change_gets_the_next_number_and_is_in_the_log(with_store: Any) -> None:
    async def body(store: Store) -> None:
        made = await asyncio.gather(*(store.writer.write(admission.create(ROBOT, robot(f"r{n}"))) for n in range(300)))
        await asyncio.gather(*(store.writer.write(relabel(f"r{n}", n=str(n))) for n in range(300)))
        await asyncio.gather(*(store.writer.write(admission.remove(ROBOT, "default", f"r{n}")) for n in range(100)))
        log = await all_changes(store.url)
        assert [change.rv for change in log] == list(range(1, 702)), "no gap, no double"
        assert {change.type for change in log} == {"ADDED", "MODIFIED", "DELETED"}
        assert sorted(int(one["metadata"]["resourceVersion"]) for one in made) == list(range(2, 302))
        assert (await store.head()).rv == 701
        for change in log:
            assert orjson.loads(change.object)["metadata"]["resourceVersion"] == str(change.rv)

    with_store(body)


def test_a_conflict_is_one_items_answer(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(ROBOT, robot("taken")))
        wanted = [admission.create(ROBOT, robot(name)) for name in ("a", "taken", "b", "c")]
        done = await asyncio.gather(*map(store.writer.write, wanted), return_exceptions=True)
        assert [getattr(one, "reason", "ok") for one in done] == ["ok", "AlreadyExists", "ok", "ok"]

    with_store(body)


@pytest.mark.parametrize("place", [0, 250, 499])
def test_one_poisoned_item_in_a_batch_of_500_is_refused_alone(with_store: Any, place: int) -> None:
    """A value that Postgres refuses (here one too long for its index) sinks nobody else."""

    async def body(store: Store) -> None:
        robots = [robot(f"r{n}") for n in range(500)]
        # 3,000 random-looking bytes do not compress into an index row: admission refuses this, the store must too.
        robots[place]["spec"]["robotId"] = "".join(chr(0x100 + (n * 7919) % 5000) for n in range(3000))
        wanted = [admission.create(ROBOT, one) for one in robots]
        done = await asyncio.gather(*map(store.writer.write, wanted), return_exceptions=True)
        assert [getattr(one, "status", 201) for one in done].count(422) == 1
        assert getattr(done[place], "status", 201) == 422
        page = await reads.read(store.pool, reads.Query(ROBOT))
        assert len(orjson.loads(b"[" + b",".join(page.chunks) + b"]")) == 499
        assert [change.rv for change in await all_changes(store.url)] == list(range(1, 501))

    with_store(body)


def test_a_failing_mutation_is_an_answer_not_a_crash(with_store: Any) -> None:
    async def body(store: Store) -> None:
        def broken(current: Object | None, context: Context) -> Object:
            raise ZeroDivisionError

        done = await asyncio.gather(
            store.writer.write(Operation(ROBOT, "default", "x", broken)),
            store.writer.write(admission.create(ROBOT, robot("good"))), return_exceptions=True,
        )  # fmt: skip
        assert isinstance(done[0], ApiError) and done[0].status == 500
        assert isinstance(done[1], dict)

    with_store(body)


def test_a_stale_resource_version_conflicts(with_store: Any) -> None:
    async def body(store: Store) -> None:
        first = await store.writer.write(admission.create(ROBOT, robot("r")))
        assert first is not None
        await store.writer.write(relabel("r", a="1"))
        stale = {**first, "spec": {**first["spec"], "maxConcurrentJobs": 5}}
        with pytest.raises(ApiError) as refused:
            await store.writer.write(admission.update(ROBOT, "default", "r", lambda current, context: stale))
        assert (refused.value.status, refused.value.reason) == (409, "Conflict")

    with_store(body)


def test_a_write_that_changes_nothing_makes_no_history(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(ROBOT, robot("r")))
        await store.writer.write(relabel("r", a="1"))
        before = (await store.head()).rv
        again = await store.writer.write(relabel("r", a="1"))
        assert again is not None and again["metadata"]["resourceVersion"] == str(before)
        assert (await store.head()).rv == before

    with_store(body)


def test_writes_of_one_object_keep_their_order(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(ROBOT, robot("r")))
        await asyncio.gather(*(store.writer.write(relabel("r", n=str(n))) for n in range(50)))
        log = [change for change in await all_changes(store.url) if change.kind == "Robot"]
        said = [orjson.loads(change.object)["metadata"].get("labels", {}).get("n") for change in log]
        assert said == [None, *map(str, range(50))]

    with_store(body)


def test_many_writes_of_few_objects_hold_up_nobody_else(with_store: Any) -> None:
    """Each of them takes a batch: who asks for many is told to come back, and whoever comes behind is not late."""

    def by(name: str, operation: Operation) -> Operation:
        operation.by = Caller(name, "operator", "1.2.3.4", "patch", "robots", "default", f"uid-{name}")
        return operation

    async def body(store: Store) -> None:
        hot = [f"hot-{n}" for n in range(20)]
        await asyncio.gather(*(store.writer.write(admission.create(ROBOT, robot(name))) for name in hot))
        floods = [store.writer.submit([by("loud", relabel(name, n=str(n))) for n in range(2 * MAX_OF_ONE)]) for name in hot]
        (same,) = await store.writer.submit([by("other", relabel(hot[0], by="another"))])
        for answer in [one for flood in floods for one in (await flood)[MAX_OF_ONE:]]:
            assert isinstance(answer, ApiError) and answer.status == 429 and 'writes of Robot "hot-' in answer.message
        assert same["metadata"]["labels"]["by"] == "another", "nobody is refused for what another does"
        (late,) = await store.writer.submit([by("loud", relabel(hot[0], n="later"))])
        assert late["metadata"]["labels"]["n"] == "later"

    with_store(body)


def test_what_comes_behind_a_flood_is_with_its_first(with_store: Any) -> None:
    async def body(store: Store) -> None:
        hot = [f"hot-{n}" for n in range(20)]
        await asyncio.gather(*(store.writer.write(admission.create(ROBOT, robot(name))) for name in hot))
        before = (await store.head()).rv
        for name in hot:
            store.writer.submit([relabel(name, n=str(n)) for n in range(MAX_OF_ONE)])
        (other,) = await store.writer.submit([admission.create(ROBOT, robot("other"))])
        assert int(other["metadata"]["resourceVersion"]) <= before + 3 * len(hot), "not behind all of it"

    with_store(body)


def test_generation_counts_what_people_want_and_nothing_else(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(ROBOT, robot("r")))
        labelled_ = await store.writer.write(relabel("r", a="1"))
        status = await store.writer.write(
            admission.update(
                ROBOT, "default", "r", lambda current, context: {**current, "status": {"conditions": []}}, status=True
            )
        )
        spec = await store.writer.write(
            admission.update(
                ROBOT,
                "default",
                "r",
                lambda current, context: {**current, "spec": {**current["spec"], "maxConcurrentJobs": 3}},
            )
        )
        assert [one["metadata"]["generation"] for one in (labelled_, status, spec) if one] == [1, 1, 2]

    with_store(body)


def test_finalizers_hold_an_object_until_the_last_one_goes(with_store: Any) -> None:
    async def body(store: Store) -> None:
        held = robot("r")
        held["metadata"]["finalizers"] = ["example.com/one"]
        await store.writer.write(admission.create(ROBOT, held))
        marked = await store.writer.write(admission.remove(ROBOT, "default", "r"))
        assert marked is not None and marked["metadata"]["deletionTimestamp"]

        def drop(current: Object, context: Context) -> Object:
            return {**current, "metadata": {**current["metadata"], "finalizers": []}}

        await store.writer.write(admission.update(ROBOT, "default", "r", drop))
        assert await reads.get(store.pool, ROBOT, "default", "r") is None

    with_store(body)


def test_connections_that_break_lose_and_double_nothing(with_store: Any) -> None:
    """The writer's backend is terminated again and again, also in the middle of commits."""

    async def body(store: Store) -> None:
        stop = asyncio.Event()

        async def terminate() -> int:
            killed = 0
            async with await psycopg.AsyncConnection.connect(store.url, autocommit=True) as connection:
                while not stop.is_set() and killed < 25:
                    cursor = await connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
                        "'casare-writer' AND datname = current_database() AND state <> 'idle' LIMIT 1"
                    )
                    killed += len(await cursor.fetchall())
                    await asyncio.sleep(0)
            return killed

        killer = asyncio.create_task(terminate())
        written: list[str] = []
        for start in range(0, 2000, 100):
            wanted = [admission.create(ROBOT, robot(f"r{n}")) for n in range(start, start + 100)]
            done = await asyncio.gather(*map(store.writer.write, wanted))
            written += [one["metadata"]["uid"] for one in done if one]
        stop.set()
        assert await killer > 0, "no connection was broken: the test tested nothing"
        log = [change for change in await all_changes(store.url) if change.kind == "Robot"]
        assert sorted(change.uid for change in log) == sorted(written)
        assert len({change.name for change in log}) == 2000

    with_store(body)


def test_columns_are_an_index_over_the_text(with_store: Any) -> None:
    """Whatever was written, every typed column says what the object's text says."""
    from casare_store import columns

    async def body(store: Store) -> None:
        await store.writer.write(admission.create(ROBOT, labelled("a", site="berlin")))
        await store.writer.write(relabel("a", site="paris"))
        async with store.batch() as opened:
            (found,) = await opened.objects(ROBOT, "t.name = 'a'")
            rows = await opened.select("SELECT labels::text, phase, slots, robot_id, rv FROM robots WHERE name = 'a'")
        assert orjson.loads(rows[0][0]) == {"site": "paris"}
        encoded = dict(zip((name for name, _ in columns.columns(ROBOT)), columns.encode(ROBOT, None, found), strict=False))
        assert rows[0][1:] == (encoded["phase"], encoded["slots"], encoded["robot_id"], encoded["rv"])

    with_store(body)


def test_a_batch_that_has_to_wait_is_not_overtaken_by_what_came_behind_it(
    with_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first commit fails in passing, while the other connection could take the second write of the object."""

    async def body(store: Store) -> None:
        await store.writer.write(admission.create(ROBOT, robot("r")))
        both_are_there, commit, tries = asyncio.Event(), Batch.commit, iter([True])

        async def waiting(self: Batch) -> None:
            if next(tries, False):
                await both_are_there.wait()
                raise psycopg.errors.LockNotAvailable("made up")
            await commit(self)

        monkeypatch.setattr(Batch, "commit", waiting)
        first = store.writer.submit([relabel("r", n="1")])
        await asyncio.sleep(0)
        second = store.writer.submit([relabel("r", n="2")])
        both_are_there.set()
        answers = [*await first, *await second]
        assert [one["metadata"]["resourceVersion"] for one in answers if isinstance(one, dict)] == ["3", "4"]

    with_store(body)
