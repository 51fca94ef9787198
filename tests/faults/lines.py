"""How do fifty robots speak HTTP out of one process? A keep-alive connection and a watch, on asyncio's streams.

Several apiservers are one to these: whoever loses one goes to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import orjson

PATIENCE = 10.0  # seconds for an answer
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
BROKEN = (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError)  # what a call on a broken line raises


@dataclass
class Line:
    """A caller's connection; it is opened when it is needed, to the next port after each trouble."""

    ports: list[int]
    key: str = field(repr=False)
    turn: int = 0
    _streams: Streams | None = None

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The code and body of an answer. Raises one of BROKEN: whether the server has done it, nobody knows."""
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = self._streams = self._streams or await self._open()
                writer.write(self._request(method, path, body))
                code, size = await _head(reader)
                text = await reader.readexactly(size)
        except BaseException:
            self.close()
            raise
        return code, orjson.loads(text) if text else {}

    async def watch(self, path: str) -> AsyncIterator[Any]:
        """The events of a watch, until the server ends it. Raises one of BROKEN."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await self._open()
        try:
            writer.write(self._request("GET", path, None))
            async with asyncio.timeout(PATIENCE):
                code, size = await _head(reader)
            if code != 200:
                raise ConnectionError(f"{path}: {code} {(await reader.readexactly(size))[:200]!r}")
            rest = b""
            while chunk := await _chunk(reader):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield orjson.loads(line)
        finally:
            self.turn += 1
            writer.close()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None
        self.turn += 1

    async def _open(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.ports[self.turn % len(self.ports)], limit=2**22)

    def _request(self, method: str, path: str, body: Any) -> bytes:
        data = b"" if body is None else orjson.dumps(body)
        return (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        ).encode() + data


async def _head(reader: asyncio.StreamReader) -> tuple[int, int]:
    """The code of an answer and how long its body is (0: it comes in chunks, or there is none)."""
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    sizes = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
    return int(lines[0][9:12]), sizes[0] if sizes else 0


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    """The next chunk; empty at the end."""
    size = int(await reader.readuntil(b"\r\n"), 16)
    return (await reader.readexactly(size + 2))[:-2]
