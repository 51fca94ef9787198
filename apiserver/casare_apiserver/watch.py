"""How does every watcher get every change, once and in order? One log reader a process, and fan-out of the same bytes.

The hub follows the change log and keeps a bounded ring of recent changes. A watcher is indexed by one field it selects
on, by old and new value, so that ten thousand agents that each watch their own jobs cost a look-up an event. A watcher
that starts before the ring gets 410 and lists again; one that is too slow is cut off, it never grows memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson
import structlog

from casare_api.kinds import KINDS, Kind, Object
from casare_api.machinery.errors import ApiError
from casare_api.machinery.selectors import FieldSelector, LabelSelector
from casare_store import changes
from casare_store.changes import Change, Compacted, LogReader
from casare_store.connection import connect

RING = 10_000  # changes kept for those who come back
RING_BYTES = 24 * 1024 * 1024
SLOW = 8 * 1024 * 1024  # bytes that may wait for one watcher
BOOKMARK_EVERY = 30.0  # seconds
log = structlog.get_logger(__name__)
Listener = Callable[[Change], None]


class Entry:
    """One change on its way to watchers: its lines and old values are made once, when the first watcher needs them."""

    __slots__ = ("_lines", "change", "fields", "kind", "old_fields")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.kind = KINDS[change.kind]
        self.fields: list[str] = orjson.loads(change.fields)
        self.old_fields: list[str] = orjson.loads(change.old_fields) if change.old_fields else self.fields
        self._lines: dict[str, bytes] = {}

    def line(self, type_: str, old: bool = False) -> bytes:
        """The event as a watcher gets it; `old` shows the object as it was selected before."""
        key = f"{type_}{old}"
        found = self._lines.get(key)
        if found is None:
            text = orjson.dumps(self._old_state()) if old else self.change.object.encode()
            found = self._lines[key] = b'{"type":"%s","object":%s}\n' % (type_.encode(), text)
        return found

    def _old_state(self) -> Object:
        """The object with its labels and selectable fields as they were: what the watcher last knew of it."""
        obj: Object = orjson.loads(self.change.object)
        if self.change.old_labels is not None:
            obj["metadata"]["labels"] = orjson.loads(self.change.old_labels)
        for path, old in zip(self.kind.fields.values(), self.old_fields[2:], strict=True):
            place = obj
            for key in path[:-1]:
                place = place.setdefault(key, {})
            if old:
                place[path[-1]] = old
            else:
                place.pop(path[-1], None)
        return obj


@dataclass(eq=False, slots=True)
class Watcher:
    """One open watch: what it selects, and the lines that wait for it."""

    kind: Kind
    namespace: str | None
    labels: LabelSelector | None
    fields: FieldSelector | None
    since: int
    bookmarks: bool = False
    key_uid: str | None = None
    pending: list[bytes] = field(default_factory=list)
    size: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    def see(self, entry: Entry) -> None:
        """Takes a change if this watcher selects it, before or after."""
        change = entry.change
        if change.rv <= self.since or self.ended:
            return
        self.since = change.rv
        is_match = self._selects(entry.fields, change.labels)
        if change.type == "MODIFIED":
            old_labels = change.labels if change.old_labels is None else change.old_labels
            was_match = self._selects(entry.old_fields, old_labels)
            if was_match or is_match:
                kind = "MODIFIED" if was_match and is_match else "ADDED" if is_match else "DELETED"
                self.offer(entry.line(kind, old=kind == "DELETED"))
        elif is_match:
            self.offer(entry.line(change.type))

    def offer(self, line: bytes) -> None:
        """Queues a line; a watcher with too much waiting is cut off with an error it can act on."""
        self.pending.append(line)
        self.size += len(line)
        if self.size > SLOW:
            self.pending.clear()
            self.end(expired("this watch is too slow to keep up: list again"))
        self.wake.set()

    def end(self, error: ApiError | None = None) -> None:
        """Ends the watch after what is pending, with an error line or cleanly."""
        if error is not None and not self.ended:
            self.pending.append(error_line(error))
        self.ended = True
        self.wake.set()

    def take(self) -> bytes:
        """Everything that waits, as one chunk."""
        chunk = self.pending[0] if len(self.pending) == 1 else b"".join(self.pending)
        self.pending.clear()
        self.size = 0
        self.wake.clear()
        return chunk

    def _selects(self, fields: list[str], labels: str | None) -> bool:
        if self.namespace is not None and fields[1] != self.namespace:
            return False
        if self.fields is not None and not self.fields.matches(dict(zip(self.kind.selectable, fields, strict=True))):
            return False
        return self.labels is None or self.labels.matches(orjson.loads(labels) if labels else {})

    def index(self) -> tuple[str, int, str]:
        """Where the hub files this watcher: (kind, position of a field, its value); position -1 sees everything."""
        for term in self.fields.terms if self.fields else ():
            if term.operator != "!=" and term.value:
                return (self.kind.kind, self.kind.selectable.index(term.field), term.value)
        if self.namespace is not None:
            return (self.kind.kind, 1, self.namespace)
        return (self.kind.kind, -1, "")


@dataclass(slots=True)
class Hub:
    """The fan-out of one process. `rv` is how far it has read."""

    url: str
    rv: int = 0
    epoch: str = ""
    ring: deque[Entry] = field(default_factory=deque)
    listeners: list[Listener] = field(default_factory=list)
    alive_at: float = 0.0  # loop time of the last look at the log
    _ring_bytes: int = 0
    _first: int = 0  # the ring answers watches that start at or after this revision
    _index: dict[tuple[str, int, str], set[Watcher]] = field(default_factory=dict)
    _positions: dict[str, dict[int, int]] = field(default_factory=dict)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Fills the ring from the log and begins to follow it."""
        await self._fill()
        self._tasks = [
            asyncio.create_task(self._follow(), name="watch-hub"),
            asyncio.create_task(self._bookmark(), name="watch-bookmarks"),
        ]

    async def stop(self) -> None:
        """Ends every watch cleanly, so that clients resume elsewhere."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for watcher in self.watchers():
            watcher.end()

    def watchers(self) -> Iterator[Watcher]:
        return (watcher for group in list(self._index.values()) for watcher in list(group))

    def add(self, watcher: Watcher) -> None:
        """Files a watcher, after replaying what the ring has since its revision. Raises ApiError 410."""
        if watcher.since < self._first:
            raise expired(f"too old resource version: {watcher.since} ({self.rv})")
        for entry in self.ring:
            if entry.change.rv > watcher.since and entry.kind is watcher.kind:
                watcher.see(entry)
        key = watcher.index()
        self._index.setdefault(key, set()).add(watcher)
        positions = self._positions.setdefault(key[0], {})
        positions[key[1]] = positions.get(key[1], 0) + 1

    def remove(self, watcher: Watcher) -> None:
        key = watcher.index()
        group = self._index.get(key)
        if group is None or watcher not in group:
            return
        group.discard(watcher)
        if not group:
            del self._index[key]
        positions = self._positions[key[0]]
        positions[key[1]] -= 1
        if not positions[key[1]]:
            del positions[key[1]]

    async def reached(self, rv: int, timeout: float = 2.0) -> bool:
        """Waits until the hub has read up to a revision; whether it did in time."""
        async with asyncio.timeout(timeout):
            while self.rv < rv:
                self._moved.clear()
                await self._moved.wait()
        return True

    async def _fill(self) -> None:
        connection = await connect(self.url, "ring")
        try:
            at = await changes.head(connection)
            self.rv = self._first = max(at.compacted_rv, at.rv - RING)
            self.epoch = at.epoch
            while self.rv < at.rv:
                found = await changes.read_since(connection, self.rv)
                if not found:
                    break
                self._take(found)
            self.rv = max(self.rv, at.rv)
        finally:
            await connection.close()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async for found in LogReader(self.url).follow(self.rv):
                    self.alive_at = loop.time()
                    if found:
                        self._take(found)
                        self._moved.set()
            except Compacted as error:
                log.error("the log does not go on from where this server was; every watch must list again",
                          was=error.asked, head=error.head)
                self._restart(error.head)

    def _restart(self, head: int) -> None:
        for watcher in self.watchers():
            watcher.end(expired(f"too old resource version: {self.rv} ({head})"))
        self.ring.clear()
        self._ring_bytes = 0
        self.rv = self._first = head

    def _take(self, found: list[Change]) -> None:
        for change in found:
            entry = Entry(change)
            self._keep(entry)
            self.rv = change.rv
            for watcher in self._interested(entry):
                watcher.see(entry)
            for listener in self.listeners:
                listener(change)

    def _keep(self, entry: Entry) -> None:
        self.ring.append(entry)
        self._ring_bytes += len(entry.change.object)
        while len(self.ring) > RING or self._ring_bytes > RING_BYTES:
            old = self.ring.popleft()
            self._ring_bytes -= len(old.change.object)
            self._first = old.change.rv

    def _interested(self, entry: Entry) -> list[Watcher]:
        """Watchers filed under any old or new value of the change's fields."""
        found: set[Watcher] = set()
        for position in self._positions.get(entry.kind.kind, ()):
            values = ("",) if position < 0 else {entry.fields[position], entry.old_fields[position]}
            for value in values:
                found |= self._index.get((entry.kind.kind, position, value), _NOBODY)
        return list(found)

    async def _bookmark(self) -> None:
        while True:
            await asyncio.sleep(BOOKMARK_EVERY)
            lines = {kind: bookmark_line(found, self.rv) for kind, found in KINDS.items()}
            for watcher in self.watchers():
                if watcher.bookmarks:
                    watcher.offer(lines[watcher.kind.kind])


_NOBODY: set[Watcher] = set()


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def error_line(error: ApiError) -> bytes:
    return b'{"type":"ERROR","object":%s}\n' % orjson.dumps(error.body())


def bookmark_line(kind: Kind, rv: int) -> bytes:
    body = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": {"resourceVersion": str(rv)}}
    return b'{"type":"BOOKMARK","object":%s}\n' % orjson.dumps(body)
