"""How are objects read? Text as stored, at one point in history; the transaction ends before the first byte is sent.

A list is of now, or as of a revision: all its pages show the moment of the first one.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from typing import Any

import orjson
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from casare_api.kinds import Kind
from casare_api.machinery.errors import ApiError
from casare_store import past, rendering
from casare_store.columns import table
from casare_store.connection import snapshot
from casare_store.past import Row
from casare_store.queries import Query, conditions

__all__ = ["Page", "Pool", "Query", "conditions", "decode_continue", "encode_continue", "get", "read"]
CHUNK = 500  # objects a COPY row
SEPARATOR = b",\n"  # between objects: no stored text has it, since JSON writes a line break within a text as \\n
MOST_COUNTED = 100_000  # objects behind a page; beyond it nobody is told how many there are
Connection = AsyncConnection[Any]
Pool = AsyncConnectionPool[Connection]
_TOO_OLD = "The resourceVersion for the provided list is too old."
_CAN_NOT_GO_ON = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, slots=True)
class Page:
    """Objects' texts (joined by SEPARATOR in each chunk) at a resourceVersion; `after` continues, None at the end.

    `remaining` is how many objects are behind the page, None where nobody has counted them.
    """

    rv: int
    chunks: list[bytes]
    after: tuple[str, str] | None = None
    remaining: int | None = None


async def get(pool: Pool, kind: Kind, namespace: str, name: str) -> bytes | None:
    """One object's text, None where there is none."""
    query = f"SELECT {rendering.expression(kind)} FROM {rendering.source(kind)} WHERE t.namespace = %s AND t.name = %s"
    async with pool.connection() as connection:
        cursor = await connection.execute(query, (namespace, name), prepare=True)
        found = await cursor.fetchone()
    return str(found[0]).encode() if found else None


async def read(pool: Pool, query: Query, at: int | None = None) -> Page:
    """A list of objects, ordered by namespace and name, from one snapshot: of now, or as of revision `at`.

    None, 0 and -1 (a page that goes on inconsistently) mean now. Raises ApiError 410 where the log does not reach back
    to `at` any more, with a token to go on with if the query continues a list; 504 for a revision that is to come.
    """
    async with pool.connection() as connection:
        if at is not None and at > 0:
            async with snapshot(connection, with_log=True) as rv:
                return await (_read_now(connection, query, rv) if at == rv else _read_past(connection, query, at, rv))
        async with snapshot(connection) as rv:
            return await _read_now(connection, query, rv)


async def _read_now(connection: Connection, query: Query, rv: int) -> Page:
    condition, args = conditions(query)
    read_rows = _read_page if query.limit else _read_all
    return await read_rows(connection, query, condition, args, rv)


async def _read_all(connection: Connection, query: Query, condition: str, args: list[Any], rv: int) -> Page:
    statement = (
        "COPY (SELECT convert_to(string_agg(object, E',\\n' ORDER BY i), 'UTF8') FROM ("
        f"SELECT {_as_object(query.kind)}, "
        f"row_number() OVER (ORDER BY t.namespace, t.name) AS i FROM {rendering.source_of_all(query.kind)} "
        f"WHERE {condition}) AS o GROUP BY i / {CHUNK} ORDER BY i / {CHUNK}) TO STDOUT (FORMAT binary)"
    )
    chunks = []
    async with connection.cursor() as cursor, cursor.copy(statement, args) as copy:
        copy.set_types(["bytea"])
        async for found in copy.rows():
            chunks.append(bytes(found[0]))
    return Page(rv, chunks)


async def _read_page(connection: Connection, query: Query, condition: str, args: list[Any], rv: int) -> Page:
    statement = (
        f"SELECT t.namespace, t.name, {_as_object(query.kind)} FROM {rendering.source(query.kind)} WHERE {condition} "
        f"ORDER BY t.namespace, t.name LIMIT {query.limit + 1}"
    )
    cursor = await connection.execute(statement, args)
    rows = [Row(namespace, name, text.encode()) for namespace, name, text in await cursor.fetchall()]
    return await _page(connection, query, rv, rows)


async def _read_past(connection: Connection, query: Query, at: int, rv: int) -> Page:
    try:
        rows, logged = await past.read(connection, query, at, rv)
    except past.OutOfReach:
        raise _out_of_reach(query, at, rv) from None
    return await _page(connection, query, at, rows, logged)


def _out_of_reach(query: Query, at: int, rv: int) -> ApiError:
    if query.after is not None:
        return ApiError.expired(_CAN_NOT_GO_ON, encode_continue(-1, query.after))
    return ApiError.future_version(at, rv) if at > rv else ApiError.expired(_TOO_OLD)


async def _page(connection: Connection, query: Query, rv: int, rows: list[Row], logged: int = 0) -> Page:
    """The page of these rows, of which there is one too many where there are more."""
    kept = rows[: query.limit or None]
    texts = [row.text for row in kept if row.text is not None]
    if len(kept) == len(rows):
        return Page(rv, texts)
    after = kept[-1].key
    if query.has_selectors:
        return Page(rv, texts, after)
    live = await _live_behind(connection, query, rv, after)
    remaining = None if live is None else live + logged - sum(row.is_logged for row in kept)
    return Page(rv, texts, after, remaining)


async def _live_behind(connection: Connection, query: Query, rv: int, after: tuple[str, str]) -> int | None:
    """How many rows as of `rv` there are behind a page; None for very many, which are not counted."""
    condition, args = conditions(replace(query, after=after))
    cursor = await connection.execute(
        f"SELECT count(*) FROM (SELECT FROM {table(query.kind)} t WHERE {condition} AND t.rv <= %s LIMIT %s) counted",
        [*args, rv, MOST_COUNTED + 1],
    )
    found = await cursor.fetchone()
    return found[0] if found and found[0] <= MOST_COUNTED else None


def _as_object(kind: Kind) -> str:
    return f"{rendering.expression(kind)} AS object"


def encode_continue(rv: int, after: tuple[str, str]) -> str:
    """The opaque token of the next page: the first page's resourceVersion (-1: any) and where to go on."""
    return base64.urlsafe_b64encode(orjson.dumps({"v": 1, "rv": rv, "after": list(after)})).decode()


def decode_continue(token: str) -> tuple[int, tuple[str, str]]:
    """Raises ApiError 400 for a token that this server did not make."""
    try:
        said = orjson.loads(base64.urlsafe_b64decode(token))
        rv, (namespace, name) = said["rv"], said["after"]
        if type(rv) is not int or not -1 <= rv < 2**63:
            raise ValueError("no revision is like that")
        if not all(isinstance(one, str) and "\0" not in one for one in (namespace, name)):
            raise ValueError("nothing is called that")
        return rv, (namespace, name)
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise ApiError.bad_request("continue: the token is not one that this server gave out") from error
