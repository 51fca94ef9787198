"""How does a watch reach its client? Chunk by chunk, and never more than the client reads.

What waits for a client is bounded by the watcher; what was handed to the connection by the size of a chunk; the list
that a watch begins with by the budget for large answers. A client that does not read would hold them for ever: it is
cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from casare_apiserver.presenting import View
from casare_apiserver.watch import CHUNK, Watcher, bookmark_line
from casare_apiserver.wire import ClientStalled, Request, audit_id
from casare_store.reads import SEPARATOR

_HEADERS = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache, private")]
_LISTED = {"k8s.io/initial-events-end": "true"}  # what a client waits for that asked for the list within the watch
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Stream:
    """One watch on its way to its client."""

    request: Request
    watcher: Watcher
    view: View
    _has_begun: bool = False  # whether this client was told of anything yet
    _is_plain: bool = field(init=False)  # asked for each event of each watch

    def __post_init__(self) -> None:
        self._is_plain = self.view.is_plain

    async def run(self, first: list[bytes], listed_at: int | None = None) -> None:
        """Sends `first` (a page's chunks, which it takes away) as ADDED, then what the watcher has, until it ends.

        With `listed_at` a bookmark says where the first objects, which were so at that revision, end.
        """
        headers = [*_HEADERS, audit_id()]
        gone = asyncio.create_task(self._until_gone(), name="watch-gone")
        try:
            await self.request.begin(200, headers)
            await self.request.chunk(b"")
            for lines in _added(first):
                await self._tell_of_first(lines)
            if listed_at is not None:
                await self._tell([bookmark_line(self.watcher.kind, listed_at, _LISTED)])
            await self._follow()
            await self.request.chunk(b"", more=False)
        except ClientStalled:
            log.warning("a watch was cut: its client does not read", kind=self.watcher.kind.kind)
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _tell_of_first(self, lines: Sequence[bytes]) -> None:
        await self._tell(lines)
        if self.request.share is not None:
            self.request.share.sent(sum(map(len, lines)))
        await asyncio.sleep(0)  # a long list is not to hold others up

    async def _follow(self) -> None:
        watcher = self.watcher
        while watcher.pending or not watcher.ended:
            if watcher.pending:
                await self._tell(watcher.take())
            else:
                await watcher.wake.wait()
                if not watcher.pending:
                    watcher.wake.clear()

    async def _tell(self, lines: Sequence[bytes]) -> None:
        """Sends lines as this client sees them."""
        if not self._is_plain:
            lines = [self._seen(line) for line in lines]
        await self.request.chunk(lines[0] if len(lines) == 1 else b"".join(lines))

    def _seen(self, line: bytes) -> bytes:
        is_first, self._has_begun = not self._has_begun, True
        return self.view.event(line, is_first)

    async def _until_gone(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        self.watcher.cut()


def _added(chunks: list[bytes]) -> Iterator[list[bytes]]:
    """Lines for what there is, as many at once as fit into a chunk of a connection; takes the chunks away."""
    while chunks:
        texts = deque(chunks.pop(0).split(SEPARATOR))
        while texts:
            lines: list[bytes] = []
            size = 0
            while texts and (not lines or size + len(texts[0]) <= CHUNK):
                size += len(texts[0])
                lines.append(b'{"type":"ADDED","object":%s}\n' % texts.popleft())
            yield lines
