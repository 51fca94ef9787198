"""What stands around a waiting job is counted from rows, and no further than to a bound."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from casare_api.decisions import lifecycle
from casare_api.decisions.explaining import Place
from casare_api.decisions.reasons import Alone, told
from casare_api.decisions.requirements import Requirements
from casare_api.kinds import KINDS, Object
from casare_store import admission, columns, waiting
from casare_store.connection import snapshot
from casare_store.heartbeats import Heartbeats
from casare_store.store import Store

from .conftest import ROBOT, robot, with_store

__all__ = ["with_store"]
JOB = KINDS["Job"]
# Copies of a job: behind it by as many seconds, in the same queue.
COPIES = """
INSERT INTO jobs (uid, namespace, name, rv, head, tail, phase, class, rank, ready, parked, ckey, climit)
SELECT gen_random_uuid(), j.namespace, j.name || '-' || n, j.rv, j.head, j.tail, j.phase, j.class,
    j.rank + n * interval '1 second', j.ready, j.parked, j.ckey, j.climit
FROM jobs j, generate_series(1, %s) n WHERE j.name = %s"""


async def submit(store: Store, name: str, copies: int = 0, **spec: Any) -> Object:
    """A job, and so many that are like it behind it."""
    body = {"workflow": {"runner": "command", "args": ["true"]}, **spec}
    body = {key: value for key, value in body.items() if value is not None}
    made = await store.writer.write(
        admission.create(JOB, {"metadata": {"name": name, "namespace": "default"}, "kind": "Job", "spec": body})
    )
    assert made is not None
    async with store.pool.connection() as connection:
        await connection.execute(COPIES, (copies, name))
    return made


async def place(store: Store, job: Object, later: int = 0, *queues: Object) -> Place:
    """The place of a job among these and its own queue, were it so many seconds later."""
    rank = lifecycle.rank(job) + timedelta(seconds=later)
    rivals = [("default", columns.requirements(each)) for each in (job, *queues)]
    async with store.pool.connection() as connection, snapshot(connection):
        await waiting.in_order(connection)
        return await waiting.place(connection, job, rank, rivals, True)


def test_a_place_is_counted_over_all_queues_that_compete(with_store: Any) -> None:
    async def body(store: Store) -> None:
        mine = await submit(store, "mine", 10)
        other = await submit(store, "other", 10, requirements={"tags": ["x"]})
        await submit(store, "third", 10, requirements={"tags": ["y"]})
        assert (await place(store, mine)).ahead == 0
        assert (await place(store, mine, 5)).ahead == 5, "itself as it stands there, and four behind it"
        assert (await place(store, mine, 20)) == Place(11, True, 33, True)
        assert (await place(store, mine, 20, other)).ahead == 22

    with_store(body)


def test_jobs_that_wait_for_the_same_key_come_before_it_too(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await submit(store, "free", 3)
        first = await submit(store, "first", 4, concurrency={"key": "sap", "limit": 1})
        await submit(store, "wider", 5, concurrency={"key": "sap", "limit": 2}, requirements={"tags": ["x"]})
        await submit(store, "others", 6, concurrency={"key": "dhl", "limit": 1})
        assert (await place(store, first, 100)) == Place(4 + 5 + 6, True, 4 + 5 + 6 + 7, True)

    with_store(body)


def test_beyond_the_bound_a_place_is_not_exact(with_store: Any) -> None:
    async def body(store: Store) -> None:
        job = await submit(store, "j", waiting.MOST_COUNTED + 5)
        assert (await place(store, job, waiting.MOST_COUNTED)).is_exact
        deep = await place(store, job, waiting.MOST_COUNTED + 2)
        assert deep == Place(waiting.MOST_COUNTED, False, waiting.MOST_QUEUED, False)

    with_store(body)


def test_however_long_the_queue_no_more_of_it_is_read_than_the_bound(with_store: Any) -> None:
    async def body(store: Store) -> None:
        job = await submit(store, "j", 3 * waiting.MOST_COUNTED)
        most, uid, rank = 100, job["metadata"]["uid"], lifecycle.rank(job) + timedelta(days=1)
        names, classes = waiting.Texts(["default"]), waiting.Int8s([columns.requirements(job).digest()])
        async with store.pool.connection() as connection, snapshot(connection):
            await waiting.in_order(connection)
            for query, args in (
                (waiting._AHEAD, (names, classes, rank, most, rank, uid, most, most)),
                (waiting._QUEUED, ("default", most, "default", most)),
            ):
                cursor = await connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", args)
                (found,) = await cursor.fetchone() or ()
                assert most_rows(found[0]["Plan"]) <= most, found

    with_store(body)


def most_rows(plan: Object) -> float:
    """The rows that any step of a plan gave, and those that it read in vain."""
    own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return max([own, *(most_rows(each) for each in plan.get("Plans", ()))])


def test_shares_and_the_end_of_what_runs_are_told_from_rows(with_store: Any) -> None:
    async def body(store: Store) -> None:
        spec = {"runner": "command", "args": ["true"]}
        await store.writer.write(admission.create(KINDS["Workflow"], named("usual", spec)))
        await store.writer.write(admission.create(KINDS["Quota"], named("default", {"maxRunning": 1, "weight": 3})))
        rob = await store.writer.write(admission.create(ROBOT, robot("r")))
        assert rob is not None
        uid, ref = rob["metadata"]["uid"], {"workflowRef": {"name": "usual"}, "workflow": None}
        for name, took in (("short", 5), ("usually", 30), ("long", 90)):
            await run(store, await submit(store, name, **ref), uid, timedelta(minutes=took))
        await run(store, await submit(store, "now", **ref), uid)
        await run(store, await submit(store, "inline"), uid)
        async with store.pool.connection() as connection:
            (full,) = await waiting.Fleet().read(connection)
            full = replace(full, schedulable=True, free_slots=0)
            shares, ends = await waiting.outlook(connection, {"default", "elsewhere"}, [full])
        assert shares == {"default": Alone(3, 2, 1), "elsewhere": Alone(1, 0, None)}
        assert timedelta(minutes=29) < ends[uid] <= timedelta(minutes=30), "the median, of the job that it is known of"
        (said,) = told([("default", Requirements())], [full], shares, ends)
        assert [each["rule"] for each in said] == ["quota", "slots"]
        assert said[1]["message"] == "the only robot, r, is full; its jobs usually end in 30m"

    with_store(body)


def named(name: str, spec: Object) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def run(store: Store, job: Object, robot_uid: str, took: timedelta | None = None) -> None:
    """Puts the job on the robot, where it runs, or has run for so long and succeeded."""

    def start(current: Object, context: Any) -> Object:
        begun = lifecycle.assign(current, "r", robot_uid, context.now - (took or timedelta()))
        return lifecycle.report(begun, robot_uid, {"attempt": 1, "phase": "Running"}, context.now - (took or timedelta()))

    def end(current: Object, context: Any) -> Object:
        return lifecycle.report(current, robot_uid, {"attempt": 1, "phase": "Succeeded"}, context.now)

    for change in (start, end) if took else (start,):
        await store.writer.write(admission.system(JOB, job, change))


def test_robots_are_seen_as_they_are_though_only_those_are_read_that_changed(with_store: Any) -> None:
    async def body(store: Store) -> None:
        fleet = waiting.Fleet()

        async def seen() -> dict[str, tuple[bool, str, frozenset[str]]]:
            async with store.pool.connection() as connection:
                return {each.name: (each.schedulable, each.why_not, each.tags) for each in await fleet.read(connection)}

        made = await asyncio.gather(*(store.writer.write(admission.create(ROBOT, robot(name))) for name in "ab"))
        plain: frozenset[str] = frozenset()
        assert await seen() == {"a": (False, "offline", plain), "b": (False, "offline", plain)}
        await Heartbeats(store.pool).flush({one["metadata"]["uid"]: None for one in made if one})
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE leases SET online = true")
        assert await seen() == {"a": (True, "", plain), "b": (True, "", plain)}
        await store.writer.write(admission.update(ROBOT, "default", "a", lambda old, context: {
            **old, "spec": {**old["spec"], "desiredState": "Paused", "tags": ["x"]}}))  # fmt: skip
        await store.writer.write(admission.remove(ROBOT, "default", "b"))
        assert await seen() == {"a": (False, "paused", frozenset("x"))}

    with_store(body)
