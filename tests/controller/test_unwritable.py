"""One row that the database refuses is set aside and told of; timers, presence and placement move all others."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from casare_api.kinds import KINDS
from casare_controller import isolating
from casare_controller.duties import placement
from casare_controller.duties.placement import Placement
from casare_controller.duties.presence import Presence
from casare_controller.duties.timers import Timers
from casare_store import logs
from casare_store.batch import OutcomeUnknown
from casare_store.events import Recorder
from casare_store.operations import Operation
from casare_store.store import Store

from ..store.conftest import robot, with_store
from .test_placement_duty import enrol, job, jobs, submit

__all__ = ["with_store"]
JOB = KINDS["Job"]
NAMES = [f"j{number}" for number in range(9)]


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    logs.configure("test")


async def refuse(store: Store, phase: str, which: str = "name = 'j0'") -> None:
    """From here on the database does not take these jobs in this phase."""
    async with store.pool.connection() as connection:
        await connection.execute(
            f"ALTER TABLE jobs ADD CONSTRAINT refused CHECK (NOT ({which}) OR phase <> '{phase}') NOT VALID"
        )


async def allow(store: Store) -> None:
    async with store.pool.connection() as connection:
        await connection.execute("ALTER TABLE jobs DROP CONSTRAINT refused")


async def phases(store: Store) -> dict[str, str]:
    return {one["metadata"]["name"]: one["status"]["phase"] for one in await jobs(store)}


async def change(store: Store, names: list[str], status: Any) -> None:
    """A change of their status past admission."""

    def mutate(current: Any, context: Any) -> Any:
        return {**current, "status": {**current["status"], **status}}

    await asyncio.gather(*(store.writer.write(Operation(JOB, "default", name, mutate)) for name in names))


async def overdue(store: Store, names: list[str]) -> None:
    await submit(store, *(job(name, startDeadline="1h") for name in names))
    await change(store, names, {"queuedTime": "2026-01-01T00:00:00Z"})


async def told(store: Store, events: Recorder) -> list[tuple[str, str]]:
    """Whose events say that they can't be written, and what type these are."""
    await events.flush()
    async with store.pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT o #>> '{involvedObject,name}', o ->> 'type' FROM (SELECT (head || tail)::jsonb AS o FROM events) e "
            "WHERE o ->> 'reason' = 'NotWritable' AND o ->> 'message' LIKE '%constraint \"refused\"%'"
        )
        return [(str(name), str(type_)) for name, type_ in await cursor.fetchall()]


def test_a_job_that_cannot_be_written_stops_no_timer_but_its_own(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await overdue(store, NAMES)
        await refuse(store, "Expired")
        now, events = [0.0], Recorder(store.writer, "test")
        duty = Timers(store, events, clock=lambda: now[0])
        assert (await duty.run_once())["jobs"] == len(NAMES) - 1
        assert await phases(store) == {**dict.fromkeys(NAMES, "Expired"), "j0": "Queued"}
        assert await told(store, events) == [("j0", "Warning")]
        await allow(store)
        assert (await duty.run_once())["jobs"] == 0, "it is left alone for a while"
        now[0] += 3600
        assert (await duty.run_once())["jobs"] == 1
        assert (await phases(store))["j0"] == "Expired"

    with_store(body)


def test_where_much_is_refused_the_duty_fails_and_yet_gets_on(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolating, "MOST", 2)

    async def body(store: Store) -> None:
        await overdue(store, NAMES)
        await refuse(store, "Expired", "name < 'j6'")  # six of nine
        duty = Timers(store, Recorder(store.writer, "test"))
        with pytest.raises(psycopg.errors.CheckViolation):
            await duty.run_once()
        with pytest.raises(psycopg.errors.CheckViolation):
            await duty.run_once()
        await duty.run_once()
        found = await phases(store)
        assert [found[name] for name in NAMES] == ["Queued"] * 6 + ["Expired"] * 3

    with_store(body)


def test_a_lost_connection_is_nobodys_fault(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await overdue(store, NAMES)
        duty = Timers(store, Recorder(store.writer, "test"))
        async with store.pool.connection() as connection:
            await connection.execute(
                "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END';"
                "CREATE TRIGGER die BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION die()"
            )
        with pytest.raises((psycopg.OperationalError, OutcomeUnknown)):
            await duty.run_once()
        async with store.pool.connection() as connection:
            await connection.execute("DROP TRIGGER die ON jobs")
        assert (await duty.run_once())["jobs"] == len(NAMES), "nobody was set aside"

    with_store(body)


def test_an_attempt_that_cannot_be_ended_keeps_no_other_from_its_end(with_store: Any) -> None:
    async def body(store: Store) -> None:
        events = Recorder(store.writer, "test")
        await enrol(store, robot("r", maxConcurrentJobs=100))
        await submit(store, *(job(name, lostAfter="1s") for name in NAMES))
        await Placement(store, events).run_once()
        await refuse(store, "Queued")
        async with store.pool.connection() as connection:
            await connection.execute("DELETE FROM robots")
        assert (await Presence(store, events).run_once())["lost"] == len(NAMES) - 1
        assert await phases(store) == {**dict.fromkeys(NAMES, "Queued"), "j0": "Assigned"}
        assert await told(store, events) == [("j0", "Warning")]

    with_store(body)


def test_a_robot_that_cannot_be_written_keeps_no_other_from_being_online(with_store: Any) -> None:
    async def body(store: Store) -> None:
        async with store.pool.connection() as connection:
            await connection.execute(
                "ALTER TABLE robots ADD CONSTRAINT refused CHECK (name <> 'r0' OR phase NOT IN ('Idle', 'Busy'))"
            )
        await enrol(store, *(robot(f"r{number}") for number in range(5)))
        async with store.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT r.name FROM robots r JOIN leases l ON l.robot_uid = r.uid WHERE l.online ORDER BY r.name"
            )
            assert [name for (name,) in await cursor.fetchall()] == ["r1", "r2", "r3", "r4"]

    with_store(body)


def test_a_job_that_cannot_be_assigned_keeps_no_other_from_its_robot(with_store: Any) -> None:
    async def body(store: Store) -> None:
        events = Recorder(store.writer, "test")
        await enrol(store, robot("r", maxConcurrentJobs=100))
        await submit(store, *(job(name) for name in NAMES))
        await refuse(store, "Assigned")
        assert (await Placement(store, events).run_once())["placed"] == len(NAMES) - 1
        assert await phases(store) == {**dict.fromkeys(NAMES, "Assigned"), "j0": "Queued"}
        assert await told(store, events) == [("j0", "Warning")]

    with_store(body)


def test_a_job_that_cannot_be_assigned_leaves_the_only_slot_to_the_next(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("r"))
        for name in NAMES[:3]:
            await submit(store, job(name))
        await refuse(store, "Assigned")
        duty = Placement(store, Recorder(store.writer, "test"))
        for _ in range(2):
            await duty.run_once()
        assert await phases(store) == {"j0": "Queued", "j1": "Assigned", "j2": "Queued"}

    with_store(body)


# -- what must not be placed, and for how long ----------------------------------------------------------------------


def test_a_job_whose_start_deadline_is_past_is_not_placed_before_the_timers_see_it(with_store: Any) -> None:
    async def body(store: Store) -> None:
        events = Recorder(store.writer, "test")
        await enrol(store, robot("r"))
        await overdue(store, ["late"])
        await submit(store, job("next"))
        duty = Placement(store, events)
        for _ in range(2):  # what is late takes the slot from nobody either
            await duty.run_once()
        assert await phases(store) == {"late": "Queued", "next": "Assigned"}
        await Timers(store, events).run_once()
        assert (await phases(store))["late"] == "Expired"

    with_store(body)


def test_a_deadline_that_is_still_to_come_keeps_nobody_from_being_placed(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, robot("r"))
        await submit(store, job("j", startDeadline="1h"))
        await Placement(store, Recorder(store.writer, "test")).run_once()
        assert await phases(store) == {"j": "Assigned"}

    with_store(body)


def test_a_run_of_placement_ends_however_much_there_is_to_do(
    with_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "PER_TICK", 1)

    async def body(store: Store) -> None:
        now = 0.0

        def clock() -> float:
            nonlocal now
            now += 0.5
            return now

        await enrol(store, robot("r", maxConcurrentJobs=100))
        await submit(store, *(job(f"j{number}") for number in range(30)))
        duty = Placement(store, Recorder(store.writer, "test"), clock=clock)
        first = (await duty.run_once())["placed"]
        assert 0 < first < 30, "the manager looks at the lock and at stop in between"
        placed = first
        while more := (await duty.run_once())["placed"]:
            placed += more
        assert placed == 30

    with_store(body)


@pytest.mark.parametrize("error", [AttributeError("'str' object has no attribute 'get'"), KeyError("x"), ValueError("odd")])
def test_an_object_that_a_duty_trips_over_keeps_no_other_from_being_written(with_store: Any, error: Exception) -> None:
    async def body(store: Store) -> None:
        written: list[str] = []

        async def write(uids: Any) -> int:
            if "odd" in uids:
                raise error
            written.extend(uids)
            return len(uids)

        aside = isolating.Aside(Recorder(store.writer, "test"), "duty", lambda: 0.0)
        assert await aside.write(["a", "b", "odd", "c", "d"], write, {}) == 4
        assert sorted(written) == ["a", "b", "c", "d"] and aside.uids == ["odd"]

    with_store(body)
