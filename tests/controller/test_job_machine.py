"""Jobs, robots, servers and the clock do whatever they like; what must hold of jobs holds after every step.

The real store, two real apiservers (called without a network), two controllers' real duties. Agents are simulated:
they die, come back with or without their disk, fall silent, and their reports are lost, repeated and late. Time is the
database's, and the database of this test has a clock that only the test moves. In the end, with everybody alive and
time going on, every job ends.

CASARE_EXAMPLES=1000 runs as many examples as that, on other paths each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
import psycopg
import psycopg_pool
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg import AsyncConnection

from casare_agent.assignment import Assignment
from casare_agent.assignments import fields_of
from casare_api.kinds import KINDS, Object
from casare_api.kinds.job import FINAL, JOB
from casare_apiserver.app import Server, serving
from casare_apiserver.settings import Settings
from casare_controller.duties.placement import Placement
from casare_controller.duties.presence import Presence
from casare_controller.duties.timers import Timers
from casare_store import embedded
from casare_store.batch import OutcomeUnknown
from casare_store.events import Recorder
from casare_store.store import Store

from ..conftest import drop_database, new_database
from ..invariants import CHANGES, ROWS, Book, History, phase
from ..robots import Agent

API = "fleet.casare.net/v1"
ADMIN = "crpa_the-admin-of-the-machine"
BEGIN = "2026-01-01T00:00:00Z"
# Time as the test says: functions are looked for here first, and nobody names the schema of this one.
CLOCK = f"""
CREATE TABLE public.clock (now timestamptz NOT NULL);
INSERT INTO public.clock VALUES ('{BEGIN}');
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT now FROM public.clock';
"""
# What is in the way when a connection is killed; anything else is a bug.
TROUBLE = (psycopg.OperationalError, psycopg_pool.PoolTimeout, OutcomeUnknown)
ROBOTS, ROUNDS = 3, 40
T = TypeVar("T")
Step = Callable[[], Awaitable[None]]


class WatchedStore(Store):
    """A controller's store: what is to happen between a duty's look and its write happens before a batch begins."""

    meanwhile: list[Step]

    @contextlib.asynccontextmanager
    async def batch(self, keys: Any = ()) -> Any:
        while self.meanwhile:
            await self.meanwhile.pop()()
        async with super().batch(keys) as found:
            yield found


@dataclass
class Controller:
    store: WatchedStore
    duties: dict[str, Any] = field(default_factory=dict)

    @classmethod
    async def open(cls, url: str) -> Controller:
        store = await WatchedStore.open(url, pool_size=2)
        assert isinstance(store, WatchedStore)
        store.meanwhile = []
        events = Recorder(store.writer, "controller")  # never started: events are nobody's decision
        made = (Placement(store, events), Presence(store, events), Timers(store, events))
        return cls(store, {duty.name: duty for duty in made})


@dataclass
class Robot:
    """A robot over all of its agent's lives."""

    name: str
    spec: Object
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
        self.robots = [Robot(f"r{n}-{self.number}", {}) for n in range(ROBOTS)]
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

    async def change_job(self, which: int, method: str, body: Object | None = None, part: str | None = None) -> None:
        jobs = self.jobs()
        if jobs:
            meta = jobs[which % len(jobs)]["metadata"]
            await self.call(which, method, JOB.path(meta["namespace"], meta["name"], part), body)

    # -- robots ------------------------------------------------------------------------------------------------------

    async def declare(self, robot: Robot, **spec: Any) -> None:
        """The Robot is there, with this spec."""
        path = KINDS["Robot"].path(self.namespace(0), robot.name)
        code, found = await self.call(0, "PATCH", path, {"spec": spec})
        if code == 404:
            made = {"apiVersion": API, "kind": "Robot", "metadata": {"name": robot.name}, "spec": robot.spec | spec}
            code, found = await self.call(0, "POST", KINDS["Robot"].path(self.namespace(0)), made)
        if code in (200, 201):
            robot.uid = found["metadata"]["uid"]

    async def come(self, robot: Robot, *, with_disk: bool) -> None:
        """A new life of the robot's agent; the old one, where there is one, is over."""
        self.die(robot)
        await self.declare(robot)
        if not with_disk:
            robot.journal = {}
        robot.agent, robot.leaving = Agent(self.book, robot.journal), False
        await self.look(robot)

    def die(self, robot: Robot) -> None:
        robot.agent, robot.said, robot.heard, robot.wanted = None, None, None, {}

    async def beat(self, *robots: Robot) -> None:
        """A flush of an apiserver's heartbeats."""
        uids = {robot.uid: None for robot in robots if robot.agent and robot.uid and not robot.leaving}
        with contextlib.suppress(*TROUBLE):
            await self.servers[0][0].heartbeats.flush(uids, {})  # type: ignore[arg-type]

    async def look(self, robot: Robot) -> None:
        """The agent sees which jobs are its own and acts on it; a watch may show the same any time later."""
        if robot.agent is None or robot.uid is None:
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
            if robot.agent is not None:
                robot.agent.answered(entry, code)

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
        found = self.controllers[controller % 2]
        found.store.meanwhile = list(meanwhile)
        with contextlib.suppress(*TROUBLE):
            await found.duties[name].run_once()
        found.store.meanwhile = []

    async def pass_time(self, seconds: float, *alive: Robot, heard: bool = True) -> None:
        """Time goes on, or back. `heard`: apiservers were there all the time; `alive` robots are heard at its end."""
        await self.connection.execute("UPDATE clock SET now = now + %s * interval '1 second'", (seconds,))
        if heard:
            await self.beat()
            await self.connection.execute("UPDATE coverage SET last = now, since = least(since, now - "
                                          "greatest(%s, 0) * interval '1 second') FROM clock", (seconds,))  # fmt: skip
            await self.beat(*alive)

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
            await self.call(0, "DELETE", KINDS["Quota"].path(self.namespace(letter), "default"))
        for robot in self.robots:
            await self.declare(robot, desiredState="Active")
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

    async def check(self) -> None:
        """All that must hold now."""
        cursor = await self.connection.execute(CHANGES, (self.history.rv,))
        self.history.follow(await cursor.fetchall())
        cursor = await self.connection.execute(ROWS)
        self.history.check_rows(await cursor.fetchall())
        self.book.check(self.history)


POLICIES = st.fixed_dictionaries(
    {"onRobotLost": st.sampled_from(["Requeue", "Fail", "Wait"])},
    optional={
        "limit": st.just(2),
        "robotLostLimit": st.sampled_from([0, 1]),
        "backoff": st.just({"initial": "1s"}),
    },
)
SPECIAL: list[Object] = [
    {"lostAfter": "1s"},
    {"timeout": "5s", "gracePeriod": "1s"},
    {"startDeadline": "20s"},
    {"notBefore": "2026-01-01T00:01:00Z"},
    {"ttlAfterFinished": "1s"},
    {"priority": 0},
    {"cancel": True},
    {"requirements": {"capabilities": ["browser"]}},
    *({"concurrency": {"key": key, "limit": limit}} for key, limit in (("k", 1), ("k", 2), ("l", 1))),
    *({"idempotencyKey": key} for key in "xy"),
]
# Most jobs have little that is special: others would hide it.
JOBS = st.builds(
    lambda policy, special: {"retry": policy, **{key: value for one in special for key, value in one.items()}},
    POLICIES,
    st.lists(st.sampled_from(SPECIAL), max_size=2),
)
QUOTAS = st.fixed_dictionaries({}, optional={"maxRunning": st.integers(0, 2), "weight": st.integers(1, 3)})
OUTCOMES = st.sampled_from(["Succeeded", "Succeeded", "Failed"])
SECONDS = st.sampled_from([1.0, 5.0, 11.0, 31.0, 100.0, 400.0, 5000.0, -2.0, -60.0])
NUMBER, FEW = st.integers(0, 1), st.integers(0, ROBOTS - 1)
SOME = st.lists(FEW, max_size=ROBOTS, unique=True)
DUTIES = st.sampled_from(["placement", "placement", "presence", "timers"])


class Jobs(RuleBasedStateMachine):
    """A rule that has nothing to do does nothing: what is drawn never depends on what the database said."""

    fleet: Fleet

    def do(self, *steps: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            await asyncio.wait_for(asyncio.gather(*steps), 60)

        self.fleet.run(run())

    def robot(self, number: int) -> Robot:
        return self.fleet.robots[number]

    @initialize(
        slots=st.lists(st.integers(1, 3), min_size=ROBOTS, max_size=ROBOTS),
        specs=st.lists(JOBS, min_size=1, max_size=4),
        started=st.booleans(),
    )
    def begin(self, slots: list[int], specs: list[Object], started: bool) -> None:
        async def steps() -> None:
            fleet = self.fleet
            await fleet.begin()
            for number, (robot, count) in enumerate(zip(fleet.robots, slots, strict=True)):
                capabilities = ["browser"] if number == 0 else []
                robot.spec = {"maxConcurrentJobs": count, "capabilities": capabilities, "serves": ["*"]}
                await fleet.come(robot, with_disk=False)
            await fleet.beat(*fleet.robots)
            await fleet.duty(0, "presence")
            await self.post(specs, 0)
            if started:
                await self.turn(0)

        self.do(steps())

    async def turn(self, controller: int) -> None:
        """Everything looks once at how things stand: what can be placed is placed, and starts."""
        for name in ("presence", "timers", "placement"):
            await self.fleet.duty(controller, name)
        for robot in self.fleet.robots:
            await self.fleet.talk(robot, controller)

    async def post(self, specs: list[Object], namespace: int) -> None:
        jobs = [{"apiVersion": API, "kind": "Job", "metadata": {"generateName": "j-"},
                 "spec": {"workflow": {"runner": "command", "args": ["true"]}, **spec}} for spec in specs]  # fmt: skip
        body = jobs[0] if len(jobs) == 1 else {"apiVersion": API, "kind": "JobList", "items": jobs}
        code, said = await self.fleet.call(namespace, "POST", JOB.path(self.fleet.namespace(namespace)), body)
        assert code in (200, 201, 429, 503), said

    # -- people ------------------------------------------------------------------------------------------------------

    @rule(specs=st.lists(JOBS, min_size=1, max_size=3), namespace=NUMBER)
    def submit(self, specs: list[Object], namespace: int) -> None:
        self.do(self.post(specs, namespace))

    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        self.do(self.fleet.change_job(which, "PATCH", {"spec": {"cancel": True}}))

    @rule(which=st.integers(0, 9))
    def delete(self, which: int) -> None:
        self.do(self.fleet.change_job(which, "DELETE"))

    @rule(which=st.integers(0, 9), priority=st.sampled_from([0, 5, 20]))
    def change_priority(self, which: int, priority: int) -> None:
        self.do(self.fleet.change_job(which, "PATCH", {"spec": {"priority": priority}}))

    @rule(which=st.integers(0, 9))
    def retry(self, which: int) -> None:
        self.do(self.fleet.change_job(which, "POST", {}, "retry"))

    @rule(number=FEW, state=st.sampled_from(["Active", "Paused", "Drained"]), slots=st.integers(1, 3))
    def change_robot(self, number: int, state: str, slots: int) -> None:
        self.do(self.fleet.declare(self.robot(number), desiredState=state, maxConcurrentJobs=slots))

    @rule(number=FEW)
    def delete_robot(self, number: int) -> None:
        async def steps() -> None:
            path = KINDS["Robot"].path(self.fleet.namespace(0), self.robot(number).name)
            await self.fleet.call(number, "DELETE", path)

        self.do(steps())

    @rule(namespace=NUMBER, spec=st.none() | QUOTAS)
    def change_quota(self, namespace: int, spec: Object | None) -> None:
        async def steps() -> None:
            kind, where, call = KINDS["Quota"], self.fleet.namespace(namespace), self.fleet.call
            await call(0, "DELETE", kind.path(where, "default"))
            if spec is not None:
                body = {"apiVersion": API, "kind": "Quota", "metadata": {"name": "default"}, "spec": spec}
                await call(1, "POST", kind.path(where), body)

        self.do(steps())

    # -- robots ------------------------------------------------------------------------------------------------------

    @rule(number=FEW, server=NUMBER, outcome=OUTCOMES)
    def work(self, number: int, server: int, outcome: str) -> None:
        """A good while of a healthy robot: what it was given starts, something ends, and the server hears of it."""

        async def steps() -> None:
            await self.fleet.talk(self.robot(number), server)
            self.fleet.finish(self.robot(number), 0, outcome)
            await self.fleet.talk(self.robot(number), server)

        self.do(steps())

    @rule(number=FEW, server=NUMBER)
    def talk(self, number: int, server: int) -> None:
        self.do(self.fleet.talk(self.robot(number), server))

    @rule(number=FEW, outcome=OUTCOMES, which=FEW)
    def process_ends(self, number: int, outcome: str, which: int) -> None:
        self.fleet.finish(self.robot(number), which, outcome)

    @rule(number=FEW)
    def look(self, number: int) -> None:
        self.do(self.fleet.look(self.robot(number)))

    @rule(number=FEW)
    def say(self, number: int) -> None:
        """A report leaves, made of what the agent saw last."""
        self.fleet.think(self.robot(number))
        self.fleet.say(self.robot(number))

    @rule(number=FEW, server=NUMBER, again=st.booleans())
    def report_arrives(self, number: int, server: int, again: bool) -> None:
        self.do(self.fleet.deliver(self.robot(number), server, again=again))

    @rule(number=FEW, lost=st.booleans())
    def answer_arrives(self, number: int, lost: bool) -> None:
        self.fleet.hear(self.robot(number), lost=lost)

    @rule(which=FEW, server=NUMBER)
    def report_arrives_once_more(self, which: int, server: int) -> None:
        async def steps() -> None:
            if self.fleet.ghosts:
                await self.fleet.report(*self.fleet.ghosts[which % len(self.fleet.ghosts)], server)

        self.do(steps())

    @rule(number=FEW)
    def agent_dies(self, number: int) -> None:
        self.fleet.die(self.robot(number))

    @rule(number=FEW, with_disk=st.booleans())
    def agent_comes(self, number: int, with_disk: bool) -> None:
        self.do(self.fleet.come(self.robot(number), with_disk=with_disk))

    @rule(number=FEW, stays=st.booleans())
    def agent_leaves(self, number: int, stays: bool) -> None:
        """It is told to end: it gives back what it has, says so, and another one comes."""

        async def steps() -> None:
            robot = self.robot(number)
            robot.leaving = True
            await self.fleet.talk(robot)
            if not stays:
                await self.fleet.come(robot, with_disk=True)

        self.do(steps())

    # -- servers and time ----------------------------------------------------------------------------------------------

    @rule(controller=NUMBER, name=DUTIES)
    def run_duty(self, controller: int, name: str) -> None:
        self.do(self.fleet.duty(controller, name))

    @rule(controller=NUMBER)
    def everything_takes_a_turn(self, controller: int) -> None:
        self.do(self.turn(controller))

    @rule(controller=NUMBER, name=DUTIES, other=DUTIES, number=FEW, which=st.integers(0, 9), spec=JOBS,
          what=st.sampled_from(["duty", "report", "cancel", "jump", "kill", "beat"]))  # fmt: skip
    def something_happens_while_a_duty_decides(
        self, controller: int, name: str, other: str, number: int, which: int, spec: Object, what: str
    ) -> None:
        fleet, robot = self.fleet, self.robot(number)
        happenings: dict[str, Step] = {
            "duty": lambda: fleet.duty(controller + 1, other),
            "report": lambda: fleet.talk(robot, which),
            "cancel": lambda: fleet.change_job(which, "PATCH", {"spec": {"cancel": True}}),
            "jump": lambda: fleet.pass_time(31),
            "kill": lambda: fleet.kill_connections("batch"),
            "beat": lambda: fleet.beat(robot),
        }

        async def steps() -> None:
            await self.post([spec], 0)
            await fleet.duty(controller, name, happenings[what])

        self.do(steps())

    @rule(controller=NUMBER, spec=JOBS, namespace=NUMBER)
    def another_controller_places_a_more_urgent_job_meanwhile(
        self, controller: int, spec: Object, namespace: int
    ) -> None:
        async def meanwhile() -> None:
            await self.post([{**spec, "priority": 0}], namespace)
            await self.fleet.duty(controller + 1, "placement")

        async def steps() -> None:
            await self.post([spec], namespace)
            await self.fleet.duty(controller, "placement", meanwhile)

        self.do(steps())

    @rule(controller=NUMBER, spec=JOBS, change=st.sampled_from(["pause", "delete"]))
    def robots_change_while_jobs_are_placed(self, controller: int, spec: Object, change: str) -> None:
        fleet = self.fleet

        async def meanwhile() -> None:
            for robot in fleet.robots:
                if change == "pause":
                    await fleet.declare(robot, desiredState="Paused")
                else:
                    await fleet.call(0, "DELETE", KINDS["Robot"].path(fleet.namespace(0), robot.name))

        async def steps() -> None:
            await self.post([spec], 0)
            await fleet.duty(controller, "placement", meanwhile)
            for robot in fleet.robots:
                await fleet.declare(robot, desiredState="Active")

        self.do(steps())

    @rule(spec=JOBS)
    def everything_happens_at_once(self, spec: Object) -> None:
        fleet = self.fleet
        duties = [fleet.duty(number, name) for number, name in ((0, "placement"), (1, "placement"), (0, "timers"))]
        self.do(*duties, *(fleet.talk(robot, 1) for robot in fleet.robots), self.post([spec, spec], 0))

    @rule(seconds=SECONDS, alive=SOME, heard=st.booleans())
    def time_goes_on(self, seconds: float, alive: list[int], heard: bool) -> None:
        self.do(self.fleet.pass_time(seconds, *map(self.robot, alive), heard=heard))

    @rule(seconds=st.sampled_from([1.0, 9.0, 31.0]), controller=NUMBER)
    def a_while_goes_by(self, seconds: float, controller: int) -> None:
        async def steps() -> None:
            await self.fleet.pass_time(seconds, *self.fleet.robots)
            await self.turn(controller)

        self.do(steps())

    @rule(seconds=st.sampled_from([11.0, 200.0]), number=FEW, controller=NUMBER)
    def a_robot_falls_silent(self, seconds: float, number: int, controller: int) -> None:
        """Its agent lives on, and sees nothing; the others are there."""

        async def steps() -> None:
            others = [robot for robot in self.fleet.robots if robot is not self.robot(number)]
            for _ in range(2):  # first it is offline, then its jobs are lost
                await self.fleet.pass_time(seconds, *others)
                await self.fleet.duty(controller, "presence")

        self.do(steps())

    @rule(which=st.integers(0, 3))
    def restart(self, which: int) -> None:
        self.do(self.fleet.restart(which))

    @rule(name=st.sampled_from(["batch", "writer", "read"]))
    def connections_are_cut(self, name: str) -> None:
        self.do(self.fleet.kill_connections(name))

    @rule(name=st.sampled_from(["batch", "writer"]), spec=JOBS)
    def connections_are_cut_amid_everything(self, name: str, spec: Object) -> None:
        fleet = self.fleet
        duties = [fleet.duty(number, name) for number, name in ((0, "placement"), (1, "presence"), (1, "timers"))]
        self.do(*duties, *map(fleet.talk, fleet.robots), self.post([spec] * 3, 1), fleet.kill_connections(name))

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self.fleet, "history"):
            self.do(self.fleet.check())

    def teardown(self) -> None:
        self.do(self.fleet.end_everything())


@pytest.fixture(scope="module")
def fleet(postgres: embedded.Server) -> Iterator[Fleet]:
    url = new_database(postgres)
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(CLOCK)
        connection.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    with asyncio.Runner() as runner:
        found = Fleet(url, runner)
        runner.run(found.open())
        yield found
        runner.run(found.close())
    drop_database(postgres, url)


EXAMPLES = int(os.environ.get("CASARE_EXAMPLES", "0"))
# A smaller example costs minutes: it is looked for when somebody waits for it.
PHASES = [Phase.explicit, Phase.generate, *([Phase.shrink] if "CASARE_SHRINK" in os.environ else [])]


def test_whatever_happens_no_job_is_lost_doubled_or_stuck(fleet: Fleet) -> None:
    Jobs.fleet = fleet
    run_state_machine_as_test(
        Jobs,
        settings=settings(
            max_examples=EXAMPLES or 40, stateful_step_count=50, deadline=None, database=None, phases=PHASES, derandomize=not EXAMPLES,
            suppress_health_check=list(HealthCheck), print_blob=True,
        ),
    )  # fmt: skip
