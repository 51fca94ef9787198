"""What is asked of keys each second, and while nobody else writes, is found by indexes, however many keys there are."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from casare_store import joining, lockouts
from casare_store.store import Store

MANY = 5_000
# As any release writes a robot's key; every tenth had another key before. Annotations are people's.
KEYS = """
INSERT INTO apikeys (uid, namespace, name, rv, head, tail, robot_name, role, hash)
SELECT md5('k' || i)::uuid, 'default', 'k' || i, i,
       '{"metadata":{"name":"k","annotations":{"long":"' || repeat('x', 600) || '","previousHash":"decoy-' || i || '"}},'
       || '"spec":{"role":"robot"},"status":{"phase":"Active"'
       || CASE WHEN i %% 10 = 0 THEN ',"previousHash":"before-' || i || '"' ELSE '' END
       || '}}', '', 'r' || i, 'robot', 'h' || i FROM generate_series(1, %s) i"""
ROBOTS = """
INSERT INTO robots (uid, namespace, name, rv, head, tail, phase, used, slots, robot_id)
SELECT md5('r' || i)::uuid, 'default', 'r' || i, i, '{}', '', 'Idle', 0, 1, 'r' || i FROM generate_series(1, %s) i"""
UIDS = "SELECT uid::text FROM robots ORDER BY rv LIMIT %s"


@pytest.fixture
def crowded(database: str) -> str:
    """A database with a robot for each of many keys."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(KEYS, (MANY,))
        connection.execute(ROBOTS, (MANY,))
        connection.execute("ANALYZE apikeys, robots")
    return database


def plan(connection: psycopg.Connection[Any], query: str, args: tuple[Any, ...]) -> str:
    found = connection.execute(f"EXPLAIN {query}".encode(), args).fetchall()
    return "\n".join(line for (line,) in found)


@pytest.mark.parametrize("count", [1, 50])
def test_the_keys_of_robots_are_found_by_an_index(crowded: str, count: int) -> None:
    with psycopg.connect(crowded) as connection:
        uids = [uid for (uid,) in connection.execute(UIDS, (count,)).fetchall()]
        assert "apikeys_robot" in plan(connection, lockouts._KEYS, (uids,))


def test_the_keys_for_a_robots_name_are_found_by_an_index(crowded: str) -> None:
    with psycopg.connect(crowded) as connection:
        assert "apikeys_robot" in plan(connection, joining._OF_ROBOT, ("default", "r7"))


def test_a_key_that_was_replaced_is_found_by_an_index(crowded: str) -> None:
    with psycopg.connect(crowded) as connection:
        assert "apikeys_previous" in plan(connection, joining._IS_PREVIOUS, ("before-10",))


def test_what_is_found_by_the_indexes_is_what_the_keys_say(crowded: str, with_store: Any) -> None:
    async def body(store: Store) -> None:
        async with store.batch([]) as batch:
            asked = ["before-10", "before-11", "decoy-10", "h10"]
            assert [await joining.is_previous(batch, each) for each in asked] == [True, False, False, False]
            assert [len(await joining.keys_of(batch, space, "r7")) for space in ("default", "other")] == [1, 0]

    with_store(body)
