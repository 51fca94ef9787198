"""Lists: what an agent asks for again and again is answered by an index, what all jobs share is looked up once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from casare_api.decisions import lifecycle
from casare_api.kinds import KINDS, Object
from casare_api.kinds.job import FINAL
from casare_api.machinery.selectors import FieldSelector
from casare_store import admission, reads, rendering
from casare_store.store import Store

JOB = KINDS["Job"]


def job(name: str, **more: Any) -> Object:
    spec = {"workflow": {"runner": "command", "args": ["true"]}, **more}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "fleet.casare.net/v1", "kind": "Job", "metadata": meta, "spec": spec}


def selection(robot_uid: str) -> reads.Query:
    """What an agent lists and watches."""
    text = ",".join([f"status.robotUID={robot_uid}", *(f"status.phase!={phase}" for phase in sorted(FINAL))])
    return reads.Query(JOB, fields=FieldSelector.parse(text, JOB.selectable))


def test_an_agents_jobs_come_from_the_index_of_live_jobs(with_store: Any) -> None:
    async def body(store: Store) -> None:
        mine, other = str(uuid.uuid4()), str(uuid.uuid4())
        await asyncio.gather(*(store.writer.write(admission.create(JOB, job(f"j{n}"))) for n in range(6)))
        async with store.batch() as batch:
            found = await batch.objects(JOB, "t.name IN ('j0', 'j1', 'j2') ORDER BY t.name")
            for one, uid in zip(found, (mine, mine, other), strict=True):
                batch.stage(JOB, one, lifecycle.assign(one, "r", uid, batch.now))
            await batch.commit()
        page = await reads.read(store.pool, selection(mine))
        objects = orjson.loads(b"[" + b",".join(page.chunks) + b"]")
        assert [one["metadata"]["name"] for one in objects] == ["j0", "j1"]
        condition, args = reads.conditions(selection(mine))
        async with store.pool.connection() as connection:
            await connection.execute("SET enable_seqscan = off")  # the table is tiny; is there another way at all?
            cursor = await connection.execute(
                f"EXPLAIN SELECT 1 FROM {rendering.source(JOB)} WHERE {condition}", args)  # fmt: skip
            plan = "\n".join(row[0] for row in await cursor.fetchall())
            await connection.execute("RESET enable_seqscan")
        assert "jobs_live" in plan, plan

    with_store(body)


@pytest.mark.parametrize("at", ["2026-01-01 00:00:00+00", "2999-01-01 00:00:00+00"])
def test_a_list_of_waiting_jobs_asks_once_when_somebody_looked_after_them(with_store: Any, at: str) -> None:
    async def body(store: Store) -> None:
        held = {"notBefore": "2999-01-01T00:00:00Z"}
        await asyncio.gather(*(store.writer.write(admission.create(JOB, job(f"j{n}"))) for n in range(20)))
        await asyncio.gather(*(store.writer.write(admission.create(JOB, job(f"h{n}", **held))) for n in range(20)))
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE duty_runs SET at = %s", (at,))
            cursor = await connection.execute(
                f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT {rendering.expression(JOB)} FROM {rendering.source(JOB)}")  # fmt: skip
            ((plan,),) = await cursor.fetchall()
        looks = [one["Actual Loops"] for one in steps(plan[0]["Plan"]) if one.get("Relation Name") == "duty_runs"]
        assert looks == [1, 1], "one for jobs in queues, one for those that are held"

    with_store(body)


def steps(plan: Object) -> Iterator[Object]:
    """All steps of a plan."""
    yield plan
    for each in plan.get("Plans", ()):
        yield from steps(each)
