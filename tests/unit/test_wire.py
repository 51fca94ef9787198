"""How long may a body take? Each part has its time, and so has the whole of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from casare_api.decisions.access import ANONYMOUS
from casare_api.machinery.errors import ApiError
from casare_apiserver import wire
from casare_apiserver.wire import Request


def body_of(parts: list[bytes] | None, stall_seconds: float) -> bytes:
    """The body that comes in these parts; None: a byte at a time, for ever."""
    left = iter(parts or ())

    async def receive() -> dict[str, Any]:
        if parts is None:
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": b" ", "more_body": True}
        part = next(left, None)
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"headers": [], "extensions": {}}
    request = Request("POST", "/", scope, receive, send, {}, ANONYMOUS, lambda: True, stall_seconds)
    return asyncio.run(request.body())


def test_a_body_that_comes_byte_by_byte_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_STALLS", 0.1)
    with pytest.raises(ApiError, match=r"the body did not come within 0\.5 seconds") as told:
        body_of(None, stall_seconds=5)  # none of its bytes is late
    assert told.value.status == 408


def test_a_body_in_parts_is_whole() -> None:
    assert body_of([b"ab", b"", b"c"], stall_seconds=5) == b"abc"
