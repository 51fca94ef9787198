"""Placement against the real store: two controllers with stale views never over-commit and never place twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import orjson

from casare_api.kinds import KINDS, Object
from casare_controller.duties.placement import Placement
from casare_controller.duties.presence import Presence
from casare_store import admission, reads
from casare_store.events import Recorder
from casare_store.heartbeats import Heartbeats
from casare_store.store import Store

from ..store.conftest import ROBOT, robot, with_store

__all__ = ["with_store"]
JOB, WORKFLOW = KINDS["Job"], KINDS["Workflow"]


def job(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "fleet.casare.net/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"workflow": {"runner": "command", "args": ["true"]}, **spec},
    }


async def enrol(store: Store, *robots: Object) -> None:
    """Robots that are there and online."""
    made = await asyncio.gather(*(store.writer.write(admission.create(ROBOT, one)) for one in robots))
    await Heartbeats(store.pool).flush({one["metadata"]["uid"]: None for one in made if one})
    await Presence(store, Recorder(store.writer, "test")).run_once()


async def jobs(store: Store) -> list[Object]:
    page = await reads.read(store.pool, reads.Query(JOB))
    found: list[Object] = orjson.loads(b"[" + b",".join(page.chunks) + b"]")
    return found


async def submit(store: Store, *wanted: Object) -> None:
    await asyncio.gather(*(store.writer.write(admission.create(JOB, one)) for one in wanted))


def test_two_controllers_at_once_place_each_job_once_and_fill_no_robot_beyond_its_slots(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, *(robot(f"r{n}", maxConcurrentJobs=1 + n % 3) for n in range(20)))
        await submit(store, *(job(f"j{n}") for n in range(100)))
        duties = [Placement(store, Recorder(store.writer, f"controller-{n}")) for n in range(2)]
        counts = await asyncio.gather(*(duty.run_once() for duty in duties for _ in range(3)))
        placed = [one for one in await jobs(store) if one["status"]["phase"] == "Assigned"]
        slots = sum(1 + n % 3 for n in range(20))
        assert len(placed) == slots == sum(count["placed"] for count in counts)
        used = Counter(one["status"]["robotName"] for one in placed)
        assert used == {f"r{n}": 1 + n % 3 for n in range(20)}
        assert {one["status"]["attempt"] for one in placed} == {1}

    with_store(body)


def test_the_urgent_come_first_and_within_a_priority_the_first(with_store: Any) -> None:
    async def body(store: Store) -> None:
        for name, priority in (("late", 10), ("later", 10), ("least", 20), ("first", 0)):
            await submit(store, job(name, priority=priority))
        await enrol(store, robot("r", maxConcurrentJobs=2))
        await Placement(store, Recorder(store.writer, "test")).run_once()
        assert {one["metadata"]["name"] for one in await jobs(store) if one["status"]["phase"] == "Assigned"} == {
            "first",
            "late",
        }

    with_store(body)


def test_work_that_fits_nobody_blocks_nobody_and_says_why(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("plain"))
        await submit(store, *(job(f"gpu{n}", requirements={"capabilities": ["gpu"]}) for n in range(30)))
        await submit(store, job("modest", priority=20))
        await Placement(store, Recorder(store.writer, "test")).run_once()
        found = {one["metadata"]["name"]: one["status"] for one in await jobs(store)}
        assert found["modest"]["phase"] == "Assigned"
        assert found["gpu0"]["phase"] == "Queued"
        assert [reason["rule"] for reason in found["gpu0"]["reasons"]] == ["capabilities"]
        assert "gpu" in found["gpu0"]["reasons"][0]["message"]
        assert "reasons" not in found["modest"]

    with_store(body)


def test_paused_and_offline_robots_get_nothing(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("paused", desiredState="Paused"))
        await store.writer.write(admission.create(ROBOT, robot("never-seen")))
        await submit(store, job("waits"))
        await Placement(store, Recorder(store.writer, "test")).run_once()
        (found,) = await jobs(store)
        assert found["status"]["phase"] == "Queued"
        assert {reason["rule"] for reason in found["status"]["reasons"]} == {"paused", "offline"}

    with_store(body)
