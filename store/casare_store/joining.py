"""What is there that a computer which joins may not do without, or may not share: its token, its key, keys of its name?

Tokens and keys are found by their hashes, and keys by their robot, in indexes. What is looked at under the history lock
is true when the enrolment commits.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from casare_api.kinds import Object
from casare_store.batch import Batch

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


# As the index has it: robots' names are compared by their bytes.
_OF_ROBOT = """
SELECT head || tail FROM apikeys WHERE namespace = %s AND robot_name COLLATE "C" = %s AND role = 'robot'
ORDER BY name"""


async def keys_of(batch: Batch, namespace: str, robot: str) -> list[Object]:
    """The ApiKeys that are for a robot of this name."""
    return [orjson.loads(text) for (text,) in await batch.select(_OF_ROBOT, (namespace, robot))]


# Word for word what the index is of.
_IS_PREVIOUS = "SELECT count(*) > 0 FROM apikeys WHERE (head || tail)::jsonb #>> '{status,previousHash}' = %s"


async def is_previous(batch: Batch, key_hash: str) -> bool:
    """Whether some ApiKey was known by this hash before it got another, which may open something still."""
    (found,) = await batch.select(_IS_PREVIOUS, (key_hash,))
    return bool(found[0])


_GONE = "SELECT u.uid FROM unnest(%s::text[]) AS u (uid) LEFT JOIN robots r ON r.uid::text = u.uid WHERE r.uid IS NULL"


async def gone(pool: AsyncConnectionPool[AsyncConnection[Any]], robots: Collection[str]) -> list[str]:
    """Which of these Robots (uid), of which each was there once, are not there any more."""
    if not robots:
        return []
    async with pool.connection() as connection:
        cursor = await connection.execute(_GONE, (list(robots),))
        return [uid for (uid,) in await cursor.fetchall()]
