"""What follows from a robot's key that is taken back: its jobs come to what the key says, whoever was there to see it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from casare_api.decisions import enrolment
from casare_api.decisions import keys as rules
from casare_api.kinds import KINDS, Object
from casare_api.kinds.core import NAMESPACE
from casare_api.machinery import times
from casare_controller.duties.keys import QUIET, Keys
from casare_controller.duties.placement import Placement
from casare_controller.duties.presence import Presence
from casare_store import admission, reads
from casare_store.heartbeats import Heartbeats
from casare_store.store import Store
from casare_store.uses import Use, write

from ..store.conftest import with_store
from .test_duties import JOB, enrol, job, objects, phases, recorder, start
from .test_duties import write as overwrite

__all__ = ["with_store"]
APIKEY, EVENT, ROBOT = KINDS["ApiKey"], KINDS["Event"], KINDS["Robot"]


def hashed(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


async def give(store: Store, name: str, robot: str = "r", **spec: Any) -> Object:
    """A key for a robot."""
    said = {"role": "robot", "robotName": robot, "hash": hashed(name), **spec}
    made = await store.writer.write(
        admission.create(APIKEY, {"metadata": {"name": name, "namespace": "default"}, "spec": said})
    )
    assert made is not None
    return made


async def change(store: Store, name: str, **spec: Any) -> None:
    def changed(current: Object, context: Any) -> Object:
        return {**current, "spec": {**current["spec"], **spec}}

    await store.writer.write(admission.update(APIKEY, "default", name, changed))


async def take_back(store: Store, how: str) -> None:
    """The key `k`, in one of the ways that there are."""
    if how == "revoked":
        await change(store, "k", revoked=True)
    elif how == "expired":
        await change(store, "k", expiresAt=times.to_text(datetime.now(UTC) - timedelta(seconds=1)))
        await overwrite(store, JOB, "j", earlier)
    else:
        await store.writer.write(admission.remove(APIKEY, "default", "k"))


def earlier(current: Object, context: Any) -> Object:
    """A job that was assigned before the key ran out."""
    at = times.to_text(context.now - timedelta(minutes=1), micro=True)
    return {**current, "status": {**current["status"], "assignedTime": at}}


async def presences(store: Store) -> dict[str, str]:
    await Presence(store, recorder(store)).run_once()
    return {name: one["status"]["phase"] for name, one in (await objects(store, ROBOT)).items()}


@pytest.mark.parametrize("how", ["revoked", "expired", "deleted"])
@pytest.mark.parametrize(("on_revoke", "phase"), [("Requeue", "Queued"), ("Cancel", "Cancelled")])
def test_the_last_key_decides_what_becomes_of_the_jobs(with_store: Any, how: str, on_revoke: str, phase: str) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "r")
        await Heartbeats(store.pool).flush({uid: None})
        await give(store, "k", onRevoke=on_revoke)
        await store.writer.write(admission.create(JOB, job("j")))
        await start(store, "j", uid)
        duty = Keys(store, recorder(store))
        assert not any((await duty.run_once()).values())
        await take_back(store, how)
        assert (await duty.run_once())["jobs"] == 1
        found = (await objects(store, JOB))["j"]["status"]
        assert (found["phase"], found["attempts"][-1]["reason"]) == (phase, "KeyRevoked")
        assert ("k" in await objects(store, APIKEY)) is (how != "deleted")
        assert await presences(store) == {"r": "Offline"}
        await Placement(store, recorder(store)).run_once()
        assert await phases(store) == {"j": phase}, "it gets nothing new"
        done = await duty.run_once()
        assert not done["jobs"] and not done["offline"] and duty.every < QUIET, "a heartbeat may be late"

    with_store(body)


def test_a_deleted_key_waits_for_the_controller(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "r")
        await give(store, "k", onRevoke="Cancel")
        await give(store, "finishing", robot="other", onRevoke="Finish")
        await store.writer.write(admission.create(JOB, job("j")))
        await start(store, "j", uid)
        for name in ("k", "finishing"):
            await store.writer.write(admission.remove(APIKEY, "default", name))
        left = await objects(store, APIKEY)
        assert list(left) == ["k"] and left["k"]["metadata"]["deletionTimestamp"] and not rules.good(left["k"])
        await Keys(store, recorder(store)).run_once()
        assert await phases(store) == {"j": "Cancelled"} and not await objects(store, APIKEY)

    with_store(body)


def test_a_robot_with_another_good_key_goes_on(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "r")
        for name in ("k", "other"):
            await give(store, name)
        await store.writer.write(admission.create(JOB, job("j")))
        await start(store, "j", uid)
        await take_back(store, "deleted")
        await Keys(store, recorder(store)).run_once()
        assert await phases(store) == {"j": "Running"} and await presences(store) == {"r": "Busy"}
        assert list(await objects(store, APIKEY)) == ["other"]

    with_store(body)


def test_a_key_of_the_robot_of_this_name_before_is_no_other_good_key(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "r")
        await give(store, "k")
        old = await give(store, "old")  # whose robot was deleted without it
        robot = {"metadata": {"uid": "01900000-0000-7000-8000-000000000001"}}
        await overwrite(store, APIKEY, "old", lambda key, context: enrolment.bound(key, robot))
        await store.writer.write(admission.create(JOB, job("j")))
        await start(store, "j", uid)
        await take_back(store, "revoked")
        assert rules.good((await objects(store, APIKEY))["old"]) == rules.good(old), "it is good, but not for this one"
        assert (await Keys(store, recorder(store)).run_once())["jobs"] == 1
        assert await phases(store) == {"j": "Queued"}

    with_store(body)


def test_a_job_of_another_namespace_comes_to_the_same(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "team"}}))
        await enrol(store, "r", serves=["*"])
        await give(store, "k", onRevoke="Cancel")
        await store.writer.write(admission.create(JOB, job("j", "team")))
        await Placement(store, recorder(store)).run_once()
        assert await phases(store) == {"j": "Assigned"}
        await take_back(store, "revoked")
        await Keys(store, recorder(store)).run_once()
        assert await phases(store) == {"j": "Cancelled"}

    with_store(body)


@pytest.mark.parametrize(("on_lost", "phase"), [("Fail", "Failed"), ("Wait", "Running")])
def test_what_may_run_once_is_not_started_again(with_store: Any, on_lost: str, phase: str) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "r")
        await give(store, "k")
        await store.writer.write(admission.create(JOB, job("j", retry={"onRobotLost": on_lost})))
        await start(store, "j", uid)
        await take_back(store, "revoked")
        duty = Keys(store, recorder(store))
        await duty.run_once()
        assert await phases(store) == {"j": phase}
        assert (await duty.run_once())["jobs"] == 0

    with_store(body)


@pytest.mark.parametrize(("on_revoke", "phase"), [("Finish", "Running"), ("Requeue", "Queued")])
def test_with_finish_a_silent_robot_keeps_its_job(with_store: Any, on_revoke: str, phase: str) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "r")
        await give(store, "k", onRevoke=on_revoke)
        await store.writer.write(admission.create(JOB, job("j", lostAfter="1s")))
        await start(store, "j", uid)
        await take_back(store, "revoked")
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE coverage SET since = now() - interval '1 hour'")
            await connection.execute(
                "UPDATE leases SET last_seen = now() - interval '5 min', expires_at = now() - interval '4 min'"
            )
        assert await presences(store) == {"r": "Offline"}
        assert await phases(store) == {"j": phase}

    with_store(body)


@pytest.mark.parametrize("how", ["restored", "prolonged", "another"])
def test_a_robot_that_has_a_key_again_has_its_time_to_say_how_its_job_ended(with_store: Any, how: str) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "r")
        await give(store, "k", onRevoke="Finish")
        await store.writer.write(admission.create(JOB, job("j")))
        await start(store, "j", uid)
        await take_back(store, "expired" if how == "prolonged" else "revoked")
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE coverage SET since = now() - interval '1 hour'")
            await connection.execute(
                "UPDATE leases SET last_seen = now() - interval '5 min', expires_at = now() - interval '4 min'"
            )
        assert await presences(store) == {"r": "Offline"} and await phases(store) == {"j": "Running"}
        if how == "another":
            await give(store, "other")
        else:
            await change(store, "k", revoked=False, expiresAt=None)
        assert await presences(store) == {"r": "Offline"}
        assert await phases(store) == {"j": "Running"}, "its agent has not tried again yet"
        good = "other" if how == "another" else "k"
        await overwrite(store, APIKEY, good, long_good)
        await presences(store)
        assert await phases(store) == {"j": "Queued"}, "it is lost after all"

    with_store(body)


def long_good(key: Object, context: Any) -> Object:
    """A key that was given out, and given back, an hour ago."""
    at = times.to_text(context.now - timedelta(hours=1))
    return {**key, "status": key["status"] | {name: at for name in ("issuedTime", "restoredTime") if name in key["status"]}}


def test_a_robot_that_calls_with_another_key_than_its_own_is_left_alone(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = await enrol(store, "r")
        await give(store, "k")
        await take_back(store, "revoked")
        long_ago = "2026-01-01T00:00:00.000000Z"
        await overwrite(
            store, APIKEY, "k",
            lambda current, context: {**current, "status": {**current["status"], "revokedTime": long_ago}},
        )  # fmt: skip
        await store.writer.write(admission.create(JOB, job("j")))
        await start(store, "j", uid)
        done = await Keys(store, recorder(store)).run_once()
        assert not any(done.values())
        assert await phases(store) == {"j": "Running"} and await presences(store) == {"r": "Busy"}

    with_store(body)


def test_people_are_told_of_keys_that_are_due_and_overlaps_are_tidied_away(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await give(store, "robots", rotation={"every": "1ms"})
        await give(store, "due", role="viewer", rotation={"every": "1ms"})
        await give(store, "fresh", role="viewer", rotation={"every": "90d"})
        await give(store, "over", role="viewer", rotation={"overlap": "1ms"})
        await give(store, "within", role="viewer", rotation={"overlap": "1h"})
        for name in ("over", "within"):
            await change(store, name, hash=hashed(name + " anew"))
        events = recorder(store)
        duty = Keys(store, events)
        assert (await duty.run_once())["tidied"] == 2
        await events.flush()
        found = await objects(store, APIKEY)
        assert [name for name, key in found.items() if rules.says_due(key)] == ["due"]
        assert [name for name, key in found.items() if "previousHash" in key["status"]] == ["within"]
        told = [(one["reason"], one["involvedObject"]["name"]) for one in (await objects(store, EVENT)).values()]
        assert told == [("RotationDue", "due")]
        assert (await Keys(store, recorder(store)).run_once())["tidied"] == 0

    with_store(body)


def test_a_use_is_written_once_a_minute_and_shown_with_the_key(with_store: Any) -> None:
    async def body(store: Store) -> None:
        uid = (await give(store, "k"))["metadata"]["uid"]

        async def shown() -> tuple[str, str]:
            text = await reads.get(store.pool, APIKEY, "default", "k")
            status = orjson.loads(text or b"")["status"]
            assert (await objects(store, APIKEY))["k"]["status"] == status
            return status["lastUsedTime"], status["lastUsedIP"]

        await write(store.pool, [Use(uid, 180.0, 'a "quoted" host')])
        first = await shown()
        assert first[1] == 'a "quoted" host'
        await write(store.pool, [Use(uid, 150.0, "b")])
        assert await shown() == first, "another apiserver wrote within the minute"
        await write(store.pool, [Use(uid, 0.0, "c")])
        assert (await shown())[1] == "c"
        await change(store, "k", description="x")
        assert (await shown())[1] == "c"

    with_store(body)
