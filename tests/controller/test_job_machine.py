"""Jobs, robots, servers and the clock do whatever they like; what must hold of jobs holds after every step.

The real store, two real apiservers (called without a network), two controllers' real duties. Agents are simulated:
they die, come back with or without their disk, fall silent, and their reports are lost, repeated and late. Time is the
database's, and the database of this test has a clock that only the test moves. In the end, with everybody alive and
time going on, every job ends.

CASARE_EXAMPLES=1000 runs as many examples as that, on other paths each time; with CASARE_SHRINK=1 a failing one is made
smaller, which takes minutes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from casare_api.kinds import Object
from casare_store import embedded

from ..conftest import drop_database, new_database
from .controllers import Step
from .deeds import Deeds
from .drawn import DUTIES, FENCED, FEW, JOBS, MARKS, NUMBER, PLAIN, QUOTAS, READY, SECONDS, SHARES, SOME
from .machine import CLOCK, ROBOTS, Fleet


class Jobs(Deeds):
    """What servers, controllers and the clock do, alone and all at once; the rest is in `Deeds`."""

    @initialize(
        slots=st.lists(st.integers(1, 3), min_size=ROBOTS, max_size=ROBOTS),
        marks=st.lists(MARKS, min_size=ROBOTS, max_size=ROBOTS),
        specs=st.lists(JOBS, min_size=1, max_size=4),
        started=st.booleans(),
    )
    def begin(self, slots: list[int], marks: list[Object], specs: list[Object], started: bool) -> None:
        async def steps() -> None:
            fleet = self.fleet
            await fleet.begin()
            for number, (robot, count) in enumerate(zip(fleet.robots, slots, strict=True)):
                capabilities = ["browser"] if number == 0 else []
                robot.spec = {"maxConcurrentJobs": count, "capabilities": capabilities, "serves": ["*"]}
                robot.labels, robot.spec["taints"] = marks[number]["labels"], marks[number]["taints"]
                await fleet.come(robot, with_disk=False)
            await fleet.beat(*fleet.robots)
            await fleet.duty(0, "presence")
            await self.post(specs, 0)
            if started:
                await self.turn(0)

        self.do(steps())

    # -- servers and time ----------------------------------------------------------------------------------------------

    @rule(controller=NUMBER, name=DUTIES)
    def run_duty(self, controller: int, name: str) -> None:
        self.do(self.fleet.duty(controller, name))

    @rule(controller=NUMBER)
    def everything_takes_a_turn(self, controller: int) -> None:
        self.do(self.turn(controller))

    @rule(controller=NUMBER, name=DUTIES, other=DUTIES, number=FEW, which=st.integers(0, 9), spec=JOBS, quota=QUOTAS,
          what=st.sampled_from(["duty", "report", "cancel", "jump", "kill", "beat", "quota"]))  # fmt: skip
    def something_happens_while_a_duty_decides(
        self, controller: int, name: str, other: str, number: int, which: int, spec: Object, quota: Object, what: str
    ) -> None:
        fleet, robot = self.fleet, self.robot(number)
        happenings: dict[str, Step] = {
            "duty": lambda: fleet.duty(controller + 1, other),
            "report": lambda: fleet.talk(robot, which),
            "cancel": lambda: fleet.change_job(which, "PATCH", {"spec": {"cancel": True}}),
            "jump": lambda: fleet.pass_time(31),
            "kill": lambda: fleet.kill_connections("batch"),
            "beat": lambda: fleet.beat(robot),
            "quota": lambda: fleet.set_quota(0, quota),
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

    @rule(controller=NUMBER, namespace=NUMBER, spec=PLAIN, other=PLAIN, most=st.integers(1, 2), by_quota=st.booleans())
    def two_controllers_have_different_jobs_for_the_last_place(
        self, controller: int, namespace: int, spec: Object, other: Object, most: int, by_quota: bool
    ) -> None:
        """There are free slots, and one more of the key (or of the namespace) may run: neither knows of the other."""
        fleet, where = self.fleet, self.fleet.namespace(namespace)
        key: Object = {} if by_quota else {"concurrency": {"key": "k", "limit": most}}

        async def meanwhile() -> None:
            await self.post([{**other, **key, "priority": 0}], namespace)
            await fleet.duty(controller + 1, "placement")

        async def steps() -> None:
            await fleet.free_slots(maxConcurrentJobs=4)  # else both may want the same slot, and that alone saves it
            await fleet.check()
            running = fleet.history.live("namespace", where)
            await fleet.set_quota(namespace, {"maxRunning": running + most} if by_quota else None)
            await self.post([{**spec, **key, "priority": 1} for _ in range(most)], namespace)
            await fleet.duty(controller, "placement", meanwhile)

        self.do(steps())

    @rule(controller=NUMBER, shares=st.tuples(SHARES, SHARES),
          specs=st.tuples(st.lists(READY, min_size=2, max_size=4), st.lists(READY, min_size=2, max_size=4)))  # fmt: skip
    def nothing_disturbs_a_controller(
        self, controller: int, shares: tuple[Object, Object], specs: tuple[list[Object], list[Object]]
    ) -> None:
        """Who gets which slot is the right choice then: by shares, ranks and what jobs would like."""

        async def steps() -> None:
            await self.fleet.free_slots()
            for namespace in (0, 1):
                await self.fleet.set_quota(namespace, shares[namespace])
                await self.post(specs[namespace], namespace)
            await self.fleet.place_undisturbed(controller)

        self.do(steps())

    @rule(controller=NUMBER, spec=JOBS, marks=MARKS, change=st.sampled_from(["pause", "delete", "mark"]))
    def robots_change_while_jobs_are_placed(self, controller: int, spec: Object, marks: Object, change: str) -> None:
        fleet = self.fleet

        async def meanwhile() -> None:
            for robot in fleet.robots:
                if change == "delete":
                    await fleet.delete_robot(robot)
                else:
                    await fleet.declare(robot, **(marks if change == "mark" else {"desiredState": "Paused"}))

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

    @rule(seconds=st.sampled_from([11.0, 50.0, 200.0]), number=FEW, controller=NUMBER, deleted=st.booleans())
    def a_robot_falls_silent(self, seconds: float, number: int, controller: int, deleted: bool) -> None:
        """Its agent lives on, and sees nothing; the others are there, and take over what was lost."""

        async def steps() -> None:
            await self.fleet.free_slots()
            await self.post([FENCED] * ROBOTS, 0)
            await self.turn(controller)
            others = [robot for robot in self.fleet.robots if robot is not self.robot(number)]
            if deleted:
                await self.fleet.delete_robot(self.robot(number))
            for _ in range(2):  # first it is offline, then its jobs are lost
                await self.fleet.pass_time(seconds, *others)
                await self.fleet.duty(controller, "presence")
            for robot in others:
                self.fleet.finish(robot, 0, "Succeeded")
                await self.fleet.talk(robot)
            await self.fleet.duty(controller, "placement")
            for robot in others:
                await self.fleet.talk(robot)

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


@pytest.mark.timeout(0 if EXAMPLES else 900)
def test_whatever_happens_no_job_is_lost_doubled_or_stuck(fleet: Fleet) -> None:
    Jobs.fleet = fleet
    run_state_machine_as_test(
        Jobs,
        settings=settings(
            max_examples=EXAMPLES or 40, stateful_step_count=50, deadline=None, database=None, phases=PHASES,
            derandomize=not EXAMPLES, suppress_health_check=list(HealthCheck), print_blob=True,
        ),
    )  # fmt: skip
