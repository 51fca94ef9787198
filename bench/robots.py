"""Who runs the jobs of a benchmark? Many simulated robots in one process, over the agents' own protocol.

Each robot is two connections, as of a real agent: a watch of its own unfinished jobs, and reports. What a robot sees
Assigned it reports Running; once the server has recorded that, the job (which does nothing) is over and is reported
Succeeded. Each robot has a key of its own; left out is what jobs print, telemetry and progress. One report of a robot is under way at a time; what comes meanwhile goes with the next. One more watch sees
every change of every job, and counts the phases that went by.
"""

from __future__ import annotations

import asyncio
import sys
from array import array
from collections import Counter
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, cast

import orjson

import samples
from casare_store import loop
from sockets import content_length, head
from watchers import hear, say

FINAL = ("Cancelled", "Expired", "Failed", "Succeeded")
HEARTBEAT = 2.0  # seconds
_OPEN_AT_ONCE = 50
_PHASE = b'"phase":"'


class Stream(asyncio.Protocol):
    """A connection to the server; `lines` of a watch or whole `answers`, each handed to a function."""

    def __init__(self, on_line: Callable[[bytes], None] | None, on_answer: Callable[[int, bytes], None] | None) -> None:
        self.on_line, self.on_answer = on_line, on_answer
        self.rest = b""
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self.rest + data if self.rest else data
        self.rest = self._lines(data) if self.on_line is not None else self._answers(data)

    def _lines(self, data: bytes) -> bytes:
        *lines, rest = data.split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                self.on_line(line)  # type: ignore[misc]
            elif line == b"\r" and not self.open.done():
                self.open.set_result(None)
        return rest

    def _answers(self, data: bytes) -> bytes:
        while (end := data.find(b"\r\n\r\n")) >= 0:
            size = content_length(data[:end])
            if len(data) < end + 4 + size:
                break
            body, status = data[end + 4 : end + 4 + size], int(data[9:12])
            data = data[end + 4 + size :]
            self.on_answer(status, body)  # type: ignore[misc]
        return data

    def connection_lost(self, error: Exception | None) -> None:
        if self.on_line is not None and not self.open.done():
            self.open.set_exception(ConnectionError("the server closed a watch before it began"))


class Robot:
    """One robot. `stamp(uid, now)` is called when it first has a job."""

    def __init__(self, fleet: Fleet, namespace: str, name: str, uid: str) -> None:
        self.fleet, self.namespace, self.name, self.uid = fleet, namespace, name, uid
        self.key = ""
        self.known: dict[str, int] = {}  # job uid: attempt
        self.news: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] | None = None
        self.path = samples.path(namespace, "robots", name, "report")

    def seen(self, line: bytes) -> None:
        """An event of its watch."""
        event = orjson.loads(line)
        job = event["object"]
        if event["type"] == "DELETED" or event["type"] == "BOOKMARK":
            self.known.pop(job["metadata"].get("uid", ""), None)
            return
        meta, status = job["metadata"], job["status"]
        if self.known.get(meta["uid"]) == status["attempt"]:
            return
        self.known[meta["uid"]] = status["attempt"]
        self.fleet.had(meta["name"], monotonic_ns())
        entry = {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
        self.news.append({**entry, "attempt": status["attempt"], "phase": "Running"})
        self.report()

    def report(self, beat: bool = False) -> None:
        if self.sent is not None or not (self.news or beat):
            return
        self.sent, self.news = self.news, []
        body = orjson.dumps({"jobs": self.sent})
        self.fleet.reports += 1
        self.stream.send(head("POST", self.path, self.key, len(body)) + body)

    def answered(self, status: int, body: bytes) -> None:
        sent, self.sent = self.sent or [], None
        if status == 503:  # said again in a moment, as a real agent does
            self.fleet.refused += 1
            self.news = sent + self.news
            asyncio.get_running_loop().call_later(0.2, self.report)
            return
        if status != 200:
            self.fleet.failed(f"a report: {status} {body[:200].decode(errors='replace')}")
            return
        for entry, said in zip(sent, orjson.loads(body)["jobs"], strict=True):
            if said["code"] != 200:
                self.fleet.failed(f"{entry['phase']}: {said['code']} {said['message']}")
            elif entry["phase"] == "Running":
                self.news.append({**entry, "phase": "Succeeded", "exitCode": 0})
        self.report()


class Fleet:
    """All robots, and the watch that sees everything."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key
        self.robots: list[Robot] = []
        self.reports = self.refused = 0
        self.failures: list[str] = []
        self.first_had: dict[str, int] = {}
        self.has_news = asyncio.Event()  # a robot has a job that none had before
        self.phases: Counter[bytes] = Counter()
        self.wanted, self.all_over = 0, asyncio.Event()
        self.over_at = 0

    def failed(self, why: str) -> None:
        self.failures.append(why)
        self.all_over.set()

    def had(self, name: str, now: int) -> None:
        if self.first_had.setdefault(name, now) == now:
            self.has_news.set()

    def saw(self, line: bytes) -> None:
        at = line.find(_PHASE, line.find(b'"status":{'))
        if at < 0 or not line.startswith((b'{"type":"ADDED"', b'{"type":"MODIFIED"')):
            return
        phase = line[at + len(_PHASE) : line.index(b'"', at + len(_PHASE))]
        self.phases[phase] += 1
        if phase == b"Succeeded" and self.phases[phase] == self.wanted:
            self.over_at = monotonic_ns()
            self.all_over.set()

    async def connect(self, stream: Stream) -> Stream:
        await asyncio.get_running_loop().create_connection(lambda: stream, "127.0.0.1", self.port)
        return stream

    async def ask(self, method: str, path: str, obj: Any = None) -> tuple[int, Any]:
        """One request on a connection of its own."""
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        stream = await self.connect(Stream(None, lambda status, body: answer.set_result((status, body))))
        body = b"" if obj is None else orjson.dumps(obj)
        stream.send(head(method, path, self.key, len(body)) + body)
        status, content = await asyncio.wait_for(answer, 60)
        assert stream.transport is not None
        stream.transport.close()
        return status, orjson.loads(content)

    async def watch(self, path: str, on_line: Callable[[bytes], None], key: str = "") -> Stream:
        stream = await self.connect(Stream(on_line, None))
        stream.send(head("GET", path, key or self.key))
        await asyncio.wait_for(stream.open, 20)
        return stream

    async def enlist(self, namespace: str, count: int, slots: int, spec: Any = None) -> None:
        """Registers robots and opens their connections."""
        for start in range(0, count, _OPEN_AT_ONCE):
            numbers = range(start, min(start + _OPEN_AT_ONCE, count))
            self.robots += await asyncio.gather(*[self._one(namespace, n, slots, spec or {}) for n in numbers])

    async def _one(self, namespace: str, number: int, slots: int, spec: dict[str, Any]) -> Robot:
        name = f"pc-{number:05d}"
        wanted = {"maxConcurrentJobs": slots, **spec}
        body = {"apiVersion": "fleet.casare.net/v1", "kind": "Robot", "metadata": {"name": name}, "spec": wanted}
        status, made = await self.ask("POST", samples.path(namespace, "robots"), body)
        if status != 201:
            raise OSError(f"a robot could not be made: {status} {made}")
        robot = Robot(self, namespace, name, made["metadata"]["uid"])
        robot.key = await self._key(namespace, name)
        robot.stream = await self.connect(Stream(None, robot.answered))  # type: ignore[attr-defined]
        fields = ",".join([f"status.robotUID={robot.uid}", *(f"status.phase!={phase}" for phase in FINAL)])
        rv = made["metadata"]["resourceVersion"]
        path = f"{samples.GROUP}/jobs?watch=true&allowWatchBookmarks=true&resourceVersion={rv}&fieldSelector={fields}"
        robot.watch = await self.watch(path, robot.seen, robot.key)  # type: ignore[attr-defined]
        robot.report(beat=True)
        return robot

    async def _key(self, namespace: str, name: str) -> str:
        """A key of this robot's own, as an agent has it."""
        body = {"apiVersion": "fleet.casare.net/v1", "kind": "ApiKey", "metadata": {"name": name},
                "spec": {"role": "robot", "robotName": name}}  # fmt: skip
        status, made = await self.ask("POST", samples.path(namespace, "apikeys"), body)
        if status == 201:
            status, made = await self.ask("POST", samples.path(namespace, "apikeys", name, "token"), {})
        if status not in (200, 201):
            raise OSError(f"a key could not be made: {status} {made}")
        return str(made["key"])

    async def beat(self) -> None:
        while True:
            for robot in self.robots:
                robot.report(beat=True)
            await asyncio.sleep(HEARTBEAT)


async def lifecycles(fleet: Fleet, told: dict[str, Any]) -> None:
    """Submits `count` jobs in lists of `batch`, a few of them at a time, and waits until all were seen Succeeded."""
    namespace, count, batch = told["namespace"], told["count"], told["batch"]
    fleet.phases.clear()
    fleet.wanted, fleet.reports, fleet.refused = count, 0, 0
    fleet.all_over.clear()
    begun = monotonic_ns()
    starts = iter(range(0, count, batch))

    async def submit() -> None:
        for start in starts:  # shared: each takes the next one
            numbers = range(start, min(start + batch, count))
            items = [samples.small_job(namespace, f"{told['prefix']}-{number:07d}") for number in numbers]
            status, said = await fleet.ask("POST", samples.path(namespace, "jobs"), {"kind": "JobList", "items": items})
            if status != 200 or said["failed"]:
                raise OSError(f"jobs could not be submitted: {status} {str(said)[:300]}")

    await asyncio.gather(*(submit() for _ in range(told["submitters"])))
    submitted = monotonic_ns()
    try:
        await asyncio.wait_for(fleet.all_over.wait(), told["within"])
    except TimeoutError:
        fleet.failures.append(f"after {told['within']} s only {dict(fleet.phases)}")
    say(
        seconds=(fleet.over_at - begun) / 1e9, submit_seconds=(submitted - begun) / 1e9, reports=fleet.reports, refused=fleet.refused,
        phases={name.decode(): found for name, found in fleet.phases.items()}, failures=fleet.failures[:3],
    )  # fmt: skip


async def idle(fleet: Fleet, told: dict[str, Any]) -> None:
    """Submits one job at a time and waits until its robot has it; the milliseconds each took."""
    taken = array("d")
    path = samples.path(told["namespace"], "jobs")
    answers: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
    stream = await fleet.connect(Stream(None, lambda status, body: answers.put_nowait((status, body))))
    for number in range(told["count"]):
        name = f"{told['prefix']}-{number:05d}"
        body = orjson.dumps(samples.job(told["namespace"], name))
        begun = monotonic_ns()
        stream.send(head("POST", path, fleet.key, len(body)) + body)
        status, content = await answers.get()
        if status != 201:
            raise OSError(f"a job could not be submitted: {status} {content[:200]!r}")
        while name not in fleet.first_had:  # to look again and again would take a core from those who are measured
            fleet.has_news.clear()
            await fleet.has_news.wait()
        taken.append((fleet.first_had[name] - begun) / 1e6)
        await asyncio.sleep(told["pause"])
    say(milliseconds=list(taken), failures=fleet.failures[:3])


async def hold() -> None:
    import os

    fleet = Fleet(int(os.environ["BENCH_PORT"]), os.environ["BENCH_KEY"])
    told = await hear()
    await fleet.enlist(told["namespace"], told["robots"], told["slots"], told.get("spec"))
    _, page = await fleet.ask("GET", f"{samples.GROUP}/jobs?limit=1")
    rv = page["metadata"]["resourceVersion"]
    everything = await fleet.watch(f"{samples.GROUP}/jobs?watch=true&resourceVersion={rv}", fleet.saw)
    beats = asyncio.create_task(fleet.beat())
    say(ready=len(fleet.robots))
    while told := await hear():
        await {"lifecycles": lifecycles, "idle": idle}[told["phase"]](fleet, told)
    beats.cancel()
    assert everything.transport is not None
    everything.transport.close()


if __name__ == "__main__":
    try:
        loop.runner()(hold())
    except (OSError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
