"""PgQueuer, as its guide on performance says: asyncpg, one connection a worker, a pool for those who submit, its
autovacuum settings, durable tables (the default)."""

from __future__ import annotations

import asyncpg  # type: ignore[import-untyped, unused-ignore]
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from peers_work import database, serve, started

_NAME = "noop"


class Queue:
    package = "pgqueuer"
    unfinished = "SELECT count(*) FROM pgqueuer"  # a job that is done leaves it for pgqueuer_log

    async def install(self) -> None:
        queries = Queries(AsyncpgDriver(await _connect()))
        await queries.install()
        await queries.optimize_autovacuum()

    async def open(self, connections: int) -> None:
        parameters = _parameters()
        pool = await asyncpg.create_pool(**parameters, min_size=connections, max_size=connections)
        self._queries = Queries(AsyncpgPoolDriver(pool))

    async def submit(self, note: str) -> None:
        await self._queries.enqueue(_NAME, note.encode())

    async def submit_many(self, count: int) -> None:
        await self._queries.enqueue([_NAME] * count, [b""] * count, [0] * count)

    async def work(self, **options: int) -> None:
        queue = PgQueuer(AsyncpgDriver(await _connect()))

        @queue.entrypoint(_NAME)
        async def noop(job: Job) -> None:
            started((job.payload or b"").decode())

        await queue.run(batch_size=options["batch"])


def _parameters() -> dict[str, str]:
    """The connection parameters under asyncpg's names."""
    return {{"dbname": "database"}.get(name, name): value for name, value in database().items()}


async def _connect() -> asyncpg.Connection:
    return await asyncpg.connect(**_parameters())


if __name__ == "__main__":
    serve(Queue())
