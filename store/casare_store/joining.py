"""Which join token, and which key, is known by this hash? Two look-ups in unique indexes."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

Place = tuple[str, str]  # namespace and name

_FIND = """
SELECT t.namespace, t.name, k.namespace, k.name
FROM jointokens t LEFT JOIN apikeys k ON k.hash = %s WHERE t.hash = %s"""


async def find(
    pool: AsyncConnectionPool[AsyncConnection[Any]], token_hash: str, key_hash: str | None
) -> tuple[Place, Place | None] | None:
    """Where the JoinToken with this hash is, and the ApiKey with the other; None where there is no such token."""
    async with pool.connection() as connection:
        cursor = await connection.execute(_FIND, (key_hash, token_hash), prepare=True)
        found = await cursor.fetchone()
    if found is None:
        return None
    namespace, name, key_namespace, key_name = found
    return (namespace, name), (key_namespace, key_name) if key_name is not None else None
