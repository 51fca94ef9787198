"""What is served beside the resources? Files of workflows by their hash, and revisions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from casare_api.kinds.core import NAMESPACE
from casare_api.kinds.workflow import WORKFLOW
from casare_api.machinery.errors import ApiError
from casare_apiserver.targets import Target
from casare_apiserver.wire import ClientStalled, Request, reply
from casare_store import beside, reads
from casare_store.connection import LARGE_FILES
from casare_store.store import Store

LARGE = 1024 * 1024  # bytes of a file that has to wait for its turn
TRANSFER = 300.0  # seconds that such a file may take, so that others get their turn
PIECE = 256 * 1024  # bytes handed to a connection at once
log = structlog.get_logger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_FOR_EVER = (b"cache-control", b"private, max-age=31536000, immutable")


@dataclass(frozen=True, slots=True)
class Files:
    """The handlers; `large` are the connections for large files."""

    store: Store
    large: beside.Pool
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_FILES))

    async def blob(self, request: Request, namespace: str, sha256: str) -> None:
        if not _SHA256.match(sha256):
            raise ApiError.bad_request("a file is named by the 64 hex digits of its SHA-256")
        if request.method == "PUT":
            declared = request.header(b"content-length")
            length = int(declared) if declared.isdecimal() and len(declared) < 18 else beside.MAX_BLOB
            async with self._turn(length) as pool:
                await self._take(request, pool, namespace, sha256)
            return
        size = await beside.has_blob(self.store.pool, namespace, sha256)
        if size is None:
            raise _no_file(sha256)
        if request.method == "HEAD":
            await reply(request.send, 200, b"", b"application/octet-stream", extra=[(b"x-size", str(size).encode())])
            return
        async with self._turn(size) as pool:
            await self._give(request, pool, namespace, sha256)

    @asynccontextmanager
    async def _turn(self, size: int) -> AsyncIterator[beside.Pool]:
        """The connections for a file of this size. Large ones are held in memory whole: few at a time.

        Raises ApiError 408 when one takes too long.
        """
        if size <= LARGE:
            yield self.store.pool
            return
        try:
            async with self._turns, asyncio.timeout(TRANSFER):
                yield self.large
        except TimeoutError:
            raise ApiError(408, "Timeout", f"the file did not get through within {TRANSFER:g} seconds") from None

    async def _take(self, request: Request, pool: beside.Pool, namespace: str, sha256: str) -> None:
        data = await request.body(beside.MAX_BLOB)
        if await reads.get(self.store.pool, NAMESPACE, "", namespace) is None:
            raise ApiError.not_found(NAMESPACE, namespace)
        is_new = await beside.put_blob(pool, namespace, sha256, data)
        await request.object(201 if is_new else 200, {"sha256": sha256, "size": len(data)})

    async def _give(self, request: Request, pool: beside.Pool, namespace: str, sha256: str) -> None:
        """Sends a file piece by piece: what the client does not read is not copied into its connection."""
        data = await beside.get_blob(pool, namespace, sha256)
        if data is None:
            raise _no_file(sha256)
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(len(data)).encode()),
                   _FOR_EVER]
        await request.send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            for start in range(0, len(data), PIECE):
                await request.chunk(data[start:start + PIECE])
            await request.chunk(b"", more=False)
        except ClientStalled:
            log.warning("a file was cut: its client does not read", namespace=namespace)
        except asyncio.CancelledError:  # its time is up: an answer that has begun can only be cut
            request.abort()
            raise

    async def revision(self, request: Request, target: Target, name: str) -> None:
        content = await beside.revision(self.store.pool, target.namespace or "", name)
        if content is None:
            raise ApiError.not_found(WORKFLOW, f"{target.name}/revisions/{name}")
        body = (
            f'{{"apiVersion":"{WORKFLOW.api_version}","kind":"WorkflowRevision","metadata":{{"name":"{name}",'
            f'"namespace":"{target.namespace}"}},"spec":{content}}}\n'
        )
        await request.answer(200, body.encode(), [_FOR_EVER])


def _no_file(sha256: str) -> ApiError:
    return ApiError(404, "NotFound", f"there is no file {sha256[:12]}...: send it first")
