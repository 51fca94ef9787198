"""How do tests hold up the writing of history, and how do they know that somebody waits to write?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from casare_store.connection import HISTORY_LOCK

from .conftest import until

_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'casare-batch'"""


@contextmanager
def nothing_is_written(database: str) -> Iterator[None]:
    """What is to be written has to wait: somebody has the lock of all history."""
    with psycopg.connect(database) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (HISTORY_LOCK,))
        yield


def until_somebody_waits(database: str) -> None:
    """Until a batch of a server's waits for that lock."""
    with psycopg.connect(database, autocommit=True) as connection:
        until(lambda: connection.execute(_WAITING).fetchall() != [(0,)], "a batch waits for the lock of history")


async def somebody_waits(database: str) -> None:
    """The same, while tasks of this loop go on."""
    await asyncio.to_thread(until_somebody_waits, database)
