"""Statements by hand: many at once, large ones, those that fail, and a connection that ends meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from casare_store.arrays import Texts
from casare_store.connection import connect_for_batches
from casare_store.pipeline import Connection, Pipeline


def run(database: str, body: Callable[[Connection], Awaitable[None]]) -> None:
    async def main() -> None:
        connection = await connect_for_batches(database, "test")
        try:
            await body(connection)
        finally:
            await connection.close()

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("megabytes", [1, 5, 50])
def test_what_does_not_fit_into_the_socket_goes_out_all_the_same(database: str, megabytes: int) -> None:
    async def body(connection: Connection) -> None:
        texts = Texts(["x" * 100_000] * (megabytes * 10))
        for _ in range(2):  # the second time the statement is prepared
            pipeline = Pipeline(connection)
            pipeline.send("SELECT sum(length(t)) FROM unnest($1::text[]) AS n(t)", (texts,))
            pipeline.flush()
            pipeline.send("SELECT 'next'")
            first, second = await pipeline.finish()
            assert (first.get_value(0, 0), second.get_value(0, 0)) == (b"%d" % (megabytes * 1_000_000), b"next")

    run(database, body)


def test_large_answers_come_in_while_much_is_sent(database: str) -> None:
    async def body(connection: Connection) -> None:
        pipeline = Pipeline(connection)
        for _ in range(20):
            pipeline.send("SELECT $1::text || $1::text", ("x" * 1_000_000,))
            pipeline.flush()
        assert [len(one.get_value(0, 0) or b"") for one in await pipeline.finish()] == [2_000_000] * 20

    run(database, body)


def test_the_first_that_fails_is_told_and_the_connection_goes_on(database: str) -> None:
    async def body(connection: Connection) -> None:
        for _ in range(2):
            pipeline = Pipeline(connection)
            pipeline.send("SELECT 1")
            pipeline.send("SELECT 1 / $1::int", ("0",))
            pipeline.send("SELECT nothing")
            with pytest.raises(psycopg.errors.DivisionByZero):
                await pipeline.finish()
            assert await pipeline.finish() == []
            pipeline.send("SELECT 1 / $1::int", ("1",))
            (found,) = await pipeline.finish()
            assert found.get_value(0, 0) == b"1"
        cursor = await connection.execute("SELECT 2")
        assert await cursor.fetchone() == (2,)

    run(database, body)


def test_a_connection_that_ends_is_an_error(database: str) -> None:
    async def body(connection: Connection) -> None:
        pipeline = Pipeline(connection)
        pipeline.send("SELECT pg_terminate_backend(pg_backend_pid())")
        pipeline.send("SELECT pg_sleep(30)")
        with pytest.raises(psycopg.OperationalError):
            await pipeline.finish()
        assert connection.closed

    run(database, body)
