"""Which kinds of objects have changed? Told by those who commit, for whoever looks at how things stand then.

A NOTIFY says `REVISION KIND,KIND`; that of a heartbeat says `Lease` alone, for leases are no part of history. Any kind
may have changed where an older release's says nothing, and where the last one was missed. Postgres loses none of a
connection that lives, and whoever listens has a timer, too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Any

from psycopg import AsyncConnection

from casare_store.connection import CHANNEL, connect

LOOK_EVERY = 1.0  # seconds of silence after which the head of history is asked whether all was heard
LEASE = "Lease"


def payload(rv: int, kinds: Iterable[str]) -> str:
    """What a commit up to a revision tells of."""
    return f"{rv} {','.join(sorted(kinds))}"


def parse(said: str) -> tuple[int, frozenset[str] | None]:
    """The revision, 0 where there is none, and the kinds, None where it does not say."""
    first, _, second = said.rpartition(" ")
    return int(first) if first.isascii() and first.isdigit() else 0, frozenset(second.split(",")) if second else None


async def follow(url: str) -> AsyncGenerator[frozenset[str] | None]:
    """Kinds that have changed, for ever; None where it may be any, none of them once a second of silence.

    Raises psycopg.OperationalError when the database is lost.
    """
    connection = await connect(url, "news")
    try:
        await connection.execute(f"LISTEN {CHANNEL}")
        heard = await _head(connection)
        yield None  # what happened before
        while True:
            told = [parse(one.payload) async for one in connection.notifies(timeout=LOOK_EVERY, stop_after=1)]
            if told:
                heard = max(heard, *(rv for rv, _ in told))
                yield _together(kinds for _, kinds in told)
            else:
                head = await _head(connection)
                yield frozenset() if head == heard else None
                heard = head
    finally:
        await connection.close()


def _together(said: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    found: set[str] = set()
    for kinds in said:
        if kinds is None:
            return None
        found |= kinds
    return frozenset(found)


async def _head(connection: AsyncConnection[Any]) -> int:
    cursor = await connection.execute("SELECT rv FROM heads")
    found = await cursor.fetchone()
    return int(found[0]) if found else 0
