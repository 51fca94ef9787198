"""A job that used up its retries keeps its last error and its logs for as long as it is kept itself."""

from __future__ import annotations

from typing import Any

from casare_api.decisions import lifecycle
from casare_api.kinds import KINDS, Object
from casare_store import admission, beside, queues
from casare_store.store import Store

from ..store.conftest import with_store

__all__ = ["with_store"]
JOB = KINDS["Job"]
ROBOT = "00000000-0000-4000-8000-000000000000"


async def failed(store: Store, name: str) -> Object:
    """A job that failed, and the log of its one attempt, written 400 days ago."""
    meta, spec = {"name": name, "namespace": "default"}, {"workflow": {"runner": "command", "args": ["false"]}}
    job = {"apiVersion": JOB.api_version, "kind": "Job", "metadata": meta, "spec": {**spec, "ttlAfterFinished": "500d"}}
    made = await store.writer.write(admission.create(JOB, job))
    assert made is not None
    await store.writer.write(admission.system(
        JOB, job, lambda now, context: lifecycle.assign(now, "pc", ROBOT, context.now)
    ))  # fmt: skip
    uid = str(made["metadata"]["uid"])
    assert await beside.add_log(store.pool, uid, 1, 0, f"the last words of {name}\n", None)
    said = {"attempt": 1, "phase": "Failed", "message": "no such sheet"}
    await store.writer.write(admission.system(
        JOB, job, lambda now, context: lifecycle.report(now, ROBOT, said, context.now)
    ))  # fmt: skip
    async with store.pool.connection() as connection:
        await connection.execute("UPDATE job_logs SET at = at - interval '400 days'")
    return made


def test_logs_live_as_long_as_their_job(with_store: Any) -> None:
    async def body(store: Store) -> None:
        kept, gone = await failed(store, "kept"), await failed(store, "gone")
        await store.writer.write(admission.remove(JOB, "default", "gone"))
        async with store.pool.connection() as connection:
            await queues.sweep(connection)
        uids = [str(one["metadata"]["uid"]) for one in (kept, gone)]
        left = [await beside.read_log(store.pool, uid, 1, -1) for uid in uids]
        assert left == [[(0, "the last words of kept\n")], []]

    with_store(body)
