"""What happened since? The reader of the ordered change log: `rv > last`, in order, nothing twice, nothing missed.

It wakes on NOTIFY, whatever that says (see `news`), and looks every second in case one was missed. What this process
wrote itself it is handed at the commit (`Own`) and need not read again, as far as nobody else's revision is missing
before it. Connections that break are made again and reading goes on behind the last revision seen. Below the compacted
revision, and above the head (a restored backup), it says `Compacted`: whoever asked must list again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
import structlog

from casare_store.connection import CHANNEL, connect
from casare_store.pipeline import Pipeline

PAGE = 2000  # changes a read
MAX_OWN = 20_000  # changes
MAX_OWN_BYTES = 16 * 1024 * 1024
LOOK_EVERY = 1.0  # seconds between looks when no NOTIFY comes
log = structlog.get_logger(__name__)

_COLUMNS = "rv, kind, type, namespace, name, uid::text, object, labels, fields, old_labels, old_fields"


class Compacted(Exception):
    """The log does not reach back (or not forward) to the revision asked for; `head` is where it is now."""

    def __init__(self, asked: int, head: int) -> None:
        super().__init__(f"too old resource version: {asked} ({head})")
        self.asked, self.head = asked, head


class Change(NamedTuple):
    """One entry of the log. `fields` and `old_fields` are JSON arrays in the order of `kind.selectable`; the old
    labels and fields are None where they are the same as the new ones."""

    rv: int
    kind: str
    type: str
    namespace: str
    name: str
    uid: str
    object: bytes
    labels: str | bytes | None
    fields: str | bytes
    old_labels: str | bytes | None
    old_fields: str | bytes | None


@dataclass(slots=True)
class Own:
    """What this process's writer committed, by revision, until its reader has come by; bounded."""

    backends: set[int] = field(default_factory=set)  # the writer's, whose NOTIFYs are no news
    is_read: bool = False  # whether there is a reader at all
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    _changes: dict[int, Change] = field(default_factory=dict)
    _bytes: int = 0

    def add(self, changes: Iterable[Change]) -> None:
        """Notes changes that are committed."""
        if len(self._changes) > MAX_OWN or self._bytes > MAX_OWN_BYTES:  # nobody reads: the log has them
            self.forget()
        for change in changes:
            self._changes[change.rv] = change
            self._bytes += len(change.object)
        self.wake.set()

    def after(self, rv: int) -> list[Change]:
        """Those that come directly behind a revision, without a gap; they and all before them are forgotten."""
        if not self._changes:
            return []
        found: list[Change] = []
        while change := self._changes.pop(rv + 1 + len(found), None):
            found.append(change)
        if not found:
            self._changes = {known: change for known, change in self._changes.items() if known > rv}
        self._bytes = sum(len(change.object) for change in self._changes.values())
        return found

    def forget(self) -> None:
        """Whoever reads finds them in the log, if they still count."""
        self._changes, self._bytes = {}, 0


@dataclass(frozen=True, slots=True)
class Head:
    """Where history stands, which store this is, and what time it is there."""

    rv: int
    compacted_rv: int
    epoch: str
    now: datetime


async def head(connection: psycopg.AsyncConnection[Any]) -> Head:
    cursor = await connection.execute(
        "SELECT rv, compacted_rv, epoch::text, clock_timestamp() FROM heads", prepare=True
    )
    found = await cursor.fetchone()
    if found is None:
        raise RuntimeError("the table heads is empty: the migrations have not run")
    return Head(*found)


_SINCE = f"SELECT {_COLUMNS} FROM changes WHERE rv > $1::bigint ORDER BY rv LIMIT $2::bigint"


async def read_since(connection: psycopg.AsyncConnection[Any], rv: int, limit: int = PAGE) -> list[Change]:
    """The next changes after `rv`, in order. Raises Compacted.

    The head is read after the rows: a partition dropped between the two shows as Compacted, never as a hole.
    """
    pipeline = Pipeline(connection)
    pipeline.send(_SINCE, (str(rv), str(limit)))
    pipeline.send("SELECT rv, compacted_rv FROM heads")
    rows, heads = await pipeline.finish()
    found = [_change([rows.get_value(row, column) for column in range(rows.nfields)]) for row in range(rows.ntuples)]
    at = [int(heads.get_value(0, column) or 0) for column in range(2)] if heads.ntuples else [0, 0]
    if rv < at[1] or not heads.ntuples or (rv > at[0] and not found):
        raise Compacted(rv, at[0])
    return found


def _change(row: list[bytes | None]) -> Change:
    """A row of the log as Postgres sends it: an object's text is handed on as it is."""
    rv, kind, type_, namespace, name, uid = [(value or b"").decode() for value in row[:6]]
    text, labels, fields, old_labels, old_fields = row[6:]
    values = (text or b"", labels, fields or b"[]", old_labels, old_fields)
    return Change(int(rv), kind, type_, namespace, name, uid, *values)


@dataclass(slots=True)
class LogReader:
    """Follows the log for one process: `async for changes in reader.follow(rv)` yields lists in order, for ever.

    An empty list is yielded at least every second, so that a follower can tell a quiet log from a lost one.
    """

    url: str
    own: Own = field(default_factory=Own)
    _listener: asyncio.Task[None] | None = None
    _has_news: bool = False  # of others, since the log was last read

    async def follow(self, rv: int) -> AsyncGenerator[list[Change]]:
        """Changes after `rv`. Raises Compacted when the log can't go on from there; never ends by itself."""
        self.own.is_read = True
        self._listener = asyncio.create_task(self._listen(), name="log-listener")
        connection: psycopg.AsyncConnection[Any] | None = None
        try:
            while True:
                try:
                    connection = connection or await connect(self.url, "log")
                    found = self.own.after(rv)
                    if not found:
                        self._has_news = False
                        found = await read_since(connection, rv)
                except Compacted:
                    self.own.forget()
                    raise
                except psycopg.OperationalError as error:
                    log.warning("the change log is out of reach; trying again", why=str(error).split("\n")[0])
                    await _close(connection)
                    connection = None
                    await asyncio.sleep(0.2)
                    continue
                rv = found[-1].rv if found else rv
                yield found
                if len(found) < PAGE and not self._has_news:
                    await self._rest()
        finally:
            self._listener.cancel()
            await _close(connection)

    async def _rest(self) -> None:
        """Until there is news, or a second has passed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.own.wake.wait(), LOOK_EVERY)
        self.own.wake.clear()

    def _tell(self) -> None:
        self._has_news = True
        self.own.wake.set()

    async def _listen(self) -> None:
        while True:
            connection = None
            try:
                connection = await connect(self.url, "listen")
                await connection.execute(f"LISTEN {CHANNEL}")
                self._tell()  # what happened before LISTEN took hold
                async for told in connection.notifies():
                    if told.pid not in self.own.backends:
                        self._tell()
            except psycopg.OperationalError:
                await asyncio.sleep(0.5)
            except Exception:
                log.exception("nobody listens for news; trying again")
                await asyncio.sleep(0.5)
            finally:
                await _close(connection)


async def _close(connection: psycopg.AsyncConnection[Any] | None) -> None:
    if connection is not None:
        with contextlib.suppress(psycopg.Error):
            await connection.close()
