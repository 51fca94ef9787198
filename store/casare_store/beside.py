"""What lies beside the rows? Revisions, files and job logs: big, immutable or append-only, and without a revision."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from casare_api.kinds import Object, dig
from casare_api.kinds.job import JOB
from casare_api.kinds.workflow import WORKFLOW
from casare_api.machinery.errors import ApiError, Cause
from casare_store import rendering
from casare_store.operations import Found

Pool = AsyncConnectionPool[AsyncConnection[Any]]
MAX_BLOB = 64 * 1024 * 1024  # bytes
MAX_LOG_CHUNK = 256 * 1024  # bytes
MAX_LOG_SEQ = 1_000_000
_WITH_KEYS = (
    f"SELECT t.idempotency, {rendering.stored(JOB)} FROM jobs t "
    "WHERE t.idempotency IS NOT NULL AND t.namespace = %s AND t.idempotency = ANY(%s)"
)
LAST_WORDS = timedelta(minutes=10)  # after its end in which a job's log still grows: what was under way arrives


async def put_blob(pool: Pool, namespace: str, sha256: str, data: bytes) -> bool:
    """Keeps a file; whether it is new. Raises ApiError 422 when the data is not what its name says."""
    found_sha256 = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())  # it takes long for large ones
    if found_sha256 != sha256:
        raise ApiError(422, "Invalid", f"the body's SHA-256 is not {sha256}: send the file again")
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "INSERT INTO blobs (namespace, sha256, data) VALUES (%s, %s, %b) ON CONFLICT (namespace, sha256) "
            "DO UPDATE SET made = clock_timestamp() RETURNING xmax = 0",
            (namespace, sha256, data),
        )
        found = await cursor.fetchone()
    return bool(found and found[0])


async def with_keys(pool: Pool, jobs: Sequence[Object]) -> dict[str, Found]:
    """The jobs that there are already with the idempotencyKeys of these new ones of one namespace, by key."""
    keys = [key for job in jobs if (key := job["spec"].get("idempotencyKey"))]
    if not keys:
        return {}
    async with pool.connection() as connection:
        cursor = await connection.execute(_WITH_KEYS, (jobs[0]["metadata"]["namespace"], keys), prepare=True)
        return {str(key): Found(orjson.loads(text)) for key, text in await cursor.fetchall()}


async def has_blob(pool: Pool, namespace: str, sha256: str) -> int | None:
    """The size of a file in bytes, None where there is none."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT length(data) FROM blobs WHERE namespace = %s AND sha256 = %s", (namespace, sha256)
        )
        found = await cursor.fetchone()
    return int(found[0]) if found else None


async def _renew(pool: Pool, namespace: str, sha256: str) -> bool:
    """Whether a file is there; its time begins anew, so that the sweep can't take it before the workflow is written."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "UPDATE blobs SET made = clock_timestamp() WHERE namespace = %s AND sha256 = %s", (namespace, sha256)
        )
    return cursor.rowcount > 0


async def get_blob(pool: Pool, namespace: str, sha256: str) -> bytes | None:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT data FROM blobs WHERE namespace = %s AND sha256 = %s", (namespace, sha256), binary=True
        )
        found = await cursor.fetchone()
    return bytes(found[0]) if found else None


async def check_files(pool: Pool, workflow: Object) -> None:
    """Every file a workflow names must have been sent along. Raises ApiError 422 with one cause per missing file."""
    namespace = workflow["metadata"]["namespace"]
    named = [("spec.source.file", dig(workflow, "spec", "source", "file"), dig(workflow, "spec", "source", "sha256"))]
    for index, file in enumerate(dig(workflow, "spec", "files") or []):
        named.append((f"spec.files[{index}].path", file.get("path"), file.get("sha256")))
    causes = []
    for field, path, sha256 in named:
        if path and (not sha256 or not await _renew(pool, namespace, sha256)):
            causes.append(
                Cause(
                    field,
                    "FieldValueInvalid",
                    f'Invalid value: "{path}": the file was not sent along; `casare apply` does that',
                )
            )
    if causes:
        raise ApiError.invalid(WORKFLOW, workflow["metadata"]["name"], causes)


async def revision(pool: Pool, namespace: str, name: str) -> str | None:
    """A revision's content as JSON text."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT content FROM revisions WHERE namespace = %s AND hash = %s", (namespace, name)
        )
        found = await cursor.fetchone()
    return str(found[0]) if found else None


async def was_declared(pool: Pool, namespace: str, name: str, content: str) -> bool:
    """Whether a job of this name and content ran before because a manifest declared it."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT hash = %s FROM declared WHERE namespace = %s AND name = %s", (content, namespace, name)
        )
        found = await cursor.fetchone()
    return bool(found and found[0])


_ADD_LOG = """
WITH job AS (SELECT coalesce(clock_timestamp() < %s::timestamptz + %s, true) AS is_open),
kept AS (INSERT INTO job_logs (job_uid, attempt, seq, data) SELECT %s::uuid, %s::int, %s::int, %s::text
         FROM job WHERE is_open ON CONFLICT DO NOTHING)
SELECT is_open FROM job"""


async def add_log(pool: Pool, job_uid: str, attempt: int, seq: int, data: str, ended: str | None = None) -> bool:
    """Keeps a numbered chunk of a job's output; the same chunk twice is kept once.

    False, and nothing kept, when the job `ended` (RFC 3339) longer than LAST_WORDS ago by the database's clock.
    """
    text = data.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    async with pool.connection() as connection:
        cursor = await connection.execute(_ADD_LOG, (ended, LAST_WORDS, job_uid, attempt, seq, text))
        found = await cursor.fetchone()
    return bool(found and found[0])


async def read_log(pool: Pool, job_uid: str, attempt: int, after: int, limit: int = 64) -> list[tuple[int, str]]:
    """The next chunks (number, text) after a number, in order. An agent sends one when the one before it was taken."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT seq, data FROM job_logs WHERE job_uid = %s AND attempt = %s AND seq > %s ORDER BY seq LIMIT %s",
            (job_uid, attempt, after, limit),
            prepare=True,
        )
        rows = await cursor.fetchall()
    return [(int(seq), str(data)) for seq, data in rows]
