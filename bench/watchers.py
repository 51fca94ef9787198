"""When does each of many watchers see each event? A process of its own that holds them all, told by `latency.py`.

Reads {"watchers", "path"}: opens that many watches, answers {"ready": N} once the head of every answer is there. Reads
{"events", "within"}: waits until every watcher has seen events 0 to N-1, at most `within` seconds, and answers
{"arrivals": [for each watcher the clock in nanoseconds at each event, 0 where it never came], "twice": N}.
"""

from __future__ import annotations

import asyncio
import os
import sys
from array import array
from time import monotonic_ns
from typing import Any, cast

import orjson

from casare_store import loop
from sockets import head

SEQUENCE = "bench.casare.net/sequence"  # annotation that numbers the events
DIGITS = 7
MOST = 1_000  # events
_MARK = f'"{SEQUENCE}":"'.encode()
_AT_ONCE = 50  # connections being opened
_OPEN_WITHIN = 20.0  # seconds


class Watcher(asyncio.Protocol):
    """One watch. Its stream is cut at line ends; what matters of a line is the number in it."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.arrivals = array("q", bytes(8 * MOST))
        self.seen = 0
        self.twice = 0
        self.rest = b""
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self.request)

    def data_received(self, data: bytes) -> None:
        now = monotonic_ns()
        *lines, self.rest = (self.rest + data if self.rest else data).split(b"\n")
        for line in lines:
            at = line.find(_MARK)
            if at >= 0:
                self.see(int(line[at + len(_MARK) : at + len(_MARK) + DIGITS]), now)
            elif line == b"\r" and not self.open.done():
                self.open.set_result(None)
            elif line.startswith(b"HTTP/1.1 ") and not line.startswith(b"HTTP/1.1 200"):
                self.open.set_exception(OSError(f"the watch was refused: {line.decode(errors='replace').strip()}"))

    def see(self, number: int, now: int) -> None:
        if self.arrivals[number]:
            self.twice += 1
        else:
            self.arrivals[number] = now
            self.seen += 1

    def connection_lost(self, error: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(ConnectionError("the server closed a watch before it began"))


async def open_watches(port: int, request: bytes, count: int) -> list[Watcher]:
    """All of them, open: the server has filed each one."""
    loop = asyncio.get_running_loop()
    watchers: list[Watcher] = []
    async with asyncio.timeout(_OPEN_WITHIN):
        while len(watchers) < count:
            some = [Watcher(request) for _ in range(min(_AT_ONCE, count - len(watchers)))]
            for one in some:
                await loop.create_connection(lambda one=one: one, "127.0.0.1", port)  # type: ignore[misc]
            await asyncio.gather(*[one.open for one in some])
            watchers += some
    return watchers


async def wait_for(watchers: list[Watcher], events: int, within: float) -> None:
    """Until every watcher has seen all events, or the time is up."""
    deadline = monotonic_ns() + int(within * 1e9)
    while any(one.seen < events for one in watchers) and monotonic_ns() < deadline:
        await asyncio.sleep(0.02)


async def hear() -> dict[str, Any]:
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.readline)
    found: dict[str, Any] = orjson.loads(line or b"{}")
    return found


def say(**what: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


async def hold() -> None:
    told = await hear()
    request = head("GET", told["path"], os.environ["BENCH_KEY"])
    watchers = await open_watches(int(os.environ["BENCH_PORT"]), request, told["watchers"])
    say(ready=len(watchers))
    if asked := await hear():
        await wait_for(watchers, asked["events"], asked["within"])
        arrivals = [list(one.arrivals[: asked["events"]]) for one in watchers]
        say(arrivals=arrivals, twice=sum(one.twice for one in watchers))
        await hear()  # the end of the input ends the watches


if __name__ == "__main__":
    loop.runner()(hold())
