"""How are objects read? Text as stored, at one point in history; the transaction ends before the first byte is sent."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

import orjson
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from casare_api.kinds import Kind
from casare_api.kinds.job import FINAL, JOB
from casare_api.machinery.errors import ApiError
from casare_api.machinery.selectors import FieldSelector, LabelSelector, Requirement
from casare_store import rendering
from casare_store.columns import FIELD_COLUMNS
from casare_store.connection import snapshot

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CHUNK = 500  # objects a COPY row
Pool = AsyncConnectionPool[AsyncConnection[Any]]


@dataclass(frozen=True, slots=True)
class Query:
    """Which objects of a kind: a namespace (None: all) and selectors; `limit` 0 means all of them."""

    kind: Kind
    namespace: str | None = None
    labels: LabelSelector | None = None
    fields: FieldSelector | None = None
    limit: int = 0
    after: tuple[str, str] | None = None  # namespace and name of the last object of the page before


@dataclass(frozen=True, slots=True)
class Page:
    """Objects' texts (joined by commas in each chunk) at a resourceVersion; `after` continues, None at the end."""

    rv: int
    chunks: list[bytes]
    after: tuple[str, str] | None = None


async def get(pool: Pool, kind: Kind, namespace: str, name: str) -> bytes | None:
    """One object's text, None where there is none."""
    query = f"SELECT {rendering.expression(kind)} FROM {rendering.source(kind)} WHERE t.namespace = %s AND t.name = %s"
    async with pool.connection() as connection:
        cursor = await connection.execute(query, (namespace, name), prepare=True)
        found = await cursor.fetchone()
    return str(found[0]).encode() if found else None


async def read(pool: Pool, query: Query) -> Page:
    """A list of objects, ordered by namespace and name, from one snapshot."""
    condition, args = conditions(query)
    async with pool.connection() as connection, snapshot(connection) as rv:
        if query.limit:
            return await _read_page(connection, query, condition, args, rv)
        statement = (
            "COPY (SELECT convert_to(string_agg(object, ',' ORDER BY i), 'UTF8') FROM ("
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


async def _read_page(connection: AsyncConnection[Any], query: Query, condition: str, args: list[Any], rv: int) -> Page:
    statement = (
        f"SELECT t.namespace, t.name, {_as_object(query.kind)} FROM {rendering.source(query.kind)} WHERE {condition} "
        f"ORDER BY t.namespace, t.name LIMIT {query.limit + 1}"
    )
    cursor = await connection.execute(statement, args)
    rows = await cursor.fetchall()
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    return Page(rv, [str(row[2]).encode() for row in rows], (rows[-1][0], rows[-1][1]) if more else None)


def _as_object(kind: Kind) -> str:
    return f"{rendering.expression(kind)} AS object"


def conditions(query: Query) -> tuple[str, list[Any]]:
    """The WHERE clause of a query and its arguments."""
    parts, args = ["true"], []
    if query.namespace is not None and query.kind.namespaced:
        parts.append("t.namespace = %s")
        args.append(query.namespace)
    for term in query.fields.terms if query.fields else ():
        found = _field_column(query.kind, term.field)
        parts.append(f"coalesce({found}, '') {'<>' if term.operator == '!=' else '='} %s")
        args.append(term.value)
    implied, uids = _implied(query)
    parts += implied
    args += uids
    for requirement in query.labels.requirements if query.labels else ():
        clause, values = _label_clause(requirement)
        parts.append(clause)
        args += values
    if query.after is not None:
        parts.append("(t.namespace, t.name) > (%s, %s)")
        args += query.after
    return " AND ".join(parts), args


def _implied(query: Query) -> tuple[list[str], list[str]]:
    """What follows from an agent's selection (its robot's jobs, no final phase), said so that the index of live jobs
    answers it: a job that is not final and has a robot is live. Without it every relist would read all jobs."""
    terms = query.fields.terms if query.fields and query.kind is JOB else ()
    left_out = {term.value for term in terms if term.field == "status.phase" and term.operator == "!="}
    uids = [term.value for term in terms if term.field == "status.robotUID" and term.operator != "!="]
    if not left_out >= FINAL or not uids or not _UUID.fullmatch(uids[0]):
        return [], []
    return ["t.phase IN ('Assigned', 'Running')", "t.robot_uid = %s::uuid"], uids[:1]


def _field_column(kind: Kind, field: str) -> str:
    if field in ("metadata.name", "metadata.namespace"):
        return f"t.{field.removeprefix('metadata.')}"
    return f"t.{FIELD_COLUMNS[kind.kind][field]}"


def _label_clause(requirement: Requirement) -> tuple[str, list[Any]]:
    """One label requirement as SQL over the jsonb column; an absent label satisfies NotIn and DoesNotExist."""
    key, values = requirement.key, list(requirement.values)
    value = "(t.labels ->> %s)"
    if requirement.operator == "In":
        return f"{value} = ANY(%s)", [key, values]
    if requirement.operator == "NotIn":
        return f"({value} IS NULL OR {value} <> ALL(%s))", [key, key, values]
    if requirement.operator == "Exists":
        return f"{value} IS NOT NULL", [key]
    if requirement.operator == "DoesNotExist":
        return f"{value} IS NULL", [key]
    compare = ">" if requirement.operator == "Gt" else "<"
    number = f"(CASE WHEN {value} ~ '^-?[0-9]{{1,18}}$' THEN {value}::bigint END)"
    return f"{number} {compare} %s", [key, key, int(values[0])]


def encode_continue(rv: int, after: tuple[str, str]) -> str:
    """The opaque token of the next page: the first page's resourceVersion and where to go on."""
    return base64.urlsafe_b64encode(orjson.dumps({"v": 1, "rv": rv, "after": list(after)})).decode()


def decode_continue(token: str) -> tuple[int, tuple[str, str]]:
    """Raises ApiError 400 for a token that this server did not make."""
    try:
        said = orjson.loads(base64.urlsafe_b64decode(token))
        namespace, name = said["after"]
        rv = said["rv"]
        if type(rv) is not int or not 0 <= rv < 2**63:
            raise ValueError("no revision is like that")
        return rv, (str(namespace), str(name))
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise ApiError.bad_request("continue: the token is not one that this server gave out") from error
