"""How do a thousand agents in one process lose their server, and come back? A process of its own, told by others.

Each one is what an idle agent is to a server: a heartbeat on a connection that is kept, when the server said, and a
watch of its own jobs, resumed at the last version it saw. How long they wait for what, and after which failure, is the
agents' own code (`casare_agent.outage`, `casare_client.backoff`). Each has a key of its own.

Reads one JSON line a phase and answers each with one; times are of the clock that processes of one computer share:
{"robots"} enlists them; {"silence": N, "within"} has N of them fall silent at random moments of so many seconds and
says when each was last heard and when a watcher saw it Offline; {"mark": true} begins to count, and {"back": seconds}
waits until all are back and says what they asked for, when.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

import orjson

import samples
from casare_agent.assignments import fields_of
from casare_agent.outage import Outage, longest
from casare_api.machinery.errors import ApiError
from casare_client import Unreachable
from casare_client.backoff import Backoff
from casare_client.requests import REPORT_TIMEOUT
from casare_store import loop
from sockets import content_length, head
from watchers import hear, say

SPACE = "default"
ENLISTED_AT_ONCE = 20
SETTLED = 8.0  # seconds: all beat in their turn
MEASURED = {"cpuPercent": 12.5, "memoryPercent": 41.0, "diskPercent": 70.3, "running": 0}
ANSWERED = 10.0  # seconds that an agent waits for the head of an answer
BROKEN = (OSError, TimeoutError)


class Line(asyncio.Protocol):
    """One connection: a request and its whole answer, again and again, or the lines of a watch."""

    def __init__(self) -> None:
        self.rest = b""
        self.on_line: Callable[[bytes], None] | None = None
        running = asyncio.get_running_loop()
        self.answer: asyncio.Future[tuple[int, bytes]] = running.create_future()
        self.gone: asyncio.Future[None] = running.create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        assert self.transport is not None
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer

    def data_received(self, data: bytes) -> None:
        self.rest += data
        if not self.answer.done() and (end := self.rest.find(b"\r\n\r\n")) >= 0:
            size = content_length(self.rest[:end])
            if len(self.rest) < end + 4 + size:
                return
            body, status = self.rest[end + 4 : end + 4 + size], int(self.rest[9:12])
            self.rest = self.rest[end + 4 + size :]
            self.answer.set_result((status, body))
        if self.answer.done() and not self.answer.cancelled() and self.on_line is not None:
            *lines, self.rest = self.rest.split(b"\n")
            for line in lines:
                if line.startswith(b"{"):
                    self.on_line(line)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        if not self.answer.done():
            self.answer.set_exception(ConnectionError("the connection was cut"))

    def close(self) -> None:
        assert self.transport is not None
        self.transport.close()


def _closed(line: Line | None) -> None:
    if line is not None:
        line.close()


class Agent:
    """One robot. What it asks for is noted in its crowd's book."""

    def __init__(self, crowd: Crowd, name: str, uid: str, key: str, version: str) -> None:
        self.crowd, self.name, self.uid, self.key, self.version = crowd, name, uid, key, version
        self.interval, self.silent = 3.0, False
        self.heard = self.watching = 0.0  # when it last was, by a report that was answered and by a watch that began
        self.path = samples.path(SPACE, "robots", name, "report")

    def start(self) -> None:
        self.crowd.tasks += [asyncio.create_task(self._reports()), asyncio.create_task(self._watches())]

    async def _reports(self) -> None:
        outage, line = Outage(), None
        body = orjson.dumps({"telemetry": MEASURED, "jobs": []})
        request = head("POST", self.path, self.key, len(body)) + body
        await asyncio.sleep(self.interval * random.random())
        while not self.silent:
            begun, error = monotonic(), cast(ApiError | Unreachable | None, None)
            try:
                async with asyncio.timeout(REPORT_TIMEOUT):
                    line = line if line is not None and not line.gone.done() else await self.crowd.connect()
                    self.crowd.note("report")
                    status, content = await line.ask(request)
                if status != 200:
                    error = ApiError.from_body(status, content)
            except BROKEN:
                line, error = _closed(line), Unreachable("away")
            if error is not None:
                await asyncio.sleep(outage.failed(error, 0, longest(self.interval), monotonic() - begun))
                continue
            outage.over()
            self.heard, self.interval = begun, float(orjson.loads(content)["intervalSeconds"])
            await asyncio.sleep(self.interval)

    async def _watches(self) -> None:
        """As `casare_client.watch.follow` goes on, and waits."""
        backoff = Backoff(longest(self.interval) / 2)
        while not self.silent:
            asked = 0.0
            try:
                if not self.version:
                    self.version = await self._list()
                asked = await self._watch(backoff)
            except BROKEN:
                pass
            await asyncio.sleep(asked + backoff.next(longest(self.interval)))

    async def _list(self) -> str:
        line = await self.crowd.connect()
        self.crowd.note("list")
        try:
            async with asyncio.timeout(ANSWERED):
                status, content = await line.ask(head("GET", self._jobs(""), self.key))
        finally:
            line.close()
        if status != 200:
            raise ConnectionError(f"a list: {status}")
        return str(orjson.loads(content)["metadata"]["resourceVersion"])

    async def _watch(self, backoff: Backoff) -> float:
        """Until it ends; the seconds that the server asked to wait for."""
        line = await self.crowd.connect()

        def see(text: bytes) -> None:
            event = orjson.loads(text)
            self.version = "" if event["type"] == "ERROR" else event["object"]["metadata"]["resourceVersion"]
            backoff.reset()

        line.on_line = see
        self.crowd.note("watch")
        request = head("GET", self._jobs(f"&watch=true&allowWatchBookmarks=true&resourceVersion={self.version}"), self.key)
        try:
            async with asyncio.timeout(ANSWERED):
                status, content = await line.ask(request)
            if status != 200:
                return float(ApiError.from_body(status, content).retry_after or 0)
            self.watching = monotonic()
            await line.gone
        finally:
            line.close()
        return 0.0

    def _jobs(self, more: str) -> str:
        return f"{samples.GROUP}/jobs?fieldSelector={fields_of(self.uid)}{more}"


class Crowd:
    """All of them, and the watch that sees every robot."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key
        self.agents: list[Agent] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.noted: list[tuple[float, str]] = []
        self.offline: dict[str, float] = {}

    def note(self, what: str) -> None:
        self.noted.append((monotonic(), what))

    async def connect(self) -> Line:
        """Raises OSError."""
        return (await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", self.port))[1]

    async def enlist(self, count: int) -> None:
        numbers = iter(range(count))

        async def some() -> None:
            line = await self.connect()
            for number in numbers:  # shared: each takes the next one
                self.agents.append(await self._one(line, f"pc-{number:05d}"))
            line.close()

        await asyncio.gather(*(some() for _ in range(ENLISTED_AT_ONCE)))
        for agent in self.agents:
            agent.start()

    async def _one(self, line: Line, name: str) -> Agent:
        robot = await self._made(line, samples.path(SPACE, "robots"), samples.robot(SPACE, name))
        spec = {"role": "robot", "robotName": name}
        key = {"apiVersion": "fleet.casare.net/v1", "kind": "ApiKey", "metadata": {"name": name}, "spec": spec}
        await self._made(line, samples.path(SPACE, "apikeys"), key)
        token = await self._made(line, samples.path(SPACE, "apikeys", name, "token"), {})
        return Agent(self, name, robot["metadata"]["uid"], token["key"], robot["metadata"]["resourceVersion"])

    async def _made(self, line: Line, path: str, obj: Any) -> dict[str, Any]:
        body = orjson.dumps(obj)
        status, content = await line.ask(head("POST", path, self.key, len(body)) + body)
        if status not in (200, 201):
            raise OSError(f"POST {path}: {status} {content[:300]!r}")
        found: dict[str, Any] = orjson.loads(content)
        return found

    async def see_robots(self) -> None:
        """Notes when each robot is first seen Offline, from now on."""
        line = await self.connect()
        status, page = await line.ask(head("GET", f"{samples.GROUP}/robots?limit=1", self.key))
        if status != 200:
            raise OSError(f"the robots can't be listed: {status} {page[:300]!r}")
        rv = orjson.loads(page)["metadata"]["resourceVersion"]

        def see(text: bytes) -> None:
            if b'"phase":"Offline"' in text:
                self.offline.setdefault(orjson.loads(text)["object"]["metadata"]["name"], monotonic())

        line.on_line = see
        await line.ask(head("GET", f"{samples.GROUP}/robots?watch=true&resourceVersion={rv}", self.key))

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = monotonic() + seconds
        while not (holds := condition()) and monotonic() < deadline:
            await asyncio.sleep(0.05)
        return holds


async def silence(crowd: Crowd, count: int, within: float, wait: float) -> None:
    await asyncio.sleep(SETTLED)  # all have come at once, and their first heartbeats waited for one another
    await crowd.see_robots()
    chosen = random.sample(crowd.agents, count)

    async def fall_silent(agent: Agent) -> None:
        await asyncio.sleep(within * random.random())
        agent.silent = True

    await asyncio.gather(*(fall_silent(agent) for agent in chosen))
    await crowd.until(lambda: all(agent.name in crowd.offline for agent in chosen), wait)
    names = {agent.name for agent in chosen}
    say(silent=[[agent.heard, agent.interval, crowd.offline.get(agent.name)] for agent in chosen],
        others=sorted(set(crowd.offline) - names))  # fmt: skip


async def back(crowd: Crowd, since: float, wait: float) -> None:
    def is_back() -> bool:
        return all(min(agent.heard, agent.watching) > since for agent in crowd.agents)

    await crowd.until(is_back, wait)
    away = sum(1 for agent in crowd.agents if min(agent.heard, agent.watching) <= since)
    say(noted=crowd.noted, away=away, last=max(max(agent.heard, agent.watching) for agent in crowd.agents))


async def hold() -> None:
    logging.getLogger("casare.agent").setLevel(logging.CRITICAL)
    crowd = Crowd(int(os.environ["BENCH_PORT"]), os.environ["BENCH_KEY"])
    told = await hear()
    await crowd.enlist(told["robots"])
    await crowd.until(lambda: all(agent.heard and agent.watching for agent in crowd.agents), 60)
    say(ready=sum(1 for agent in crowd.agents if agent.heard and agent.watching))
    since = 0.0
    while told := await hear():
        if "silence" in told:
            await silence(crowd, told["silence"], told["within"], told["wait"])
        elif "mark" in told:
            since = monotonic()
            crowd.noted.clear()
            say(at=since)
        else:
            await back(crowd, told["since"], told["back"])


if __name__ == "__main__":
    try:
        loop.runner()(hold())
    except (OSError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
