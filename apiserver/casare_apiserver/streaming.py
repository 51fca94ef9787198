"""How does a watch reach its client? Chunk by chunk, and never more than the client reads.

What waits for a client is bounded by the watcher; what was handed to the connection by the size of a chunk. A client
that does not read would hold both for ever: it is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
import structlog

from casare_apiserver.watch import Watcher
from casare_apiserver.wire import ClientStalled, Request

_HEADERS = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache, private")]
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Stream:
    """One watch on its way to its client."""

    request: Request
    watcher: Watcher

    async def run(self, first: Sequence[bytes]) -> None:
        """Sends `first` (objects' texts, joined by commas) as ADDED, then what the watcher has, until it ends."""
        await self.request.send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self.request.chunk(b"")
        gone = asyncio.create_task(self._until_gone(), name="watch-gone")
        try:
            for chunk in first:
                await self.request.chunk(_added(chunk))
            await self._follow()
            await self.request.chunk(b"", more=False)
        except ClientStalled:
            log.warning("a watch was cut: its client does not read", kind=self.watcher.kind.kind)
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _follow(self) -> None:
        watcher = self.watcher
        while watcher.pending or not watcher.ended:
            if watcher.pending:
                await self.request.chunk(watcher.take())
            else:
                await watcher.wake.wait()
                if not watcher.pending:
                    watcher.wake.clear()

    async def _until_gone(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        self.watcher.drop()
        self.watcher.end()


def _added(chunk: bytes) -> bytes:
    return b"".join(b'{"type":"ADDED","object":%s}\n' % orjson.dumps(obj) for obj in orjson.loads(b"[" + chunk + b"]"))
