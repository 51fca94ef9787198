"""What is a connection allowed to do to us? uvicorn's HTTP protocol, with a bound on heads and a way to hang up.

The parser itself collects an endless path or header for as long as it comes; and a connection whose client does not
read can only be ended by dropping what it was sent.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from casare_apiserver.wire import ABORT

MAX_HEAD = 64 * 1024  # bytes of path and headers


class HeadTooLarge(ValueError):
    """Ends the connection with a 400: there is no request yet that could be answered otherwise."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    _head = 0

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        self.scope["extensions"] = {ABORT: self.transport.abort}  # type: ignore[dict-item]  # a function is no JSON

    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value))
        super().on_header(name, value)

    def _grow(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD:
            raise HeadTooLarge(f"the path and headers of a request must not be longer than {MAX_HEAD} bytes")
