"""What is a connection allowed to do to us? uvicorn's HTTP protocol, with a bound on heads and a way to hang up.

The parser itself collects an endless path or header for as long as it comes; and a connection whose client does not
read can only be ended by dropping what it was sent.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from casare_apiserver.wire import ABORT

MAX_HEAD = 64 * 1024  # bytes of path and headers, beyond what came in one read


class Protocol(HttpToolsProtocol):
    """One connection."""

    _head: int | None = 0  # bytes of a head that has not ended yet; None in a body

    def data_received(self, data: bytes) -> None:
        before = self._head
        super().data_received(data)
        if self._head is None or self._head != before or self.transport.is_closing():
            return  # a head ended or began: what came in this read is bounded by itself
        self._head += len(data)
        if self._head > MAX_HEAD:
            self.send_400_response("The path and headers of the request are too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 1
        self.scope["extensions"] = {ABORT: self.transport.abort}  # type: ignore[dict-item]  # a function is no JSON

    def on_headers_complete(self) -> None:
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._head = 0
        super().on_message_complete()
