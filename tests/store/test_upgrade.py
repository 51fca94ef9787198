"""Jobs that the release before submitted, under its schema (0003), go on under this one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pytest

from casare_api.decisions import lifecycle
from casare_api.kinds import KINDS, Object
from casare_api.kinds.core import NAMESPACE
from casare_api.machinery import times
from casare_controller.duties.placement import Placement
from casare_controller.duties.timers import Timers
from casare_migrations import runner
from casare_store import admission, columns, objects, placing, reads
from casare_store.embedded import Server
from casare_store.events import Recorder
from casare_store.heartbeats import Heartbeats
from casare_store.operations import Context, Found, Operation
from casare_store.store import Store

from ..conftest import database_url, drop_database
from .conftest import ROBOT, robot

JOB = KINDS["Job"]
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
GONE = "1c6b2e9e-0000-4000-8000-000000000001"  # the robot of the job that runs
SAP = {"key": "sap {{ parameters.user }}"}  # the release before kept the places in a key as they were written

# As the release before writes a job. It knows nothing of keys.
INSERT = """
INSERT INTO jobs (uid, namespace, name, rv, head, tail, phase, robot_uid, class, rank, ready, due, robot_name)
VALUES (%s, 'default', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"""
READY = "UPDATE jobs SET ready = true, phase = 'Queued' WHERE name = %s"
ASSIGNED = "UPDATE jobs SET ready = false, phase = 'Assigned', robot_uid = %s WHERE name = %s"


def queued(name: str, minute: int, **spec: Any) -> Object:
    """A job that was submitted so many minutes after the first."""
    now = LONG_AGO + timedelta(minutes=minute)
    meta = {"name": name, "namespace": "default", "uid": objects.new_uid(now), "creationTimestamp": times.to_text(now)}
    spec = {"workflow": {"runner": "command", "args": ["true"]}, "parameters": {"text": '"concurrency":'}, **spec}
    job = {
        "apiVersion": "fleet.casare.net/v1",
        "kind": "Job",
        "metadata": {**meta, "resourceVersion": "1"},
        "spec": spec,
    }
    return lifecycle.queue(job, now)


def running(name: str, minute: int, **spec: Any) -> Object:
    job = lifecycle.assign(queued(name, minute, **spec), "gone", GONE, LONG_AGO)
    return lifecycle.report(job, GONE, {"attempt": 1, "phase": "Running"}, LONG_AGO)


def insert(connection: psycopg.Connection[Any], job: Object, rv: int) -> None:
    meta, status = {**job["metadata"], "resourceVersion": str(rv)}, job["status"]
    head, _, tail = columns._split(JOB, {**job, "metadata": meta})
    is_ready = status["phase"] == "Queued" and "heldUntil" not in status
    class_, rank = columns.requirements(job).digest(), lifecycle.rank(job)
    index = (
        status["phase"],
        status.get("robotUID"),
        class_,
        rank,
        is_ready,
        lifecycle.due(job),
        status.get("robotName"),
    )
    connection.execute(INSERT, (meta["uid"], meta["name"], rv, head.decode(), tail.decode(), *index))
    connection.execute("UPDATE heads SET rv = %s", (rv,))


@pytest.fixture
def upgraded(postgres: Server) -> Iterator[Callable[..., None]]:
    """Fills a database of the release before with jobs, migrates it, and runs a body with a store and a robot."""
    name = f"old_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = database_url(postgres.url, name)

    def run(old: list[Object], body: Callable[[Store], Awaitable[None]]) -> None:
        runner.migrate(url, "0003")
        with psycopg.connect(url) as connection:
            for rv, job in enumerate(old, 1):
                insert(connection, job, rv)
        runner.migrate(url)
        asyncio.run(asyncio.wait_for(main(body), 120))

    async def main(body: Callable[[Store], Awaitable[None]]) -> None:
        store = await Store.open(url)
        try:
            await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "default"}}))
            made = await store.writer.write(admission.create(ROBOT, robot("r", maxConcurrentJobs=50)))
            assert made is not None
            await Heartbeats(store.pool).flush({made["metadata"]["uid"]: None})
            await rows(store, "UPDATE leases SET online = true")
            await body(store)
        finally:
            await store.close()

    yield run
    drop_database(postgres, url)


async def tick(store: Store) -> list[str]:
    """Timers, then placement; the jobs that the robot has then."""
    await Timers(store, Recorder(store.writer, "test")).run_once()
    await Placement(store, Recorder(store.writer, "test")).run_once()
    return [str(name) for (name,) in await rows(store, "SELECT name FROM jobs WHERE robot_name = 'r' ORDER BY name")]


async def rows(store: Store, query: str, *args: Any) -> list[Any]:
    async with store.pool.connection() as connection:
        cursor = await connection.execute(query, args)
        return await cursor.fetchall() if cursor.description else []


async def end(store: Store, name: str) -> None:
    def say(current: Object, context: Context) -> Object:
        said = {"attempt": current["status"]["attempt"], "phase": "Succeeded"}
        return lifecycle.report(current, current["status"]["robotUID"], said, context.now)

    await store.writer.write(Operation(JOB, "default", name, say))


def test_jobs_with_a_concurrency_key_wait_for_what_runs_and_move_one_after_the_other(upgraded: Any) -> None:
    soon = times.to_text(LONG_AGO + timedelta(hours=1))
    old = [
        running("live", 0, concurrency=SAP),
        queued("held", 1, concurrency=SAP, notBefore=soon),
        queued("next", 2, concurrency=SAP),
        queued("free", 3),
    ]

    async def body(store: Store) -> None:
        assert await rows(store, "SELECT DISTINCT ckey, climit FROM jobs WHERE name <> 'free'") == [(SAP["key"], 1)]
        assert await tick(store) == ["free"]
        await end(store, "live")
        (first,) = set(await tick(store)) - {"free"}
        await end(store, first)
        (second,) = set(await tick(store)) - {"free", first}
        assert {first, second} == {"held", "next"}

    upgraded(old, body)


def test_of_jobs_with_the_same_idempotency_key_the_oldest_has_it_and_the_others_still_change(upgraded: Any) -> None:
    over = running("over", 0, idempotencyKey="once")
    over = lifecycle.report(over, GONE, {"attempt": 1, "phase": "Succeeded"}, LONG_AGO)
    old = [over, queued("second", 2, idempotencyKey="once"), queued("first", 1, idempotencyKey="once")]

    def cancelled(current: Object, context: Context) -> Object:
        return {**current, "spec": {**current["spec"], "cancel": True}}

    async def body(store: Store) -> None:
        again = await store.writer.write(admission.create(JOB, queued("third", 3, idempotencyKey="once")))
        assert isinstance(again, Found) and again["metadata"]["name"] == "first"
        assert await tick(store) == ["first", "second"]
        for name in ("second", "first"):
            await store.writer.write(admission.update(JOB, "default", name, cancelled))
        kept = await rows(store, "SELECT name, phase, idempotency FROM jobs ORDER BY name")
        assert kept == [("first", "Cancelled", "once"), ("over", "Succeeded", None), ("second", "Cancelled", None)]

    upgraded(old, body)


async def shown(store: Store) -> int:
    return sum(chunk.count(b'"kind":"Job"') for chunk in (await reads.read(store.pool, reads.Query(JOB))).chunks)


def test_what_the_release_before_makes_of_parked_jobs_does_no_harm(upgraded: Any) -> None:
    """It goes on writing beside this one, and leaves `parked` as it is."""

    async def body(store: Store) -> None:
        for name in ("a", "b", "c"):
            await store.writer.write(admission.create(JOB, queued(name, 1, concurrency={"key": "sap"})))
        assert await rows(store, "SELECT DISTINCT parked FROM jobs WHERE name IN ('a', 'b', 'c')") == [(True,)]
        await rows(store, READY, "a")
        await rows(store, ASSIGNED, GONE, "b")
        assert await shown(store) == 4
        assert await tick(store) == ["free"], "b has the key"
        assert await shown(store) == 4
        await rows(store, "UPDATE jobs SET phase = 'Succeeded' WHERE name = 'b'")
        (next_,) = set(await tick(store)) - {"free"}
        assert next_ in ("a", "c")
        await end(store, next_)
        assert len(await tick(store)) == 3

    upgraded([queued("free", 0)], body)


def test_a_parked_job_that_the_release_before_holds_back_is_not_placed_before_its_time(upgraded: Any) -> None:
    later = times.to_text(datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1))

    async def body(store: Store) -> None:
        await store.writer.write(admission.create(JOB, queued("a", 1, concurrency={"key": "sap"}, notBefore=later)))
        await rows(store, "UPDATE jobs SET parked = true")  # it was parked when it was held back
        assert await tick(store) == []
        assert await rows(store, "SELECT ready, parked FROM jobs") == [(False, False)]
        assert not (await first_look(store)).has_parked

    upgraded([], body)


async def first_look(store: Store) -> placing.Look:
    async with store.batches.connection() as connection:
        return await placing.queues(connection)


def test_a_job_that_the_release_before_submits_beside_this_one_waits_without_a_slot(upgraded: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(JOB, queued("has-it", 1, concurrency={"key": "sap"})))
        assert await tick(store) == ["has-it"]
        await rows(store, "UPDATE leases SET online = true")
        (rv,) = (await rows(store, "SELECT rv FROM heads"))[0]
        with psycopg.connect(store.url) as connection:
            for n in range(60):  # more than the robot has slots
                insert(connection, queued(f"late-{n}", 2, concurrency={"key": "sap"}), rv + 1 + n)
        await store.writer.write(admission.create(JOB, {**queued("free", 3), "kind": "Job"}))
        await tick(store)
        assert await tick(store) == ["free", "has-it"]
        await end(store, "has-it")
        assert len(await tick(store)) == 3, "one of those has the key now"

    upgraded([], body)


# How placement of the release before (0005) keeps what it found; it does so every few seconds, also where it is nothing.
TELLS = "INSERT INTO queue_reasons SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[]) ON CONFLICT DO NOTHING"


def test_while_a_controller_of_the_release_before_runs_nobody_hears_that_none_does(upgraded: Any) -> None:
    async def rules(store: Store) -> list[str]:
        page = await reads.read(store.pool, reads.Query(JOB))
        return [each["rule"] for each in orjson.loads(page.chunks[0])["status"]["reasons"]]

    async def body(store: Store) -> None:
        assert await rules(store) == ["placement"], "it has its time to begin with"
        await rows(store, "UPDATE duty_runs SET at = at - interval '1 hour'")
        assert await rules(store) == ["controller"]
        await rows(store, TELLS, [], [], [])
        assert await rules(store) == ["placement"]

    upgraded([queued("j", 0)], body)
