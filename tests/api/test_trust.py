"""What an apiserver knows of keys from the log is believed as long as the log is heard of."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import Any

import pytest
from psycopg_pool import AsyncConnectionPool

from casare_api.decisions import enrolment
from casare_api.kinds import Object
from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.robot import ROBOT
from casare_api.machinery.credentials import digest
from casare_api.machinery.errors import ApiError
from casare_apiserver.auth import Keys
from casare_apiserver.uses import NOTED_EVERY, Uses
from casare_apiserver.watch import TRUSTED, Hub
from casare_store import admission
from casare_store.store import Store

from ..store.conftest import with_store

__all__ = ["with_store"]


def calling(key: str) -> dict[str, Any]:
    return {"headers": [(b"authorization", f"Bearer {key}".encode())], "client": ("10.1.2.3", 4000)}


def test_a_replica_that_lost_the_log_lets_nobody_in_by_what_it_knew_and_ends_what_it_let_in(with_store: Any) -> None:
    async def body(store: Store) -> None:
        spec = {"role": "viewer", "hash": "sha256:" + hashlib.sha256(b"k").hexdigest()}
        await store.writer.write(
            admission.create(APIKEY, {"metadata": {"name": "k", "namespace": "default"}, "spec": spec})
        )
        hub = Hub(store.url)
        keys = Keys(store, hub, digest("admin"), Uses(store.pool))
        await hub.start()
        await keys.start()
        who = await keys.identify(calling("k"))
        assert who.name == "k" and keys.holds(who)
        await hub.stop()  # nobody reads the log from here on
        hub.alive_at = asyncio.get_running_loop().time() - TRUSTED + 1
        assert keys.holds(who)
        hub.alive_at -= 1
        assert not keys.holds(who)
        for key in ("k", "nobody"):
            with pytest.raises(ApiError, match="lost its change log") as refused:
                await keys.identify(calling(key))
            assert refused.value.status == 503
        assert (await keys.identify(calling("admin"))).role == "admin", "its key is not from the log"

    with_store(body)


def test_a_replica_that_starts_lets_no_key_in_whose_one_robot_is_gone(with_store: Any) -> None:
    async def body(store: Store) -> None:
        robots = [await store.writer.write(admission.create(ROBOT, robot(name))) for name in ("there", "gone")]
        for made in robots:
            assert made is not None
            name = made["metadata"]["name"]
            spec = {"role": "robot", "robotName": name, "hash": digest(name)}
            create = admission.create(APIKEY, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
            key = await store.writer.write(create)
            assert key is not None
            await store.writer.write(admission.system(APIKEY, key, partial(noted, made)))
        await store.writer.write(admission.remove(ROBOT, "default", "gone"))
        hub = Hub(store.url)
        keys = Keys(store, hub, digest("admin"), Uses(store.pool))
        await hub.start()
        await keys.start()
        try:
            assert (await keys.identify(calling("there"))).robot_name == "there"
            with pytest.raises(ApiError, match='robot "gone" was deleted') as refused:
                await keys.identify(calling("gone"))
            assert refused.value.status == 401
        finally:
            await hub.stop()

    with_store(body)


@pytest.mark.parametrize(("before", "now"), [("a", "b"), ("b", "a")])
def test_a_secret_is_the_key_whose_current_one_it_is_however_the_log_tells_it(
    with_store: Any, before: str, now: str
) -> None:
    """Somebody gave one key by hand what another one had until a moment ago, and has within its overlap."""

    async def body(store: Store) -> None:
        hub = Hub(store.url)
        keys = Keys(store, hub, digest("admin"), Uses(store.pool))
        await hub.start()
        await keys.start()

        async def change(name: str, **spec: Any) -> None:
            await store.writer.write(admission.update(
                APIKEY, "default", name, lambda key, context: {**key, "spec": {**key["spec"], **spec}}
            ))  # fmt: skip

        async def is_known_as(name: str) -> None:
            await hub.reached((await store.head()).rv)
            assert (await keys.identify(calling("x"))).name == name
            fresh = Keys(store, Hub(store.url), digest("admin"), Uses(store.pool))
            await fresh.hub.start()
            await fresh.start()
            try:
                assert (await fresh.identify(calling("x"))).name == name
            finally:
                await fresh.hub.stop()

        try:
            await store.writer.write(admission.create(APIKEY, viewer(before, "x", rotation={"overlap": "1h"})))
            await change(before, hash=digest("y"))
            await is_known_as(before)
            await store.writer.write(admission.create(APIKEY, viewer(now, "x")))
            await is_known_as(now)
            await change(before, description="told of again")
            await is_known_as(now)
            assert (await keys.identify(calling("y"))).name == before
            await store.writer.write(admission.remove(APIKEY, "default", now))
            await is_known_as(before)
        finally:
            await hub.stop()

    with_store(body)


def viewer(name: str, secret: str, **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"role": "viewer", "hash": digest(secret), **spec}}


def robot(name: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"robotId": name}}


def noted(robot: Object, key: Object, context: Any) -> Object:
    return enrolment.bound(key, robot)


def test_uses_are_noted_once_a_minute_and_written_later_where_the_database_is_away(with_store: Any) -> None:
    async def body(store: Store) -> None:
        now = [0.0]
        noted = Uses(AsyncConnectionPool(store.url, open=False), clock=lambda: now[0])
        uid = "00000000-0000-7000-8000-000000000001"

        async def written() -> list[Any]:
            async with store.pool.connection() as connection:
                found = await connection.execute("SELECT address, round(extract(epoch FROM now() - at)) FROM key_uses")
                return await found.fetchall()

        noted.note(uid, calling("k"))
        await noted.flush()  # its pool gives no connections
        assert await written() == []
        now[0], noted.pool = NOTED_EVERY - 1, store.pool
        noted.note(uid, {"client": None})
        await noted.flush()
        assert await written() == [("10.1.2.3", NOTED_EVERY - 1)], "when and from where it was noted"
        now[0] = NOTED_EVERY
        noted.note(uid, {"client": None})
        await noted.flush()
        assert await written() == [("", 0)]

    with_store(body)
