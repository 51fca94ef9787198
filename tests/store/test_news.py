"""Whoever looks at how things stand hears which kinds have changed, also when what told of it was lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from casare_store import admission, news
from casare_store.connection import CHANNEL
from casare_store.store import Store

from .conftest import ROBOT, robot


@asynccontextmanager
async def listening(store: Store) -> AsyncIterator[AsyncGenerator[frozenset[str] | None]]:
    """What is told from now on."""
    async with aclosing(news.follow(store.url)) as told:
        assert await anext(told) is None, "what happened before may be anything"
        yield told


async def execute(store: Store, statement: str) -> None:
    async with store.pool.connection() as connection:
        await connection.execute(statement.encode())


def test_kinds_are_heard_as_they_are_committed(with_store: Any) -> None:
    async def body(store: Store) -> None:
        async with listening(store) as told:
            await store.writer.write(admission.create(ROBOT, robot("r")))
            assert await anext(told) == {"Robot"}
            assert await anext(told) == frozenset(), "a second of silence"

    with_store(body)


def test_an_older_release_that_says_nothing_may_have_changed_anything(with_store: Any) -> None:
    async def body(store: Store) -> None:
        async with listening(store) as told:
            await execute(store, f"NOTIFY {CHANNEL}")
            assert await anext(told) is None

    with_store(body)


def test_a_change_that_nobody_told_of_is_found_in_the_head(with_store: Any) -> None:
    async def body(store: Store) -> None:
        async with listening(store) as told:
            await execute(store, "UPDATE heads SET rv = rv + 1")
            assert await anext(told) is None
            assert await anext(told) == frozenset()

    with_store(body)
