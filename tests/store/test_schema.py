"""The schema: what the servers need is what the migrations make, and the tables say what the code says."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from casare_api.kinds import KINDS, Kind, Object
from casare_api.kinds.job import TRANSITIONS as JOB_TRANSITIONS
from casare_api.kinds.robot import TRANSITIONS as ROBOT_TRANSITIONS
from casare_api.machinery.errors import ApiError
from casare_migrations import runner
from casare_store import admission, columns, reads, schema
from casare_store.embedded import Server
from casare_store.operations import Context, Operation
from casare_store.store import Store

from ..conftest import database_url, drop_database
from .conftest import ROBOT, robot


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


# What the release before wrote, column by column.
_OLD_KEY = """
    INSERT INTO apikeys (uid, namespace, name, rv, head, tail, robot_name, role, due)
    VALUES (%s, 'default', %s, %s, %s, '', null, 'viewer', null)"""


def _old_key(connection: psycopg.Connection[Any], name: str, rv: int, secret: str) -> None:
    uid, made = "1c6b2e9e-0000-4000-8000-00000000000" + str(rv), "2026-11-01T00:00:00Z"
    meta = {"name": name, "namespace": "default", "uid": uid, "creationTimestamp": made, "resourceVersion": str(rv)}
    head = {"apiVersion": "fleet.casare.net/v1", "kind": "ApiKey", "metadata": meta}
    head |= {"spec": {"role": "viewer", "hash": secret}, "status": {"phase": "Active"}}
    connection.execute(_OLD_KEY, (uid, name, rv, json.dumps(head)))


def _robot(namespace: str) -> Object:
    made = robot("pc-01", robotId="4711")
    return {**made, "metadata": {**made["metadata"], "namespace": namespace}}


def _relabelled(name: str) -> Operation:
    def change(current: Object, context: Context) -> Object:
        return {**current, "metadata": {**current["metadata"], "labels": {"seen": "yes"}}}

    return admission.update(KINDS["ApiKey"], "default", name, change)


def test_data_of_the_first_schema_is_kept_and_can_be_written_under_the_second(postgres: Server) -> None:
    name = "first_schema"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = database_url(postgres.url, name)
    runner.migrate(url, "0001")
    with psycopg.connect(url) as connection:
        _old_key(connection, "mine", 1, "a" * 64)
        _old_key(connection, "copy", 2, "a" * 64)
        connection.execute("UPDATE heads SET rv = 2")
    assert runner.migrate(url) == f"the schema went from 0001 to {runner.HEAD}"
    with psycopg.connect(url) as connection:  # the release before, still up
        _old_key(connection, "late", 3, "b" * 64)
        connection.execute("UPDATE heads SET rv = 3")

    async def body() -> None:
        store = await Store.open(url)
        try:
            for namespace in ("default", "second"):
                await store.writer.write(admission.create(KINDS["Namespace"], {"metadata": {"name": namespace}}))
                await store.writer.write(admission.create(ROBOT, _robot(namespace)))
            for key in ("mine", "late"):
                await store.writer.write(_relabelled(key))
            with pytest.raises(ApiError, match=r"another key has this spec\.hash"):
                await store.writer.write(_relabelled("copy"))
        finally:
            await store.close()

    asyncio.run(body())
    drop_database(postgres, url)


# What the release before writes of a change, whoever is up beside it.
_OLD_CHANGE = """
    WITH w AS (INSERT INTO robots (uid, namespace, name, rv, head, tail, phase, used, slots, robot_id)
               VALUES (%(uid)s, 'default', %(name)s, %(rv)s, %(head)s, '"observedGeneration":1}}', 'Pending', 0, 1, %(name)s)
               ON CONFLICT (uid) DO UPDATE SET rv = excluded.rv, head = excluded.head)
    INSERT INTO changes (rv, kind, type, namespace, name, uid, object, fields)
    VALUES (%(rv)s, 'Robot', %(type)s, 'default', %(name)s, %(uid)s, %(head)s || '"observedGeneration":1}}', %(fields)s)"""


def _old_change(connection: psycopg.Connection[Any], type_: str, name: str, rv: int) -> None:
    uid = f"1c6b2e9e-0000-4000-8000-0000000000{ord(name):02x}"
    meta = {"name": name, "namespace": "default", "uid": uid, "creationTimestamp": "2026-11-01T00:00:00Z",
            "resourceVersion": str(rv)}  # fmt: skip
    head = json.dumps({"apiVersion": "fleet.casare.net/v1", "kind": "Robot", "metadata": meta, "spec": {}})
    fields = json.dumps([name, "default", "Pending", ""])
    said = {"uid": uid, "name": name, "rv": rv, "type": type_, "head": head[:-1] + ',"status":{', "fields": fields}
    connection.execute(_OLD_CHANGE, said)
    connection.execute("UPDATE heads SET rv = %s", (rv,))


def test_the_release_before_goes_on_writing_under_the_third_schema(postgres: Server) -> None:
    name = "second_schema"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = database_url(postgres.url, name)
    runner.migrate(url, "0002")
    with psycopg.connect(url, autocommit=True) as old:
        old.execute("CREATE TABLE changes_0 (LIKE changes INCLUDING ALL)")
        old.execute("ALTER TABLE changes ATTACH PARTITION changes_0 FOR VALUES FROM (0) TO (250000)")
        for rv, one in enumerate("abc", 1):
            _old_change(old, "ADDED", one, rv)
        assert runner.migrate(url) == f"the schema went from 0002 to {runner.HEAD}"
        _old_change(old, "MODIFIED", "a", 4)

        async def body() -> None:
            store = await Store.open(url)
            try:
                await store.writer.write(admission.create(KINDS["Namespace"], {"metadata": {"name": "default"}}))
                await store.writer.write(admission.remove(ROBOT, "default", "c"))
                then = await reads.read(store.pool, reads.Query(ROBOT), 4)
                assert [json.loads(text)["metadata"]["resourceVersion"] for text in then.chunks] == ["4", "2", "3"]
                with pytest.raises(ApiError) as caught:
                    await reads.read(store.pool, reads.Query(ROBOT), 3)
                assert caught.value.status == 410, "what was before its change, the release before did not write down"
            finally:
                await store.close()

        asyncio.run(body())
    drop_database(postgres, url)


def test_rows_that_change_in_place_have_room_on_their_page(database: str) -> None:
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE reloptions @> ARRAY['fillfactor=70']").fetchall()
    assert {row[0] for row in rows} >= {"robots", "leases", "coordination_leases"}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.plural)
def test_dependents_are_found_by_an_index(database: str, kind: Kind) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET enable_seqscan = off")
        query = f"EXPLAIN SELECT 1 FROM {columns.table(kind)} WHERE owners && %s::uuid[]"
        plan = "\n".join(row[0] for row in connection.execute(query, ([],)).fetchall())
    assert f"{columns.table(kind)}_owners" in plan


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
