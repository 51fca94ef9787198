"""What all callers share (connections of the database, memory) is not one caller's to use up."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import psycopg
import pytest

from casare_store import connection

from ..conftest import until
from .conftest import Api, Robot, is_status, message

MIB = 1024 * 1024


@contextlib.contextmanager
def database(api: Api) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(api.server.database, autocommit=True) as opened:
        yield opened


def test_a_list_may_not_keep_its_connection_for_long(database: str) -> None:
    async def body() -> list[Any]:
        async with connection.pool(database, 1) as pool, pool.connection() as taken:
            async with connection.snapshot(taken):
                inside = await (await taken.execute("SHOW statement_timeout")).fetchone()
            after = await (await taken.execute("SHOW statement_timeout")).fetchone()
            return [inside, after]

    assert asyncio.run(body()) == [("10s",), ("1min",)]


@pytest.mark.parametrize(("state", "said"), [("25P04", "took too long"), ("57014", "took too long"), ("XX000", "log")])
def test_whatever_the_database_refuses_is_no_fault_of_ours(api: Api, state: str, said: str) -> None:
    """A transaction that took too long, a statement that was cancelled, anything else that nobody thought of."""
    api.create("Workflow", "w")
    revision = api.get("Workflow", "w")["status"]["revision"]
    path = f"{api.path('Workflow', 'w')}/revisions/{revision}"
    with database(api) as opened:
        opened.execute(
            "CREATE FUNCTION refuse() RETURNS boolean LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = '{state}'; END $$"
        )
        opened.execute("ALTER TABLE revisions RENAME TO kept")
        opened.execute("CREATE VIEW revisions AS SELECT * FROM kept WHERE refuse()")
        try:
            refused = api.call("GET", path)
        finally:
            opened.execute("DROP VIEW revisions")
            opened.execute("ALTER TABLE kept RENAME TO revisions")
            opened.execute("DROP FUNCTION refuse")
    assert said in message(refused, 503)
    assert "not today" in api.server.log("apiserver")
    assert api.call("GET", path).status_code == 200


def test_heartbeats_do_not_wait_for_readers(api: Api, robot: Callable[..., Robot]) -> None:
    rob = robot()
    rob.report()
    with contextlib.ExitStack() as stack, database(api) as watching:
        readers = stack.enter_context(ThreadPoolExecutor(12))
        callers = [api.of(api.key) for _ in range(12)]
        with database(api) as locking, locking.transaction():
            locking.execute("LOCK TABLE fires IN ACCESS EXCLUSIVE MODE")
            lists = [readers.submit(one.call, "GET", one.path("Fire")) for one in callers]
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%fires%'"
            until(lambda: watching.execute(waiting).fetchone() == (8,), "all connections for reads wait")
            ticks = "SELECT max(last) > clock_timestamp() - interval '1 second' AND max(last) > %s FROM coverage"
            now = watching.execute("SELECT clock_timestamp() + interval '1 second'").fetchone()
            until(lambda: watching.execute(ticks, now).fetchone() == (True,), "heartbeats are written", 4)
            assert rob.api.call("POST", rob.path, {}).status_code == 200
        assert {one.result().status_code for one in lists} == {200}
        for one in callers:
            one.close()


def test_large_files_take_turns(api: Api) -> None:
    """Eight of 32 MiB at once: no more than two of them are in memory, and small ones do not wait."""
    process = psutil.Process(api.server.processes["apiserver"].pid)
    files = [bytes([number]) * (32 * MIB) for number in range(8)]
    before, peak, done = process.memory_info().rss, 0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    def transfer(data: bytes) -> bool:
        caller = api.of(api.key)
        try:
            sent = caller.call("PUT", blob(api, data), content=data)
            return sent.status_code == 201 and caller.call("GET", blob(api, data)).content == data
        finally:
            caller.close()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with ThreadPoolExecutor(8) as callers:
            assert all(callers.map(transfer, files))
    finally:
        done.set()
        looking.join()
    assert peak - before < 400 * MIB, (peak - before) // MIB


def test_large_files_that_do_not_come_hold_up_no_small_ones(api: Api) -> None:
    def endless() -> Iterator[bytes]:
        yield b"x" * MIB
        released.wait(20)

    released = threading.Event()
    callers = [api.of(api.key) for _ in range(4)]
    with ThreadPoolExecutor(4) as sending:
        large = [sending.submit(one.call, "PUT", blob(api, b"?"), content=endless()) for one in callers]
        try:
            assert api.call("PUT", blob(api, b"small"), content=b"small").status_code == 201
            assert api.call("GET", blob(api, b"small")).content == b"small"
        finally:
            released.set()
        assert all(is_status(one.result(), one.result().status_code) for one in large)
    for one in callers:
        one.close()


def blob(api: Api, data: bytes) -> str:
    return f"/apis/fleet.casare.net/v1/namespaces/{api.namespace}/blobs/{hashlib.sha256(data).hexdigest()}"
