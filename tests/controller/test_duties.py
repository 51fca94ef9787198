"""The duties against the real store, in the corners where a job could be lost, run twice or wait for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from casare_api.decisions import lifecycle
from casare_api.kinds import KINDS, Object
from casare_controller.duties import timers
from casare_controller.duties.garbage import Garbage
from casare_controller.duties.placement import Placement
from casare_controller.duties.presence import Presence
from casare_controller.duties.schedules import Schedules
from casare_controller.duties.timers import Timers
from casare_controller.seeing import Roster
from casare_store import admission, changes, queues, reads
from casare_store.events import Recorder
from casare_store.heartbeats import Heartbeats
from casare_store.operations import Operation
from casare_store.store import Store

from ..store.conftest import ROBOT, robot, with_store

__all__ = ["with_store"]
JOB, SCHEDULE, NAMESPACE = KINDS["Job"], KINDS["Schedule"], KINDS["Namespace"]


def job(name: str, namespace: str = "default", **spec: Any) -> Object:
    return {
        "apiVersion": "fleet.casare.net/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"workflow": {"runner": "command", "args": ["true"]}, **spec},
    }


async def objects(store: Store, kind: Any) -> dict[str, Object]:
    page = await reads.read(store.pool, reads.Query(kind))
    return {one["metadata"]["name"]: one for one in orjson.loads(b"[" + b",".join(page.chunks) + b"]")}


async def phases(store: Store) -> dict[str, str]:
    return {name: one["status"]["phase"] for name, one in (await objects(store, JOB)).items()}


async def write(store: Store, kind: Any, name: str, change: Any) -> None:
    """A change past admission: what an agent's report, or an older release, would have written."""
    await store.writer.write(Operation(kind, "default", name, change))


async def enrol(store: Store, name: str, **spec: Any) -> str:
    """An online robot; its uid."""
    made = await store.writer.write(admission.create(ROBOT, robot(name, **spec)))
    assert made is not None
    await Heartbeats(store.pool).flush({made["metadata"]["uid"]: None})
    await Presence(store, recorder(store)).run_once()
    return str(made["metadata"]["uid"])


def recorder(store: Store) -> Recorder:
    return Recorder(store.writer, "test")


async def start(store: Store, name: str, uid: str) -> None:
    """Places what waits; the robot says that this job runs."""
    await Placement(store, recorder(store)).run_once()
    running = {"attempt": 1, "phase": "Running"}
    await write(store, JOB, name, lambda current, context: lifecycle.report(current, uid, running, context.now))


def test_of_several_fires_the_last_replaces_and_history_is_what_the_rows_say(with_store: Any) -> None:
    async def body(store: Store) -> None:
        late = (datetime.now(UTC) - timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:00Z")
        spec = {
            "cron": "* * * * *",
            "concurrencyPolicy": "Replace",
            "misfirePolicy": "CatchUp",
            "jobTemplate": {"spec": {"workflow": {"runner": "command", "args": ["true"]}}},
        }
        made = {"apiVersion": "fleet.casare.net/v1", "kind": "Schedule",
                "metadata": {"name": "s", "namespace": "default"}, "spec": spec,
                "status": {"nextFireTime": late}}  # fmt: skip
        await write(store, SCHEDULE, "s", lambda current, context: made)
        await Schedules(store, recorder(store)).run_once()
        fires = sorted((await objects(store, KINDS["Fire"])).items())
        assert len(fires) >= 3
        assert [fire["status"]["outcome"] for _, fire in fires] == ["Skipped"] * (len(fires) - 1) + ["Fired"]
        assert await phases(store) == {fires[-1][0]: "Queued"}
        async with store.pool.connection() as connection:
            log = [one for one in await changes.read_since(connection, 0) if one.kind == "Job"]
        assert [(one.type, one.name) for one in log] == [("ADDED", fires[-1][0])]

    with_store(body)


def test_a_batch_changes_an_object_once(with_store: Any) -> None:
    async def body(store: Store) -> None:
        made = await store.writer.write(admission.create(ROBOT, robot("a")))
        async with store.batch() as batch:
            mark = batch.mark()
            batch.stage(ROBOT, made, made)
            with pytest.raises(ValueError, match="changed twice"):
                batch.stage(ROBOT, made, made)
            batch.back_to(mark)
            batch.stage(ROBOT, made, made)  # what was forgotten has not been changed

    with_store(body)


def test_finished_jobs_that_a_finalizer_holds_keep_no_timer_waiting(
    with_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "PER_RUN", 2)

    async def body(store: Store) -> None:
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        for number in range(3):
            held = job(f"held-{number}", ttlAfterFinished="1s", cancel=True)
            held["metadata"]["finalizers"] = ["example.com/keep"]
            await store.writer.write(admission.create(JOB, held))
        await store.writer.write(admission.create(JOB, job("waiting", startDeadline="1s")))

        def older(current: Object, context: Any) -> Object:
            times = {key: "2026-01-01T00:00:00Z" for key in ("queuedTime", "finishedTime") if key in current["status"]}
            meta = {**current["metadata"], "creationTimestamp": f"{long_ago:%Y-%m-%dT%H:%M:%SZ}"}
            return {**current, "metadata": meta, "status": {**current["status"], **times}}

        for name in await phases(store):
            await write(store, JOB, name, older)
        duty = Timers(store, recorder(store))
        assert (await duty.run_once())["jobs"] >= 4
        assert (await phases(store))["waiting"] == "Expired"
        assert all(one["metadata"]["deletionTimestamp"] for name, one in (await objects(store, JOB)).items()
                   if name != "waiting")  # fmt: skip
        assert (await duty.run_once())["jobs"] == 0, "what is held by a finalizer is not due for ever"

    with_store(body)


def test_an_outage_of_all_apiservers_ends_no_attempt(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "r")
        await store.writer.write(admission.create(JOB, job("j", lostAfter="1s", retry={"robotLostLimit": 5})))
        await start(store, "j", uid)
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE leases SET online = false, last_seen = now() - interval '5 min', "
                                     "expires_at = now() - interval '4 min'")  # fmt: skip
            await connection.execute("UPDATE coverage SET since = now() - interval '9 min', "
                                     "last = now() - interval '4 min'")  # fmt: skip
        duty = Presence(store, recorder(store))
        assert (await duty.run_once())["lost"] == 0
        assert await phases(store) == {"j": "Running"}
        async with store.pool.connection() as connection:  # somebody has been listening again, for long enough
            await connection.execute("UPDATE coverage SET since = now() - interval '3 min', last = now()")
        assert (await duty.run_once())["lost"] == 1
        assert await phases(store) == {"j": "Queued"}

    with_store(body)


def test_jobs_that_wait_for_their_robot_do_not_hide_one_that_is_lost(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "r", maxConcurrentJobs=100)
        for number in range(30):
            await store.writer.write(admission.create(JOB, job(f"j{number:02}", retry={"onRobotLost": "Wait"})))
        await store.writer.write(admission.create(JOB, job("lost", lostAfter="1s", retry={"robotLostLimit": 5})))
        await start(store, "lost", uid)
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE leases SET online = false, last_seen = now() - interval '1 hour', "
                                     "expires_at = now() - interval '50 min'")  # fmt: skip
            await connection.execute("UPDATE coverage SET since = now() - interval '2 hours', last = now()")
            found = [one async for one in queues.jobs_of_silent_robots(connection, page=7)]
            assert len({one.job["metadata"]["uid"] for one in found}) == len(found) == 31
        assert (await Presence(store, recorder(store)).run_once())["lost"] >= 1
        assert (await phases(store))["lost"] == "Queued"

    with_store(body)


def test_what_fences_itself_is_not_given_to_another_before_its_deleted_robot_is_lost(with_store: Any) -> None:
    """Its agent may be cut off and know nothing of the deletion: it ends the job before `lostAfter`, and not at once."""

    async def body(store: Store) -> None:
        uid = await enrol(store, "r", maxConcurrentJobs=5)
        fenced = {"onRobotLost": "Requeue", "selfFence": True}
        for name, retry in (("plain", {}), ("fenced", fenced), ("cancelled", fenced), ("assigned", fenced)):
            await store.writer.write(admission.create(JOB, job(name, retry=retry, lostAfter="3h")))
            if name != "assigned":
                await start(store, name, uid)
        await Placement(store, recorder(store)).run_once()
        await change_job(store, "cancelled", cancel=True)
        await store.writer.write(admission.remove(ROBOT, "default", "r"))
        duty = Presence(store, recorder(store))
        await duty.run_once()
        at_once = {"plain": "Queued", "cancelled": "Cancelled", "assigned": "Queued"}
        assert await phases(store) == at_once | {"fenced": "Running"}
        await silent_for(store, "2 hours")
        async with store.pool.connection() as connection:
            await queues.sweep(connection)  # when it was seen last is still needed
        await duty.run_once()
        assert (await phases(store))["fenced"] == "Running"
        await silent_for(store, "4 hours")
        await duty.run_once()
        found = (await objects(store, JOB))["fenced"]["status"]
        assert (found["phase"], found["attempts"][0]["reason"]) == ("Queued", "RobotDeleted")
        async with store.pool.connection() as connection:
            await queues.sweep(connection)
            cursor = await connection.execute("SELECT count(*) FROM leases")
            assert await cursor.fetchone() == (0,)

    with_store(body)


async def silent_for(store: Store, span: str, lease: str = "10 s") -> None:
    """All robots were seen last that long ago, by apiservers that have been there for longer."""
    async with store.pool.connection() as connection:
        await connection.execute(f"UPDATE leases SET last_seen = now() - interval '{span}', "
                                 f"expires_at = now() - interval '{span}' + interval '{lease}'")  # fmt: skip
        await connection.execute("UPDATE coverage SET since = now() - interval '1 day', last = now()")


async def change_job(store: Store, name: str, **spec: Any) -> None:
    def changed(current: Object, context: Any) -> Object:
        return {**current, "spec": {**current["spec"], **spec}}

    await store.writer.write(admission.update(JOB, "default", name, changed))


def test_nothing_is_placed_on_a_robot_that_was_paused_in_between(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, "r")
        await store.writer.write(admission.create(JOB, job("j")))
        duty = Placement(store, recorder(store))
        tick = await duty.decide()
        assert len(tick.chosen) == 1

        def pause(current: Object, context: Any) -> Object:
            return {**current, "spec": {**current["spec"], "desiredState": "Paused"}}

        await store.writer.write(admission.update(ROBOT, "default", "r", pause))
        assert await duty.write(tick) == 0
        assert await phases(store) == {"j": "Queued"}

    with_store(body)


def test_what_no_longer_holds_leaves_no_gap_among_what_is_placed_beside_it(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, "r", maxConcurrentJobs=5)
        for number in range(5):
            await store.writer.write(admission.create(JOB, job(f"j{number}")))
        duty = Placement(store, recorder(store))
        tick = await duty.decide()
        assert len(tick.chosen) == 5

        def cancel(current: Object, context: Any) -> Object:
            return {**current, "spec": {**current["spec"], "cancel": True}}

        for name in ("j0", "j3"):
            await store.writer.write(admission.update(JOB, "default", name, cancel))
        before = (await store.head()).rv
        assert await duty.write(tick) == 3
        assert (await store.head()).rv == before + 3
        async with store.pool.connection() as connection:
            cursor = await connection.execute("SELECT rv, name FROM changes WHERE rv > %s ORDER BY rv", (before,))
            assert await cursor.fetchall() == [(before + 1, "j1"), (before + 2, "j2"), (before + 3, "j4")]
        found = await phases(store)
        assert {found[name] for name in ("j1", "j2", "j4")} == {"Assigned"}
        assert "Assigned" not in {found["j0"], found["j3"]}

    with_store(body)


def test_robots_are_seen_as_they_are_however_they_change_between_two_looks(with_store: Any) -> None:
    async def seen(store: Store, roster: Roster) -> dict[str, tuple[int, int, str]]:
        async with store.pool.connection() as connection:
            return {one.name: (one.free_slots, one.total_slots, one.why_not) for one in await roster.read(connection)}

    async def body(store: Store) -> None:
        kept = Roster()
        assert await seen(store, kept) == {}
        for name in ("busy", "changed", "gone", "silent"):
            await enrol(store, name, maxConcurrentJobs=2)
        await store.writer.write(admission.create(ROBOT, robot("never-seen")))
        await store.writer.write(admission.create(JOB, job("j", requirements={"robotName": "busy"})))
        idle = dict.fromkeys(("busy", "changed", "gone", "silent"), (2, 2, ""))
        assert await seen(store, kept) == idle | {"never-seen": (1, 1, "offline")}

        def widen(current: Object, context: Any) -> Object:
            return {**current, "spec": {**current["spec"], "maxConcurrentJobs": 3}}

        await Placement(store, recorder(store)).run_once()
        await store.writer.write(admission.update(ROBOT, "default", "changed", widen))
        await write(store, ROBOT, "gone", lambda current, context: None)
        async with store.pool.connection() as connection:
            await connection.execute(
                "UPDATE leases SET online = false WHERE robot_uid = (SELECT uid FROM robots WHERE name = 'silent')"
            )
        now = {"busy": (1, 2, ""), "changed": (3, 3, ""), "silent": (2, 2, "offline"), "never-seen": (1, 1, "offline")}
        assert await seen(store, kept) == now == await seen(store, Roster())

    with_store(body)


def test_a_namespace_goes_with_all_that_is_in_it(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "team"}}))
        for name in ("a", "b"):
            await store.writer.write(admission.create(JOB, job(name, "team")))
        held = job("held", "team")
        held["metadata"]["finalizers"] = ["example.com/keep"]
        await store.writer.write(admission.create(JOB, held))
        await store.writer.write(admission.create(JOB, job("other")))
        going = await store.writer.write(admission.remove(NAMESPACE, "", "team"))
        assert going is not None and going["status"]["phase"] == "Terminating"
        with pytest.raises(Exception, match="because it is being terminated"):
            await store.writer.write(admission.create(JOB, job("late", "team")))
        duty = Garbage(store)
        assert (await duty.run_once())["dependents"] >= 3
        assert sorted(await phases(store)) == ["held", "other"], "what a finalizer holds keeps the namespace"
        assert "team" in await objects(store, NAMESPACE)
        released = admission.update(
            JOB, "team", "held", lambda current, context: {**current, "metadata": {
                key: value for key, value in current["metadata"].items() if key != "finalizers"}}
        )  # fmt: skip
        await store.writer.write(released)
        await duty.run_once()
        assert sorted(await objects(store, NAMESPACE)) == ["default"]
        assert sorted(await phases(store)) == ["other"]

    with_store(body)


def test_the_search_leaves_what_is_named_and_what_was_just_renewed(with_store: Any) -> None:
    async def body(store: Store) -> None:
        workflow = KINDS["Workflow"]

        def content(number: int) -> Object:
            return {"apiVersion": "fleet.casare.net/v1", "kind": "Workflow",
                    "metadata": {"name": "w", "namespace": "default"},
                    "spec": {"runner": "command", "args": [str(number)]}}  # fmt: skip

        await store.writer.write(admission.create(workflow, content(1)))
        for number in (2, 3):
            spec = content(number)["spec"]
            change = admission.update(workflow, "default", "w", lambda old, context, spec=spec: {**old, "spec": spec})
            await store.writer.write(change)
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE revisions SET made = made - interval '2 days' WHERE content LIKE '%%1%%' "
                                     "OR content LIKE '%%3%%'")  # fmt: skip
            assert await queues.search(connection) == 1
            cursor = await connection.execute("SELECT hash, content FROM revisions ORDER BY made DESC")
            left = await cursor.fetchall()
        assert ["2" in left[0][1], "3" in left[1][1], len(left)] == [True, True, 2]
        assert left[1][0] == (await objects(store, workflow))["w"]["status"]["revision"]

    with_store(body)
