"""Is the schema the one this release needs? Servers may be started beside the migrations: they wait for them."""

from __future__ import annotations

import asyncio

import psycopg

from casare_store.connection import connect

NEEDED = "0009"  # the newest migration this release was written for
PATIENCE = 60.0  # seconds
_LOOK_EVERY = 0.05


class WrongSchema(Exception):
    """The schema did not become what this release needs; one line for people."""


async def wait_for_schema(url: str, patience: float = PATIENCE) -> None:
    """Until the migrations have run. Raises WrongSchema, psycopg.OperationalError."""
    deadline = asyncio.get_running_loop().time() + patience
    connection = await connect(url, "schema")
    try:
        while (found := await _version(connection)) != NEEDED:
            # A newer schema is the next release's, which keeps this one working while it is rolled out.
            if found is not None and found > NEEDED:
                return
            if asyncio.get_running_loop().time() >= deadline:
                raise WrongSchema(f"the schema is at {found or 'nothing'}, {NEEDED} is needed: run `casare migrate`")
            await asyncio.sleep(_LOOK_EVERY)
    finally:
        await connection.close()


async def _version(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> str | None:
    cursor = await connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
    found = await cursor.fetchone()
    if not found or not found[0]:
        return None
    cursor = await connection.execute("SELECT version_num FROM alembic_version")
    row = await cursor.fetchone()
    return str(row[0]) if row else None
