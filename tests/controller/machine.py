"""What the machine of `test_job_machine` drives: two apiservers, two controllers, robots and a clock on one database.

Nothing here decides what happens next. Signs of life are written and time goes on only when a test says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import orjson
from psycopg import AsyncConnection

from casare_agent.assignment import Assignment
from casare_agent.assignments import fields_of
from casare_agent.fence import Contact
from casare_api.kinds import KINDS, Object
from casare_api.kinds.job import FINAL, JOB, JobPhase
from casare_apiserver.app import Server, serving
from casare_apiserver.settings import Settings

from ..invariants import CHANGES, ROWS, Book, History, phase
from ..robots import Agent
from . import choices
from .controllers import TROUBLE, Controller, Step

API = "fleet.casare.net/v1"
ADMIN = "crpa_the-admin-of-the-machine"
BEGIN = "2026-01-01T00:00:00Z"
# Time as the test says: functions are looked for here first, and nobody names the schema of this one.
CLOCK = f"""
CREATE TABLE public.clock (now timestamptz NOT NULL);
INSERT INTO public.clock VALUES ('{BEGIN}');
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT now FROM public.clock';
"""
ROBOTS, ROUNDS = 3, 40
ANSWERED = 30.0  # seconds after which no client waits for an answer any more


@dataclass
class Robot:
    """A robot over all of its agent's lives."""

    name: str
    contact: Contact  # when the server heard of it last
    spec: Object = field(default_factory=dict)
    labels: Object = field(default_factory=dict)
    uid: str | None = None
    agent: Agent | None = None
    wanted: dict[str, Assignment] = field(default_factory=dict)
    said: tuple[Agent, list[Object]] | None = None  # a report under way
    heard: list[tuple[Object, int]] | None = None  # its answer, on the way back
    journal: dict[str, Any] = field(default_factory=dict)
    leaving: bool = False


class Fleet:
    """One database for all examples, and all that runs on it. Each example has namespaces and robots of its own."""

    def __init__(self, url: str, runner: asyncio.Runner) -> None:
        self.url, self.run = url, runner.run
        self.number = 0
        self.controllers: list[Controller] = []
        self.servers: list[tuple[Server, contextlib.AsyncExitStack]] = []
        self.connection: AsyncConnection[Any]

    async def open(self) -> None:
        self.connection = await AsyncConnection.connect(self.url, autocommit=True)
        self.controllers = [await Controller.open(self.url) for _ in range(2)]
        self.servers = [await self.serve() for _ in range(2)]

    async def close(self) -> None:
        for controller in self.controllers:
            await controller.store.close()
        for _, stack in self.servers:
            await stack.aclose()
        await self.connection.close()

    async def serve(self) -> tuple[Server, contextlib.AsyncExitStack]:
        stack = contextlib.AsyncExitStack()
        made = Settings(DATABASE_URL=self.url, ORCHESTRATOR_ADMIN_API_KEY=ADMIN)
        server = await stack.enter_async_context(serving(made))
        await server.heartbeats.stop()  # the test says when signs of life are written
        await server.events.stop()
        return server, stack

    async def restart(self, which: int) -> None:
        """An apiserver (0, 1) or a controller (2, 3) ends and comes back."""
        if which < 2:
            await self.servers[which][1].aclose()
            self.servers[which] = await self.serve()
        else:
            await self.controllers[which - 2].store.close()
            self.controllers[which - 2] = await Controller.open(self.url)

    async def begin(self) -> None:
        """Nothing of the last example is left, and it is the beginning of time."""
        self.number += 1
        for table in ("jobs", "robots", "quotas", "leases", "coverage", "queue_reasons", "last_robots"):
            await self.connection.execute(f"DELETE FROM {table}")
        await self.connection.execute("UPDATE clock SET now = %s", (BEGIN,))
        for letter in "ab":
            code, _ = await self.call(0, "POST", "/api/v1/namespaces", {"metadata": {"name": f"{letter}{self.number}"}})
            assert code == 201
        cursor = await self.connection.execute("SELECT rv FROM heads")
        found = await cursor.fetchone()
        assert found is not None
        self.history, self.book = History(found[0]), Book()
        self.seconds = 0.0  # that went by, as robots see it: their clocks never go back
        self.robots = [Robot(f"r{n}-{self.number}", Contact(lambda: self.seconds)) for n in range(ROBOTS)]
        self.ghosts: list[tuple[Robot, list[Object]]] = []  # reports that come a second time

    # -- requests ----------------------------------------------------------------------------------------------------

    async def call(self, server: int, method: str, path: str, body: Any = None, query: str = "") -> tuple[int, Object]:
        """A request to an apiserver; the code and the body of its answer."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = [(b"authorization", f"Bearer {ADMIN}".encode()), (b"content-type", kind.encode())]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
        data, answer = orjson.dumps(body) if body is not None else b"", []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: Any) -> None:
            answer.append(message)

        await self.servers[server % 2][0].router(scope, receive, send)
        code, text = answer[0]["status"], b"".join(one.get("body", b"") for one in answer[1:])
        assert code < 500 or code == 503, (method, path, code, text)
        return code, orjson.loads(text)

    def namespace(self, which: int) -> str:
        return f"{'ab'[which % 2]}{self.number}"

    def jobs(self) -> list[Object]:
        """The jobs that there are, the oldest first."""
        return sorted(self.history.jobs.values(), key=lambda job: str(job["metadata"]["name"]))

    async def set_quota(self, namespace: int, spec: Object | None) -> None:
        """The Quota that the namespace has; None for none."""
        kind, where = KINDS["Quota"], self.namespace(namespace)
        await self.call(0, "DELETE", kind.path(where, "default"))
        if spec is not None:
            body = {"apiVersion": API, "kind": "Quota", "metadata": {"name": "default"}, "spec": spec}
            await self.call(1, "POST", kind.path(where), body)

    async def change_job(self, which: int, method: str, body: Object | None = None, part: str | None = None) -> None:
        jobs = self.jobs()
        if jobs:
            meta = jobs[which % len(jobs)]["metadata"]
            await self.call(which, method, JOB.path(meta["namespace"], meta["name"], part), body)

    # -- robots ------------------------------------------------------------------------------------------------------

    async def declare(self, robot: Robot, *, labels: Object | None = None, **spec: Any) -> None:
        """The Robot is there, with this spec and these labels (None: without the one)."""
        path = KINDS["Robot"].path(self.namespace(0), robot.name)
        changed = {"spec": spec} | ({"metadata": {"labels": labels}} if labels else {})
        code, found = await self.call(0, "PATCH", path, changed)
        if code == 404:
            meta = {"name": robot.name, "labels": _said(robot.labels | (labels or {}))}
            made = {"apiVersion": API, "kind": "Robot", "metadata": meta, "spec": _said(robot.spec | spec)}
            code, found = await self.call(0, "POST", KINDS["Robot"].path(self.namespace(0)), made)
        if code in (200, 201):
            robot.uid = found["metadata"]["uid"]

    async def delete_robot(self, robot: Robot) -> None:
        """What it runs may run elsewhere at once, for whoever deletes a robot says that it is gone; but not what fences
        itself. Its agent hears of it when it speaks to the server, if ever."""
        await self.call(0, "DELETE", KINDS["Robot"].path(self.namespace(0), robot.name))
        robot.uid = None
        if robot.agent is not None:
            robot.agent.let_go(but_fenced=True)

    def hears_of_its_end(self, robot: Robot) -> bool:
        """Whether its agent hears now that its Robot was deleted, be there another of that name: it ends."""
        is_over = robot.agent is not None and robot.agent.robot_uid != robot.uid
        if is_over:
            self.die(robot)
        return is_over

    async def come(self, robot: Robot, *, with_disk: bool) -> None:
        """A new life of the robot's agent; the old one, where there is one, is over."""
        self.die(robot)
        await self.declare(robot)
        if not with_disk:
            robot.journal = {}
        robot.agent, robot.leaving = Agent(self.book, robot.journal, robot.uid), False
        await self.look(robot)

    def die(self, robot: Robot) -> None:
        if robot.agent is not None:
            robot.agent.let_go()
        robot.agent, robot.said, robot.heard, robot.wanted = None, None, None, {}

    async def beat(self, *robots: Robot) -> None:
        """A flush of an apiserver's heartbeats."""
        there = [one for one in robots if not self.hears_of_its_end(one) and one.agent and not one.leaving]
        heartbeats = self.servers[0][0].heartbeats
        with contextlib.suppress(*TROUBLE):
            await heartbeats.flush({robot.uid: None for robot in there if robot.uid}, {})
            for robot in there:
                robot.contact.heard(self.seconds, heartbeats.interval)

    async def look(self, robot: Robot) -> None:
        """The agent sees which jobs are its own and acts on it; a watch may show the same any time later."""
        if self.hears_of_its_end(robot) or robot.agent is None or robot.uid is None:
            return
        path, query = "/apis/fleet.casare.net/v1/jobs", f"fieldSelector={fields_of(robot.uid).replace('!', '%21')}"
        code, found = await self.call(0, "GET", path, query=query)
        if code == 200:
            robot.wanted = {one.uid: one for one in map(Assignment.of, found["items"])}
        self.think(robot)

    def think(self, robot: Robot) -> None:
        if robot.agent is not None:
            (robot.agent.leave if robot.leaving else robot.agent.see)(robot.wanted)

    def say(self, robot: Robot) -> None:
        """A report leaves the robot; an agent waits for the answer before it says more."""
        if robot.agent is not None and robot.said is None and robot.agent.news():
            robot.said, robot.heard = (robot.agent, robot.agent.news()), None

    async def deliver(self, robot: Robot, server: int, *, again: bool = False) -> None:
        """The report arrives."""
        if robot.said is not None and robot.heard is None:
            entries = robot.said[1]
            if again:
                self.ghosts.append((robot, entries))
            robot.heard = await self.report(robot, entries, server)

    async def report(self, robot: Robot, entries: list[Object], server: int) -> list[tuple[Object, int]] | None:
        path = KINDS["Robot"].path(self.namespace(0), robot.name, "report")
        code, answer = await self.call(server, "POST", path, {"jobs": entries})
        if code == 404 or (code == 200 and answer["robotUID"] != robot.uid):
            return []  # deleted: that agent ends
        if code != 200:
            return None
        return list(zip(entries, [one["code"] for one in answer["jobs"]], strict=True))

    def hear(self, robot: Robot, *, lost: bool = False) -> None:
        """The answer comes back, or nothing does."""
        if robot.said is None or (robot.heard is None and not lost):
            return
        said, heard, robot.said, robot.heard = robot.said, robot.heard, None, None
        if lost or robot.agent is not said[0]:
            return
        if not heard:
            self.die(robot)
        for entry, code in heard or ():
            if robot.agent is not None and not self._comes_too_late(robot, entry):
                robot.agent.answered(entry, code)
        self.fence()

    def _comes_too_late(self, robot: Robot, entry: Object) -> bool:
        """A report is a sign of life, so whoever has its answer was heard not longer ago than he waits for answers."""
        held = robot.agent and robot.agent.held.get(entry["uid"])
        return bool(held and held.is_fenced and robot.contact.silence() > ANSWERED)

    def fence(self) -> None:
        for robot in self.robots:
            if robot.agent is not None:
                robot.agent.fence(robot.contact)

    async def talk(self, robot: Robot, server: int = 0) -> None:
        """A turn of a healthy agent on a healthy network."""
        await self.beat(robot)
        await self.look(robot)
        self.say(robot)
        await self.deliver(robot, server)
        self.hear(robot)

    def finish(self, robot: Robot, which: int, outcome: str) -> None:
        """A process ends."""
        running = robot.agent.running() if robot.agent else []
        if running and robot.agent:
            robot.agent.end(running[which % len(running)], outcome, exitCode=0 if outcome == "Succeeded" else 1)

    # -- servers and time --------------------------------------------------------------------------------------------

    async def duty(self, controller: int, name: str, *meanwhile: Step) -> None:
        """A run of a duty. What is to happen meanwhile happens between its look and its write."""
        await self.controllers[controller % 2].run(name, *meanwhile)

    async def place_undisturbed(self, controller: int) -> None:
        """Nothing else happens while a controller places jobs: each choice is the right one."""
        if not await self.controllers[controller % 2].run("timers"):  # else it would choose what is about to expire
            return
        await self.check()
        cursor = await self.connection.execute("SELECT robot_uid::text FROM leases WHERE online")
        online = {uid for (uid,) in await cursor.fetchall()}
        await self.duty(controller, "placement")
        for change in await self.changes():
            _, kind, _, text = change
            new = orjson.loads(text) if kind == "Job" else {}
            if new and phase(new) is JobPhase.ASSIGNED:
                choices.check(self.history, online, self.history.job(new["metadata"]["uid"]), new["status"]["robotUID"])
            self.history.follow([change])

    async def pass_time(self, seconds: float, *alive: Robot, heard: bool = True) -> None:
        """Time goes on, or back. `heard`: apiservers were there all the time; `alive` robots are heard at its end."""
        self.seconds += max(seconds, 0)
        await self.connection.execute("UPDATE clock SET now = now + %s * interval '1 second'", (seconds,))
        if heard:
            await self.beat()
            await self.connection.execute("UPDATE coverage SET last = now, since = least(since, now - "
                                          "greatest(%s, 0) * interval '1 second') FROM clock", (seconds,))  # fmt: skip
            await self.beat(*alive)
        self.fence()

    async def kill_connections(self, name: str) -> None:
        await self.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = %s",
            (f"casare-{name}",),
        )

    async def end_everything(self) -> None:
        """Everybody is alive and time goes on: every job ends. Fails with those that do not."""
        for robot, entries in self.ghosts:
            await self.report(robot, entries, 0)
        for letter in (0, 1):
            await self.set_quota(letter, None)
        for robot, floor in zip(self.robots, ("1", "2", None), strict=True):  # so that each job finds one
            labels, able = {"floor": floor}, ["browser"]
            await self.declare(robot, labels=labels, desiredState="Active", capabilities=able, taints=None)
            await self.come(robot, with_disk=True)
        for _ in range(ROUNDS):
            for name in ("presence", "timers", "placement"):
                await self.duty(0, name)
            for robot in self.robots:
                await self.talk(robot)
                for uid in robot.agent.running() if robot.agent else []:
                    assert robot.agent
                    robot.agent.end(uid, "Succeeded", exitCode=0)
                await self.talk(robot)
                if robot.agent is None:
                    await self.come(robot, with_disk=True)
            await self.check()
            if all(phase(job) in FINAL for job in self.jobs()):
                return
            await self.pass_time(120, *self.robots)
        hanging = [job for job in self.jobs() if phase(job) not in FINAL]
        raise AssertionError(f"jobs that do not end: {hanging}; {self.robots}")

    async def free_slots(self, **spec: Any) -> None:
        """Every robot is there, takes any job, and works off what it has."""
        for robot in self.robots:
            if robot.agent is None or robot.leaving:
                await self.come(robot, with_disk=True)
            await self.declare(robot, desiredState="Active", taints=None, **spec)
            await self.talk(robot)
            for uid in robot.agent.running() if robot.agent else []:
                assert robot.agent
                robot.agent.end(uid, "Succeeded", exitCode=0)
            await self.talk(robot)
        await self.duty(0, "presence")

    async def changes(self) -> list[tuple[int, str, str, str]]:
        cursor = await self.connection.execute(CHANGES, (self.history.rv,))
        return await cursor.fetchall()

    async def check(self) -> None:
        """All that must hold now."""
        self.history.follow(await self.changes())
        cursor = await self.connection.execute(ROWS)
        self.history.check_rows(await cursor.fetchall())
        self.book.check(self.history)


def _said(fields: Object) -> Object:
    return {key: value for key, value in fields.items() if value is not None}
