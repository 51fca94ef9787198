"""Which rows of the audit log are dropped: the oldest, by the thousand, and the log says so itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest

from casare_api.decisions.audit_chain import Check, Link
from casare_api.decisions.auditing import Caller
from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_controller.duties.audit import Audit, age_of
from casare_store import admission, auditing
from casare_store.store import Store

from ..store.conftest import ROBOT, relabel, robot, with_store

__all__ = ["with_store"]
ANN = Caller("ann", "operator", "10.0.0.7", "patch", "robots")


async def write(store: Store, count: int) -> None:
    """So many rows, in as many batches as it takes."""
    auditing.CALLER.set(ANN)
    await store.writer.write(admission.create(ROBOT, robot("r")))
    for done in range(0, count - 1, 400):
        number = min(400, count - 1 - done)
        await store.writer.submit([relabel("r", at=str(done + one)) for one in range(number)])
    auditing.CALLER.set(None)


async def whole(store: Store) -> Check:
    """The log, once every row of it was looked at."""
    page = await auditing.read(store.pool, auditing.Query(after=0, limit=10_000))
    check = Check(page.start)
    for row in page.rows:
        check.add(row)
    check.finish(page.end)
    return check


def test_old_rows_go_by_the_thousand_and_the_rest_is_still_whole(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "DROPPED_AT_ONCE", 20)

    async def body(store: Store) -> None:
        await write(store, 50)
        assert (await whole(store)).last.seq == 50
        assert await Audit(store, timedelta(days=1)).run_once() == {"dropped": 0}
        assert await Audit(store, None).run_once() == {"dropped": 0}
        async with store.pool.connection() as connection:
            await connection.execute("UPDATE audit SET at = at - interval '3 days' WHERE seq <= 45")
        assert await Audit(store, timedelta(days=2)).run_once() == {"dropped": 40}
        found = await whole(store)
        assert (found.start.seq, found.count, found.dropped) == (40, 12, found.start)
        assert found.last.seq == 52  # each range that went has a row that tells of it
        assert await Audit(store, timedelta(days=2)).run_once() == {"dropped": 0}

    with_store(body)


def test_a_batch_that_fails_leaves_neither_rows_nor_a_gap(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await write(store, 3)
        with pytest.raises(RuntimeError):
            async with store.batch() as batch:
                batch.by = ANN
                batch.stage(ROBOT, None, {**robot("x"), "metadata": {**robot("x")["metadata"], "uid": "0" * 32}})
                raise RuntimeError
        with pytest.raises(ApiError, match="already exists"):
            await write(store, 1)
        auditing.CALLER.set(ANN)
        await store.writer.write(relabel("r", at="last"))
        found = await whole(store)
        assert found.last.seq == 4 and found.start == Link()

    with_store(body)


def test_all_apiservers_make_one_chain(with_store: Any) -> None:
    async def body(store: Store) -> None:
        other = await Store.open(store.url)
        auditing.CALLER.set(ANN)
        try:
            for number in range(20):
                names = [f"{letter}{number}-{one}" for letter in "ab" for one in range(5)]
                makes = [admission.create(ROBOT, robot(name)) for name in names]
                await asyncio.gather(store.writer.submit(makes[:5]), other.writer.submit(makes[5:]))
        finally:
            await other.close()
        found = await whole(store)
        told = [name for row in await rows(store) for name in row.get("names") or [row["name"]]]
        assert len(told) == len(set(told)) == 200 and found.count == len(await rows(store))

    with_store(body)


async def rows(store: Store) -> list[Object]:
    page = await auditing.read(store.pool, auditing.Query(after=0, limit=1000))
    return [orjson.loads(row.entry) for row in page.rows]


def test_the_setting_says_days() -> None:
    assert age_of({}) == timedelta(days=400) and age_of({"CASARE_AUDIT_DAYS": "7"}) == timedelta(days=7)
    assert age_of({"CASARE_AUDIT_DAYS": "0"}) is None
    for wrong in ("-1", "a year", "1.5", "9" * 40):
        with pytest.raises(ValueError, match=r"CASARE_AUDIT_DAYS is .*: give a whole number of days"):
            age_of({"CASARE_AUDIT_DAYS": wrong})
