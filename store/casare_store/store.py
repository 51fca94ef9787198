"""The store of one process: its pool for reads, its writer, and the two together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from casare_store import changes, connection
from casare_store.batch import Batch, begin
from casare_store.changes import Head
from casare_store.known import Key
from casare_store.schema import PATIENCE, wait_for_schema
from casare_store.sealing import Sealer
from casare_store.writer import Writer

_TRY_EVERY = 0.25  # seconds between tries of a database that does not answer
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Store:
    """Open with `await Store.open(url)`, end with `close`."""

    url: str
    pool: AsyncConnectionPool[AsyncConnection[Any]]
    writer: Writer
    batches: AsyncConnectionPool[AsyncConnection[Any]]
    sealer: Sealer | None = None  # without one secrets stay sealed

    @classmethod
    async def open(cls, url: str, pool_size: int = 8, sealer: Sealer | None = None) -> Store:
        """Raises psycopg.OperationalError when the database can't be reached."""
        pool = connection.pool(url, pool_size)
        batches = connection.pool_for_batches(url, pool_size)
        writer = Writer(url, sealer)
        await writer.start()
        await pool.open()
        await batches.open()
        return cls(url, pool, writer, batches, sealer)

    @classmethod
    async def open_when_ready(
        cls, url: str, pool_size: int = 8, patience: float = PATIENCE, sealer: Sealer | None = None
    ) -> Store:
        """Opened once the database answers and its schema is there: servers are started beside both.

        Raises psycopg.OperationalError, WrongSchema when that takes longer than `patience` seconds.
        """
        deadline = asyncio.get_running_loop().time() + patience
        is_told = False
        while True:
            left = deadline - asyncio.get_running_loop().time()
            try:
                await wait_for_schema(url, max(left, 0.0))
                return await cls.open(url, pool_size, sealer)
            except psycopg.OperationalError as error:
                if left <= 0:
                    raise
                if not is_told:
                    log.warning("the database does not answer; it is tried again", why=str(error).split("\n")[0])
                is_told = True
                await asyncio.sleep(_TRY_EVERY)

    async def close(self) -> None:
        await self.writer.stop()
        await self.batches.close(timeout=2)
        await self.pool.close(timeout=2)

    @asynccontextmanager
    async def batch(self, keys: Iterable[Key] = ()) -> AsyncIterator[Batch]:
        """A batch of one's own, for changes of several objects that belong together: see `batch.begin`."""
        async with self.batches.connection() as found, begin(found, keys, self.sealer) as batch:
            yield batch

    async def head(self) -> Head:
        async with self.pool.connection() as found:
            return await changes.head(found)
