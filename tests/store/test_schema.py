"""The schema: what the servers need is what the migrations make, and the tables say what the code says."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from casare_api.kinds import KINDS
from casare_api.kinds.job import TRANSITIONS as JOB_TRANSITIONS
from casare_api.kinds.robot import TRANSITIONS as ROBOT_TRANSITIONS
from casare_migrations import runner
from casare_store import columns, schema
from casare_store.embedded import Server
from casare_store.store import Store

from ..conftest import database_url


def test_the_servers_need_what_the_migrations_make(database: str) -> None:
    assert schema.NEEDED == runner.HEAD == runner.current(database)
    asyncio.run(schema.wait_for_schema(database))


def test_a_database_without_the_schema_is_one_line_that_says_what_to_do(postgres: Server) -> None:
    with pytest.raises(schema.WrongSchema, match="run `casare migrate`"):
        asyncio.run(schema.wait_for_schema(database_url(postgres.url, "postgres"), patience=0))


def test_a_server_started_before_its_database_waits_for_it() -> None:
    place = Path(tempfile.mkdtemp(prefix="casare-late-"))
    place.chmod(0o755)
    first = Server.start(place / "data")
    runner.migrate(first.url)
    first.stop()

    async def opened() -> int:
        store = await Store.open_when_ready(first.url)
        try:
            return (await store.head()).rv
        finally:
            await store.close()

    try:
        with pytest.raises(psycopg.OperationalError):
            asyncio.run(Store.open_when_ready(first.url, patience=0))
        with ThreadPoolExecutor(1) as waiting:
            found = waiting.submit(lambda: asyncio.run(opened()))
            again = Server.start(place / "data")
            try:
                assert found.result(timeout=60) >= 0
            finally:
                again.stop()
    finally:
        shutil.rmtree(place)


def test_migrating_twice_changes_nothing(database: str) -> None:
    assert runner.migrate(database) == f"the schema is at {runner.HEAD} already"


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.plural)
def test_every_kind_has_a_table_with_its_columns(database: str, kind: object) -> None:
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s", (columns.table(kind),)
        ).fetchall()
    assert {row[0] for row in found} == {name for name, _ in columns.columns(kind)}


@pytest.mark.parametrize(("table", "transitions"), [("jobs", JOB_TRANSITIONS), ("robots", ROBOT_TRANSITIONS)])
def test_the_database_knows_the_same_phases(database: str, table: str, transitions: dict[str, object]) -> None:
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c' "
            "AND conname = %s",
            (table, f"{table}_phase_check"),
        ).fetchall()
    assert set(re.findall(r"'(\w+)'", rows[0][0])) == {str(phase) for phase in transitions}
