"""How does a request come in and an answer go out? Plain ASGI, bytes in and bytes out.

The hot routes use this instead of a framework's models: a create costs a third of the time that way.
"""

from __future__ import annotations

import asyncio
import gzip
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson
import structlog

from casare_api.decisions.access import Identity
from casare_api.decisions.policy import NOTHING_BOUND, Policy
from casare_api.machinery.errors import ApiError
from casare_apiserver import headers
from casare_apiserver.budget import LARGE, Share

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY = 3 * 1024 * 1024  # bytes, as in Kubernetes
BODY_STALLS = 10  # times as long as the next part of a body may take all of it may; what is streamed has its own limits
PACKED_FROM = 128 * 1024  # bytes of an answer, as in Kubernetes
# The extensions of the scope that our protocol adds: how to hang up, whether what is sent has to wait, and whether the
# whole body is here.
ABORT, IS_PAUSED, HAS_BODY = "casare.abort", "casare.is_paused", "casare.has_body"
MAX_WARNING, MAX_WARNINGS = 256, 4096  # characters in one and in all of them, as in Kubernetes
_random = random.Random()  # seeded by the system: numbers that differ, no secrets
log = structlog.get_logger(__name__)


class ClientStalled(Exception):
    """The client does not read; its connection is cut."""


@dataclass(slots=True, eq=False)
class Request:
    """One HTTP request on a hot route.

    Where the answer goes on for long, `end` ends it in order: it is called when the caller's key is not good any more.
    """

    method: str
    path: str
    scope: Scope
    receive: Receive
    send: Send
    query: dict[str, str]
    identity: Identity
    is_welcome: Callable[[], bool]  # whether the caller may still do this: for answers that go on for long
    stall_seconds: float  # that a client may leave unread what it is sent, before it is cut off
    warnings: list[str] = field(default_factory=list)
    lifetime: float = math.inf  # seconds that the caller is still signed in for
    policy: Policy = NOTHING_BOUND  # as it was when the request came
    has_stalled: bool = False
    share: Share | None = None  # of the budget for large answers, where this may be one
    end: Callable[[], None] | None = None
    has_come: Callable[[int], None] = lambda size: None  # is told the bytes of a body that was taken whole

    def header(self, name: bytes) -> str:
        """A header by its lower-case name, "" when it is missing."""
        return header(self.scope, name)

    async def body(self, limit: int = MAX_BODY) -> bytes:
        """The whole body. Raises ApiError 413 beyond `limit` bytes, 408 when it does not come."""
        declared = self.header(b"content-length")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
            raise too_large(limit)
        if self._has_body():  # the usual case
            return await self._whole(limit)
        try:
            async with asyncio.timeout(BODY_STALLS * self.stall_seconds):
                return await self._whole(limit)
        except TimeoutError:
            why = f"the body did not come within {BODY_STALLS * self.stall_seconds:g} seconds"
            raise ApiError(408, "Timeout", why) from None

    async def _whole(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._part()
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise too_large(limit)
            parts.append(part)
            if not message.get("more_body"):
                self.has_come(size)
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes, never whole in memory. Raises ApiError 408 when it does not come."""
        while True:
            message = await self._part()
            yield message.get("body", b"")
            if not message.get("more_body"):
                return

    def abort(self) -> None:
        """Ends the connection at once, whatever waits to be sent; a client that does not read gets no more memory."""
        cut = self.scope.get("extensions", {}).get(ABORT)
        if cut is not None:
            cut()

    async def _part(self) -> Message:
        message = await self._received()
        if message["type"] == "http.disconnect":
            raise ApiError(400, "BadRequest", "the client went away while it sent the body")
        return message

    async def _received(self) -> Message:
        if self._has_body():  # the usual case needs no timer
            return await self.receive()
        try:
            async with asyncio.timeout(self.stall_seconds):
                return await self.receive()
        except TimeoutError:
            why = f"the rest of the body did not come within {self.stall_seconds:g} seconds"
            raise ApiError(408, "Timeout", why) from None

    async def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Begins an answer that goes on for long. Raises ClientStalled, as `chunk`."""
        await self._patiently({"type": "http.response.start", "status": status, "headers": headers})

    async def chunk(self, body: bytes, more: bool = True) -> None:
        """Sends a part of an answer that goes on for long.

        Raises ClientStalled, after hanging up, when what was sent before does not leave.
        """
        message = {"type": "http.response.body", "body": body, "more_body": more}
        if self._asked(IS_PAUSED, otherwise=True):
            await self._patiently(message)
        else:  # the usual case: nothing waits, so nothing can stall
            await self.send(message)

    async def _patiently(self, message: Message) -> None:
        # A bare timer: hanging up wakes whoever waits to send. asyncio.timeout costs half as much as the event itself.
        timer = asyncio.get_running_loop().call_later(self.stall_seconds, self._hang_up)
        try:
            await self.send(message)
        finally:
            timer.cancel()
        if self.has_stalled:
            raise ClientStalled

    def _asked(self, extension: str, otherwise: bool) -> bool:
        """What our protocol says; `otherwise` where another one carries the request."""
        asked = self.scope.get("extensions", {}).get(extension)
        return otherwise if asked is None else bool(asked())

    def _has_body(self) -> bool:
        return self._asked(HAS_BODY, otherwise=False)

    def _hang_up(self) -> None:
        self.has_stalled = True
        self.abort()

    async def answer(
        self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (),
        content_type: bytes = b"application/json",
    ) -> None:
        """Sends a whole answer; a large one is packed for those who can unpack it. `?pretty` is for people."""
        extra = [*headers, *_warned(self.warnings)]
        if is_set(self.query, "pretty") and content_type == b"application/json":
            body = await asyncio.to_thread(_spread, body)
        if len(body) >= PACKED_FROM and "gzip" in self.header(b"accept-encoding"):
            body = await asyncio.to_thread(gzip.compress, body, 1)
            extra += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
        if self.share is not None:
            self.share.hold(len(body))
        if len(body) <= LARGE or self.method == "HEAD":
            await reply(self.send, status, body, content_type, extra)
            return
        head, parts = _head(len(body), content_type, extra), _parts(body)
        del body  # each part is let go of when it was sent
        try:
            await self._in_parts(status, head, parts)
        except ClientStalled:
            log.warning("an answer was cut: its client does not read", path=self.path)

    async def _in_parts(self, status: int, head: list[tuple[bytes, bytes]], parts: deque[bytes]) -> None:
        await self.begin(status, head)
        while parts:
            part = parts.popleft()
            await self.chunk(part)
            if self.share is not None:
                self.share.sent(len(part))
        await self.chunk(b"", more=False)  # which waits for the last part, too

    async def object(self, status: int, obj: Any) -> None:
        """Sends an object as JSON."""
        await self.answer(status, orjson.dumps(obj) + b"\n")


def header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


def parse_query(scope: Scope) -> dict[str, str]:
    """Query parameters; the last of several wins."""
    raw = scope.get("query_string", b"")
    return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True)) if raw else {}


async def reply(
    send: Send, status: int, body: bytes, content_type: bytes = b"application/json",
    extra: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Sends a whole answer."""
    await send({"type": "http.response.start", "status": status, "headers": _head(len(body), content_type, extra)})
    await send({"type": "http.response.body", "body": body})


def _head(length: int, content_type: bytes, extra: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"content-type", content_type),
        (b"content-length", str(length).encode()),
        audit_id(),
        *extra,
    ]
    if not any(name == b"cache-control" for name, _ in headers):
        headers.append((b"cache-control", b"no-cache, private"))
    return headers


def _parts(body: bytes) -> deque[bytes]:
    return deque(body[start:start + LARGE] for start in range(0, len(body), LARGE))


def audit_id() -> tuple[bytes, bytes]:
    """The header by which people find a request again."""
    digits = f"{_random.getrandbits(128):032x}"
    return b"audit-id", f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}".encode()


def tracked(send: Send, path: str) -> Send:
    """`send` of an application that knows nothing of us: its answers carry what all of ours carry."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            is_kept = any(name == b"cache-control" for name, _ in message["headers"])
            extra = [audit_id()] if is_kept else [audit_id(), (b"cache-control", b"no-cache, private")]
            message = {**message, "headers": [*message["headers"], *extra, headers.policy(path)]}
        await send(message)

    return sending


async def refuse(send: Send, error: ApiError) -> None:
    """Sends an error as a Status."""
    after = (error.details or {}).get("retryAfterSeconds")
    extra = [(b"retry-after", str(after).encode())] if after else []
    if error.status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    body = {**error.body(), "message": _message(error)}
    await reply(send, error.status, orjson.dumps(body) + b"\n", extra=extra)


def too_large(limit: int) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def is_set(query: Mapping[str, str], name: str) -> bool:
    """Whether a flag is on: given, and not as `false` or `0`; as Kubernetes reads them."""
    return name in query and query[name].lower() not in ("false", "0")


def _spread(body: bytes) -> bytes:
    """JSON over many lines."""
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2) + b"\n" if body else body


def _warned(warnings: Sequence[str]) -> Iterator[tuple[bytes, bytes]]:
    """Warnings as headers: printable ASCII, none of them long, not too many."""
    left = MAX_WARNINGS
    for text in warnings:
        shown = text if len(text) <= MAX_WARNING else text[: MAX_WARNING - 3] + "..."
        left -= len(shown)
        if left < 0:
            return
        yield b"warning", f'299 - "{_quoted(shown)}"'.encode()


def _message(error: ApiError) -> str:
    """What an error says, on one line; but several conflicts of an apply are a list, which people read as one."""
    if not any(cause.reason == "FieldManagerConflict" for cause in error.causes):
        return _printable(error.message)
    return "\n".join(map(_printable, error.message.split("\n")))


def _printable(text: str) -> str:
    """The text on one line: what would move a terminal's cursor is written out."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _quoted(text: str) -> str:
    return _printable(ascii(text)[1:-1]).replace("\\", "\\\\").replace('"', '\\"')
