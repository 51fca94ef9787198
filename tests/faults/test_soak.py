"""20,000 jobs on 50 robots while servers, Postgres and robots are killed at random: the counts match exactly.

Two apiservers, two controllers and a Postgres are real processes that die by kill -9 and are started again. The robots
are simulated agents over real HTTP: some die with all they know, some come back with their disk, some fall silent until
they count as lost and come back late. Who dies, and after how many jobs, comes from a seed that is another one each
time and stands in every failure. CASARE_SOAK_SEED=... lets the same ones die after the same numbers of jobs again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from casare_agent.assignment import Assignment
from casare_agent.assignments import fields_of
from casare_api.kinds import KINDS, Object
from casare_client import Client

from ..conftest import free_port, until
from ..invariants import CHANGES, ROWS, Book, History
from ..robots import Agent
from .killable import Killable, started
from .lines import BROKEN, Line

JOBS = int(os.environ.get("CASARE_SOAK_JOBS", "20000"))
ROBOTS, SLOTS, PER_REQUEST = 50, 20, 500
ONCE_EVERY = 10  # every tenth job may be started only once
PATIENCE = 90.0  # seconds in which not a single job ends: something hangs
SILENCE = 12.0  # seconds: longer than a lease and lostAfter together
API = "fleet.casare.net/v1"
SERVERS = ["apiserver-0", "apiserver-1", "controller-0", "controller-1", "postgres", "postgres"]
FATES = ["forgets", "forgets", "returns", "stays away", "falls silent"]
KILLS, STRIKES = 10, 30  # of servers, and of robots: each server and each fate comes at least once


class Fleet(Killable):
    """Two apiservers and two controllers on a Postgres of their own."""

    ports: list[int]

    def start(self) -> None:
        self.ports = [free_port(), free_port()]
        for number in range(2):
            self.begin(f"apiserver-{number}")
            self.begin(f"controller-{number}")
        self.port = self.ports[0]
        until(self.is_ready, lambda: f"the apiserver is ready; {self.log('apiserver-0')}")

    def begin(self, name: str) -> None:
        kind, number = name.split("-")
        self.run(name, "-m", f"casare_{kind}", CASARE_PORT=str(self.ports[int(number)]))

    def kill_and_restart(self, name: str) -> None:
        """kill -9, and it is started again."""
        if name != "postgres":
            self.kill(name)
            self.begin(name)
            return
        self.restart_postgres()

    def supervise(self) -> None:
        """Starts again who could not start because Postgres was killed just then; nobody else ends by himself."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                last = (self.log(name).splitlines() or [""])[-1]
                assert (process.returncode, last[:34]) == (1, "error: the database can't be used:"), self.story()
                self.begin(name)

    def story(self) -> str:
        """For whoever reads the failure: the end of every log."""
        return "".join(f"\n--- {name}, {process.poll()}\n{self.log(name)}" for name, process in self.processes.items())


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with started(Fleet, tmp_path) as found:
        yield found


@dataclass(frozen=True)
class Blow:
    """What happens once so many jobs have ended: a server is killed, or a robot, by its number, has this fate."""

    after: int
    victim: str
    robot: int | None = None


def blows(chance: random.Random) -> list[Blow]:
    """All that happens in a run, in order. Several may come at once, and to the same victim."""
    servers = [*SERVERS, *chance.choices(SERVERS, k=KILLS - len(SERVERS))]
    fates = [*FATES, *chance.choices(FATES, k=STRIKES - len(FATES))]
    last = JOBS * 5 // 6  # some work is left to those who come back
    found = [Blow(chance.randrange(last), name) for name in servers]
    found += [Blow(chance.randrange(last), fate, chance.randrange(ROBOTS)) for fate in fates]
    return sorted(found, key=lambda blow: blow.after)


@dataclass
class Robot:
    """A robot over all of its agent's lives."""

    name: str
    uid: str
    line: Line
    book: Book
    ended: Counter[str]  # jobs whose end the server has, by phase
    agent: Agent
    wanted: dict[str, Assignment] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    interval: float = 3.0
    fate: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def live(self) -> None:
        """Its agent is there, until this is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.work())
            group.create_task(self.follow())

    async def work(self) -> None:
        """The agent's loop: look, plan, report, and once more when there is news or a heartbeat is due."""
        while True:
            self.wake.clear()
            self.agent.see(self.wanted)
            running = self.agent.running()
            if not await self.report():
                await asyncio.sleep(0.2)
                continue
            for uid in running:  # what ran before this report is over now
                if self.agent.held[uid].stage == "Running":
                    self.agent.end(uid, "Succeeded", exitCode=0)
            if not self.agent.running() and not self.agent.news():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.interval):  # wait_for may swallow that its task is cancelled
                        await self.wake.wait()

    async def report(self) -> bool:
        """Says what there is to say; False where nobody answered."""
        entries = self.agent.news()
        try:
            code, answer = await self.line.call(
                "POST", KINDS["Robot"].path("default", self.name, "report"), {"jobs": entries}
            )
        except BROKEN:
            return False
        if code != 200:
            self.line.close()
            return False
        self.interval = answer["intervalSeconds"]
        for entry, one in zip(entries, answer["jobs"], strict=True):
            self.agent.answered(entry, one["code"])
            if one["code"] == 200 and entry["phase"] != "Running":
                self.ended[entry["phase"]] += 1
        return True

    async def follow(self) -> None:
        """Its jobs as real agents follow them: a list, then a watch from there; after any trouble from the start."""
        path = KINDS["Job"].path(None)
        selector = f"fieldSelector={fields_of(self.uid).replace('!', '%21')}"
        line = Line(self.line.ports, self.line.key, self.line.turn)
        while True:
            with contextlib.suppress(*BROKEN):
                code, found = await line.call("GET", f"{path}?{selector}")
                if code == 200:
                    self.now_wanted({one.uid: one for one in map(Assignment.of, found["items"])})
                    since = found["metadata"]["resourceVersion"]
                    async for event in line.watch(f"{path}?watch=true&resourceVersion={since}&{selector}"):
                        if event["type"] == "ERROR":
                            break
                        self.see(event)
            await asyncio.sleep(0.2)

    def see(self, event: Object) -> None:
        one = Assignment.of(event["object"])
        rest = {uid: kept for uid, kept in self.wanted.items() if uid != one.uid}
        self.now_wanted(rest if event["type"] == "DELETED" else {**rest, one.uid: one})

    def now_wanted(self, wanted: dict[str, Assignment]) -> None:
        self.wanted = wanted
        self.wake.set()


@dataclass
class Soak:
    """The whole run in one event loop."""

    fleet: Fleet
    robots: list[Robot]
    blows: list[Blow]
    ended: Counter[str]
    told: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    lives: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    fates: list[asyncio.Task[None]] = field(default_factory=list)
    moved: tuple[int, float] = (0, 0.0)  # how many jobs had ended when that number changed last, and when

    async def run(self) -> None:
        """Until every job has ended. Raises TimeoutError when none does for too long."""
        for robot in self.robots:
            self.begin(robot)
        submitting = self.lives["submission"] = asyncio.create_task(self.submit())
        for blow in self.blows:
            await self.progress(blow.after)
            self.strike(blow)
        while not all(task.done() for task in (submitting, *self.fates)) or await self.unfinished():
            self.check_lives()
            await asyncio.sleep(0.3)  # between two looks at the database, which has no way to tell us
        await asyncio.gather(*self.fates)
        self.tell("all have ended")
        for life in self.lives.values():
            life.cancel()
        await asyncio.wait(self.lives.values())

    async def unfinished(self) -> int:
        return await asyncio.to_thread(unfinished, self.fleet.database)

    def strike(self, blow: Blow) -> None:
        if blow.robot is not None:
            self.fates.append(asyncio.create_task(self.befall(self.robots[blow.robot], blow.victim)))
            return
        self.tell(blow.victim)
        self.fleet.supervise()
        self.fleet.kill_and_restart(blow.victim)  # not in a thread: Postgres would live no longer than that

    def tell(self, what: str) -> None:
        self.told.append(f"{time.monotonic() - self.began:.1f} s, {sum(self.ended.values())} jobs: {what}")

    def begin(self, robot: Robot) -> None:
        self.lives[robot.name] = asyncio.create_task(robot.live(), name=robot.name)

    async def befall(self, robot: Robot, fate: str) -> None:
        """Something happens to a robot. It gets over it, and only then may something else happen to it."""
        async with robot.fate:
            self.tell(f"{robot.name} {fate}")
            self.check_lives()
            life = self.lives[robot.name]
            life.cancel()
            await asyncio.wait([life])
            robot.line.close()
            if fate in ("stays away", "falls silent"):
                await asyncio.sleep(SILENCE)  # the fate itself: the servers' leases run out in real time
            if fate != "falls silent":
                robot.agent.let_go()
                robot.agent, robot.wanted = Agent(robot.book, robot.agent.journal if fate == "returns" else {}), {}
            self.begin(robot)

    async def progress(self, jobs: int) -> None:
        """Until so many jobs have ended."""
        while sum(self.ended.values()) < jobs:
            self.check_lives()
            await asyncio.sleep(0.05)

    def check_lives(self) -> None:
        """A life ends only when it is cancelled, or has submitted all: anything else is raised here. So with servers."""
        for life in self.lives.values():
            if life.done() and not life.cancelled():
                life.result()
        self.fleet.supervise()
        count, now = sum(self.ended.values()), time.monotonic()
        if count > self.moved[0] or not self.moved[1]:
            self.moved = count, now
        if now - self.moved[1] > PATIENCE:
            raise TimeoutError

    async def submit(self) -> None:
        """All jobs, each request again until it is answered; what was lost on the way is found by its key."""
        line = Line(self.fleet.ports, self.fleet.admin_key)
        for first in range(0, JOBS, PER_REQUEST):
            numbers = range(first, min(first + PER_REQUEST, JOBS))
            body = {"apiVersion": API, "kind": "JobList", "items": [job(number) for number in numbers]}
            while not await self.submitted(line, body):
                await asyncio.sleep(0.2)
        line.close()

    async def submitted(self, line: Line, body: Object) -> bool:
        try:
            code, said = await line.call("POST", KINDS["Job"].path("default"), body)
        except BROKEN:
            return False
        if code in (429, 503):
            return False
        assert code == 200, said
        return all(one["code"] in (200, 201) for one in said["items"])


def job(number: int) -> Object:
    workflow = "once" if number % ONCE_EVERY == 0 else "again"
    spec = {"workflowRef": {"name": workflow}, "idempotencyKey": f"soak-{number}"}
    return {"apiVersion": API, "kind": "Job", "metadata": {"generateName": f"{workflow}-"}, "spec": spec}


def prepare(fleet: Fleet, book: Book, ended: Counter[str]) -> list[Robot]:
    """Workflows and robots, each robot with a key of its own."""
    with fleet.client() as client:
        for name, retry in (("once", {"onRobotLost": "Fail"}), ("again", {"robotLostLimit": 1000})):
            spec = {"runner": "command", "args": ["true"], "retry": retry, "lostAfter": "1s"}
            client.create({"apiVersion": API, "kind": "Workflow", "metadata": {"name": name}, "spec": spec})
        return [prepare_robot(client, fleet, f"robot-{number}", book, ended) for number in range(ROBOTS)]


def prepare_robot(client: Client, fleet: Fleet, name: str, book: Book, ended: Counter[str]) -> Robot:
    made = {"apiVersion": API, "kind": "Robot", "metadata": {"name": name}, "spec": {"maxConcurrentJobs": SLOTS}}
    uid = client.create(made)["metadata"]["uid"]
    key = {"apiVersion": API, "kind": "ApiKey", "metadata": {"name": name}, "spec": {"role": "robot", "robotName": name}}
    client.create(key)
    return Robot(name, uid, Line(fleet.ports, client.issue_key(name)), book, ended, Agent(book))


def unfinished(url: str) -> int:
    """How many jobs have not ended; all of them while Postgres is not there."""
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=2) as connection:
        found = connection.execute("SELECT count(*) FROM jobs WHERE phase IN ('Queued', 'Assigned', 'Running')")
        return int(found.fetchone()[0])  # type: ignore[index]
    return JOBS


def replay(url: str) -> History:
    """The whole history, every change checked, and the rows against it."""
    history = History()
    with psycopg.connect(url) as connection, connection.cursor(name="changes") as cursor:
        cursor.itersize = 5000
        history.follow(cursor.execute(CHANGES, (0,)))
        history.check_rows(connection.execute(ROWS))
    return history


@contextlib.contextmanager
def seeded() -> Iterator[int]:
    """The seed of this run, which whatever goes wrong names."""
    seed = int(os.environ.get("CASARE_SOAK_SEED") or secrets.randbits(32))
    print(f"CASARE_SOAK_SEED={seed}")
    try:
        yield seed
    except BaseException as error:
        error.add_note(f"CASARE_SOAK_SEED={seed} kills the same ones again")
        raise


@pytest.mark.timeout(900)  # where others use the machine, too; it takes a minute
def test_20000_jobs_outlive_the_death_of_everything_exactly_once(fleet: Fleet) -> None:
    with seeded() as seed:
        outlive(fleet, blows(random.Random(seed)))


def outlive(fleet: Fleet, blows: list[Blow]) -> None:
    """All jobs run while these blows fall; then they are counted."""
    book, ended = Book(), Counter[str]()
    soak = Soak(fleet, prepare(fleet, book, ended), blows, ended)
    try:
        asyncio.run(soak.run())
    except TimeoutError:
        left = unfinished(fleet.database)
        pytest.fail(f"it hangs, {left} jobs have not ended; {ended}; {soak.told} {fleet.story()}")
    fleet.supervise()
    for name in list(fleet.processes):  # nothing changes any more
        if name.startswith(("apiserver", "controller")):
            fleet.kill(name)
    history = replay(fleet.database)
    book.check(history)
    assert len({one["spec"]["idempotencyKey"] for one in history.jobs.values()}) == len(history.jobs) == JOBS
    assert set(history.ended) == set(history.jobs) and set(history.ended.values()) == {1}, "each ended once"
    phases = Counter((one["spec"]["workflowRef"]["name"], one["status"]["phase"]) for one in history.jobs.values())
    at_most_once = phases["once", "Succeeded"] + phases["once", "Failed"]
    assert (phases["again", "Succeeded"], at_most_once) == (JOBS - JOBS // ONCE_EVERY, JOBS // ONCE_EVERY), phases
    assert phases["once", "Failed"] and any(one["status"]["attempt"] > 1 for one in history.jobs.values()), "calm"
