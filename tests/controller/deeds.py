"""What people and robots do to the machine of `test_job_machine`, one small thing at a time.

The rules of the state machine that have no servers and no time in them, and the steps that all of its rules are made of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from casare_api.kinds import Object
from casare_api.kinds.job import JOB

from .drawn import DRAINS, FEW, JOBS, MARKS, NUMBER, OUTCOMES, QUOTAS
from .machine import API, Fleet, Robot


class Deeds(RuleBasedStateMachine):
    """A rule that has nothing to do does nothing: what is drawn never depends on what the database said."""

    fleet: Fleet

    def do(self, *steps: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            await asyncio.wait_for(asyncio.gather(*steps), 60)

        self.fleet.run(run())

    def robot(self, number: int) -> Robot:
        return self.fleet.robots[number]

    async def turn(self, controller: int) -> None:
        """Everything looks once at how things stand: what can be placed is placed, and starts."""
        for name in ("presence", "timers", "draining", "placement"):
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

    @rule(number=FEW, state=st.sampled_from(["Active", "Paused", "Drained"]), slots=st.integers(1, 3), drain=DRAINS)
    def change_robot(self, number: int, state: str, slots: int, drain: Object | None) -> None:
        self.do(self.fleet.declare(self.robot(number), desiredState=state, maxConcurrentJobs=slots, drain=drain))

    @rule(number=FEW, drain=DRAINS, controller=NUMBER, seconds=st.sampled_from([0.0, 9.0, 31.0, 90.0]), heard=st.booleans())
    def a_robot_is_drained(
        self, number: int, drain: Object | None, controller: int, seconds: float, heard: bool
    ) -> None:
        """And perhaps never hears of it."""

        async def steps() -> None:
            fleet, robot = self.fleet, self.robot(number)
            await fleet.declare(robot, desiredState="Drained", drain=drain)
            await fleet.duty(controller, "draining")
            await fleet.pass_time(seconds, *fleet.robots)
            await fleet.duty(controller + 1, "draining")
            if heard:
                await fleet.talk(robot, controller)

        self.do(steps())

    @rule(number=FEW, marks=MARKS)
    def mark_robot(self, number: int, marks: Object) -> None:
        self.do(self.fleet.declare(self.robot(number), **marks))

    @rule(number=FEW)
    def delete_robot(self, number: int) -> None:
        self.do(self.fleet.delete_robot(self.robot(number)))

    @rule(namespace=NUMBER, spec=st.none() | QUOTAS)
    def change_quota(self, namespace: int, spec: Object | None) -> None:
        self.do(self.fleet.set_quota(namespace, spec))

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
