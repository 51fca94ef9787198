"""What is a connection allowed to do to us? uvicorn's HTTP protocol, with bounds on what is no body and a way out.

The parser itself collects an endless path, header or trailer for as long as it comes; a head that is never finished
keeps its connection for ever; and a connection whose client does not read can only be ended by dropping what it was
sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from casare_apiserver.addresses import UNKNOWN
from casare_apiserver.connections import Connections
from casare_apiserver.wire import ABORT, HAS_BODY, IS_PAUSED

MAX_HEAD = 64 * 1024  # bytes of path and headers, trailers or a chunk's extensions, beyond what came in one read


class Protocol(HttpToolsProtocol):
    """One connection. `head_seconds` is how long a head may take, from the first byte or from the connection on.

    What was sent may be left unread for `stall_seconds`. Answers in parts look after that themselves, and say so; this
    is for all others, also those that nobody waits for any more, so it is twice as patient.
    """

    _head = 0  # bytes that came since anything began or ended, and are no body
    _in_body = False
    _due: float | None = None  # loop time until which a whole head must have come
    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def __init__(
        self, *args: Any, head_seconds: float, stall_seconds: float, open_connections: Connections, **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self._open, self._counted = open_connections, ""
        self._head_seconds = head_seconds
        self._patience = 2 * stall_seconds
        self._cycles: deque[RequestResponseCycle] = deque()  # all that are not answered yet, maybe more

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        address = self.client[0] if self.client else UNKNOWN
        if not self._open.enter(address):
            transport.abort()
            return
        self._counted = address
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._open.leave(self._counted)
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()
        for cycle in self._cycles:  # uvicorn tells the newest request alone; an earlier one would go on sending
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self._patience, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        if self._is_idle():  # whatever comes ends uvicorn's own timer: an empty line, or a body that nobody waits for
            self._await_head()
        super().data_received(data)
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response("The path and headers of the request are too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        self._await_head()
        calls = {ABORT: self.transport.abort, IS_PAUSED: lambda: self.flow.write_paused, HAS_BODY: self._has_body}
        self.scope["extensions"] = calls  # type: ignore[typeddict-item]  # functions are no JSON

    def _has_body(self) -> bool:
        """Whether the newest request's body has come whole; those of earlier ones have then, too."""
        return self.cycle is not None and not self.cycle.more_body

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # else it is a trailer, which nobody reads
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head, self._in_body, self._due = 0, True, None
        super().on_headers_complete()
        while self._cycles and self._cycles[0].response_complete:
            self._cycles.popleft()
        if self.cycle is not None:
            self._cycles.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        self._head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head, self._in_body = 0, False
        super().on_message_complete()

    # -- heads that do not come: one timer a connection, which looks when it fires; a request costs a look at the clock

    def _is_idle(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _await_head(self) -> None:
        if self._due is None:
            self._due = self.loop.time() + self._head_seconds
        if self._timer is None:
            self._timer = self.loop.call_later(self._head_seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        now = self.loop.time()
        if not self._is_idle():  # it may be us who do not read while an earlier request is answered
            self._due = now + self._head_seconds
        if self._due > now:
            self._timer = self.loop.call_later(self._due - now, self._look)
        else:
            self.transport.close()
