"""Procrastinate: its psycopg connector, jobs kept when they are done and LISTEN/NOTIFY (all the defaults)."""

from __future__ import annotations

from procrastinate import App, PsycopgConnector
from procrastinate.types import JSONDict
from psycopg.conninfo import make_conninfo

from peers_work import database, serve, started


class Queue:
    package = "procrastinate"
    unfinished = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"

    async def install(self) -> None:
        async with _app(1).open_async() as app:
            await app.schema_manager.apply_schema_async()

    async def open(self, connections: int) -> None:
        self._app = _app(connections)
        await self._app.open_async()

    async def submit(self, note: str) -> None:
        await self._app.tasks["noop"].defer_async(note=note)

    async def submit_many(self, count: int) -> None:
        jobs: list[JSONDict] = [{"note": ""}] * count
        await self._app.tasks["noop"].batch_defer_async(*jobs)

    async def work(self, **options: int) -> None:
        async with _app(options["connections"]).open_async() as app:
            await app.run_worker_async(concurrency=options["concurrency"], install_signal_handlers=False)


def _app(connections: int) -> App:
    conninfo = make_conninfo(**database())
    app = App(connector=PsycopgConnector(conninfo=conninfo, min_size=connections, max_size=connections))

    @app.task(name="noop")
    async def noop(note: str) -> None:
        started(note)

    return app


if __name__ == "__main__":
    serve(Queue())
