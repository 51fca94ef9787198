"""How is history made? One short transaction under the store's one lock: read, decide, write, number, tell.

Always holds: the lock is taken in a statement of its own before anything is read, so what `read` returns can't change
before the commit; each change of an object gets the next resourceVersion, without gaps, in commit order; rows, log,
head and NOTIFY are one commit. Whoever needs several objects changed together stages them in one batch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult

from casare_api.decisions import deletion
from casare_api.decisions.audit_chain import Link
from casare_api.decisions.auditing import Caller
from casare_api.kinds import KINDS, Kind, Object
from casare_api.kinds.job import JOB
from casare_api.machinery.errors import ApiError
from casare_store import arrays, changes, columns, moves, news, objects, partitions, rendering, sealing
from casare_store.auditing import CALLER, Trail
from casare_store.connection import CHANNEL, HISTORY_LOCK
from casare_store.known import Key, Known
from casare_store.pipeline import Connection, Pipeline
from casare_store.sealing import Sealer

IDEMPOTENCY = "Job/idempotencyKey"  # in the place of a kind: a job is known by that key, in the place of its name


class OutcomeUnknown(Exception):
    """The connection broke while a commit was under way; the rest says what to look for.

    That is its first change, as the log would have it, and the number of the transaction.
    """

    def __init__(self, first: changes.Change, xid: str) -> None:
        super().__init__("the connection to the database broke during a commit")
        self.first, self.xid = first, xid


@dataclass(slots=True)
class Change:
    """One staged change: `old` is None for a creation, `new` for a deletion.

    `row` is as `columns.logged` says, or for a move (see `moves`) as `moves.COLUMNS` does.

    What a sealed kind holds is clear in `old` and `new`, and sealed in `row`.
    """

    kind: Kind
    type: str
    old: Object | None = field(repr=False)
    new: Object | None = field(repr=False)
    rv: int
    row: tuple[Any, ...] = field(repr=False)

    @property
    def logged(self) -> changes.Change:
        """As the log's readers get it, who keep it for a while."""
        row, meta = self.row, self.state["metadata"]
        if self.type == moves.TYPE:
            fields, old_fields, _ = row[-3:]
            text, type_, old_labels = columns.fitted(columns.dump(self.new)), "MODIFIED", None
            labels = columns.dump(meta["labels"]) if meta.get("labels") else None
        else:
            seen, fields, old_labels, old_fields, _ = row[-len(columns.LOGGED) :]
            text, type_, labels = row[columns.HEAD] + seen + row[columns.TAIL], self.type, row[columns.LABELS]
        about = (self.kind.kind, type_, meta.get("namespace") or "", meta["name"], meta["uid"])
        kept = [one and columns.fitted(one) for one in (labels, old_labels, old_fields)]
        return changes.Change(self.rv, *about, text, kept[0], columns.fitted(fields), *kept[1:])

    @property
    def size(self) -> int:
        """The bytes of the object's text."""
        return len(columns.dump(self.new)) if self.type == moves.TYPE else columns.size(self.row)

    @property
    def state(self) -> Object:
        """The object as the log shows it: its new state, or the last one when it is deleted."""
        found = self.new if self.new is not None else self.old
        assert found is not None
        return found


@dataclass(slots=True)
class Batch:
    """An open transaction that holds the history lock. Made by `begin`; ends with `commit` or by leaving it.

    `known` are the objects that `begin` was asked to read. What is staged while `by` is somebody goes into the audit
    log, in this transaction; what duties and robots do is nobody's.
    """

    connection: Connection
    pipeline: Pipeline
    rv: int
    now: datetime
    trail: Trail
    known: Known = field(default_factory=Known, repr=False)
    sealer: Sealer | None = None
    xid: str = ""  # of the transaction
    by: Caller | None = None
    changes: list[Change] = field(default_factory=list)
    statements: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    _sent: int = 0  # changes that are on their way already
    _uids: set[str] = field(default_factory=set)  # of the objects that were changed
    _partitions: set[int] = field(default_factory=set)  # made or found in this very transaction

    @property
    def unsent(self) -> Sequence[Change]:
        """What was staged and no query sees yet."""
        return self.changes[self._sent :]

    async def read(self, keys: Iterable[Key]) -> Known:
        """The current objects at these keys; missing ones are left out."""
        await self.pipeline.finish()
        kinds = _ask(self.pipeline, keys)
        return _objects(kinds, await self.pipeline.finish(), self.sealer)

    async def select(self, query: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of any query, under the lock; parameters are `%s`."""
        await self.pipeline.finish()
        cursor = await self.connection.execute(query, args)
        return await cursor.fetchall()

    async def objects(self, kind: Kind, where: str, args: Sequence[Any] = ()) -> list[Object]:
        """The objects that a condition on the kind's columns selects, under the lock; `where` may end with LIMIT."""
        rows = await self.select(rendering.where(kind, where), args)
        found = [orjson.loads(row[0]) for row in rows]
        return [sealing.opened(self.sealer, obj) for obj in found] if kind.sealed else found

    def stage(self, kind: Kind, old: Object | None, new: Object | None) -> Object | None:
        """Adds a change; returns the new state with its resourceVersion, or None for a deletion.

        That is also a new state by which a deletion that waited for something is complete: see `objects.is_gone`.
        Raises ApiError 422 for a state that has no row: it is found out here, while it is known whose it is; 503 for
        one that has to be sealed without a key. Raises ValueError for an object that this batch has changed before.
        """
        if old is not None and new is not None and objects.is_gone(new):
            new = None
        state = new if new is not None else old
        assert state is not None
        uid = state["metadata"]["uid"]
        if uid in self._uids:  # the rows of a batch are written kind by kind, not in the order of its changes
            raise ValueError(f'{kind.kind} "{state["metadata"]["name"]}" is changed twice in one batch')
        rv = self.rv + 1
        numbered = {**state, "metadata": {**state["metadata"], "resourceVersion": str(rv)}}
        prev_rv = None if old is None else int(old["metadata"]["resourceVersion"])
        kept = self._sealed(old, new, numbered) if kind.sealed else numbered
        if new is None:
            change = Change(kind, "DELETED", numbered, None, rv, _row(kind, None, kept, prev_rv))
        else:
            type_ = "ADDED" if old is None else moves.TYPE if moves.is_move(kind, old, new) else "MODIFIED"
            row = _row(kind, old, kept, prev_rv, is_move=type_ == moves.TYPE)
            change = Change(kind, type_, old, numbered, rv, row)
            if "deletionTimestamp" in new["metadata"] and deletion.policy(new) is not None:
                meta = new["metadata"]
                self.also(_WAITS, (uid, kind.kind, meta.get("namespace") or "", meta["name"]))
        self.rv = rv
        self.changes.append(change)
        if self.by is not None:
            self.trail.note(self.by, kind, old, change.new, rv)
        self._uids.add(uid)
        return change.new

    def _sealed(self, old: Object | None, new: Object | None, state: Object) -> Object:
        sealing.check_same(self.sealer, old, new)
        return sealing.sealed(self.sealer, state)

    def mark(self) -> tuple[int, int, int]:
        """Where this batch stands, for `back_to`."""
        return self.rv, len(self.changes), len(self.statements)

    def back_to(self, mark: tuple[int, int, int]) -> None:
        """Forgets what was staged since a mark. Only for what has not been sent."""
        assert mark[1] >= self._sent, "what was sent can only be rolled back whole"
        self.rv = mark[0]
        self.trail.back_to(self.rv)
        self._uids.difference_update(change.state["metadata"]["uid"] for change in self.changes[mark[1] :])
        del self.changes[mark[1] :]
        del self.statements[mark[2] :]

    def also(self, query: str, args: tuple[Any, ...]) -> None:
        """Another statement to run in this transaction, for what lies beside the rows; its parameters are `$1`."""
        self.statements.append((query, args))

    async def send(self) -> None:
        """Sends what was staged since the last time, without waiting: the server writes while more is decided here."""
        changes = self.changes[self._sent :]
        if not changes:
            return
        missing = set(partitions.missing(self.connection, changes[0].rv, changes[-1].rv)) - self._partitions
        if missing:
            await self.pipeline.finish()
            await partitions.make(self.connection, sorted(missing))
            self._partitions |= missing
        for query, args in _writes(changes):
            self.pipeline.send(query, args)
            self.pipeline.flush()
        self._sent = len(self.changes)

    async def commit(self) -> None:
        """Writes what is left, numbers and commits. Raises OutcomeUnknown when the connection breaks on the way."""
        is_asked = False
        try:
            await self.send()
            for query, args in dict.fromkeys(self.statements):  # many jobs of one class say the same
                self.pipeline.send(query, args)
            if (audited := self.trail.close(self.now)) is not None:
                self.pipeline.send(*audited)
            end = str(self.trail.end.seq), self.trail.end.hash
            if self.changes:
                kinds = {change.kind.kind for change in self.changes}
                self.pipeline.send(_HEAD, (str(self.rv), CHANNEL, news.payload(self.rv, kinds), *end))
            elif audited is not None:
                self.pipeline.send(_END, end)
            self.pipeline.send("COMMIT")
            is_asked = True
            await self.pipeline.finish()
            partitions.remember(self.connection, self._partitions)
        except Exception as error:
            # Only a transaction that is there and failed is known not to have been committed. A backend that is told to
            # end finishes its COMMIT first and answers with an error all the same.
            is_known = not is_asked or self.connection.info.transaction_status == TransactionStatus.INERROR
            if self.changes and not is_known:
                raise OutcomeUnknown(self.changes[0].logged, self.xid) from error
            raise


@asynccontextmanager
async def begin(connection: Connection, keys: Iterable[Key] = (), sealer: Sealer | None = None) -> AsyncIterator[Batch]:
    """Opens a transaction that holds the history lock and reads these objects under it, in one round trip.

    Rolls back unless `commit` was called. A task that is cancelled inside closes the connection. Objects of sealed
    kinds are opened as far as the sealer can.
    """
    pipeline = Pipeline(connection)
    try:
        for query in _BEGIN:
            pipeline.send(query)
        kinds = _ask(pipeline, keys)
        _, _, head, *found = await pipeline.finish()
        rv, now, xid, seq, hash_ = (head.get_value(0, column) for column in range(5))
        if rv is None or now is None or xid is None or seq is None or hash_ is None:
            raise RuntimeError("the table heads is empty: the migrations have not run")
        moment, trail = _EPOCH + timedelta(microseconds=int(now)), Trail(Link(int(seq), hash_.decode()))
        known = _objects(kinds, found, sealer)
        yield Batch(connection, pipeline, int(rv), moment, trail, known, sealer, xid.decode(), CALLER.get())
    except asyncio.CancelledError:
        await connection.close()
        raise
    finally:  # also of what could not even be begun: a key that Postgres refuses must not leave the connection unusable
        if not connection.closed:
            with contextlib.suppress(psycopg.Error):
                await pipeline.finish()
        if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            await connection.execute("ROLLBACK")


async def committed(connection: Connection, unknown: OutcomeUnknown) -> bool:
    """Whether a commit whose outcome was unknown happened after all: its first change is in the log, and by it.

    Another's batch may have the same revision and object; a server that crashed gives the numbers of transactions that
    it lost to others. Waits for the history lock first: as long as the lost backend may still be committing, it has it.
    """
    first = unknown.first
    async with begin(connection) as batch:
        rows = await batch.select("SELECT uid::text, xmin::text, object FROM changes WHERE rv = %s", (first.rv,))
        wanted = first.uid, str(int(unknown.xid) % 2**32), orjson.loads(first.object)
        found = [(uid, xid, orjson.loads(text)) for uid, xid, text in rows]
        return found == [wanted] or await _was_resealed(batch, unknown, found)


async def _was_resealed(batch: Batch, unknown: OutcomeUnknown, found: list[tuple[str, str, Object]]) -> bool:
    """The same of a Secret that was sealed anew since: its entry is as it was but for the envelope.

    Another transaction has written it last, so Postgres is asked what became of ours.
    """
    wanted = unknown.first.uid, orjson.loads(unknown.first.object)
    if not any(uid == wanted[0] and sealing.is_resealed(obj, wanted[1]) for uid, _, obj in found):
        return False
    return await batch.select(_STATUS, (unknown.xid, unknown.xid)) == [("committed",)]


def _row(
    kind: Kind, old: Object | None, state: Object, prev_rv: int | None, is_move: bool = False
) -> tuple[Any, ...]:
    try:
        if is_move and old is not None and prev_rv is not None:
            return moves.encode(old, state, prev_rv)
        return columns.encode(kind, old, state, prev_rv)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ApiError(422, "Invalid", f'{kind.kind} "{state["metadata"]["name"]}" can\'t be stored: {why}') from error


def _ask(pipeline: Pipeline, keys: Iterable[Key]) -> list[str]:
    """Sends one query a kind; the kinds, one for each result."""
    wanted: dict[str, list[Key]] = {}
    for key in keys:
        wanted.setdefault(key[0], []).append(key)
    for kind, of_kind in wanted.items():
        args = (arrays.Texts([key[1] for key in of_kind]), arrays.Texts([key[2] for key in of_kind]))
        pipeline.send(rendering.BY_IDEMPOTENCY if kind == IDEMPOTENCY else rendering.by_names(KINDS[kind]), args)
    return list(wanted)


def _objects(kinds: list[str], results: list[PGresult], sealer: Sealer | None) -> Known:
    """What was found, by key."""
    found = Known()
    for kind, result in zip(kinds, results, strict=True):
        for number in range(result.ntuples):
            namespace, name, text = (result.get_value(number, column) or b"" for column in range(3))
            key = kind, namespace.decode(), name.decode()
            if kind == JOB.kind:
                found.keep(key, text)
            else:
                is_sealed = kind != IDEMPOTENCY and KINDS[kind].sealed
                found[key] = sealing.opened(sealer, orjson.loads(text)) if is_sealed else orjson.loads(text)
    return found


# -- statements ----------------------------------------------------------------------------------------------------

# The time in microseconds. The transaction gets its number now: after a commit that broke nobody can ask for it.
_NOW = (
    "SELECT rv, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, pg_current_xact_id()::text, audit_seq, "
    "audit_hash FROM heads"
)
# Of a number that a server which crashed lost, and that nobody has got since, nothing can be asked.
_STATUS = "SELECT CASE WHEN %s::xid8 < pg_snapshot_xmax(pg_current_snapshot()) THEN pg_xact_status(%s::xid8) END"
_BEGIN = ("BEGIN", f"SELECT pg_advisory_xact_lock({HISTORY_LOCK})", _NOW)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEAD = "UPDATE heads SET rv = $1::bigint, audit_seq = $4::bigint, audit_hash = $5 RETURNING pg_notify($2, $3)"
_END = "UPDATE heads SET audit_seq = $1::bigint, audit_hash = $2"
_WAITS = "INSERT INTO deletions VALUES ($1::uuid, $2, $3, $4) ON CONFLICT DO NOTHING"
# Names and unique values are free before they are taken again.
_ORDER = {"DELETED": 0, moves.TYPE: 1, "MODIFIED": 2, "ADDED": 3}
_CASTS = {"labels": "::jsonb", "owners": "::uuid[]"}


def _writes(changes: Sequence[Change]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The set-based statements of a batch: per kind deletions, updates and creations, each with its part of the log."""
    groups: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for change in changes:
        groups.setdefault((change.kind.kind, change.type), []).append(change.row)
    for kind, type_ in sorted(groups, key=lambda group: _ORDER[group[1]]):
        values = zip(*groups[kind, type_], strict=True)
        types = _MOVED if type_ == moves.TYPE else _TYPES[kind]
        yield _STATEMENTS[kind, type_], tuple(map(arrays.of_type, types, values))


def _statement(kind: Kind, type_: str) -> str:
    """Changes the rows and tells the log, which keeps the whole text: each text travels once."""
    logged = columns.logged(kind)
    parameters = ", ".join(f"${n}{'::uuid[]' if of == 'uuid' else ''}" for n, (_, of) in enumerate(logged, 1))
    names = ", ".join(f'"{name}"' for name, _ in logged)
    return (
        f"WITH n AS (SELECT * FROM unnest({parameters}) AS n({names})), w AS ({_CHANGE[type_](kind)}) "
        "INSERT INTO changes (rv, kind, type, namespace, name, uid, object, labels, fields, old_labels, old_fields, "
        f"prev_rv) SELECT rv, '{kind.kind}', '{type_}', namespace, name, uid, head || seen || tail, labels, fields, "
        "old_labels, old_fields, prev_rv FROM n"
    )


def _insert(kind: Kind) -> str:
    names = [name for name, _ in columns.columns(kind)]
    values = ", ".join(f'n."{name}"{_CASTS.get(name, "")}' for name in names)
    into = ", ".join(f'"{name}"' for name in names)
    return f"INSERT INTO {columns.table(kind)} ({into}) SELECT {values} FROM n"


def _update(kind: Kind) -> str:
    fixed = ("uid", "namespace", "name", *columns.KEPT.get(kind.kind, ()))
    changing = [name for name, _ in columns.columns(kind) if name not in fixed]
    values = ", ".join(f'"{name}" = n."{name}"{_CASTS.get(name, "")}' for name in changing)
    return f"UPDATE {columns.table(kind)} AS t SET {values} FROM n WHERE t.uid = n.uid"


def _delete(kind: Kind) -> str:
    return f"DELETE FROM {columns.table(kind)} AS t USING n WHERE t.uid = n.uid"


_CHANGE = {"ADDED": _insert, "MODIFIED": _update, "DELETED": _delete}
_STATEMENTS = {(kind.kind, type_): _statement(kind, type_) for kind in KINDS.values() for type_ in _CHANGE}
_TYPES = {kind.kind: [of for _, of in columns.logged(kind)] for kind in KINDS.values()}
_STATEMENTS["Job", moves.TYPE] = moves.statement()
_MOVED = [of for _, of in moves.COLUMNS]
