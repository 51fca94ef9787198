"""The store of one process: its pool for reads, its writer, and the two together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from casare_store import changes, connection
from casare_store.changes import Head
from casare_store.writer import Writer


@dataclass(slots=True)
class Store:
    """Open with `await Store.open(url)`, end with `close`."""

    url: str
    pool: AsyncConnectionPool[AsyncConnection[Any]]
    writer: Writer

    @classmethod
    async def open(cls, url: str, pool_size: int = 8) -> Store:
        """Raises psycopg.OperationalError when the database can't be reached."""
        pool = connection.pool(url, pool_size)
        writer = Writer(url)
        await writer.start()
        await pool.open()
        return cls(url, pool, writer)

    async def close(self) -> None:
        await self.writer.stop()
        await self.pool.close(timeout=2)

    async def head(self) -> Head:
        async with self.pool.connection() as found:
            return await changes.head(found)
