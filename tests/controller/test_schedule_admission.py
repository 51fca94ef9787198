"""Jobs that schedules make are jobs like any others: a namespace that is full takes none, a key has one."""

from __future__ import annotations

from typing import Any

from casare_api.kinds import KINDS
from casare_store import admission
from casare_store.store import Store

from ..store.conftest import with_store
from .test_schedules_duty import FIRE, JOB, declare, duty_of, objects

__all__ = ["with_store"]
COMMAND = {"workflow": {"runner": "command", "args": ["true"]}}


def test_two_schedules_of_one_idempotency_key_make_one_job(with_store: Any) -> None:
    """Their fires are one batch, in which no query sees what the other made."""

    async def body(store: Store) -> None:
        for name in ("a", "b"):
            await declare(store, name, jobTemplate={"spec": {**COMMAND, "idempotencyKey": "k"}})
        await duty_of(store).run_once()
        jobs, fires = await objects(store, JOB), await objects(store, FIRE)
        (made,) = jobs
        assert sorted(fire["status"]["outcome"] for fire in fires.values()) == ["Fired", "Skipped"]
        (skipped,) = [fire for fire in fires.values() if fire["status"]["outcome"] == "Skipped"]
        assert skipped["status"]["reason"] == f"job {made} has the same spec.idempotencyKey"

    with_store(body)


def test_a_schedule_of_a_full_namespace_skips_and_says_why(with_store: Any) -> None:
    async def body(store: Store) -> None:
        meta = {"name": "default", "namespace": "default"}
        await store.writer.write(admission.create(KINDS["Quota"], {"metadata": meta, "spec": {"maxQueued": 2}}))
        for name in ("a", "b", "c"):
            await declare(store, name, jobTemplate={"spec": COMMAND})
        await duty_of(store).run_once()
        assert len(await objects(store, JOB)) == 2
        reasons = [fire["status"] for fire in (await objects(store, FIRE)).values()]
        (skipped,) = [one for one in reasons if one["outcome"] == "Skipped"]
        assert "its Quota allows (spec.maxQueued: 2)" in skipped["reason"]

    with_store(body)
