"""Schedules against the real store: one that can't fire keeps none of the others from theirs."""

from __future__ import annotations

from typing import Any

import orjson

from casare_api.kinds import KINDS, Object
from casare_controller.duties.schedules import Schedules
from casare_store import reads
from casare_store.events import Recorder
from casare_store.store import Store
from casare_store.writer import Operation

from ..store.conftest import with_store

__all__ = ["with_store"]
SCHEDULE, JOB = KINDS["Schedule"], KINDS["Job"]


async def declare(store: Store, name: str, cron: str) -> None:
    """A schedule that is due, past admission: as an older release, or a bug, might have left it."""
    spec = {"cron": cron, "timeZone": "UTC",
            "jobTemplate": {"spec": {"workflow": {"runner": "command", "args": ["true"]}}}}
    made = {"apiVersion": "fleet.casare.net/v1", "kind": "Schedule", "metadata": {"name": name, "namespace": "default"},
            "spec": spec, "status": {"nextFireTime": "2026-01-01T00:00:00Z"}}  # fmt: skip
    await store.writer.write(Operation(SCHEDULE, "default", name, lambda current, context: made))


async def objects(store: Store, kind: Any) -> dict[str, Object]:
    page = await reads.read(store.pool, reads.Query(kind))
    return {one["metadata"]["name"]: one for one in orjson.loads(b"[" + b",".join(page.chunks) + b"]")}


def test_a_schedule_that_cannot_fire_is_set_aside_and_the_others_fire(with_store: Any) -> None:
    async def body(store: Store) -> None:
        for name, cron in (("a-broken", "not a cron"), ("b-good", "0 0 1 1 *"), ("c-broken", "99 * * * *")):
            await declare(store, name, cron)
        duty = Schedules(store, Recorder(store.writer, "test"))
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
