"""How do we talk to Postgres? Connections with the limits that keep one stuck client from stopping all writes.

Every connection is direct (a transaction pooler breaks LISTEN), autocommit, and bounded: a statement, a lock wait and
an idle transaction each end by themselves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

# The one lock of the store's history. Any 63-bit number does, as long as all processes use the same.
HISTORY_LOCK = 0x0CA5A5E
CHANNEL = "casare"
LARGE_FILES = 2  # at once
ARTIFACTS = 4  # connections for parts of jobs' files, each for a moment
SNAPSHOT_TIMEOUT = "10s"  # of one statement
DatabaseError = psycopg.Error  # what any statement may raise; for callers that have no business with the driver

_LIMITS = {
    "lock_timeout": "10s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "10s",
    "transaction_timeout": "60s",
    "synchronous_commit": "on",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",  # else each batch's arrays are planned as constants
    "timezone": "UTC",
    # A client whose machine is gone gives its locks up within seconds.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
}
# The same for a server whose machine is gone.
_SIGNS_OF_LIFE = {
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}


# A plan that is made while a table is empty is kept: it would go on reading the whole table when that has grown. What
# runs on these connections looks objects up by their keys, always.
_BY_KEY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}


_LISTS = {"work_mem": "32MB"}  # a list of 10,000 objects is sorted in memory


def options(*more: Mapping[str, str]) -> str:
    """The session settings, as libpq's `options`."""
    return " ".join(f"-c {key}={value}" for settings in (_LIMITS, *more) for key, value in settings.items())


# Batches prepare their statements themselves. The driver would drop all that is prepared, theirs too, after a rollback.
_UNPREPARED: dict[str, Any] = {"prepare_threshold": None}


async def connect(url: str, name: str) -> AsyncConnection[tuple[object, ...]]:
    """A connection of our own; `name` shows in pg_stat_activity. Raises psycopg.OperationalError."""
    return await AsyncConnection.connect(url, row_factory=tuple_row, **_settings(name, _BY_KEY))


async def connect_for_batches(url: str, name: str) -> AsyncConnection[tuple[object, ...]]:
    """A connection for `batch.begin`. Raises psycopg.OperationalError."""
    return await AsyncConnection.connect(url, row_factory=tuple_row, **_settings(name, _BY_KEY), **_UNPREPARED)


def pool(url: str, size: int) -> AsyncConnectionPool[AsyncConnection[tuple[object, ...]]]:
    """Connections for reads; opened by the caller."""
    return _pool(url, "read", 1, size, _settings("read", _LISTS))


def pool_for_heartbeats(url: str) -> AsyncConnectionPool[AsyncConnection[tuple[object, ...]]]:
    """The one connection of heartbeats, which wait for no reader; opened by the caller.

    Nobody else asks for it: whoever does not get it soon asks again, and so notices that the database is back.
    """
    return _pool(url, "heartbeats", 1, 1, _settings("heartbeats"), timeout=1)


def pool_for_files(url: str) -> AsyncConnectionPool[AsyncConnection[tuple[object, ...]]]:
    """Connections for large files, few and for a moment; opened by the caller.

    A connection keeps for good the buffers that the largest value took which it ever sent or received.
    """
    return _pool(url, "files", 0, LARGE_FILES, _settings("file"), max_idle=1)


def pool_for_parts(url: str) -> AsyncConnectionPool[AsyncConnection[tuple[object, ...]]]:
    """Connections for the parts of jobs' files; opened by the caller.

    A part is not waited for until it is on disk: the commit that makes a file of them comes after it in the same log,
    and that one is.
    """
    return _pool(url, "parts", 0, ARTIFACTS, _settings("parts", _BY_KEY, {"synchronous_commit": "off"}), max_idle=60)


def pool_for_batches(url: str, size: int) -> AsyncConnectionPool[AsyncConnection[tuple[object, ...]]]:
    """Connections for `batch.begin`, made when they are needed; opened by the caller."""
    return _pool(url, "batch", 0, size, {**_settings("batch", _BY_KEY), **_UNPREPARED})


def _settings(name: str, *more: Mapping[str, str]) -> dict[str, Any]:
    return {
        "autocommit": True,
        "application_name": f"casare-{name}",
        "options": options(*more),
        "connect_timeout": 5,
        **_SIGNS_OF_LIFE,
    }


def _pool(
    url: str, name: str, least: int, most: int, settings: dict[str, Any], *, timeout: float = 5, max_idle: float = 600
) -> AsyncConnectionPool[Any]:
    return AsyncConnectionPool(
        url,
        min_size=least,
        max_size=most,
        max_idle=max_idle,
        open=False,
        kwargs=settings,
        timeout=timeout,
        reconnect_timeout=0,
        check=None,
        name=f"casare-{name}",
    )


@asynccontextmanager
async def snapshot(connection: AsyncConnection[tuple[object, ...]], *, with_log: bool = False) -> AsyncIterator[int]:
    """A short REPEATABLE READ transaction; gives the head's resourceVersion as this snapshot sees it.

    Its statements end sooner than others: what they select is up to the caller, and their few connections serve all.
    `with_log`: no partition of the log that this snapshot believes to be there is dropped meanwhile.
    """
    begin = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '{SNAPSHOT_TIMEOUT}'"
    # Before the first query, which takes the snapshot.
    await connection.execute(f"{begin}; LOCK TABLE changes IN ACCESS SHARE MODE" if with_log else begin)
    try:
        cursor = await connection.execute("SELECT rv FROM heads")
        found = await cursor.fetchone()
        yield int(str(found[0])) if found else 0
    finally:
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.UNKNOWN:
            await connection.execute("COMMIT")
