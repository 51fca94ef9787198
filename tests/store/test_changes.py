"""The change log: nothing lost, nothing reordered, and compaction that nobody waits for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import psycopg
import pytest

from casare_store import admission, changes, partitions, reads
from casare_store.changes import LogReader
from casare_store.connection import connect, snapshot
from casare_store.store import Store
from casare_store.writer import Writer

from .conftest import ROBOT, relabel, robot


async def terminate(url: str, name: str) -> int:
    """Ends the server side of every connection of this name."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s "
            "AND datname = current_database()",
            (name,),
        )
        return len(await cursor.fetchall())


def test_two_writers_and_a_reader_that_is_cut_off_again_and_again(with_store: Any) -> None:
    """Every change of two processes arrives once, in order, through forced disconnects of reader and listener."""

    async def body(store: Store) -> None:
        other = Writer(store.url)
        await other.start()
        seen: list[changes.Change] = []
        total = 1 + 2 * 1500 * 2

        async def follow() -> None:
            async for found in LogReader(store.url).follow(0):
                seen.extend(found)
                if len(seen) >= total:
                    return

        async def write(writer: Writer, prefix: str) -> None:
            for start in range(0, 1500, 50):
                names = [f"{prefix}{n}" for n in range(start, start + 50)]
                await asyncio.gather(*(writer.write(admission.create(ROBOT, robot(name))) for name in names))
                await asyncio.gather(*(writer.write(relabel(name, n=name)) for name in names))

        async def cut() -> int:
            cuts = 0
            while not reader.done():
                cuts += await terminate(store.url, "casare-log") + await terminate(store.url, "casare-listen")
                await asyncio.wait([reader], timeout=0.25)
            return cuts

        reader = asyncio.create_task(follow())
        cutter = asyncio.create_task(cut())
        await asyncio.gather(write(store.writer, "a"), write(other, "b"))
        await reader
        assert await cutter >= 4, "the reader was hardly cut off: the test tested nothing"
        await other.stop()
        assert [change.rv for change in seen] == list(range(1, total + 1))
        state: dict[str, str] = {}
        for change in seen:
            assert change.type == ("MODIFIED" if change.name in state else "ADDED")
            state[change.name] = change.type

    with_store(body)


def test_below_the_compacted_revision_and_above_the_head_it_says_so(with_store: Any) -> None:
    async def body(store: Store) -> None:
        connection = await connect(store.url, "test")
        head = (await store.head()).rv
        with pytest.raises(changes.Compacted):
            await changes.read_since(connection, head + 5)
        await connection.execute("UPDATE heads SET compacted_rv = %s", (head,))
        with pytest.raises(changes.Compacted) as error:
            await changes.read_since(connection, head - 1)
        assert (error.value.asked, error.value.head) == (head - 1, head)
        assert await changes.read_since(connection, head) == []
        await connection.close()

    with_store(body)


async def fill_partition(store: Store) -> None:
    """As if the first partition were full: history goes on in the next one."""
    async with store.pool.connection() as connection:
        await connection.execute("UPDATE heads SET rv = %s", (partitions.WIDTH,))
    await store.writer.write(admission.create(ROBOT, robot("in-the-next-partition")))


def test_compaction_drops_the_oldest_partition_and_moves_the_mark(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await fill_partition(store)
        async with store.pool.connection() as connection:
            assert await partitions.compact(connection, timedelta(hours=1)) == 0, "young changes stay"
            assert await partitions.compact(connection, timedelta(0)) == partitions.WIDTH
            head = await changes.head(connection)
            assert head.compacted_rv == partitions.WIDTH - 1
            assert [change.name for change in await changes.read_since(connection, head.compacted_rv)] == [
                "in-the-next-partition"
            ]
            assert await partitions.compact(connection, timedelta(0)) == 0, "the last partition stays"

    with_store(body)


def test_compaction_under_an_open_reader_makes_no_writer_wait(with_store: Any) -> None:
    """While somebody reads the log, the drop gives up at once; writers and lists go on as ever."""

    async def body(store: Store) -> None:
        await fill_partition(store)
        reader = await connect(store.url, "test")
        async with snapshot(reader):
            await reader.execute("SELECT count(*) FROM changes")  # holds its lock until the snapshot ends
            async with store.pool.connection() as connection:
                assert await partitions.compact(connection, timedelta(0)) == 0
                await connection.execute("SET lock_timeout = '200ms'")
                await connection.execute(
                    "INSERT INTO changes SELECT (SELECT rv FROM heads) + 1000, at, kind, type, "
                    "namespace, name, uid, object, labels, fields, old_labels, old_fields "
                    "FROM changes ORDER BY rv DESC LIMIT 1"
                )
                await connection.execute("RESET lock_timeout")
            await store.writer.write(admission.create(ROBOT, robot("while-it-is-read")))
            assert await reads.get(store.pool, ROBOT, "default", "while-it-is-read") is not None
        async with store.pool.connection() as connection:
            assert await partitions.compact(connection, timedelta(0)) == partitions.WIDTH
        await reader.close()

    with_store(body)


def test_a_list_is_one_moment_of_history(with_store: Any) -> None:
    """A list's resourceVersion and its objects belong together, however much is written meanwhile."""

    async def body(store: Store) -> None:
        await asyncio.gather(*(store.writer.write(admission.create(ROBOT, robot(f"r{n}"))) for n in range(50)))
        stop = asyncio.Event()

        async def churn() -> None:
            count = 0
            while not stop.is_set():
                count += 1
                await asyncio.gather(*(store.writer.write(relabel(f"r{n}", n=str(count))) for n in range(50)))

        writing = asyncio.create_task(churn())
        for _ in range(30):
            page = await reads.read(store.pool, reads.Query(ROBOT))
            objects = orjson.loads(b"[" + b",".join(page.chunks) + b"]")
            newest = max(int(one["metadata"]["resourceVersion"]) for one in objects)
            assert len(objects) == 50 and newest <= page.rv
            async with store.pool.connection() as connection:
                cursor = await connection.execute(
                    "SELECT max(rv) FROM changes WHERE kind = 'Robot' AND rv <= %s", (page.rv,)
                )
                assert (await cursor.fetchone() or [None])[0] == newest
        stop.set()
        await writing

    with_store(body)
