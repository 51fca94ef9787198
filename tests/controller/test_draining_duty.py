"""Drains and maintenance windows against the real store: deadlines, robots that are away, controllers that were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from casare_api.decisions import lifecycle
from casare_api.kinds import Object
from casare_api.machinery import times
from casare_controller.duties import draining as duties
from casare_controller.duties.draining import Draining
from casare_controller.duties.keys import Keys
from casare_controller.duties.placement import Placement
from casare_controller.duties.presence import Presence
from casare_store import admission
from casare_store.heartbeats import Heartbeats
from casare_store.store import Store

from ..store.conftest import ROBOT, with_store
from .test_duties import JOB, enrol, job, objects, phases, recorder, start, write
from .test_keys_duty import change as change_key
from .test_keys_duty import give

__all__ = ["with_store"]
AN_HOUR_AGO = timedelta(hours=1)


def duty(store: Store) -> Draining:
    """A controller that has just been started."""
    return Draining(store, recorder(store), "1.2.3")


async def change(store: Store, name: str = "pc", **spec: Any) -> None:
    """What people write into a robot's spec, through admission."""
    await store.writer.write(admission.update(
        ROBOT, "default", name, lambda current, context: {**current, "spec": {**current["spec"], **spec}}
    ))  # fmt: skip


async def age(store: Store, by: timedelta = AN_HOUR_AGO, name: str = "pc") -> None:
    """Lets the drain of the robot have been asked for that long ago."""

    def older(current: Object, context: Any) -> Object:
        drain = current["status"]["drain"]
        since = times.to_text(times.from_text(drain["since"]) - by, micro=True)
        return {**current, "status": {**current["status"], "drain": {**drain, "since": since}}}

    await write(store, ROBOT, name, older)


async def robot(store: Store) -> Object:
    return (await objects(store, ROBOT))["pc"]


async def conditions(store: Store) -> dict[str, tuple[str, str]]:
    found = (await robot(store))["status"].get("conditions") or []
    return {one["type"]: (one["status"], one["reason"]) for one in found if one["type"] != "Ready"}


async def silence(store: Store, uid: str) -> None:
    """The robot's heartbeats have stopped coming: it is Offline."""
    await Heartbeats(store.pool).flush({}, {uid})
    async with store.pool.connection() as connection:
        await connection.execute("UPDATE coverage SET since = since - interval '1 hour'")
        await connection.execute("UPDATE leases SET last_seen = last_seen - interval '30 seconds'")
    await Presence(store, recorder(store)).run_once()
    assert (await robot(store))["status"]["phase"] == "Offline"


def told_long_ago(current: Object, context: Any) -> Object:
    """A job whose agent was told an hour ago to give it back."""
    at = times.to_text(context.now - AN_HOUR_AGO, micro=True)
    return {**current, "status": {**current["status"], "drainTime": at}}


async def submit(store: Store, name: str = "a", **spec: Any) -> None:
    await store.writer.write(admission.create(JOB, job(name, **spec)))


async def place(store: Store) -> None:
    await Placement(store, recorder(store)).run_once()


def test_what_has_not_begun_goes_back_at_once_and_the_robot_says_that_it_is_drained(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, "pc", maxConcurrentJobs=2)
        draining = duty(store)
        await draining.run_once()
        assert await conditions(store) == {"Schedulable": ("True", "Active")}
        await submit(store)
        await place(store)
        assert await phases(store) == {"a": "Assigned"}
        await change(store, desiredState="Drained")
        await draining.run_once()
        back = (await objects(store, JOB))["a"]["status"]
        assert back["phase"] == "Queued" and back["attempts"][0]["phase"] == "Drained"
        await draining.run_once()
        assert await conditions(store) == {"Schedulable": ("False", "Drained"), "Drained": ("True", "Drained")}
        await place(store)
        assert await phases(store) == {"a": "Queued"}, "nothing new is placed on it"
        await change(store, desiredState="Active")
        await draining.run_once()
        assert await conditions(store) == {"Schedulable": ("True", "Active")}
        assert "drain" not in (await robot(store))["status"]
        await place(store)
        assert await phases(store) == {"a": "Assigned"}
        before = (await robot(store))["metadata"]["resourceVersion"]
        assert await draining.run_once() == {"robots": 0, "jobs": 0}
        assert (await robot(store))["metadata"]["resourceVersion"] == before, "a drain that is over is written once"

    with_store(body)


@pytest.mark.parametrize(
    ("then", "on_lost", "told", "ends"),
    [("Requeue", "Requeue", "drainTime", "Queued"), ("Requeue", "Fail", "drainTime", "Failed"),
     ("Requeue", "Wait", "drainTime", "Failed"), ("Cancel", "Requeue", "cancelTime", None), ("Wait", "Requeue", None, None)],
)  # fmt: skip
def test_at_the_deadline_the_agent_is_told_and_one_that_does_not_answer_is_not_waited_for(
    with_store: Any, then: str, on_lost: str, told: str | None, ends: str | None
) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "pc")
        await submit(store, retry={"onRobotLost": on_lost})
        await start(store, "a", uid)
        await change(store, desiredState="Drained", drain={"deadline": "10m", "then": then})
        await duty(store).run_once()
        assert (await conditions(store))["Drained"] == ("False", "Draining")
        assert {"drainTime", "cancelTime"}.isdisjoint((await objects(store, JOB))["a"]["status"])
        await age(store)
        for _ in range(2):
            await duty(store).run_once()  # a controller that was down comes back after the deadline
        status = (await objects(store, JOB))["a"]["status"]
        assert status["phase"] == "Running" and {"drainTime", "cancelTime"} & status.keys() == ({told} - {None})
        if ends is None:
            return

        await write(store, JOB, "a", told_long_ago)
        await duty(store).run_once()
        after = (await objects(store, JOB))["a"]["status"]
        assert after["phase"] == ends and after["attempts"][0]["phase"] == "Drained"
        await duty(store).run_once()
        assert (await conditions(store))["Drained"] == ("True", "Drained")

    with_store(body)


def test_a_robot_that_is_offline_is_drained_all_the_same_but_for_what_fences_itself(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "pc", maxConcurrentJobs=3)
        await submit(store, "again")
        await submit(store, "once", retry={"onRobotLost": "Fail"})
        await submit(store, "fenced", retry={"onRobotLost": "Requeue", "selfFence": True})
        for name in ("again", "once", "fenced"):
            await start(store, name, uid)
        await silence(store, uid)
        await change(store, desiredState="Drained", drain={"deadline": "10m"})
        await duty(store).run_once()
        assert set((await phases(store)).values()) == {"Running"}
        await age(store)
        await duty(store).run_once()
        assert await phases(store) == {"again": "Queued", "once": "Failed", "fenced": "Running"}

    with_store(body)


@pytest.mark.parametrize("by", ["drain", "window"])
def test_what_a_key_left_to_its_robot_is_not_taken_from_it_by_a_drain(with_store: Any, by: str) -> None:
    """`onRevoke: Finish`: the robot can't speak, but it runs the job. Who changes that key gives the job up."""

    async def body(store: Store) -> None:
        uid = await enrol(store, "pc", maxConcurrentJobs=2)
        await give(store, "k", robot="pc", onRevoke="Finish")
        await submit(store)
        await start(store, "a", uid)
        await change(store, **_asked(by), drain={"deadline": "10m"})
        draining = duty(store)
        await draining.run_once()
        await age(store)
        await draining.run_once()
        assert "drainTime" in (await objects(store, JOB))["a"]["status"], "as long as it has its key it is told"
        await change_key(store, "k", revoked=True)
        await silence(store, uid)
        for again in (draining, duty(store)):
            await again.run_once()
            status = (await objects(store, JOB))["a"]["status"]
            assert status["phase"] == "Running" and "drainTime" not in status, "it gets a whole grace when it is back"
        assert (await conditions(store))["Drained"] == ("False", "DeadlineOver")
        await change_key(store, "k", onRevoke="Requeue")
        await Keys(store, recorder(store)).run_once()
        assert await phases(store) == {"a": "Queued"}
        await draining.run_once()
        assert (await conditions(store))["Drained"] == ("True", "Drained")

    with_store(body)


def test_a_robot_that_has_its_key_again_is_told_before_its_job_is_taken(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "pc")
        await give(store, "k", robot="pc", onRevoke="Finish")
        await submit(store)
        await start(store, "a", uid)
        await change_key(store, "k", revoked=True)
        await silence(store, uid)
        await change(store, desiredState="Drained", drain={"deadline": "10m"})
        draining = duty(store)
        await draining.run_once()
        await age(store)
        await draining.run_once()
        await change_key(store, "k", revoked=False)
        await draining.run_once()
        status = (await objects(store, JOB))["a"]["status"]
        assert status["phase"] == "Running" and status["drainTime"]
        await write(store, JOB, "a", told_long_ago)
        await draining.run_once()
        assert await phases(store) == {"a": "Queued"}

    with_store(body)


def test_a_robot_that_was_just_locked_out_is_not_taken_for_one_that_is_leaving(with_store: Any) -> None:
    """The leases of both end before they were seen last; but the one without a key can't give anything back."""

    async def body(store: Store) -> None:
        uid = await enrol(store, "pc")
        await give(store, "k", robot="pc", onRevoke="Requeue")
        await submit(store, retry={"onRobotLost": "Wait"})
        await start(store, "a", uid)
        await change(store, desiredState="Drained", drain={"deadline": "10m"})
        await duty(store).run_once()
        await age(store)
        await change_key(store, "k", revoked=True)
        await Keys(store, recorder(store)).run_once()
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE coverage SET since = since - interval '1 hour'")
            (lease,) = await (await connection.execute("SELECT expires_at < last_seen FROM leases")).fetchall()
            assert lease == (True,)
        await Presence(store, recorder(store)).run_once()
        assert (await robot(store))["status"]["phase"] == "Offline" and await phases(store) == {"a": "Running"}
        await duty(store).run_once()
        assert await phases(store) == {"a": "Failed"}

    with_store(body)


def test_a_drain_that_cancels_cancels_what_a_key_left_to_its_robot(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "pc")
        await give(store, "k", robot="pc", onRevoke="Finish")
        await submit(store)
        await start(store, "a", uid)
        await change_key(store, "k", revoked=True)
        await silence(store, uid)
        await change(store, desiredState="Drained", drain={"deadline": "10m", "then": "Cancel"})
        await duty(store).run_once()
        await age(store)
        await duty(store).run_once()
        assert "cancelTime" in (await objects(store, JOB))["a"]["status"]

    with_store(body)


def _asked(by: str) -> Object:
    if by == "drain":
        return {"desiredState": "Drained"}
    begun = datetime.now(UTC) - timedelta(hours=1)
    return {"maintenanceWindows": [{"name": "w", "cron": f"{begun.minute} {begun.hour} * * *", "duration": "3h"}]}


def test_an_agent_that_is_leaving_still_gives_its_jobs_back_itself(with_store: Any) -> None:
    """It was told to end and says so: nothing is placed on it, but it ends what it runs and tells of it."""

    async def body(store: Store) -> None:
        uid = await enrol(store, "pc")
        await submit(store)
        await start(store, "a", uid)
        await Heartbeats(store.pool).flush({}, {uid})
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE coverage SET since = since - interval '1 hour'")
        await Presence(store, recorder(store)).run_once()
        assert (await robot(store))["status"]["phase"] == "Offline"
        await change(store, desiredState="Drained", drain={"deadline": "10m"})
        await duty(store).run_once()
        await age(store)
        await duty(store).run_once()
        status = (await objects(store, JOB))["a"]["status"]
        assert status["phase"] == "Running" and status["drainTime"]
        async with store.pool.connection() as connection:  # its last words are long ago
            await connection.execute("UPDATE leases SET last_seen = last_seen - interval '1 minute', "
                                     "expires_at = expires_at - interval '1 minute'")  # fmt: skip
        await duty(store).run_once()
        assert await phases(store) == {"a": "Queued"}

    with_store(body)


def test_jobs_that_stay_where_they_are_hide_none_that_is_to_go(
    with_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duties, "JOBS", 2)

    async def is_told(store: Store, draining: Draining, name: str, jobs: list[str], **spec: Any) -> None:
        uid = await enrol(store, name, maxConcurrentJobs=5)
        for each in jobs:
            await submit(store, each, **spec)
            await start(store, each, uid)
        await change(store, name, desiredState="Drained", drain={"deadline": "10m"})
        await draining.run_once()
        await age(store, name=name)
        await draining.run_once()
        found = await objects(store, JOB)
        assert all("drainTime" in found[each]["status"] for each in jobs)

    async def body(store: Store) -> None:
        stays, draining = [f"stays-{number}" for number in range(5)], duty(store)
        await is_told(store, draining, "pc", stays, retry={"selfFence": True})
        await is_told(store, draining, "other", ["goes"])
        await write(store, JOB, "goes", told_long_ago)
        for _ in range(4):  # two of six jobs a run, and one more to begin again
            await draining.run_once()
        assert await phases(store) == dict.fromkeys(stays, "Running") | {"goes": "Queued"}

    with_store(body)


def test_resuming_or_a_later_deadline_in_the_middle_takes_it_back(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "pc")
        await submit(store)
        await start(store, "a", uid)
        draining = duty(store)
        await change(store, desiredState="Drained", drain={"deadline": "10m"})
        await draining.run_once()
        await age(store)
        await draining.run_once()
        assert "drainTime" in (await objects(store, JOB))["a"]["status"]
        await change(store, drain={"deadline": "2h"})
        await draining.run_once()
        status = (await objects(store, JOB))["a"]["status"]
        assert status["phase"] == "Running" and "drainTime" not in status
        await change(store, drain={"deadline": "30m"})
        await draining.run_once()
        assert "drainTime" in (await objects(store, JOB))["a"]["status"]
        await change(store, desiredState="Active")
        await draining.run_once()
        status = (await objects(store, JOB))["a"]["status"]
        assert status["phase"] == "Running" and "drainTime" not in status
        await change(store, desiredState="Drained")
        await draining.run_once()
        since = times.from_text((await robot(store))["status"]["drain"]["since"])
        assert datetime.now(UTC) - since < timedelta(minutes=5), "the time counts from the last time it was asked"

    with_store(body)


def test_a_maintenance_window_drains_and_ends_by_itself(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "pc")
        await submit(store)
        await start(store, "a", uid)
        begun = datetime.now(UTC) - timedelta(hours=1)
        window = {"name": "patches", "cron": f"{begun.minute} {begun.hour} * * *", "duration": "2h"}
        draining = duty(store)
        await change(store, maintenanceWindows=[window], drain={"deadline": "10m"})
        await draining.run_once()
        found = await robot(store)
        assert found["status"]["maintenance"]["name"] == "patches" and found["spec"]["desiredState"] == "Active"
        assert (await conditions(store))["Schedulable"] == ("False", "Maintenance")
        assert "drainTime" not in (await objects(store, JOB))["a"]["status"], "a window that people make is no order to kill"
        await age(store, timedelta(minutes=11))
        await draining.run_once()
        assert "drainTime" in (await objects(store, JOB))["a"]["status"], "the agent is told to give it back"
        said = {"attempt": 1, "phase": "Drained"}
        await write(store, JOB, "a", lambda current, context: lifecycle.report(current, uid, said, context.now))
        await draining.run_once()
        await place(store)
        assert await phases(store) == {"a": "Queued"}, "nothing is placed during maintenance"
        assert await conditions(store) == {"Schedulable": ("False", "Maintenance"), "Drained": ("True", "Drained")}
        later = {**window, "cron": f"{begun.minute} {(begun.hour + 12) % 24} * * *"}
        await change(store, maintenanceWindows=[later])
        await draining.run_once()
        status = (await robot(store))["status"]
        assert "maintenance" not in status and "drain" not in status and status["nextMaintenance"]["name"] == "patches"
        await place(store)
        assert await phases(store) == {"a": "Assigned"}

    with_store(body)


def test_an_agent_of_another_release_is_shown_and_one_that_is_not_understood_gets_nothing(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await enrol(store, "pc")
        draining = duty(store)

        async def runs(**agent: Any) -> dict[str, tuple[str, str]]:
            await write(store, ROBOT, "pc", lambda current, context: {
                **current, "status": {**current["status"], "agent": agent}})  # fmt: skip
            await draining.run_once()
            return await conditions(store)

        assert "VersionSkew" not in await runs(version="1.2.3", protocol=2)
        assert await runs(version="1.1.0") == {
            "Schedulable": ("True", "Active"), "VersionSkew": ("True", "OtherVersion")}  # fmt: skip
        assert await runs(version="9.0.0", protocol=99) == {
            "Schedulable": ("False", "AgentRefused"), "VersionSkew": ("True", "TooNew")}  # fmt: skip
        await submit(store)
        await place(store)
        assert await phases(store) == {"a": "Queued"}
        await runs(version="1.2.3", protocol=2)
        await place(store)
        assert await phases(store) == {"a": "Assigned"}

    with_store(body)
