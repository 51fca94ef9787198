"""How many jobs a second does placement place, by robots and by jobs that wait?

The real duty on a real database, in this process: queues and robots are read, the decision is made, and the guarded
write goes through the history lock into rows and log. What waits is written by SQL beforehand: jobs of 20 requirement
sets, of which three match no robot. A run ends when all is placed that can be, or no slot is free; then the robots'
jobs are taken away, others take their places in the queue, and it is run again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

import report
from casare_api.kinds import KINDS, Object
from casare_controller.duties.placement import PER_TICK, RUN_FOR, Placement
from casare_controller.duties.presence import Presence
from casare_store import admission, loop, memory
from casare_store.events import Recorder
from casare_store.heartbeats import Heartbeats
from casare_store.store import Store
from system import BenchmarkError, Place, place

SETS = 20
NOBODYS = 3  # of them
ROBOTS = (10, 1_000, 10_000)
QUEUED = (1_000, 100_000, 1_000_000)
SLOTS = {10: 100, 1_000: 4, 10_000: 1}  # of each robot
RUNS = 3
SAME = 1.1  # what one run leaves waits before all else in the next, so few robots are filled in another order
CAPABILITIES = ("browser", "desktop", "gpu", "high_memory")
_COPY = """
INSERT INTO jobs (uid, name, head, namespace, rv, tail, phase, class, rank, ready, parked)
SELECT g.u, 'j' || g.n, replace(replace(t.head, t.uid::text, g.u::text), '"' || t.name || '"', '"j' || g.n || '"'),
    t.namespace, t.rv, t.tail, t.phase, t.class, t.rank + g.n * interval '1 ms', true, false
FROM (SELECT n, uuidv7() AS u FROM {numbers} AS n) g
JOIN (SELECT *, row_number() OVER (ORDER BY name) - 1 AS k FROM jobs WHERE name LIKE 'model-%') t ON t.k = g.n % 20"""
_NEW = _COPY.format(numbers="generate_series({first}::bigint, {last}::bigint)")
# In the place of each job that was placed comes another one of its set, at the end of the queue.
_AGAIN = """WITH gone AS (DELETE FROM jobs WHERE phase = 'Assigned' RETURNING substring(name FROM 2)::bigint + 100000000 AS n)
""" + _COPY.format(numbers="(SELECT n FROM gone)")


@dataclass(frozen=True, slots=True)
class Placed:
    """One case: the median run."""

    robots: int
    queued: int
    placed: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.placed / self.seconds

    @property
    def tick_ms(self) -> float:
        """Milliseconds for a tick's worth of jobs (or all there were)."""
        return self.seconds / max(self.placed / PER_TICK, 1) * 1e3


def robot(number: int, slots: int) -> Object:
    spec: Object = {"maxConcurrentJobs": slots, "environment": ("production", "staging")[number % 2]}
    spec["capabilities"] = list(CAPABILITIES[: number % 5])
    spec["tags"] = ["sap", "finance"][: number % 3]
    spec["taints"] = [{"key": "certified", "value": "no", "effect": "NoPlace"}] if number % 10 == 9 else []
    meta = {"name": f"pc-{number:05d}", "namespace": "default", "labels": {"site": f"site-{number % 10}"}}
    return {"apiVersion": KINDS["Robot"].api_version, "kind": "Robot", "metadata": meta, "spec": spec}


def requirements(number: int) -> Object:
    """Set number 0 to 19, all different; the last three match nobody, as long as there are 20 robots or more."""
    wanted: Object = {"tags": ["sap"]} if number % 2 else {}
    if number >= SETS - NOBODYS:
        return {**wanted, "capabilities": [f"nobody-has-{number}"]}
    if number % 3 == 1:
        wanted["capabilities"] = [CAPABILITIES[number % 4]]
    if number % 5 in (2, 3):
        wanted["environment"] = ("production", "staging")[number % 5 - 2]
    if number % 7 > 2:
        operator = ("In", "NotIn")[number % 2]
        wanted["robotSelector"] = [{"key": "site", "operator": operator, "values": [f"site-{number % 10}", "site-x"]}]
    elif number:
        wanted["robotSelector"] = [{"key": "site", "operator": "NotIn", "values": [f"nowhere-{number}"]}]
    if number % 4 == 3:
        wanted["tolerations"] = [{"key": "certified", "operator": "Exists"}]
    return wanted


def model(number: int) -> Object:
    """The job that all of a set are copies of."""
    workflow = {"runner": "command", "args": ["true"]}
    spec = {"workflow": workflow, "parameters": {"month": "2026-03"}, "requirements": requirements(number)}
    meta = {"name": f"model-{number:02d}", "namespace": "default"}
    return {"apiVersion": KINDS["Job"].api_version, "kind": "Job", "metadata": meta, "spec": spec}


class Case:
    """A database with so many robots; `run` measures it with so many queued jobs."""

    def __init__(self, store: Store, connection: psycopg.AsyncConnection[Any], robots: int) -> None:
        self.store, self.connection, self.robots = store, connection, robots
        self.events = Recorder(store.writer, "bench")
        self.duty = Placement(store, self.events)
        self.waiting = 0

    async def set_up(self) -> None:
        await self._create([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}])
        made = await self._create(robot(number, SLOTS[self.robots]) for number in range(self.robots))
        await Heartbeats(self.store.pool, interval=600.0).flush({one["metadata"]["uid"]: None for one in made})
        presence = Presence(self.store, self.events)
        while any((await presence.run_once()).values()):
            pass
        await self._create(map(model, range(SETS)))

    async def _create(self, objects: Iterable[Object]) -> list[Object]:
        operations = [admission.create(KINDS[obj["kind"]], obj) for obj in objects]
        done: list[Object] = []
        for start in range(0, len(operations), 500):
            some = operations[start : start + 500]
            done += [one for one in await asyncio.gather(*map(self.store.writer.write, some)) if one is not None]
        return done

    async def fill(self, queued: int) -> None:
        """So many jobs wait, and no robot has one."""
        await self.connection.execute("UPDATE jobs SET ready = false WHERE name LIKE 'model-%' AND ready")
        await self.connection.execute(_AGAIN)
        if queued > self.waiting:
            await self.connection.execute(_NEW.format(first=self.waiting, last=queued - 1))
            self.waiting = queued
        await self.connection.execute("VACUUM (ANALYZE) jobs")

    async def run(self, queued: int) -> Placed:
        found = []
        for _ in range(RUNS):
            await self.fill(queued)
            await self.connection.execute("CHECKPOINT")
            begun = time.perf_counter()
            placed = await self._place_all()
            found.append((time.perf_counter() - begun, placed))
        counts = [placed for _, placed in found]
        if min(counts) * SAME < max(counts) or not all(counts):
            raise BenchmarkError(f"runs of the same case placed {counts} jobs")
        seconds, placed = sorted(found, key=lambda one: one[0] / one[1])[RUNS // 2]
        return Placed(self.robots, queued, placed, seconds)

    async def _place_all(self) -> int:
        """As the manager does: a run that was cut off is followed by the next."""
        placed = 0
        while True:
            begun = time.perf_counter()
            placed += (await self.duty.run_once())["placed"]
            if time.perf_counter() - begun < RUN_FOR:
                return placed


async def case(url: str, robots: int, queued: tuple[int, ...]) -> list[Placed]:
    store = await Store.open(url)
    memory.settle()  # as the controller does
    try:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            one = Case(store, connection, robots)
            await one.set_up()
            return [await one.run(number) for number in queued]
    finally:
        await store.close()


def measure(where: Place, robots: tuple[int, ...] = ROBOTS, queued: tuple[int, ...] = QUEUED) -> list[Placed]:
    """All cases; a database for each number of robots."""
    run = loop.runner()
    return [found for number in robots for found in run(case(where.database(), number, queued))]


assert len({repr(requirements(number)) for number in range(SETS)}) == SETS


def show(found: list[Placed]) -> None:
    report.title(
        f"Placement through the guarded write: {SETS} requirement sets, {NOBODYS} of which match nobody; one namespace, no "
        "quotas, no concurrency keys; what waits was written by SQL"
    )
    rows = [(one.robots, one.queued, one.placed, one.rate, one.tick_ms) for one in found]
    report.table(("robots", "queued", "placed a run", "per second", f"ms a tick (at most {PER_TICK:,})"), rows)


if __name__ == "__main__":
    with place() as found:
        wanted = tuple(map(int, sys.argv[1].split(","))) if len(sys.argv) > 1 else ROBOTS
        depth = tuple(map(int, sys.argv[2].split(","))) if len(sys.argv) > 2 else QUEUED
        show(measure(found, wanted, depth))
