"""Leases: heartbeats that no resource notices, and coverage that keeps outages from looking like dead robots."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from casare_store import admission, queues
from casare_store.heartbeats import Heartbeats, grace, interval
from casare_store.store import Store

from .conftest import ROBOT, robot


def test_the_interval_grows_with_the_fleet() -> None:
    assert [interval(n) for n in (1, 1_000, 5_500, 10_000, 50_000)] == [3, 3, 6, 10, 10]
    assert grace(3).total_seconds() == 10


async def enrol(store: Store, name: str) -> str:
    made = await store.writer.write(admission.create(ROBOT, robot(name)))
    assert made is not None
    return str(made["metadata"]["uid"])


def test_a_heartbeat_leaves_the_resource_alone(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "r")
        before = (await store.head()).rv
        beats = Heartbeats(store.pool)
        await beats.flush({uid: '{"cpuPercent": 5}'})
        await beats.flush({uid: None})
        assert (await store.head()).rv == before
        async with store.pool.connection() as connection:
            cursor = await connection.execute("SELECT online, telemetry, extract(epoch FROM expires_at - last_seen)::int FROM leases")
            assert await cursor.fetchall() == [(False, '{"cpuPercent": 5}', grace(3).total_seconds())]
            assert await queues.came_and_went(connection) == ([uid], [])

    with_store(body)


def test_replicas_that_flush_the_same_robots_do_not_deadlock(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uids = [str(uuid.uuid4()) for _ in range(500)]
        one, two = Heartbeats(store.pool), Heartbeats(store.pool)
        for _ in range(10):
            await asyncio.gather(one.flush(dict.fromkeys(uids)), two.flush(dict.fromkeys(reversed(uids))))

    with_store(body)


def test_silence_counts_only_while_somebody_listened(with_store: Any) -> None:
    """After an outage of all apiservers every robot has one full lease before it is called offline."""

    async def body(store: Store) -> None:
        uid = await enrol(store, "r")
        beats = Heartbeats(store.pool)
        await beats.flush({uid: None})
        async with store.pool.connection() as connection:
            await connection.execute(
                "UPDATE leases SET online = true, last_seen = clock_timestamp() - interval '20 s', "
                "expires_at = clock_timestamp() - interval '10 s'"
            )
            await connection.execute("UPDATE coverage SET since = clock_timestamp() - interval '3 s'")
            assert await queues.came_and_went(connection) == ([], []), "listening for 3 s only: nobody is judged"
            await connection.execute("UPDATE coverage SET since = clock_timestamp() - interval '60 s'")
            assert await queues.came_and_went(connection) == ([], [uid]), "covered all the time: it is silent"
            await connection.execute("UPDATE coverage SET last = clock_timestamp() - interval '9 s'")
            assert await queues.came_and_went(connection) == ([], []), "nobody listens now: nobody is judged"
            await connection.execute("UPDATE coverage SET since = clock_timestamp() - interval '60 s'")
        await beats.flush({})
        async with store.pool.connection() as connection:
            assert await queues.came_and_went(connection) == ([], []), "the gap ended the covered time"

    with_store(body)
