"""What is a connection allowed to do to us? uvicorn's HTTP protocol, with a bound on heads and a way to hang up.

The parser itself collects an endless path or header for as long as it comes; and a connection whose client does not
read can only be ended by dropping what it was sent.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from casare_apiserver.wire import ABORT, HAS_BODY, IS_PAUSED

MAX_HEAD = 64 * 1024  # bytes of path and headers, beyond what came in one read


class Protocol(HttpToolsProtocol):
    """One connection."""

    _head = 0  # bytes that came since anything began or ended
    _in_body = False

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if self._head > MAX_HEAD and not self._in_body and not self.transport.is_closing():
            self.send_400_response("The path and headers of the request are too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        calls = {ABORT: self.transport.abort, IS_PAUSED: lambda: self.flow.write_paused, HAS_BODY: self._has_body}
        self.scope["extensions"] = calls  # type: ignore[typeddict-item]  # functions are no JSON

    def _has_body(self) -> bool:
        """Whether the newest request's body has come whole; those of earlier ones have then, too."""
        return self.cycle is not None and not self.cycle.more_body

    def on_headers_complete(self) -> None:
        self._head, self._in_body = 0, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._head, self._in_body = 0, False
        super().on_message_complete()
