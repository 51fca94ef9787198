"""Where are the files that jobs leave behind? In parts, which come and go one by one; a row makes them a file.

Always holds: a row in `artifacts` is a file that came whole; nobody sees parts without one, and the sweep takes them.
The newest attempt counts: where a job's files get too large together, those of its earlier attempts make room.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from casare_api.decisions import artifacts as rules
from casare_store.beside import LAST_WORDS, Pool

PART = 256 * 1024  # bytes; the last part of a file may be shorter
_LOCK = 0x0CA5A  # with the job's number: files of one job become files one after another
_COLUMNS = "name, attempt, size, sha256, at, id::text"


class NoRoom(Exception):
    """The file does not fit; the message says why, in words that follow its name."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file: its name, the attempt that left it behind, its length in bytes, its digest in hex, its parts' id."""

    name: str
    attempt: int
    size: int
    sha256: str
    at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is to be: a job, one of its attempts, a name; and what all files of the job may have together."""

    job_uid: str
    attempt: int
    name: str
    limit: int  # bytes
    limit_text: str

    def check(self, size: int, room: tuple[int, int]) -> None:
        """Raises NoRoom where a file of this size does not fit into this room (bytes, files)."""
        problem = rules.problem(size, room, self.limit_text)
        if problem is not None:
            raise NoRoom(problem)


# -- reading ---------------------------------------------------------------------------------------------------------

_NEWEST = f"""
SELECT DISTINCT ON (name) {_COLUMNS} FROM artifacts
WHERE job_uid = %s AND (%s::int IS NULL OR attempt = %s) AND (%s::text IS NULL OR name = %s)
ORDER BY name, attempt DESC"""


async def listed(pool: Pool, job_uid: str, attempt: int | None = None) -> list[Artifact]:
    """A job's files by name, of each name the newest attempt's; or those of one attempt."""
    async with pool.connection() as connection:
        return await _found(connection, job_uid, attempt, None)


async def find(pool: Pool, job_uid: str, name: str, attempt: int | None = None) -> Artifact | None:
    """The file of this name, the newest attempt's unless one is named; None where there is none."""
    async with pool.connection() as connection:
        found = await _found(connection, job_uid, attempt, name)
    return found[0] if found else None


async def _found(
    connection: AsyncConnection[Any], job_uid: str, attempt: int | None, name: str | None
) -> list[Artifact]:
    cursor = await connection.execute(_NEWEST, (job_uid, attempt, attempt, name, name), prepare=True)
    return [Artifact(*row) for row in await cursor.fetchall()]


async def part(pool: Pool, id: str, number: int) -> bytes | None:
    """A part by its number, from 0; None where it is gone (or was never there)."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT data FROM artifact_parts WHERE id = %s AND part = %s", (id, number), binary=True, prepare=True
        )
        found = await cursor.fetchone()
    return bytes(found[0]) if found else None


# -- writing ---------------------------------------------------------------------------------------------------------

_IS_OPEN = "SELECT coalesce(clock_timestamp() < %s::timestamptz + %s, true)"
_TAKEN = """
SELECT coalesce(sum(size), 0)::bigint, count(*) FROM artifacts
WHERE job_uid = %s AND attempt >= %s AND NOT (attempt = %s AND name = %s)"""


async def is_open(pool: Pool, ended: str | None) -> bool:
    """Whether a robot may still add files to a job that `ended` then (RFC 3339), by the database's clock."""
    async with pool.connection() as connection:
        cursor = await connection.execute(_IS_OPEN, (ended, LAST_WORDS))
        found = await cursor.fetchone()
    return bool(found and found[0])


async def room(pool: Pool, place: Place) -> tuple[int, int]:
    """The bytes and files that fit there now; what is there under this name, and earlier attempts', counts as gone."""
    async with pool.connection() as connection:
        return await _room(connection, place)


async def _room(connection: AsyncConnection[Any], place: Place) -> tuple[int, int]:
    args = (place.job_uid, place.attempt, place.attempt, place.name)
    found = await (await connection.execute(_TAKEN, args)).fetchone()
    assert found is not None
    return place.limit - int(found[0]), rules.MAX_FILES - int(found[1])


async def add_part(pool: Pool, id: UUID, number: int, data: bytes) -> None:
    """Keeps a part (at most PART bytes) of a file that is on its way."""
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO artifact_parts (id, part, data) VALUES (%s, %s, %b)", (id, number, data), prepare=True
        )


async def drop_parts(pool: Pool, id: UUID) -> None:
    """Forgets a file that did not come whole."""
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM artifact_parts WHERE id = %s", (id,))


_REPLACED = """
WITH gone AS (DELETE FROM artifacts WHERE job_uid = %s AND attempt = %s AND name = %s RETURNING id),
parts AS (DELETE FROM artifact_parts p USING gone WHERE p.id = gone.id)
SELECT count(*) FROM gone"""
_KEPT = f"""
INSERT INTO artifacts (job_uid, attempt, name, id, size, sha256) VALUES (%s, %s, %s, %s, %s, %s) RETURNING {_COLUMNS}"""
# Counted from the newest attempt back: what no longer fits is of an earlier attempt than this one, and goes.
_MADE_ROOM = """
WITH counted AS (
    SELECT attempt, name, sum(size) OVER newest AS bytes, count(*) OVER newest AS files
    FROM artifacts WHERE job_uid = %s WINDOW newest AS (ORDER BY attempt DESC, name)
), gone AS (
    DELETE FROM artifacts a USING counted c WHERE a.job_uid = %s AND a.attempt = c.attempt AND a.name = c.name
    AND c.attempt < %s AND (c.bytes > %s OR c.files > %s) RETURNING id)
DELETE FROM artifact_parts p USING gone WHERE p.id = gone.id"""


async def keep(pool: Pool, place: Place, id: UUID, size: int, sha256: str) -> tuple[Artifact, bool]:
    """Makes parts a file, in place of the one that is there; and whether there was none. Raises NoRoom.

    The pool's connections must commit to disk: that makes the parts safe, too, which came without.
    """
    job, attempt, name = place.job_uid, place.attempt, place.name
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, job))
        place.check(size, await _room(connection, place))
        replaced = await (await connection.execute(_REPLACED, (job, attempt, name))).fetchone()
        kept = await (await connection.execute(_KEPT, (job, attempt, name, id, size, sha256))).fetchone()
        await connection.execute(_MADE_ROOM, (job, job, attempt, place.limit, rules.MAX_FILES))
    assert replaced is not None and kept is not None
    return Artifact(*kept), replaced[0] == 0
