"""Attempts that end because their robot is silent: decided by what is so at the time of the write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from casare_api.decisions import keys as rules
from casare_api.kinds import Object
from casare_controller.duties.presence import Presence
from casare_store import admission
from casare_store.batch import Batch
from casare_store.heartbeats import Heartbeats
from casare_store.store import Store

from ..history import somebody_waits
from ..store.conftest import ROBOT, with_store
from .test_duties import JOB, enrol, job, phases, recorder, silent_for, start
from .test_duties import write as overwrite
from .test_keys_duty import APIKEY, change, give, hashed, long_good

__all__ = ["with_store"]


async def with_a_silent_robot(store: Store, **spec: Any) -> str:
    """A job that runs on a robot with a key, which has been silent for long; the robot's uid."""
    uid = await enrol(store, "r")
    await give(store, "k", onRevoke="Finish")
    await overwrite(store, APIKEY, "k", long_good)
    await store.writer.write(admission.create(JOB, job("j", **spec)))
    await start(store, "j", uid)
    await silent_for(store, "8 hours")
    return uid


async def nothing(store: Store, batch: Batch, uid: str) -> None:
    """The robot is as silent as it was."""


async def a_heartbeat(store: Store, batch: Batch, uid: str) -> None:
    await Heartbeats(store.pool).flush({uid: None})


async def a_revocation(store: Store, batch: Batch, uid: str) -> None:
    """The robot keeps what it runs, though it can't say so."""
    await key_becomes(batch, revoked=True)


async def a_restoration(store: Store, batch: Batch, uid: str) -> None:
    """The key ran out a while ago, and is prolonged."""
    await key_becomes(batch, expiresAt=None)


async def key_becomes(batch: Batch, **spec: Any) -> None:
    (key,) = await batch.objects(APIKEY, "t.name = 'k'")
    new = {**key, "spec": {**key["spec"], **spec}}
    batch.stage(APIKEY, key, {**new, "status": rules.settled(key, new, batch.now)})
    await batch.commit()


def ran_out(current: Object, context: Any) -> Object:
    """A key that expired, whose jobs were to go back to the queue."""
    spec = current["spec"] | {"expiresAt": "2026-01-01T00:00:00Z", "onRevoke": "Requeue"}
    return {**current, "spec": spec}


@pytest.mark.parametrize(
    ("between", "phase"),
    [(nothing, "Queued"), (a_heartbeat, "Running"), (a_revocation, "Running"), (a_restoration, "Running")],
)
def test_what_changes_before_the_write_counts(
    with_store: Any, between: Callable[[Store, Batch, str], Awaitable[None]], phase: str
) -> None:
    async def body(store: Store) -> None:
        uid = await with_a_silent_robot(store)
        if between is a_restoration:
            await overwrite(store, APIKEY, "k", ran_out)
        duty = Presence(store, recorder(store))
        await duty._set_all([uid], False)
        async with store.batch() as batch:  # the duty has read, and waits for the lock
            losing = asyncio.create_task(duty._end_lost_attempts())
            await somebody_waits(store.url)
            await between(store, batch, uid)
        assert await losing == (phase == "Queued")
        assert await phases(store) == {"j": phase}

    with_store(body)


@pytest.mark.parametrize(("overlap", "phase"), [("10m", "Queued"), ("0s", "Running")])
def test_a_rotation_gives_a_silent_robot_more_time_only_if_it_had_no_good_key(
    with_store: Any, overlap: str, phase: str
) -> None:
    async def body(store: Store) -> None:
        await with_a_silent_robot(store)
        await change(store, "k", hash=hashed("new"), rotation={"overlap": overlap})
        await Presence(store, recorder(store)).run_once()
        assert await phases(store) == {"j": phase}

    with_store(body)


def test_what_fences_itself_also_waits_for_the_lease_of_its_deleted_robot(with_store: Any) -> None:
    """Its agent ends it by the longer of the two, and may know of no deletion."""

    async def body(store: Store) -> None:
        uid = await enrol(store, "r", maxConcurrentJobs=2)
        for name, is_fenced in (("fenced", True), ("plain", False)):
            retry = {"onRobotLost": "Requeue", "selfFence": is_fenced}
            await store.writer.write(admission.create(JOB, job(name, retry=retry, lostAfter="5s")))
            await start(store, name, uid)
        await store.writer.write(admission.remove(ROBOT, "default", "r"))
        duty = Presence(store, recorder(store))
        await silent_for(store, "5 minutes", lease="10 minutes")
        await duty.run_once()
        assert await phases(store) == {"fenced": "Running", "plain": "Queued"}
        await silent_for(store, "11 minutes", lease="10 minutes")
        await duty.run_once()
        assert await phases(store) == {"fenced": "Queued", "plain": "Queued"}

    with_store(body)
