"""How is one request sent and timed without a client library in the way? A blocking keep-alive connection.

Reads whole answers with a Content-Length; that is all the resource API sends, but for watches.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from time import monotonic_ns
from types import TracebackType
from typing import Any, Self

import orjson

TIMEOUT = 20.0  # seconds
_SLICE = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; `sent` and `ended` are the clock (nanoseconds) at the request's first and the last byte."""

    status: int
    body: bytes
    sent: int
    ended: int

    @property
    def seconds(self) -> float:
        return (self.ended - self.sent) / 1e9

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.body)
        return found


def head(method: str, path: str, key: str, size: int = 0, content_type: str = "application/json") -> bytes:
    """The head of a request, as clients send it."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nAccept: application/json\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {size}\r\n\r\n"
    ).encode()


class Connection:
    """One keep-alive connection to 127.0.0.1; use it in a `with`."""

    def __init__(self, port: int, key: str) -> None:
        self._key = key
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, method: str, path: str, obj: Any = None) -> Answer:
        """Sends a request and reads its answer. Raises OSError."""
        body = b"" if obj is None else orjson.dumps(obj)
        request = head(method, path, self._key, len(body)) + body
        sent = monotonic_ns()
        self._socket.sendall(request)
        status, content = self._read()
        return Answer(status, content, sent, monotonic_ns())

    def expect(self, status: int, method: str, path: str, obj: Any = None) -> Answer:
        """As `request`; raises OSError for another status than the one that is right."""
        answer = self.request(method, path, obj)
        if answer.status != status:
            raise OSError(f"{method} {path}: {answer.status} {answer.body[:300].decode(errors='replace')}")
        return answer

    def _read(self) -> tuple[int, bytes]:
        start = bytearray()
        while (end := start.find(b"\r\n\r\n")) < 0:
            start += self._receive(65536)
        size = content_length(bytes(start[:end]))
        parts, missing = [bytes(start[end + 4 :])], size - (len(start) - end - 4)
        while missing > 0:
            part = self._receive(min(_SLICE, missing))
            parts.append(part)
            missing -= len(part)
        return int(start[9:12]), b"".join(parts)

    def _receive(self, size: int) -> bytes:
        part = self._socket.recv(size)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()


def content_length(answer_head: bytes) -> int:
    """The Content-Length of an answer; 0 where there is none."""
    at = answer_head.lower().find(b"\r\ncontent-length:")
    return int(answer_head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
