"""How is the audit log kept and read? Rows that are part of the transaction of the write they tell of.

The history lock is held while a row gets its number and its hash, so all apiservers make one chain, and there is no
write of a caller without its row. The end of the chain stands in `heads`, beside the resourceVersion; so does what is
left of rows that were dropped by their age.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from casare_api.decisions import auditing
from casare_api.decisions.audit_chain import Link, Row, hashed, place
from casare_api.decisions.auditing import Caller, Deed
from casare_api.kinds import Kind, Object
from casare_store import arrays

if TYPE_CHECKING:
    from casare_store.batch import Batch

Pool = AsyncConnectionPool[AsyncConnection[Any]]
# Who asks for what is written in this task. Set by the server for each request; nobody else's work is anybody's deed.
CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
DROPPED_AT_ONCE = 1000  # rows: fewer are not worth the row that tells of it
Statement = tuple[str, tuple[Any, ...]]

_INSERT = (
    "INSERT INTO audit (seq, at, actor, object, entry, hash) "
    "SELECT n.seq, $1::timestamptz, n.actor, n.object, n.entry, n.hash FROM "
    "unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[]) AS n(seq, actor, object, entry, hash)"
)


@dataclass(slots=True)
class Trail:
    """What one batch adds to the log; `end` is the last row that is there."""

    end: Link
    deeds: list[Deed] = field(default_factory=list, repr=False)
    others: list[Object] = field(default_factory=list)  # rows that tell of no change

    def note(self, by: Caller, kind: Kind, old: Object | None, new: Object | None, rv: int) -> None:
        if auditing.is_deed(kind, old, new):
            self.deeds.append(Deed(by, kind, old, new, rv))

    def back_to(self, rv: int) -> None:
        """Forgets what was noted of later changes than this one."""
        while self.deeds and self.deeds[-1].rv > rv:
            self.deeds.pop()

    def close(self, now: datetime) -> Statement | None:
        """The statement that writes the rows; None where nobody did anything. `end` is the new one from now on."""
        if not self.deeds and not self.others:
            return None
        rows = list(self._rows([*auditing.entries(self.deeds), *self.others], now))
        numbers, *texts = zip(*((row.seq, row.actor, row.object, row.entry, row.hash) for row in rows), strict=True)
        self.end = Link(rows[-1].seq, rows[-1].hash)
        return _INSERT, (now, arrays.Int8s(numbers), *map(arrays.Texts, texts))

    def _rows(self, entries: list[Object], now: datetime) -> Iterator[Row]:
        at, before = now.isoformat(timespec="microseconds").replace("+00:00", "Z"), self.end.hash
        for seq, entry in enumerate(entries, self.end.seq + 1):
            text = orjson.dumps({"seq": seq, "time": at, **entry})
            before = hashed(before, text)
            yield Row(seq, before, text.decode(), entry["actor"], place(entry))


# -- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows: of an actor, about an object (`Kind/NAMESPACE/NAME`), since a time, behind or before a number.

    With `after` they come in their order, else the newest first.
    """

    actor: str = ""
    object: tuple[str, str, str] | None = None
    since: datetime | timedelta | None = None  # a span: up to the database's now
    after: int | None = None
    before: int | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and where the log begins (what was dropped) and ends, all of one moment."""

    rows: list[Row]
    start: Link
    end: Link


_PAGE = """
SELECT h.audit_from_seq, h.audit_from_hash, h.audit_seq, h.audit_hash, a.seq, a.hash, a.entry, a.actor, a.object
FROM heads h LEFT JOIN LATERAL (SELECT * FROM audit WHERE {where} ORDER BY seq {order} LIMIT %(limit)s) a ON true
ORDER BY a.seq {order}"""


async def read(pool: Pool, query: Query) -> Page:
    """A page of the log."""
    where, values = _where(query)
    text = _PAGE.format(where=" AND ".join(where) or "true", order="DESC" if query.after is None else "ASC")
    async with pool.connection() as connection:
        cursor = await connection.cursor(row_factory=dict_row).execute(text, {**values, "limit": query.limit})
        found = await cursor.fetchall()
    head = found[0]
    rows = [Row(*(row[name] for name in ("seq", "hash", "entry", "actor", "object"))) for row in found if row["seq"]]
    start, end = (Link(head[f"audit_{name}seq"], head[f"audit_{name}hash"]) for name in ("from_", ""))
    return Page(rows, start, end)


def _where(query: Query) -> tuple[list[str], Object]:
    where: list[str] = []
    values: Object = {}
    for name, value in (("after", query.after), ("before", query.before), ("actor", query.actor or None)):
        if value is not None:
            where.append({"after": "seq > %(after)s", "before": "seq < %(before)s", "actor": "actor = %(actor)s"}[name])
            values[name] = value
    if query.since is not None:
        is_span = isinstance(query.since, timedelta)
        where.append("at >= clock_timestamp() - %(since)s" if is_span else "at >= %(since)s")
        values["since"] = query.since
    if query.object is not None:
        kind, namespace, name = query.object
        where.append("(object = %(object)s OR (object = %(many)s AND jsonb_exists(entry::jsonb -> 'names', %(name)s)))")
        values |= {"object": f"{kind}/{namespace}/{name}", "many": f"{kind}/{namespace}/*", "name": name}
    return where, values


# -- retention -------------------------------------------------------------------------------------------------------

_DUE = """
SELECT count(*), max(seq), max(seq) FILTER (WHERE at < clock_timestamp() - %s) FROM
(SELECT seq, at FROM audit WHERE seq > %s ORDER BY seq LIMIT %s) oldest"""


async def due(pool: Pool, age: timedelta) -> Link | None:
    """The last of the oldest rows if a whole range of them is older than this, else None."""
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT audit_from_seq FROM heads")
        head = await cursor.fetchone()
        cursor = await connection.execute(_DUE, (age, head[0] if head else 0, DROPPED_AT_ONCE))
        count, last, old = await cursor.fetchone() or (0, None, None)
        if count < DROPPED_AT_ONCE or last != old:
            return None
        cursor = await connection.execute("SELECT seq, hash FROM audit WHERE seq = %s", (last,))
        found = await cursor.fetchone()
    return Link(*found) if found else None


async def drop(batch: Batch, last: Link) -> None:
    """Drops all rows up to this one, and says so in the log itself. `batch` is open, and holds nothing else.

    Nothing where another controller has dropped as many while this one hung.
    """
    ((begin,),) = await batch.select("SELECT audit_from_seq FROM heads")
    if begin >= last.seq:
        return
    batch.also("DELETE FROM audit WHERE seq <= $1::bigint", (str(last.seq),))
    batch.also("UPDATE heads SET audit_from_seq = $1::bigint, audit_from_hash = $2", (str(last.seq), last.hash))
    batch.trail.others.append(auditing.dropped(last.seq, last.hash, DROPPED_AT_ONCE))
