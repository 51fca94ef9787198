"""Files in parts: what many do at once never exceeds a job's limit, and nothing is kept that belongs to nobody."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from psycopg import errors

from casare_api.decisions.artifacts import MAX_FILES
from casare_api.kinds import KINDS
from casare_store import admission, artifacts, connection, queues
from casare_store.artifacts import PART, NoRoom, Place
from casare_store.operations import Operation
from casare_store.store import Store

JOB = KINDS["Job"]
Run = Callable[[Callable[[Store], Awaitable[Any]]], Any]


async def job(store: Store) -> str:
    """A job; its uid."""
    spec = {"workflow": {"runner": "command", "args": ["true"]}}
    made = await store.writer.write(admission.create(JOB, {
        "apiVersion": JOB.api_version, "kind": "Job", "metadata": {"name": "j", "namespace": "default"}, "spec": spec,
    }))  # fmt: skip
    assert made is not None
    return str(made["metadata"]["uid"])


async def put(store: Store, place: Place, content: bytes) -> None:
    """A file, part by part."""
    id = uuid4()
    for number, start in enumerate(range(0, len(content), PART)):
        await artifacts.add_part(store.pool, id, number, content[start : start + PART])
    await artifacts.keep(store.pool, place, id, len(content), hashlib.sha256(content).hexdigest())


async def counted(store: Store) -> tuple[int, int]:
    """How many files there are, and how many parts."""
    async with store.pool.connection() as found:
        row = await (
            await found.execute("SELECT (SELECT count(*) FROM artifacts), (SELECT count(*) FROM artifact_parts)")
        ).fetchone()
    assert row is not None
    return row[0], row[1]


async def age(store: Store, table: str, by: str) -> None:
    async with store.pool.connection() as found:
        await found.execute(f"UPDATE {table} SET at = at - '{by}'::interval")


async def sweep(store: Store) -> None:
    async with store.pool.connection() as found:
        await queues.sweep(found)


def test_files_that_come_at_the_same_time_never_exceed_the_limit(with_store: Run) -> None:
    async def body(store: Store) -> None:
        uid = await job(store)
        places = [Place(uid, 1, f"f{number}", 1000, "1000") for number in range(20)]
        ended = await asyncio.gather(*(put(store, place, b"x" * 150) for place in places), return_exceptions=True)
        refused = [one for one in ended if one is not None]
        assert len(refused) == 14 and all(isinstance(one, NoRoom) for one in refused)
        assert sum(one.size for one in await artifacts.listed(store.pool, uid)) == 900

    with_store(body)


def test_the_same_file_sent_twice_at_once_is_there_once_and_whole(with_store: Run) -> None:
    async def body(store: Store) -> None:
        place = Place(await job(store), 1, "f", 10**7, "much")
        contents = [bytes([number]) * (PART + 1) for number in range(8)]
        await asyncio.gather(*(put(store, place, content) for content in contents))
        found = await artifacts.find(store.pool, place.job_uid, "f")
        assert found is not None and await counted(store) == (1, 2)
        parts = [await artifacts.part(store.pool, found.id, number) for number in (0, 1)]
        whole = b"".join(part or b"" for part in parts)
        assert whole in contents and hashlib.sha256(whole).hexdigest() == found.sha256

    with_store(body)


def test_a_job_has_so_many_files_and_those_of_earlier_attempts_go_first(with_store: Run) -> None:
    async def body(store: Store) -> None:
        uid = await job(store)
        async with store.pool.connection() as found:
            await found.execute(
                "INSERT INTO artifacts (job_uid, attempt, name, id, size, sha256) "
                "SELECT %s, 1 + i / 600, 'f' || i, gen_random_uuid(), 0, '' FROM generate_series(0, %s) i",
                (uid, MAX_FILES - 1),
            )
        await put(store, Place(uid, 2, "g", 10, "10"), b"")
        listed = await artifacts.listed(store.pool, uid)
        assert len(listed) == MAX_FILES and sum(one.attempt == 1 for one in listed) == 599
        with pytest.raises(NoRoom, match="no more than 1000 files"):
            await put(store, Place(uid, 1, "h", 10, "10"), b"")

    with_store(body)


def test_files_of_a_job_that_is_gone_go_some_minutes_later(with_store: Run) -> None:
    async def body(store: Store) -> None:
        uid = await job(store)
        await put(store, Place(uid, 1, "f", 10, "10"), b"x")
        await age(store, "artifacts", "1 day")
        await age(store, "artifact_parts", "1 day")
        await sweep(store)
        assert await counted(store) == (1, 1), "the job is there"
        await put(store, Place(str(uuid4()), 1, "f", 10, "10"), b"x")
        await store.writer.write(Operation(JOB, "default", "j", lambda current, context: None))
        await sweep(store)
        assert await counted(store) == (1, 1), "the one that came just now stays"
        await age(store, "artifacts", "10 minutes")
        await age(store, "artifact_parts", "1 hour")
        await sweep(store)
        assert await counted(store) == (0, 0)

    with_store(body)


def test_parts_of_a_file_that_never_came_whole_go_when_nobody_can_be_sending_it(with_store: Run) -> None:
    async def body(store: Store) -> None:
        await artifacts.add_part(store.pool, uuid4(), 0, b"x")
        await age(store, "artifact_parts", "59 minutes")
        await sweep(store)
        assert await counted(store) == (0, 1)
        await age(store, "artifact_parts", "1 minute")
        await sweep(store)
        assert await counted(store) == (0, 0)

    with_store(body)


def test_no_part_is_larger_than_a_mebibyte_and_none_is_packed(with_store: Run) -> None:
    async def body(store: Store) -> None:
        with pytest.raises(errors.CheckViolation):
            await artifacts.add_part(store.pool, uuid4(), 0, b"x" * (2**20 + 1))
        await artifacts.add_part(store.pool, uuid4(), 0, b"x" * PART)
        async with store.pool.connection() as found:
            row = await (await found.execute("SELECT pg_column_size(data) FROM artifact_parts")).fetchone()
        assert row is not None and row[0] == PART, "stored out of line as it is"

    with_store(body)


def test_parts_travel_on_connections_of_their_own_that_do_not_wait_for_the_disk(database: str) -> None:
    async def body() -> list[Any]:
        pool = connection.pool_for_parts(database)
        await pool.open()
        try:
            async with pool.connection() as found:
                return list(await (await found.execute("SHOW synchronous_commit")).fetchone() or ())
        finally:
            await pool.close()

    assert asyncio.run(body()) == ["off"]
