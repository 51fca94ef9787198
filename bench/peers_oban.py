"""Oban for Python (without Oban Pro), as its own command runs it: a pool of 10, orjson, uvloop, jobs kept for a day."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from oban import Oban, worker  # type: ignore[import-not-found, unused-ignore]
from oban.job import Job  # type: ignore[import-not-found, unused-ignore]
from oban.schema import install  # type: ignore[import-not-found, unused-ignore]
from psycopg.conninfo import make_conninfo
from psycopg.types.json import set_json_dumps, set_json_loads

from peers_work import database, serve, started


@worker(queue="default")
class NoOp:
    async def process(self, job: Job) -> None:
        started(job.args["note"])


class Queue:
    package = "oban"
    unfinished = "SELECT count(*) FROM oban_jobs WHERE state IN ('available', 'executing')"

    async def install(self) -> None:
        await install(await _pool())

    async def open(self, connections: int) -> None:
        self._oban = Oban(pool=await _pool(min_size=connections, max_size=connections))
        await self._oban.start()

    async def submit(self, note: str) -> None:
        await self._oban.enqueue(_job(note))

    async def submit_many(self, count: int) -> None:
        await self._oban.enqueue_many(_job("") for _ in range(count))

    async def work(self, **options: int) -> None:
        async with Oban(pool=await _pool(), queues={"default": options["limit"]}):
            await asyncio.Event().wait()


def _job(note: str) -> Job:
    made: Job = NoOp.new({"note": note})  # type: ignore[attr-defined, unused-ignore]
    return made


async def _pool(**sizes: int) -> Any:
    return await Oban.create_pool(make_conninfo(**database()), **sizes)


if __name__ == "__main__":
    set_json_dumps(orjson.dumps)
    set_json_loads(orjson.loads)
    serve(Queue())
