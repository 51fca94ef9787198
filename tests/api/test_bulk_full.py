"""A list of jobs that meets a full writer: those that were taken are made, and each of the others hears of it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from casare_apiserver.app import serving
from casare_apiserver.settings import Settings
from casare_store import writer

KEY = "a-key-of-this-test"


async def answer(app: Any, body: Any) -> tuple[int, Any]:
    """What a server answers to the jobs, asked as its HTTP server asks it."""
    messages: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": orjson.dumps(body), "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    path = "/apis/fleet.casare.net/v1/namespaces/default/jobs"
    headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    text = b"".join(one.get("body", b"") for one in messages)
    return messages[0]["status"], orjson.loads(text)


def test_of_a_list_that_meets_a_full_writer_each_job_has_its_own_answer(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"workflow": {"runner": "command", "args": ["true"]}}
    items = [{"metadata": {"name": f"j{number}"}, "spec": spec} for number in range(120)]

    async def body() -> None:
        async with serving(Settings.model_validate({"DATABASE_URL": database, "API_SECRET": KEY})) as server:
            monkeypatch.setattr(writer, "MAX_WAITING", 30)
            code, said = await answer(server.router, {"kind": "JobList", "items": items})
            monkeypatch.undo()
            assert code == 200 and len(said["items"]) == 120
            codes = [one["code"] for one in said["items"]]
            assert codes[:50] == [201] * 30 + [429] * 20, "as many as the writer takes at once"
            assert set(codes) == {201, 429} and said["created"] == codes.count(201)
            refused = said["items"][30]
            assert (refused["name"], refused["reason"]) == ("j30", "TooManyRequests")
            wanted = [item for item, one in zip(items, codes, strict=True) if one == 429]
            again = await answer(server.router, {"kind": "JobList", "items": wanted})
            assert (again[0], again[1]["created"]) == (200, len(wanted)), "none of those had been made"

    asyncio.run(asyncio.wait_for(body(), 60))
