"""Concurrency keys, quotas and wishes against the real store, also with two controllers at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import psycopg
import pytest

from casare_api.decisions import lifecycle
from casare_api.kinds import KINDS, Object
from casare_api.kinds.core import NAMESPACE
from casare_api.machinery.admission import admit
from casare_api.machinery.errors import ApiError
from casare_controller.duties import placement
from casare_controller.duties.placement import Placement
from casare_store import admission, placing
from casare_store.events import Recorder
from casare_store.operations import Operation
from casare_store.store import Store

from ..store.conftest import ROBOT, robot, with_store
from .test_placement_duty import enrol, job, jobs, submit

__all__ = ["with_store"]
JOB, QUOTA, WORKFLOW = KINDS["Job"], KINDS["Quota"], KINDS["Workflow"]


def keyed(name: str, key: str, limit: int = 1, **spec: Any) -> Object:
    return job(name, concurrency={"key": key, "limit": limit}, **spec)


def within(namespace: str, one: Object) -> Object:
    return {**one, "metadata": {**one["metadata"], "namespace": namespace}}


def duty(store: Store, name: str = "test") -> Placement:
    return Placement(store, Recorder(store.writer, name))


async def race(store: Store) -> None:
    """Two controllers, each of which believes that it alone places."""
    await asyncio.gather(*(one.run_once() for one in [duty(store, f"controller-{n}") for n in range(2)] for _ in range(3)))


async def namespaces(store: Store, *names: str) -> None:
    for name in names:
        await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": name}}))


async def quota(store: Store, namespace: str, **spec: Any) -> None:
    made = {"apiVersion": "fleet.casare.net/v1", "kind": "Quota"}
    made |= {"metadata": {"name": "default", "namespace": namespace}, "spec": spec}
    await store.writer.write(admission.create(QUOTA, made))


async def assigned(store: Store) -> dict[str, str]:
    """Jobs that have a robot: its name by theirs."""
    found = [one for one in await jobs(store) if one["status"]["phase"] in ("Assigned", "Running")]
    return {one["metadata"]["name"]: one["status"]["robotName"] for one in found}


async def end(store: Store, names: Iterable[str], phase: str = "Succeeded") -> None:
    """Their robots say that these jobs are over."""

    def say(current: Object, context: Any) -> Object:
        status = current["status"]
        said = {"attempt": status["attempt"], "phase": phase}
        return lifecycle.report(current, status["robotUID"], said, context.now)

    await asyncio.gather(*(store.writer.write(Operation(JOB, "default", name, say)) for name in names))


async def parked(store: Store) -> list[str]:
    async with store.pool.connection() as connection:
        rows = await (await connection.execute("SELECT name FROM jobs WHERE parked ORDER BY name")).fetchall()
    return [str(name) for (name,) in rows]


# -- concurrency keys -----------------------------------------------------------------------------------------------


def test_no_more_jobs_of_a_key_run_than_its_limit_whoever_places_them(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("r", maxConcurrentJobs=100))
        await submit(store, *(keyed(f"k{n}", f"key{n % 3}", 2) for n in range(30)))
        await race(store)
        assert Counter(int(name[1:]) % 3 for name in await assigned(store)) == {0: 2, 1: 2, 2: 2}

    with_store(body)


def test_a_key_that_is_full_holds_nobody_else_up(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("r", maxConcurrentJobs=100))
        await submit(store, *(keyed(f"k{n}", "login", priority=0) for n in range(40)), job("free", priority=20))
        await duty(store).run_once()
        assert len(await assigned(store)) == 2 and "free" in await assigned(store)
        assert len(await parked(store)) == 39

    with_store(body)


def test_a_job_that_ends_makes_room_for_the_next_of_its_key(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("r", maxConcurrentJobs=100))
        for n in range(3):
            await submit(store, keyed(f"k{n}", "login"))
        for n in range(3):
            await duty(store).run_once()
            assert list(await assigned(store)) == [f"k{n}"]
            await end(store, [f"k{n}"])

    with_store(body)


def test_the_most_urgent_job_of_a_key_is_next_also_when_another_was_in_the_queue_before(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await submit(store, keyed("patient", "login", priority=20))
        await duty(store).run_once()
        await submit(store, keyed("urgent", "login", priority=0))
        await enrol(store, robot("r", maxConcurrentJobs=100))
        await duty(store).run_once()
        assert list(await assigned(store)) == ["urgent"]
        await duty(store).run_once()
        assert await parked(store) == ["patient"]

    with_store(body)


def test_a_job_may_start_while_fewer_than_its_own_limit_run(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("r", maxConcurrentJobs=100))
        for name, limit in (("first", 1), ("second", 1), ("third", 2), ("fourth", 2)):
            await submit(store, keyed(name, "login", limit))
        await duty(store).run_once()
        assert sorted(await assigned(store)) == ["first", "third"]

    with_store(body)


def test_of_a_key_jobs_that_nobody_can_run_stand_in_nobodys_way(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await submit(store, *(keyed(f"gpu{n}", "login", requirements={"capabilities": ["gpu"]}) for n in range(3)))
        await submit(store, keyed("plain", "login"))
        await enrol(store, robot("r"))
        await duty(store).run_once()
        assert list(await assigned(store)) == ["plain"]

    with_store(body)


def test_keys_and_queues_beyond_one_look_are_come_to_all_the_same(
    with_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for look, default in ((placing.queues, placing.START), (placing.promote, placing.FIRST_KEY)):
        monkeypatch.setattr(look, "__defaults__", (default, 3))

    async def body(store: Store) -> None:
        await enrol(store, robot("r", maxConcurrentJobs=100))
        asks = [{"robotSelector": [{"key": f"no{n}", "operator": "DoesNotExist"}]} for n in range(10)]
        await submit(store, *(keyed(f"k{n}", f"key{n}", requirements=asks[n]) for n in range(10)))
        await submit(store, *(job(f"j{n}", requirements=asks[n]) for n in range(10)))
        await duty(store).run_once()
        assert len(await assigned(store)) == 20

    with_store(body)


@pytest.mark.parametrize("query", [placing._PROMOTE, placing._SPECIAL], ids=["promote", "special"])
def test_what_is_parked_is_found_by_its_index(database: str, query: str) -> None:
    args = ("''", "''", "0", "0", "10", "10")
    for number, value in enumerate(args, 1):
        query = query.replace(f"${number}", value)
    with psycopg.connect(database) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {query}").fetchall())
    assert "jobs_parked" in plan and "Seq Scan on jobs" not in plan


# -- quotas ---------------------------------------------------------------------------------------------------------


def test_a_namespace_never_runs_more_than_its_quota_whoever_places_its_jobs(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await namespaces(store, "team")
        await quota(store, "team", maxRunning=5)
        await enrol(store, robot("r", maxConcurrentJobs=40, serves=["*"]))
        await submit(store, *(within("team", job(f"t{n}")) for n in range(20)), *(job(f"j{n}") for n in range(20)))
        await race(store)
        assert Counter(name[0] for name in await assigned(store)) == {"t": 5, "j": 20}

    with_store(body)


def test_a_quota_with_huge_numbers_holds_nobody_up(with_store: Any) -> None:
    """As people can't write it: what is stored may be older than what is checked."""

    async def body(store: Store) -> None:
        await quota(store, "default", maxRunning=2**63, maxQueued=2**63, weight=10**18)
        async with store.pool.connection() as connection:
            await connection.execute(
                "INSERT INTO quotas (uid, namespace, name, rv, head, tail) "
                "SELECT gen_random_uuid(), 'team', name, rv, head, tail FROM quotas"
            )
        await namespaces(store, "team")
        await enrol(store, robot("r", maxConcurrentJobs=10, serves=["*"]))
        await submit(store, job("j"), within("team", job("t")))
        await duty(store).run_once()
        assert sorted(await assigned(store)) == ["j", "t"]

    with_store(body)


@pytest.mark.parametrize("field", ["maxRunning", "maxQueued"])
def test_a_quota_can_not_be_larger_than_postgres_counts(field: str) -> None:
    made = {"apiVersion": "fleet.casare.net/v1", "kind": "Quota", "metadata": {"name": "default", "namespace": "default"}}
    assert admit(QUOTA, {**made, "spec": {field: 2**31 - 1}})
    with pytest.raises(ApiError, match=f"spec.{field}: Invalid value"):
        admit(QUOTA, {**made, "spec": {field: 2**31}})


def test_a_quota_that_came_after_the_decision_holds(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("r", maxConcurrentJobs=10))
        await submit(store, *(job(f"j{n}") for n in range(6)))
        one = duty(store)
        tick = await one.decide()
        assert len(tick.chosen) == 6
        await quota(store, "default", maxRunning=2)
        assert await one.write(tick) == 2

    with_store(body)


def test_a_key_that_filled_up_after_the_decision_is_seen(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("r", maxConcurrentJobs=10))
        await submit(store, keyed("late", "login", priority=20))
        one, other = duty(store), duty(store)
        tick = await one.decide()
        assert [each.robot.name for each in tick.chosen] == ["r"]
        await submit(store, keyed("quick", "login", priority=0))
        await other.run_once()
        assert list(await assigned(store)) == ["quick"]
        assert await one.write(tick) == 0

    with_store(body)


def test_slots_are_shared_by_weight_counting_what_runs_already(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await namespaces(store, "team")
        await quota(store, "team", weight=3)
        await submit(store, *(within("team", job(f"t{n}")) for n in range(20)))
        await submit(store, *(job(f"j{n}") for n in range(20)))
        for n, expected in enumerate([{"t": 3, "j": 1}, {"t": 6, "j": 2}, {"t": 9, "j": 3}]):
            await enrol(store, robot(f"r{n}", maxConcurrentJobs=4, serves=["*"]))
            await duty(store).run_once()
            assert Counter(name[0] for name in await assigned(store)) == expected

    with_store(body)


# -- wishes ---------------------------------------------------------------------------------------------------------

SAME = {"prefer": [{"sameRobot": True}]}


def test_another_attempt_goes_to_the_robot_of_the_last_one_where_that_is_wished(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("z"))
        retry = {"retry": {"limit": 3, "backoff": {"initial": "0s"}}}
        await submit(store, job("again", requirements=SAME, **retry), job("filler", priority=20))
        one = duty(store)
        await one.run_once()
        assert await assigned(store) == {"again": "z"}
        await enrol(store, robot("a"))
        await end(store, ["again"], "Drained")
        await one.run_once()
        assert await assigned(store) == {"again": "z", "filler": "a"}

    with_store(body)


def test_the_next_job_of_a_workflow_goes_where_the_last_one_went_where_that_is_wished(with_store: Any) -> None:
    async def body(store: Store) -> None:
        for name, more in (("homely", {"requirements": SAME}), ("any", {})):
            made = {"apiVersion": "fleet.casare.net/v1", "kind": "Workflow"}
            made |= {"metadata": {"name": name, "namespace": "default"}}
            made |= {"spec": {"runner": "command", "args": ["true"], **more}}
            await store.writer.write(admission.create(WORKFLOW, made))

        def run(name: str, workflow: str) -> Object:
            one = job(name, workflowRef={"name": workflow})
            return {**one, "spec": {key: value for key, value in one["spec"].items() if key != "workflow"}}

        await enrol(store, robot("z", maxConcurrentJobs=5))
        await submit(store, run("homely1", "homely"), run("any1", "any"))
        await duty(store).run_once()
        await enrol(store, robot("a", maxConcurrentJobs=5))
        await submit(store, run("homely2", "homely"), run("any2", "any"))
        await duty(store).run_once()
        assert await assigned(store) == {"homely1": "z", "any1": "z", "homely2": "z", "any2": "a"}
        async with store.pool.connection() as connection:
            rows = await (await connection.execute("SELECT workflow FROM last_robots")).fetchall()
        assert rows == [("homely",)]

    with_store(body)


# -- what is read ---------------------------------------------------------------------------------------------------


def test_more_jobs_than_a_tick_takes_are_placed_in_one_run(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "PER_TICK", 7)

    async def body(store: Store) -> None:
        await enrol(store, robot("r", maxConcurrentJobs=50))
        asks = [{"requirements": {"tags": ["x"]}}, {}]
        await store.writer.write(admission.update(ROBOT, "default", "r", _tagged))
        await submit(store, *(job(f"j{n}", **asks[n % 2]) for n in range(60)))
        assert (await duty(store).run_once())["placed"] == 50

    with_store(body)


def _tagged(current: Object, context: Any) -> Object:
    return {**current, "spec": {**current["spec"], "tags": ["x"]}}


def test_what_waits_is_explained_as_things_are_after_the_placement(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("r"))
        await submit(store, job("first"))
        await submit(store, job("second"))
        await duty(store).run_once()
        found = {one["metadata"]["name"]: one["status"] for one in await jobs(store)}
        assert found["first"]["phase"] == "Assigned"
        assert [reason["rule"] for reason in found["second"]["reasons"]] == ["slots"]

    with_store(body)
