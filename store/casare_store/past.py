"""Which objects were there at a past revision? What has not changed since, and what the log says of the rest.

An object that was changed after that revision is found by the first such change: `prev_rv` says where the log has the
state before it. What was deleted stands in the log once more, as it was last. Whatever is missing makes the list
impossible, never wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from psycopg import AsyncConnection

from casare_store import queries, rendering
from casare_store.queries import Query

FARTHEST = 250_000  # changes back; each of them is looked at for each page
Connection = AsyncConnection[Any]


class OutOfReach(Exception):
    """The log does not have what is needed any more."""


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a list; `is_logged` says that it was found in the log. Without a text the log has lost it."""

    namespace: str
    name: str
    text: bytes | None
    is_logged: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name


async def read(connection: Connection, query: Query, at: int, head: int) -> tuple[list[Row], int]:
    """The objects as of revision `at`, ordered by namespace and name, and how many of all are in the log.

    With a limit there may be one row more than that, which says that there are more. The connection is in a snapshot
    that holds the log: see `connection.snapshot`. Raises OutOfReach.
    """
    cursor = await connection.execute("SELECT compacted_rv FROM heads")
    heads = await cursor.fetchone()
    if heads is None or at < heads[0] or at > head or head - at > FARTHEST:
        raise OutOfReach
    most = query.limit + 1 if query.limit else None
    live = await _live(connection, query, at, most)
    logged, total = await _logged(connection, query, at, most)
    rows = sorted([*live, *logged], key=lambda row: row.key)[:most]
    if any(row.text is None for row in rows[: query.limit or None]):
        raise OutOfReach
    return rows, total


async def _live(connection: Connection, query: Query, at: int, most: int | None) -> list[Row]:
    """What has not been changed since."""
    condition, args = queries.conditions(query)
    cursor = await connection.execute(
        f"SELECT t.namespace, t.name, {rendering.expression(query.kind)} FROM {rendering.source(query.kind)} "
        f"WHERE {condition} AND t.rv <= %s ORDER BY t.namespace, t.name LIMIT %s",
        [*args, at, most],
    )
    return [Row(namespace, name, text.encode()) for namespace, name, text in await cursor.fetchall()]


async def _logged(connection: Connection, query: Query, at: int, most: int | None) -> tuple[list[Row], int]:
    """What was changed or deleted since, as it was before, and how much of it there is in all."""
    place, place_args = queries.past_place(query)
    selection, args = queries.past_selection(query)
    first = (
        'SELECT DISTINCT ON (uid) namespace COLLATE "C" AS namespace, name COLLATE "C" AS name, rv, type, prev_rv, '
        "coalesce(old_labels, labels) AS labels, coalesce(old_fields, fields) AS fields "
        f"FROM changes WHERE rv > %s AND kind = %s AND {place} ORDER BY uid, rv"
    )
    chosen = (
        f"SELECT t.*, count(*) OVER () AS total FROM ({first}) t WHERE t.type <> 'ADDED' AND {selection} "
        "ORDER BY t.namespace, t.name LIMIT %s"
    )
    cursor = await connection.execute(
        "SELECT f.namespace, f.name, f.type, f.prev_rv, f.total, c.object "
        f"FROM ({chosen}) f LEFT JOIN changes c ON c.rv = CASE f.type WHEN 'DELETED' THEN f.rv ELSE f.prev_rv END",
        [at, query.kind.kind, *place_args, *args, most],
    )
    rows = await cursor.fetchall()
    found = [Row(namespace, name, _state(type_, prev, text), True) for namespace, name, type_, prev, _, text in rows]
    return found, rows[0][4] if rows else 0


def _state(type_: str, prev_rv: int | None, text: str | None) -> bytes | None:
    """The object before a change. A deletion's own entry shows it, with the number of the deletion."""
    if prev_rv is None or text is None:
        return None
    if type_ != "DELETED":
        return text.encode()
    obj = orjson.loads(text)
    obj["metadata"]["resourceVersion"] = str(prev_rv)
    return orjson.dumps(obj)
