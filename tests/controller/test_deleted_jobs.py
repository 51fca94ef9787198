"""A deleted job that runs goes in the end, whoever ends it: its timers, the loss of its robot, its namespace's end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from casare_api.decisions import lifecycle
from casare_api.decisions.deletion import RUNNING
from casare_api.kinds import KINDS, Kind, Object
from casare_api.machinery import times
from casare_controller.duties.garbage import Garbage
from casare_controller.duties.placement import Placement
from casare_controller.duties.presence import Presence
from casare_controller.duties.timers import Timers
from casare_store import admission, changes
from casare_store.operations import Operation
from casare_store.store import Store

from ..store.conftest import with_store
from .test_duties import enrol, job, objects, recorder, start, write

__all__ = ["with_store"]
JOB, ROBOT, NAMESPACE = KINDS["Job"], KINDS["Robot"], KINDS["Namespace"]
HOLD = "example.com/hold"
NOBODY = "00000000-0000-4000-8000-000000000000"


async def run(store: Store, name: str, finalizers: tuple[str, ...] = (), **spec: Any) -> str:
    """A job that runs; its robot's uid."""
    uid = await enrol(store, f"robot-of-{name}")
    made = job(name, requirements={"robotName": f"robot-of-{name}"}, **spec)
    made["metadata"] |= {"finalizers": list(finalizers)} if finalizers else {}
    await store.writer.write(admission.create(JOB, made))
    await start(store, name, uid)
    return uid


async def delete(store: Store, name: str, kind: Kind = JOB) -> None:
    held = await store.writer.write(admission.remove(kind, "default", name))
    assert held is not None


async def there(store: Store) -> dict[str, Object]:
    return await objects(store, JOB)


async def asked(store: Store, name: str, ago: timedelta) -> None:
    """As if the job had been asked to end so long ago."""
    then = times.to_text(datetime.now(UTC) - ago, micro=True)
    await write(store, JOB, name, lambda job, context: {**job, "status": {**job["status"], "cancelTime": then}})


async def log(store: Store, name: str) -> list[tuple[str, str]]:
    """What history says of a job: the type of each change and the phase that it shows."""
    async with store.pool.connection() as connection:
        found = [one for one in await changes.read_since(connection, 0) if (one.kind, one.name) == ("Job", name)]
    return [(one.type, orjson.loads(one.object)["status"]["phase"]) for one in found]


@pytest.mark.parametrize("policy", ["Requeue", "Fail", "Wait"])
def test_one_whose_robot_does_not_confirm_its_end_goes_when_the_grace_is_over(with_store: Any, policy: str) -> None:
    async def body(store: Store) -> None:
        await run(store, "a", gracePeriod="45s", retry={"limit": 5, "onRobotLost": policy})
        await delete(store, "a")
        duty = Timers(store, recorder(store))
        await asked(store, "a", timedelta(seconds=90))
        assert (await duty.run_once())["jobs"] == 0 and (await there(store))["a"]["metadata"]["finalizers"] == [RUNNING]
        await asked(store, "a", timedelta(seconds=110))
        assert (await duty.run_once())["jobs"] == 1 and await there(store) == {}
        assert (await duty.run_once())["jobs"] == 0
        assert (await log(store, "a"))[-1] == ("DELETED", "Running"), "it never went back to the queue"

    with_store(body)


def test_one_that_somebody_else_holds_is_cancelled_when_the_grace_is_over_and_stays(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await run(store, "a", (HOLD,))
        await delete(store, "a")
        await asked(store, "a", timedelta(minutes=5))
        await Timers(store, recorder(store)).run_once()
        found = (await there(store))["a"]
        assert found["status"]["phase"] == "Cancelled" and found["metadata"]["finalizers"] == [HOLD]

    with_store(body)


def test_one_that_times_out_while_it_is_deleted_is_not_tried_again(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await run(store, "a", timeout="1s", retry={"limit": 5, "onRobotLost": "Requeue"})

        def older(job: Object, context: Any) -> Object:
            return {**job, "status": {**job["status"], "startedTime": "2026-01-01T00:00:00Z"}}

        await write(store, JOB, "a", older)
        await delete(store, "a")
        await Timers(store, recorder(store)).run_once()
        assert await there(store) == {}

    with_store(body)


@pytest.mark.parametrize("policy", ["Requeue", "Fail", "Wait"])
def test_one_whose_robot_is_deleted_goes(with_store: Any, policy: str) -> None:
    async def body(store: Store) -> None:
        await run(store, "a", retry={"onRobotLost": policy})
        await run(store, "held", (HOLD,), retry={"onRobotLost": policy})
        for name in ("a", "held"):
            await delete(store, name)
            await delete(store, f"robot-of-{name}", ROBOT)
        assert (await Presence(store, recorder(store)).run_once())["lost"] == 2
        left = await there(store)
        assert left.keys() == {"held"} and left["held"]["metadata"]["finalizers"] == [HOLD]
        assert left["held"]["status"]["phase"] == "Cancelled"

    with_store(body)


@pytest.mark.parametrize("policy", ["Requeue", "Fail", "Wait"])
def test_one_whose_robot_is_silent_for_too_long_goes(with_store: Any, policy: str) -> None:
    async def body(store: Store) -> None:
        await run(store, "a", lostAfter="1m", retry={"onRobotLost": policy})
        await delete(store, "a")
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE leases SET online = false, last_seen = now() - interval '1 hour', "
                                     "expires_at = now() - interval '50 min'")  # fmt: skip
            await connection.execute("UPDATE coverage SET since = now() - interval '2 hours', last = now()")
        assert (await Presence(store, recorder(store)).run_once())["lost"] == 1
        assert await there(store) == {}

    with_store(body)


def test_a_schedules_job_that_runs_is_ended_when_its_schedule_is_gone(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await run(store, "a")
        owner = {"apiVersion": "fleet.casare.net/v1", "kind": "Schedule", "name": "s", "uid": NOBODY}

        def owned(job: Object, context: Any) -> Object:
            return {**job, "metadata": {**job["metadata"], "ownerReferences": [owner]}}

        await write(store, JOB, "a", owned)
        for _ in range(2):
            await Garbage(store).run_once()
            found = (await there(store))["a"]
            assert found["metadata"]["finalizers"] == [RUNNING] and found["spec"]["cancel"] is True
        said = {"attempt": 1, "phase": "Cancelled"}
        await write(store, JOB, "a", lambda job, context: lifecycle.report(job, uid, said, context.now))
        assert await there(store) == {}

    with_store(body)


def test_robots_and_keys_of_a_namespace_go_when_nothing_runs_there_any_more(with_store: Any) -> None:
    """A robot that is gone, or whose key is, could not say that a job has ended."""

    async def body(store: Store) -> None:
        await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "n"}}))
        for kind, spec in (
            ("Robot", {}),
            ("ApiKey", {"role": "robot", "robotName": "x"}),
            ("Workflow", {"runner": "command"}),
        ):
            made = {"metadata": {"name": "x", "namespace": "n"}, "spec": spec}
            await store.writer.write(admission.create(KINDS[kind], made))
        viewer = {"metadata": {"name": "viewer", "namespace": "n"}, "spec": {"role": "viewer"}}
        await store.writer.write(admission.create(KINDS["ApiKey"], viewer))
        uid = await enrol(store, "outside", serves=["n"])
        await store.writer.write(admission.create(JOB, job("a", "n", requirements={"robotName": "outside"})))
        await Placement(store, recorder(store)).run_once()

        async def say(phase: str) -> None:
            said = {"attempt": 1, "phase": phase}
            await store.writer.write(
                Operation(JOB, "n", "a", lambda job, context: lifecycle.report(job, uid, said, context.now))
            )

        await say("Running")
        await store.writer.write(admission.remove(NAMESPACE, "", "n"))
        for _ in range(2):
            await Garbage(store).run_once()
            left = {kind for kind in ("Robot", "ApiKey", "Workflow", "Job") if "x" in await objects(store, KINDS[kind])}
            assert left == {"Robot", "ApiKey"} and "a" in await there(store)
            assert "viewer" not in await objects(store, KINDS["ApiKey"]), "no robot's"
        await say("Cancelled")
        await Garbage(store).run_once()
        assert await there(store) == {} and "n" not in await objects(store, NAMESPACE)
        assert "x" not in await objects(store, ROBOT) and "outside" in await objects(store, ROBOT)

    with_store(body)


@pytest.mark.parametrize("again", [True, False])
def test_one_that_a_release_before_ended_goes_when_it_is_deleted_again_or_found(with_store: Any, again: bool) -> None:
    """That release does not know what keeps the job, and leaves it on."""

    async def body(store: Store) -> None:
        for name in ("a", "stays"):
            await run(store, name, parameters={"why": RUNNING})
        await delete(store, "a")

        def end(job: Object, context: Any) -> Object:
            return {**job, "status": {**job["status"], "phase": "Cancelled", "finishedTime": times.to_text(context.now)}}

        for name in ("a", "stays"):
            await write(store, JOB, name, end)
        assert (await there(store))["a"]["metadata"]["finalizers"] == [RUNNING]
        if again:
            await store.writer.write(admission.remove(JOB, "default", "a"))
        else:
            await Garbage(store).run_once()
        assert (await there(store)).keys() == {"stays"}

    with_store(body)
