"""How is history made? One short transaction under the store's one lock: read, decide, write, number, tell.

Always holds: the lock is taken in a statement of its own before anything is read, so what `read` returns can't change
before the commit; each change of an object gets the next resourceVersion, without gaps, in commit order; rows, log,
head and NOTIFY are one commit. Whoever needs several objects changed together stages them in one batch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from casare_api.kinds import KINDS, Kind, Object
from casare_api.machinery.errors import ApiError
from casare_store import arrays, columns, partitions, rendering
from casare_store.columns import Encoded
from casare_store.connection import CHANNEL, HISTORY_LOCK

Key = tuple[str, str, str]  # kind, namespace ("" for cluster kinds), name
Connection = AsyncConnection[Any]


class OutcomeUnknown(Exception):
    """The connection broke while a commit was under way; `first_rv` and `uid` say what to look for."""

    def __init__(self, first_rv: int, uid: str) -> None:
        super().__init__("the connection to the database broke during a commit")
        self.first_rv, self.uid = first_rv, uid


@dataclass(slots=True)
class Change:
    """One staged change: `old` is None for a creation, `new` for a deletion."""

    kind: Kind
    old: Object | None
    new: Object | None
    rv: int
    encoded: Encoded

    @property
    def type(self) -> str:
        return "ADDED" if self.old is None else "DELETED" if self.new is None else "MODIFIED"

    @property
    def state(self) -> Object:
        """The object as the log shows it: its new state, or the last one when it is deleted."""
        found = self.new if self.new is not None else self.old
        assert found is not None
        return found


@dataclass(slots=True)
class Batch:
    """An open transaction that holds the history lock. Made by `begin`; ends with `commit` or by leaving it.

    `known` are the objects that `begin` was asked to read.
    """

    connection: Connection
    rv: int
    now: datetime
    known: dict[Key, Object] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    statements: list[tuple[str, Sequence[Any]]] = field(default_factory=list)
    _sent: int = 0  # changes that are on their way already
    _is_asked: bool = False  # to commit

    async def read(self, keys: Iterable[Key]) -> dict[Key, Object]:
        """The current objects at these keys; missing ones are left out."""
        return await _fetch(await _ask(self.connection, keys))

    async def select(self, query: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of any query, under the lock."""
        cursor = await self.connection.execute(query, args, prepare=True)
        return await cursor.fetchall()

    async def objects(self, kind: Kind, where: str, args: Sequence[Any] = ()) -> list[Object]:
        """The objects that a condition on the kind's columns selects, under the lock; `where` may end with LIMIT."""
        rows = await self.select(rendering.where(kind, where), args)
        return [orjson.loads(row[0]) for row in rows]

    def stage(self, kind: Kind, old: Object | None, new: Object | None) -> Object | None:
        """Adds a change; returns the new state with its resourceVersion, or None for a deletion.

        Raises ApiError 422 for a state that has no row: it is found out here, while it is known whose it is.
        """
        state = new if new is not None else old
        assert state is not None
        rv = self.rv + 1
        numbered = {**state, "metadata": {**state["metadata"], "resourceVersion": str(rv)}}
        change = Change(
            kind,
            old if new is not None else numbered,
            numbered if new is not None else None,
            rv,
            _encode(kind, numbered),
        )
        self.rv = rv
        self.changes.append(change)
        return change.new

    def mark(self) -> tuple[int, int, int]:
        """Where this batch stands, for `back_to`."""
        return self.rv, len(self.changes), len(self.statements)

    def back_to(self, mark: tuple[int, int, int]) -> None:
        """Forgets what was staged since a mark. Only for what has not been sent."""
        assert mark[1] >= self._sent, "what was sent can only be rolled back whole"
        self.rv = mark[0]
        del self.changes[mark[1] :]
        del self.statements[mark[2] :]

    def also(self, query: str, args: Sequence[Any]) -> None:
        """Another statement to run in this transaction, for what lies beside the rows (revisions, tombstones)."""
        self.statements.append((query, args))

    async def send(self) -> None:
        """Sends what was staged since the last time, without waiting: the server writes while more is decided here."""
        changes = self.changes[self._sent :]
        if not changes:
            return
        await partitions.ensure(self.connection, changes[0].rv, changes[-1].rv)
        for query, args in _writes(changes):
            await self.connection.execute(query, args, prepare=True)
        self._sent = len(self.changes)
        self.connection.pgconn.flush()

    async def commit(self) -> None:
        """Sends what is left, the new head and the commit. It has happened when the batch is left without an error."""
        for query, args in self.statements:
            await self.connection.execute(query, args)
        await self.send()
        if self.changes:
            await self.connection.execute(_HEAD, (self.rv, CHANNEL), prepare=True)
        self._is_asked = True
        await self.connection.execute("COMMIT")

    def unknown(self) -> OutcomeUnknown | None:
        """What to look for after an error, where the commit may have happened all the same; None where it has not.

        Only a transaction that is there and failed is known not to have been committed. A backend that is told to end
        finishes its COMMIT first and answers with an error all the same.
        """
        is_known = not self._is_asked or self.connection.info.transaction_status == TransactionStatus.INERROR
        if is_known or not self.changes:
            return None
        first = self.changes[0]
        return OutcomeUnknown(first.rv, first.state["metadata"]["uid"])


@asynccontextmanager
async def begin(connection: Connection, keys: Iterable[Key] = ()) -> AsyncIterator[Batch]:
    """Opens a transaction that holds the history lock and reads these objects under it, in one round trip.

    All of it is one pipeline, so that statements are sent without waiting for the one before; leaving it waits for
    them all. Rolls back unless `commit` was called. Raises OutcomeUnknown when the connection broke during the commit.
    """
    batch: Batch | None = None
    try:
        async with connection.pipeline():
            await connection.execute("BEGIN")
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (HISTORY_LOCK,), prepare=True)
            head = await connection.execute("SELECT rv, clock_timestamp() FROM heads", prepare=True)
            cursors = await _ask(connection, keys)
            found = await head.fetchone()
            if found is None:
                raise RuntimeError("the table heads is empty: the migrations have not run")
            batch = Batch(connection, int(found[0]), found[1], await _fetch(cursors))
            yield batch
    except Exception as error:
        unknown = batch.unknown() if batch is not None else None
        if unknown is not None:
            raise unknown from error
        raise
    finally:  # also of what could not even be begun: a key that Postgres refuses must not leave the connection unusable
        if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            await connection.execute("ROLLBACK")


async def committed(connection: Connection, unknown: OutcomeUnknown) -> bool:
    """Whether a commit whose outcome was unknown happened after all.

    Waits for the history lock first: as long as the lost backend may still be committing, it holds it.
    """
    async with begin(connection) as batch:
        rows = await batch.select("SELECT uid::text FROM changes WHERE rv = %s", (unknown.first_rv,))
        return bool(rows) and rows[0][0] == unknown.uid


def _encode(kind: Kind, state: Object) -> Encoded:
    try:
        return columns.encode(kind, state)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ApiError(422, "Invalid", f'{kind.kind} "{state["metadata"]["name"]}" can\'t be stored: {why}') from error


async def _ask(connection: Connection, keys: Iterable[Key]) -> list[tuple[str, Any]]:
    """Sends one query a kind; the cursors to fetch from."""
    wanted: dict[str, list[Key]] = {}
    for key in keys:
        wanted.setdefault(key[0], []).append(key)
    cursors = []
    for kind, of_kind in wanted.items():
        args = (arrays.Texts(key[1] for key in of_kind), arrays.Texts(key[2] for key in of_kind))
        cursors.append((kind, await connection.execute(rendering.by_names(KINDS[kind]), args, prepare=True)))
    return cursors


async def _fetch(cursors: list[tuple[str, Any]]) -> dict[Key, Object]:
    return {
        (kind, namespace, name): orjson.loads(text)
        for kind, cursor in cursors
        for namespace, name, text in await cursor.fetchall()
    }


# -- statements ----------------------------------------------------------------------------------------------------


def _writes(changes: Sequence[Change]) -> Iterator[tuple[str, Sequence[Any]]]:
    """The set-based statements of a batch: per kind deletions, updates and creations, then the log.

    Each is made when the one before it has been sent.
    """
    groups: dict[tuple[str, str], list[Encoded]] = {}
    for change in changes:
        groups.setdefault((change.kind.kind, change.type), []).append(change.encoded)
    for kind, type_ in sorted(groups, key=lambda group: _ORDER[group[1]]):
        rows = groups[kind, type_]
        if type_ == "DELETED":
            query = f"DELETE FROM {columns.table(KINDS[kind])} WHERE uid = ANY(%b::uuid[])"
            yield query, (arrays.Texts(one.row[0] for one in rows),)
        else:
            yield (_INSERTS if type_ == "ADDED" else _UPDATES)[kind], _arrays(KINDS[kind], rows)
    if changes:
        yield _LOG, _log_arrays(changes)


_ORDER = {"DELETED": 0, "MODIFIED": 1, "ADDED": 2}  # names and unique values are free before they are taken again


def _arrays(kind: Kind, rows: Sequence[Encoded]) -> tuple[list[Any], ...]:
    """Rows as one array a column."""
    types = [type_ for _, type_ in columns.columns(kind)]
    values = zip(*[one.row for one in rows], strict=True)
    return tuple(arrays.of_type(type_, column) for type_, column in zip(types, values, strict=True))


_CASTS = {"labels": "::jsonb", "owners": "::uuid[]"}


def _unnest(kind: Kind) -> tuple[str, list[str]]:
    """`unnest(...) AS n(...)` over one parameter a column, and the column names."""
    found = columns.columns(kind)
    parameters = ", ".join("%b::uuid[]" if type_ == "uuid" else "%b" for _, type_ in found)
    names = [name for name, _ in found]
    return f"unnest({parameters}) AS n({', '.join(_quoted(names))})", names


def _quoted(names: Iterable[str]) -> list[str]:
    return [f'"{name}"' for name in names]


def _insert(kind: Kind) -> str:
    source, names = _unnest(kind)
    values = ", ".join(f'n."{name}"{_CASTS.get(name, "")}' for name in names)
    return f"INSERT INTO {columns.table(kind)} ({', '.join(_quoted(names))}) SELECT {values} FROM {source}"


def _update(kind: Kind) -> str:
    source, names = _unnest(kind)
    fixed = {"uid", "namespace", "name"}
    values = ", ".join(f'"{name}" = n."{name}"{_CASTS.get(name, "")}' for name in names if name not in fixed)
    return f"UPDATE {columns.table(kind)} AS t SET {values} FROM {source} WHERE t.uid = n.uid"


_INSERTS = {name: _insert(kind) for name, kind in KINDS.items()}
_UPDATES = {name: _update(kind) for name, kind in KINDS.items()}
_HEAD = "UPDATE heads SET rv = %s RETURNING pg_notify(%s, '')"
_LOG_COLUMNS = "rv, kind, type, namespace, name, uid, object, labels, fields, old_labels, old_fields"
_LOG = (
    f"INSERT INTO changes ({_LOG_COLUMNS}) SELECT {_LOG_COLUMNS} "
    f"FROM unnest(%b, %b, %b, %b, %b, %b::uuid[], %b, %b, %b, %b, %b) AS n({_LOG_COLUMNS})"
)


_LOG_TYPES = ("int8", *["text"] * 10)


def _log_arrays(changes: Sequence[Change]) -> tuple[list[Any], ...]:
    rows = [_log_row(change) for change in changes]
    return tuple(
        arrays.of_type(type_, column) for type_, column in zip(_LOG_TYPES, zip(*rows, strict=True), strict=True)
    )


def _log_row(change: Change) -> tuple[Any, ...]:
    """A change as the log keeps it; the old labels and fields only where they differ from the new ones."""
    kind, state, encoded = change.kind, change.state, change.encoded
    uid, namespace, name = encoded.row[0], encoded.row[1], encoded.row[2]
    fields = columns.field_values(kind, state)
    old_labels = old_fields = None
    if change.type == "MODIFIED":
        assert change.old is not None
        before, was = change.old["metadata"].get("labels"), columns.field_values(kind, change.old)
        if (before or None) != (state["metadata"].get("labels") or None):
            old_labels = columns.dump(before or {})
        old_fields = None if was == fields else columns.dump(was)
    return (
        change.rv,
        kind.kind,
        change.type,
        namespace,
        name,
        uid,
        encoded.text,
        encoded.labels,
        columns.dump(fields),
        old_labels,
        old_fields,
    )
