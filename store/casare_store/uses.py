"""Where is it kept when a key was last used? In a narrow table beside history, joined when keys are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

Pool = AsyncConnectionPool[AsyncConnection[Any]]


@dataclass(frozen=True, slots=True)
class Use:
    """A key was used so many seconds ago, from this address."""

    key_uid: str
    ago: float
    address: str


# In key order, so that two apiservers never deadlock; what another one wrote within the minute stays. It need not
# survive a crash of Postgres.
_WRITE = """
INSERT INTO key_uses AS u (key_uid, at, address)
SELECT key_uid, clock_timestamp() - make_interval(secs => ago), address
FROM unnest(%s::uuid[], %s::float8[], %s::text[]) AS n(key_uid, ago, address) ORDER BY key_uid
ON CONFLICT (key_uid) DO UPDATE SET at = excluded.at, address = excluded.address
WHERE u.at <= excluded.at - interval '1 minute'"""


async def write(pool: Pool, found: Sequence[Use]) -> None:
    """Writes uses, at most one a minute and key."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = off")
        args = [one.key_uid for one in found], [one.ago for one in found], [one.address for one in found]
        await connection.execute(_WRITE, args)
