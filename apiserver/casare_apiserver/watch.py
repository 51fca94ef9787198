"""How does every watcher get every change, once and in order? One log reader a process, and fan-out of the same bytes.

The hub follows the change log and keeps a bounded ring of recent changes. A watcher is indexed by one field it selects
on, by old and new value, so that ten thousand agents that each watch their own jobs cost a look-up an event. A watcher
that starts before the ring gets 410 and lists again; one that is too slow is cut off, it never grows memory. Where the
log can't go on (it was compacted, or the store restored), everything that was built from it begins anew: watchers are
told so, listeners are called to `begin_anew` before the hub goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import orjson
import structlog

from casare_api.kinds import KINDS, Kind, Object
from casare_api.machinery.errors import ApiError
from casare_api.machinery.selectors import FieldSelector, LabelSelector
from casare_apiserver import metrics
from casare_apiserver.entry import Entry
from casare_store import changes
from casare_store.changes import Change, Compacted, LogReader, Own
from casare_store.connection import connect

RING = 10_000  # changes kept for those who come back
RING_BYTES = 16 * 1024 * 1024
SLOW = 8 * 1024 * 1024  # bytes that may wait for one watcher
CHUNK = 256 * 1024  # bytes handed to a connection at once
RETRY = 0.5  # seconds between tries to read the log or the store again
FOREVER = 1e9  # seconds
TRUSTED = 5.0  # seconds without a look at the log after which what was built from it is not believed
log = structlog.get_logger(__name__)
Listener = Callable[[Change], None]


@dataclass(eq=False, slots=True)
class Watcher:
    """One open watch: what it selects, and the lines that wait for it."""

    kind: Kind
    namespace: str | None
    labels: LabelSelector | None
    fields: FieldSelector | None
    since: int
    bookmarks: bool = False
    is_welcome: Callable[[], bool] = lambda: True  # whether the caller may still see this
    pending: deque[bytes] = field(default_factory=deque)
    size: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    _wanted: tuple[tuple[int, str, bool], ...] = ()  # a field's position, a value, whether it must have it or must not

    def __post_init__(self) -> None:
        terms = self.fields.terms if self.fields is not None else ()
        places = {name: at for at, name in enumerate(self.kind.selectable)}
        self._wanted = tuple((places[term.field], term.value, term.operator == "=") for term in terms)

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
        """Queues a line; a watcher with too much waiting is cut off with an error it can act on.

        One that has read all there was gets the next line, however long: listing again would not make it shorter.
        """
        if self.ended:
            return
        if self.pending and self.size + len(line) > SLOW:
            self.drop()
            self.end(expired("this watch is too slow to keep up: list again"))
            return
        self.pending.append(line)
        self.size += len(line)
        self.wake.set()

    def requeue(self, line: bytes) -> None:
        """Puts back a line that was taken; also the last one of a watch that has ended."""
        self.pending.append(line)
        self.size += len(line)

    def cut(self) -> None:
        """Ends the watch now: what waits is nothing that its client may see any more."""
        self.drop()
        self.end()

    def drop(self) -> None:
        """Forgets what waits."""
        self.pending.clear()
        self.size = 0

    def end(self, error: ApiError | None = None) -> None:
        """Ends the watch after what is pending, with an error line or cleanly."""
        if error is not None and not self.ended:
            self.pending.append(error_line(error))
        self.ended = True
        self.wake.set()

    def take(self) -> list[bytes]:
        """The next lines of what waits: as many as fit into a chunk, at least one."""
        size = 0
        lines: list[bytes] = []
        while self.pending and (not lines or size + len(self.pending[0]) <= CHUNK):
            lines.append(self.pending.popleft())
            size += len(lines[-1])
        self.size = max(self.size - size, 0)
        self.wake.clear()
        return lines

    def bookmark(self, rv: int) -> None:
        """Tells a watcher that asked for bookmarks how far it has come; never behind what it has seen."""
        if self.bookmarks:
            self.offer(bookmark_line(self.kind, max(rv, self.since)))

    def _selects(self, fields: list[str], labels: str | bytes | None) -> bool:
        if self.namespace is not None and fields[1] != self.namespace:
            return False
        for at, value, is_equal in self._wanted:  # a plain loop: twice as fast as all(), and asked for each event
            if (fields[at] == value) is not is_equal:
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
    bookmark_every: float = 30.0  # seconds
    own: Own = field(default_factory=Own)  # what this process writes itself
    rv: int = 0
    epoch: str = ""
    ring: deque[Entry] = field(default_factory=deque)
    begin_anew: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    alive_at: float = 0.0  # loop time of the last look at the log
    stopped: bool = False
    _ring_bytes: int = 0
    _first: int = 0  # the ring answers watches that start at or after this revision
    _index: dict[tuple[str, int, str], set[Watcher]] = field(default_factory=dict)
    _positions: dict[str, dict[int, int]] = field(default_factory=dict)
    _listeners: dict[str, list[Listener]] = field(default_factory=dict)  # by kind
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Fills the ring from the log and begins to follow it."""
        while True:
            with contextlib.suppress(Compacted):  # compacted while it was read: begin with what is left
                await self._fill()
                break
        self._tasks = [
            asyncio.create_task(self._follow(), name="watch-hub"),
            asyncio.create_task(self._bookmark(), name="watch-bookmarks"),
        ]

    async def stop(self) -> None:
        """Ends every watch cleanly, so that clients resume elsewhere, and takes no more of them."""
        self.stopped = True
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for watcher in self.watchers():
            watcher.end()

    def listen(self, kind: Kind, listener: Listener) -> None:
        """Has it called with every change of a kind."""
        self._listeners.setdefault(kind.kind, []).append(listener)

    def watchers(self) -> Iterator[Watcher]:
        return (watcher for group in list(self._index.values()) for watcher in list(group))

    def add(self, watcher: Watcher) -> None:
        """Files a watcher, after replaying what the ring has since its revision. Raises ApiError 410, 503."""
        if self.stopped:
            raise ApiError.unavailable("the server is stopping: try again in a moment")
        if watcher.since < self._first:
            raise expired(f"too old resource version: {watcher.since} ({self.rv})")
        newest_first = itertools.takewhile(lambda entry: entry.change.rv > watcher.since, reversed(self.ring))
        for entry in reversed([entry for entry in newest_first if entry.kind is watcher.kind]):
            watcher.see(entry)
        key = watcher.index()
        self._index.setdefault(key, set()).add(watcher)
        metrics.WATCHERS.inc()
        positions = self._positions.setdefault(key[0], {})
        positions[key[1]] = positions.get(key[1], 0) + 1

    def remove(self, watcher: Watcher) -> None:
        key = watcher.index()
        group = self._index.get(key)
        if group is None or watcher not in group:
            return
        group.discard(watcher)
        metrics.WATCHERS.dec()
        if not group:
            del self._index[key]
        positions = self._positions[key[0]]
        positions[key[1]] -= 1
        if not positions[key[1]]:
            del positions[key[1]]

    def is_fresh(self) -> bool:
        """Whether the log was read within the last seconds."""
        return asyncio.get_running_loop().time() - self.alive_at < TRUSTED

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
            self.ring.clear()
            self._ring_bytes = 0
            self.rv = self._first = max(at.compacted_rv, at.rv - RING)
            self.epoch = at.epoch
            while self.rv < at.rv:
                found = await changes.read_since(connection, self.rv)
                if not found:
                    break
                self._take(found)
            self.rv = max(self.rv, at.rv)
            self.alive_at = asyncio.get_running_loop().time()
        finally:
            await connection.close()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with contextlib.aclosing(LogReader(self.url, self.own).follow(self.rv)) as changes_of:
                    async for found in changes_of:
                        self._take(found)
                        self.alive_at = loop.time()
                        self._moved.set()
            except Compacted as error:
                log.error("the log does not go on from where this server was; every watch must list again",
                          was=error.asked, head=error.head)
                self._restart(error.head)
                await self._begin_anew()
            except Exception:
                log.exception("the change log can't be read; trying again")
                await asyncio.sleep(RETRY)

    async def _begin_anew(self) -> None:
        """Until all that listens has read the store again; until then nobody trusts what it knows."""
        while True:
            try:
                for begin in self.begin_anew:
                    await begin()
                return
            except Exception as error:
                log.warning("the store can't be read again yet", why=str(error).split("\n")[0])
                await asyncio.sleep(RETRY)

    def _restart(self, head: int) -> None:
        self.alive_at = -FOREVER
        for watcher in self.watchers():
            watcher.end(expired(f"too old resource version: {self.rv} ({head})"))
        self.ring.clear()
        self._ring_bytes = 0
        self.rv = self._first = head

    def _take(self, found: list[Change]) -> None:
        for change in found:
            self.rv = change.rv
            if change.kind not in KINDS:  # a newer server's, while the two are side by side
                continue
            try:
                entry = Entry(change)
                self._keep(entry)
                interested = self._interested(entry)
            except Exception:
                log.exception("a change can't be understood; every watch must list again", rv=change.rv)
                self._restart(change.rv)
                interested = []
            for watcher in interested:
                self._show(watcher, entry)
            for listener in self._listeners.get(change.kind, ()):
                self._tell(listener, change)
        metrics.LOG_POSITION.set(self.rv)

    def _tell(self, listener: Listener, change: Change) -> None:
        try:
            listener(change)
        except Exception:
            log.exception("a change could not be taken in", kind=change.kind, rv=change.rv)

    def _show(self, watcher: Watcher, entry: Entry) -> None:
        """One watcher that can't be told is that watcher's trouble: it is sent to list again."""
        try:
            watcher.see(entry)
        except Exception:
            log.exception("a watch could not be told of a change", kind=entry.change.kind, rv=entry.change.rv)
            watcher.end(expired("this watch lost a change: list again"))

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
            await asyncio.sleep(self.bookmark_every)
            try:
                for watcher in self.watchers():
                    watcher.bookmark(self.rv)
            except Exception:
                log.exception("bookmarks could not be sent")


_NOBODY: set[Watcher] = set()


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def error_line(error: ApiError) -> bytes:
    return b'{"type":"ERROR","object":%s}\n' % orjson.dumps(error.body())


def bookmark_line(kind: Kind, rv: int, annotations: dict[str, str] | None = None) -> bytes:
    meta: Object = {"resourceVersion": str(rv), "creationTimestamp": None}
    meta |= {"annotations": annotations} if annotations else {}
    body = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}
    return b'{"type":"BOOKMARK","object":%s}\n' % orjson.dumps(body)
