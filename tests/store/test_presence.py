"""Who is called offline, and who is not: whatever stood still for a time, nobody pays for what nobody heard.

The database's clock can't be moved; what is moved is when things happened, as the rows say it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest

from casare_controller.duties.presence import Presence
from casare_store import queues, reads
from casare_store.events import Recorder
from casare_store.heartbeats import Heartbeats, Noted, grace
from casare_store.store import Store

from .conftest import ROBOT
from .test_heartbeats import enrol


class Fleet:
    """Robots that are online and apiservers, each as it was some seconds ago."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def run(self, statement: str, *args: Any) -> None:
        async with self.store.pool.connection() as connection:
            await connection.execute(statement, args)

    async def robot(self, name: str, seen: float) -> str:
        """One that was last heard of `seen` seconds ago, with a lease of 10 s."""
        uid = await enrol(self.store, name)
        await self.run(
            "INSERT INTO leases SELECT %s, t, t + %s, true FROM (SELECT clock_timestamp() - make_interval(secs => %s)) o(t)",
            uid, grace(3), seen,
        )  # fmt: skip
        return uid

    async def apiserver(self, since: float, last: float) -> str:
        """One that listens since and was last there some seconds ago."""
        found = str(uuid.uuid4())
        await self.run(
            "INSERT INTO coverage SELECT %s, clock_timestamp() - make_interval(secs => %s), "
            "clock_timestamp() - make_interval(secs => %s)",
            found, since, last,
        )  # fmt: skip
        return found

    async def leases(self) -> list[timedelta]:
        """How long they last, as soon as there are any."""
        while True:
            async with self.store.pool.connection() as connection:
                rows = await (await connection.execute("SELECT expires_at - last_seen FROM leases")).fetchall()
            if rows:
                return [row[0] for row in rows]

    async def silent(self) -> list[str]:
        async with self.store.pool.connection() as connection:
            return (await queues.came_and_went(connection))[1]


@pytest.fixture
def fleet(with_store: Any) -> Callable[[Any], None]:
    return lambda body: with_store(lambda store: body(Fleet(store)))


def test_a_robot_is_silent_after_its_lease_and_not_before(fleet: Any) -> None:
    async def body(fleet: Fleet) -> None:
        await fleet.apiserver(60, 0)
        await fleet.robot("late", 9)
        gone = await fleet.robot("gone", 10.5)
        assert await fleet.silent() == [gone]

    fleet(body)


@pytest.mark.parametrize(("died", "is_silent"), [(4, False), (9, False), (10.5, True)])
def test_when_one_of_two_apiservers_dies_its_robots_have_a_lease_to_find_the_other(
    fleet: Any, died: float, is_silent: bool
) -> None:
    async def body(fleet: Fleet) -> None:
        await fleet.apiserver(3600, 0)
        await fleet.apiserver(3600, died)
        robot = await fleet.robot("r", died + 3)
        assert await fleet.silent() == ([robot] if is_silent else [])

    fleet(body)


def test_an_apiserver_that_dies_again_and_again_keeps_nobody_online(fleet: Any) -> None:
    async def body(fleet: Fleet) -> None:
        await fleet.apiserver(3600, 0)
        for number in range(10):
            await fleet.apiserver(6 * number + 9, 6 * number + 4)
        robot = await fleet.robot("r", 60)
        assert await fleet.silent() == [robot]

    fleet(body)


@pytest.mark.parametrize("away", [4, 20])
def test_an_apiserver_that_hung_or_lost_its_database_and_is_back_judges_nobody_by_that_time(
    fleet: Any, away: float
) -> None:
    """Also where every one of them did: the database was away."""

    async def body(fleet: Fleet) -> None:
        one, two = [Heartbeats(fleet.store.pool, identity=await fleet.apiserver(3600, away)) for _ in range(2)]
        robot, heard = await fleet.robot("r", away + 8), await fleet.robot("heard", away + 8)
        await one.flush({heard: None})
        await two.flush({})
        assert await fleet.silent() == []
        await fleet.run("UPDATE coverage SET since = since - interval '10.5 s'")
        assert await fleet.silent() == [robot], "a lease later it is"

    fleet(body)


def test_a_controller_that_was_away_finds_only_those_who_are_silent_now(fleet: Any) -> None:
    """Who was silent for a time and is back meanwhile was never offline, as far as anybody was told."""

    async def body(fleet: Fleet) -> None:
        beats = Heartbeats(fleet.store.pool, identity=await fleet.apiserver(3600, 1))
        back, gone = await fleet.robot("back", 55), await fleet.robot("gone", 55)
        await beats.flush({back: None})
        assert await fleet.silent() == [gone]

    fleet(body)


def test_a_controller_that_hung_before_it_wrote_decides_again(fleet: Any) -> None:
    async def body(fleet: Fleet) -> None:
        listening = await fleet.apiserver(3600, 0)
        robot = await fleet.robot("r", 11)
        assert await fleet.silent() == [robot]
        await fleet.run("UPDATE coverage SET last = last - interval '4 s' WHERE apiserver = %s", listening)
        async with fleet.store.batch() as batch:
            assert await queues.set_online(batch, [robot], False) == [], "nobody has listened since"
        await fleet.run("UPDATE coverage SET last = clock_timestamp()")
        async with fleet.store.batch() as batch:
            assert await queues.set_online(batch, [robot], False) == [robot]

    fleet(body)


def test_a_robot_that_says_it_leaves_is_not_waited_for(fleet: Any) -> None:
    async def body(fleet: Fleet) -> None:
        await fleet.apiserver(3600, 5)
        beats = Heartbeats(fleet.store.pool, identity=await fleet.apiserver(3600, 1))
        robot = await fleet.robot("r", 1)
        await beats.flush({}, [robot])
        assert await fleet.silent() == [robot]

    fleet(body)


def test_a_lease_counts_from_when_the_heartbeat_came_and_not_from_when_it_was_written(fleet: Any) -> None:
    """Also where another apiserver has heard of the robot since, or that it leaves."""

    async def body(fleet: Fleet) -> None:
        ages = "SELECT round(extract(epoch FROM clock_timestamp() - last_seen)), expires_at - last_seen FROM leases"

        async def age() -> Any:
            async with fleet.store.pool.connection() as connection:
                return await (await connection.execute(ages)).fetchone()

        uid = await fleet.robot("r", 9)
        one, two = Heartbeats(fleet.store.pool), Heartbeats(fleet.store.pool)
        await one.write(Noted({uid: None}, {uid: one.clock() - 5}))
        assert await age() == (5, grace(3))
        await two.flush({uid: None})
        await one.write(Noted({uid: None}, {uid: one.clock() - 3}))
        assert await age() == (0, grace(3)), "the other one heard it later"
        await two.flush({}, [uid])
        await one.write(Noted({uid: None}, {uid: one.clock() - 1}))
        assert (await age())[1] < timedelta(), "it left after that"

    fleet(body)


def test_a_robot_that_comes_for_the_first_time_is_never_called_offline(fleet: Any) -> None:
    async def body(fleet: Fleet) -> None:
        uid = await enrol(fleet.store, "r")

        async def phase() -> str:
            text = await reads.get(fleet.store.pool, ROBOT, "default", "r")
            return str(orjson.loads(text or b"{}")["status"]["phase"])

        await Heartbeats(fleet.store.pool).flush({uid: None})
        async with fleet.store.pool.connection() as connection:
            assert await queues.stale_robots(connection, 10) == []
        assert await phase() == "Pending", "until presence has seen it"
        presence = Presence(fleet.store, Recorder(fleet.store.writer, "tests"))
        await presence.run_once()
        assert await phase() == "Idle"

    fleet(body)


def test_a_lease_is_as_long_as_the_interval_its_robot_was_told(fleet: Any) -> None:
    """The fleet shrinks: the next interval is shorter, but those who were told the long one come after that."""

    async def body(fleet: Fleet) -> None:
        uid = await enrol(fleet.store, "r")
        beats = Heartbeats(fleet.store.pool, interval=10)
        beats.beat(uid, None)
        beats.interval = 3
        beats.start()
        assert await fleet.leases() == [grace(10)]
        await beats.stop()

    fleet(body)
