"""Schedules against the real store: one that can't fire keeps none of the others from theirs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
import pytest

from casare_api.kinds import KINDS, Object
from casare_api.machinery import admission as rules
from casare_api.machinery import names
from casare_controller.duties.schedules import Schedules, fire_name
from casare_store import admission, reads
from casare_store.batch import OutcomeUnknown
from casare_store.events import Recorder
from casare_store.operations import Operation
from casare_store.store import Store

from ..store.conftest import with_store

__all__ = ["with_store"]
SCHEDULE, JOB, FIRE, NAMESPACE = KINDS["Schedule"], KINDS["Job"], KINDS["Fire"], KINDS["Namespace"]


YEARLY = "0 0 1 1 *"
DUE = {"nextFireTime": "2026-01-01T00:00:00Z"}


async def declare(
    store: Store, name: str, cron: str = YEARLY, *, namespace: str = "default", labels: Any = None, **spec: Any
) -> None:
    """A schedule that is due, past admission: as an older release, or a bug, might have left it."""
    template = {"metadata": {"labels": labels or {}}, "spec": {"workflow": {"runner": "command", "args": ["true"]}}}
    made = {"apiVersion": "fleet.casare.net/v1", "kind": "Schedule", "metadata": {"name": name, "namespace": namespace},
            "spec": {"cron": cron, "timeZone": "UTC", "jobTemplate": template, **spec}, "status": DUE}  # fmt: skip
    changed = {"spec": made["spec"], "status": DUE}
    await store.writer.write(
        Operation(SCHEDULE, namespace, name, lambda old, context: {**old, **changed} if old else made)
    )


def duty_of(store: Store) -> Schedules:
    return Schedules(store, Recorder(store.writer, "test"))


async def objects(store: Store, kind: Any) -> dict[str, Object]:
    page = await reads.read(store.pool, reads.Query(kind))
    return {one["metadata"]["name"]: one for one in orjson.loads(b"[" + b",".join(page.chunks) + b"]")}


def test_a_schedule_that_cannot_fire_is_set_aside_and_the_others_fire(with_store: Any) -> None:
    async def body(store: Store) -> None:
        for name, cron in (("a-broken", "not a cron"), ("b-good", YEARLY), ("c-broken", "99 * * * *")):
            await declare(store, name, cron)
        duty = duty_of(store)
        await duty.run_once()
        found = await objects(store, SCHEDULE)
        assert [one["spec"] for one in (await objects(store, JOB)).values()], "the good one fired"
        assert found["b-good"]["status"]["nextFireTime"] == "2027-01-01T00:00:00Z"
        for name in ("a-broken", "c-broken"):
            (ready,) = found[name]["status"]["conditions"]
            assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "Broken")
            assert "nextFireTime" not in found[name]["status"]
        assert await duty.run_once() == {"fires": 0}, "what is set aside is not tried again and again"

    with_store(body)


NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_fires_name_tells_its_schedule_and_time_however_long_the_name() -> None:
    assert fire_name("a" * 200, NEW_YEAR) == "a" * 200 + "-20260101000000"
    odd = ["a" * 182 + "." + "a" * 70, "a" * 182 + "-" * 70 + "a"]
    long = ["a" * 200 + "b", "a" * 200 + "c", *odd]
    fires = [fire_name(name, NEW_YEAR) for name in long]
    assert len(set(fires)) == len(long)
    assert [names.check_name(name) for name in (*fires, fires[2][:-15])] == [None] * (len(long) + 1)


def test_schedules_whose_names_begin_alike_fire_together(with_store: Any) -> None:
    async def body(store: Store) -> None:
        long = ["a" * 200 + "b", "a" * 200 + "c"]
        for name in long:
            await declare(store, name)
        assert await duty_of(store).run_once() == {"fires": 2}
        assert len(await objects(store, JOB)) == 2

    with_store(body)


def test_a_name_that_the_same_batch_has_given_away_stops_nobody(with_store: Any) -> None:
    async def body(store: Store) -> None:
        long = "a" * 201
        for name in (long, fire_name(long, NEW_YEAR).rpartition("-")[0], "other"):
            await declare(store, name)
        assert await duty_of(store).run_once() == {"fires": 2}
        assert len(await objects(store, JOB)) == 2
        found = await objects(store, SCHEDULE)
        assert all(one["status"]["nextFireTime"] != DUE["nextFireTime"] for one in found.values())
        assert all("conditions" not in one["status"] for one in found.values()), "nobody is set aside for it"

    with_store(body)


async def when_inserted(store: Store, job: str, statement: str) -> None:
    """Has Postgres run a statement of PL/pgSQL before it inserts a job whose name begins so."""
    async with store.pool.connection() as connection:
        await connection.execute(
            f"CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statement}; RETURN NEW; END $$"
        )
        await connection.execute(
            "CREATE TRIGGER trouble BEFORE INSERT ON jobs FOR EACH ROW "
            f"WHEN (NEW.name LIKE '{job}%') EXECUTE FUNCTION trouble()"
        )


def test_a_schedule_that_postgres_refuses_is_set_aside_and_the_others_fire(with_store: Any) -> None:
    async def body(store: Store) -> None:
        for name in ("a", "b", "c"):
            await declare(store, name)
        await when_inserted(store, "b-", "RAISE 'no such thing' USING ERRCODE = 'check_violation'")
        duty = duty_of(store)
        assert await duty.run_once() == {"fires": 2}
        assert sorted(job[0] for job in await objects(store, JOB)) == ["a", "c"]
        status = (await objects(store, SCHEDULE))["b"]["status"]
        assert "no such thing" in status["conditions"][0]["message"] and "nextFireTime" not in status
        assert await duty.run_once() == {"fires": 0}

    with_store(body)


def test_a_schedule_that_meets_a_passing_trouble_is_tried_again_and_the_others_fire(with_store: Any) -> None:
    async def body(store: Store) -> None:
        for name in ("a", "b", "c"):
            await declare(store, name)
        await when_inserted(store, "b-", "RAISE 'busy' USING ERRCODE = 'lock_not_available'")
        duty = duty_of(store)
        assert await duty.run_once() == {"fires": 2}
        async with store.pool.connection() as connection:
            await connection.execute("DROP TRIGGER trouble ON jobs")
        assert await duty.run_once() == {"fires": 1}

    with_store(body)


def test_a_lost_connection_is_no_schedules_fault(with_store: Any) -> None:
    async def body(store: Store) -> None:
        for name in ("a", "b"):
            await declare(store, name)
        await when_inserted(store, "a-", "PERFORM pg_terminate_backend(pg_backend_pid())")
        with pytest.raises((psycopg.OperationalError, OutcomeUnknown)):
            await duty_of(store).run_once()
        found = await objects(store, SCHEDULE)
        assert [one["status"] for one in found.values()] == [DUE, DUE]

    with_store(body)


def test_the_jobs_it_makes_are_right_whatever_its_name(with_store: Any) -> None:
    async def body(store: Store) -> None:
        long = "a" * 45 + "." + "b" * 100
        for name in ("short", long):
            await declare(store, name)
        await duty_of(store).run_once()
        made = (await objects(store, JOB)).values()
        for job in made:
            rules.admit(JOB, job)
        labels = sorted(job["metadata"]["labels"]["fleet.casare.net/schedule"] for job in made)
        assert labels[1] == "short" and labels[0].startswith("a" * 45 + "-")

    with_store(body)


def test_a_job_that_is_not_admitted_is_skipped_and_replaces_nothing(with_store: Any) -> None:
    async def body(store: Store) -> None:
        duty = duty_of(store)
        await declare(store, "s", concurrencyPolicy="Replace")
        await duty.run_once()
        await declare(store, "s", "0 0 2 1 *", concurrencyPolicy="Replace", labels={"bad key!!": "x"})
        await duty.run_once()
        (job,) = (await objects(store, JOB)).values()
        assert job["status"]["phase"] == "Queued" and not job["spec"].get("cancel")
        skipped = [fire["status"] for fire in (await objects(store, FIRE)).values() if "jobName" not in fire["status"]]
        assert any(one["outcome"] == "Skipped" and "bad key!!" in one["reason"] for one in skipped)

    with_store(body)


def test_jobs_of_another_namespace_that_name_a_schedule_as_their_owner_are_not_its_own(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "other"}}))
        for name, policy in (("a", "Forbid"), ("b", "Replace")):
            await declare(store, name, concurrencyPolicy=policy)
        for schedule in (await objects(store, SCHEDULE)).values():
            name = schedule["metadata"]["name"]
            ref = {"apiVersion": SCHEDULE.api_version, "kind": "Schedule", "name": name, "uid": schedule["metadata"]["uid"]}
            meta = {"name": f"foreign-{name}", "namespace": "other", "ownerReferences": [ref]}
            spec = {"workflow": {"runner": "command", "args": ["true"]}}
            await store.writer.write(admission.create(JOB, {"apiVersion": JOB.api_version, "kind": "Job", "metadata": meta, "spec": spec}))
        await duty_of(store).run_once()
        assert [fire["status"]["outcome"] for fire in (await objects(store, FIRE)).values()] == ["Fired", "Fired"]
        jobs = await objects(store, JOB)
        assert len(jobs) == 4 and not any(job["spec"].get("cancel") for job in jobs.values())

    with_store(body)


def test_in_a_namespace_that_is_gone_or_going_no_jobs_are_made(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "going"}}))
        await declare(store, "s", namespace="going")
        await store.writer.write(admission.remove(NAMESPACE, "", "going"))
        await declare(store, "t", namespace="gone")
        await duty_of(store).run_once()
        assert await objects(store, JOB) == {}
        reasons = [fire["status"]["reason"] for fire in (await objects(store, FIRE)).values()]
        assert sorted(reasons) == [
            'the job can\'t be made: jobs.fleet.casare.net "s-20260101000000" is forbidden: '
            "unable to create new content in namespace going because it is being terminated",
            'the job can\'t be made: namespaces "gone" not found',
        ]

    with_store(body)
