"""Lists: what an agent asks for again and again is answered by an index."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import orjson

from casare_api.decisions import lifecycle
from casare_api.kinds import KINDS, Object
from casare_api.kinds.job import FINAL
from casare_api.machinery.selectors import FieldSelector
from casare_store import admission, reads, rendering
from casare_store.store import Store

JOB = KINDS["Job"]


def job(name: str) -> Object:
    spec = {"workflow": {"runner": "command", "args": ["true"]}}
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
