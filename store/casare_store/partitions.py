"""How does the change log stay small? It is cut into partitions by revision; old ones are dropped whole.

Making the next partition never waits for readers (ATTACH takes no lock that a read conflicts with). Dropping one is
done under the history lock with NOWAIT: while any reader is inside the log the drop gives up at once, so no writer ever
queues behind it. `heads.compacted_rv` moves in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection

from casare_store.connection import HISTORY_LOCK

WIDTH = 250_000  # changes in a partition: about 300 MB
RETENTION = timedelta(minutes=30)  # how long a watcher may be away and still resume
_made: set[tuple[str, int]] = set()  # (store, partition) that this process knows to exist; only ever a shortcut


def name(number: int) -> str:
    """The table of the partition that holds revisions number*WIDTH up to the next one's first."""
    return f"changes_{number}"


def missing(connection: AsyncConnection[Any], first: int, last: int) -> list[int]:
    """The partitions for these revisions that this process does not know to exist."""
    store = _store(connection)
    return [number for number in range(first // WIDTH, last // WIDTH + 1) if (store, number) not in _made]


async def make(connection: AsyncConnection[Any], numbers: list[int]) -> None:
    """Makes the partitions that are not there yet. The caller holds the history lock, and calls `remember` once its
    transaction is committed: until then they may go again."""
    for number in numbers:
        cursor = await connection.execute("SELECT to_regclass(%s)", (name(number),))
        found = await cursor.fetchone()
        if found is None or found[0] is None:
            await _make(connection, number)


def remember(connection: AsyncConnection[Any], numbers: Iterable[int]) -> None:
    """Notes partitions that are known to be there."""
    _made.update((_store(connection), number) for number in numbers)


def _store(connection: AsyncConnection[Any]) -> str:
    return connection.info.dbname + (connection.info.host or "")


async def _make(connection: AsyncConnection[Any], number: int) -> None:
    """A partition is only added to and then dropped whole: there is nothing to vacuum, and doing it as it grows takes a
    tenth of a core. Postgres still does what keeps transaction numbers from wrapping around."""
    low, high = number * WIDTH, (number + 1) * WIDTH
    like = "(LIKE changes INCLUDING ALL) WITH (autovacuum_enabled = off)"
    await connection.execute(f"CREATE TABLE {name(number)} {like}")
    await connection.execute(f"ALTER TABLE changes ATTACH PARTITION {name(number)} FOR VALUES FROM ({low}) TO ({high})")


async def compact(connection: AsyncConnection[Any], retention: timedelta = RETENTION) -> int:
    """Drops the oldest partition if all of it is older than `retention` and history has moved beyond it.

    Returns how many revisions were dropped: 0 when there is nothing to drop or a reader is in the way (try later).
    """
    if await _oldest(connection, retention) is None:  # most of the time: nobody shall wait for that
        return 0
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (HISTORY_LOCK,))
            oldest = await _oldest(connection, retention)
            if oldest is None:
                return 0
            await connection.execute("LOCK TABLE changes IN ACCESS EXCLUSIVE MODE NOWAIT")
            await connection.execute(f"DROP TABLE {name(oldest)}")
            high = (oldest + 1) * WIDTH - 1
            await connection.execute("UPDATE heads SET compacted_rv = %s WHERE compacted_rv < %s", (high, high))
            return WIDTH
    except psycopg.errors.LockNotAvailable:
        return 0


async def _oldest(connection: AsyncConnection[Any], retention: timedelta) -> int | None:
    """The number of the oldest partition if it may go."""
    cursor = await connection.execute(
        "SELECT min(substr(c.relname, 9)::bigint) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'changes'::regclass"
    )
    found = await cursor.fetchone()
    if found is None or found[0] is None:
        return None
    number = int(found[0])
    cursor = await connection.execute(
        "SELECT h.rv >= %s AND coalesce((SELECT at FROM changes WHERE rv >= %s AND rv < %s ORDER BY rv DESC LIMIT 1), "
        "'-infinity') < clock_timestamp() - %s FROM heads h",
        ((number + 1) * WIDTH, number * WIDTH, (number + 1) * WIDTH, retention),
    )
    may_go = await cursor.fetchone()
    return number if may_go and may_go[0] else None
