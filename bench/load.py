"""How is one apiserver kept busy by many connections at the price of little CPU?

A process of its own, told by `api.py`. Reads one JSON line a phase: {"phase", "namespace", "connections", "first",
"seconds", "count"}; sends pre-encoded requests over keep-alive connections, one at a time on each, until the seconds are
over or `count` (0: no limit) are sent; answers one JSON line. Every answer is read whole and its status checked.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast

import orjson

import samples
from casare_store import loop
from measuring import Round
from sockets import content_length, head

PATCHED = 10_000  # robots whose status is patched in turn
GRACE = 15.0  # seconds for the last answers
_NAME = "r-000000000"  # all names are of this width, so that a request is cut from one template
Request = Callable[[int], bytes]


def robots(namespace: str, key: str) -> Request:
    """Request number i creates Robot number i."""
    return _create(samples.path(namespace, "robots"), samples.robot(namespace, _NAME), key)


def jobs(namespace: str, key: str) -> Request:
    return _create(samples.path(namespace, "jobs"), samples.job(namespace, _NAME), key)


def status(namespace: str, key: str) -> Request:
    """Request number i patches the status of Robot i modulo 10,000, with another value each time."""
    body = orjson.dumps({"status": {"agent": {"version": "1.4.2", "hostname": "ws-berlin-17", "report": "@@@@@@@@@"}}})
    path = samples.path(namespace, "robots", _NAME, "status")
    start, end = head("PATCH", path, key, len(body), "application/merge-patch+json").split(_NAME.encode())
    before, after = body.split(b"@@@@@@@@@")
    return lambda i: b"%br-%09d%b%b%09d%b" % (start, i % PATCHED, end, before, i, after)


def _create(path: str, obj: dict[str, Any], key: str) -> Request:
    body = orjson.dumps(obj)
    template = (head("POST", path, key, len(body)) + body).replace(b"%", b"%%").replace(_NAME.encode(), b"r-%(i)09d")
    return lambda i: template % {b"i": i}


PHASES: dict[str, tuple[Callable[[str, str], Request], bytes]] = {
    "robots": (robots, b"201"), "jobs": (jobs, b"201"), "status": (status, b"200"),
}  # fmt: skip


@dataclass(slots=True)
class Run:
    """One phase under way: what comes next, and what came back."""

    make: Request
    expected: bytes
    next: int
    last: int  # the number before which it ends
    until: float
    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    first_failure: str = ""
    busy: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> bytes | None:
        """The next request; None when the phase is over."""
        if self.next >= self.last or perf_counter() >= self.until:
            return None
        self.next += 1
        return self.make(self.next - 1)

    def answered(self, code: bytes, seconds: float, answer: bytes) -> None:
        self.latencies.append(seconds)
        if code != self.expected:
            self.failed += 1
            self.first_failure = self.first_failure or answer[:600].decode(errors="replace")

    def leave(self) -> None:
        self.busy -= 1
        if not self.busy:
            self.over.set()


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.buffer = b""
        self.total = 0  # bytes of the answer, 0 while its head is not whole
        self.begun = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def go_on(self) -> None:
        request = self.run.take()
        if request is None:
            self.run.leave()
            return
        self.begun = perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        if not self.total:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self.total = end + 4 + content_length(self.buffer[:end])
        if len(self.buffer) >= self.total:
            answer, self.buffer, self.total = self.buffer, b"", 0
            self.run.answered(answer[9:12], perf_counter() - self.begun, answer)
            self.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        self.run.over.set()


async def run_phase(port: int, key: str, told: dict[str, Any]) -> dict[str, Any]:
    """One phase from the first request to the last answer."""
    make, expected = PHASES[told["phase"]]
    first, count = told["first"], told["count"]
    run = Run(make(told["namespace"], key), expected, first, first + (count or 10**9), float("inf"))
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: _Connection(run), "127.0.0.1", port))[1]
        for _ in range(told["connections"])
    ]
    begun = perf_counter()
    run.until, run.busy = begun + told["seconds"], len(connections)
    for connection in connections:
        connection.go_on()
    async with asyncio.timeout(told["seconds"] + GRACE):
        await run.over.wait()
    seconds = perf_counter() - begun
    lost = run.next - first - len(run.latencies)
    for connection in connections:
        connection.transport.close()
    done = Round.of(run.latencies, seconds)
    return {
        "done": done.done, "seconds": done.seconds, "p50": done.p50, "p99": done.p99, "failed": run.failed + lost,
        "first_failure": run.first_failure, "next": run.next,
    }  # fmt: skip


def main() -> None:
    port, key = int(os.environ["BENCH_PORT"]), os.environ["BENCH_KEY"]
    for line in sys.stdin.buffer:
        answer = loop.runner()(run_phase(port, key, orjson.loads(line)))
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
