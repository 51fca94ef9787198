"""A commit whose connection broke: Postgres is asked what became of it, and nothing else is believed."""

from __future__ import annotations

from typing import Any

import pytest

from casare_store import admission, batch
from casare_store.batch import OutcomeUnknown
from casare_store.connection import connect_for_batches
from casare_store.store import Store

from .conftest import ROBOT, relabel, robot

KEY = ("Robot", "default", "r")


def test_another_batch_that_looks_the_same_is_not_taken_for_the_one_that_broke(with_store: Any) -> None:
    """Both change the same object and get the same revision: the first was never committed."""

    async def body(store: Store) -> None:
        await store.writer.write(admission.create(ROBOT, robot("r")))
        connection = await connect_for_batches(store.url, "test")
        with pytest.raises(ConnectionAbortedError):
            async with batch.begin(connection, [KEY]) as lost:
                old = lost.known[KEY]
                lost.stage(ROBOT, old, {**old, "metadata": {**old["metadata"], "labels": {"mine": "1"}}})
                await lost.send()
                raise ConnectionAbortedError
        await connection.close()
        made = await store.writer.write(relabel("r", other="1"))
        assert made is not None and made["metadata"]["resourceVersion"] == str(lost.rv)
        async with store.batches.connection() as other:
            assert not await batch.committed(other, OutcomeUnknown(lost.changes[0].logged, lost.xid))

    with_store(body)


def test_what_was_committed_is_known_to_be(with_store: Any) -> None:
    async def body(store: Store) -> None:
        await store.writer.write(admission.create(ROBOT, robot("r")))
        async with store.batch([KEY]) as kept:
            old = kept.known[KEY]
            kept.stage(ROBOT, old, {**old, "metadata": {**old["metadata"], "labels": {"mine": "1"}}})
            await kept.commit()
        async with store.batches.connection() as other:
            first = kept.changes[0].logged
            assert await batch.committed(other, OutcomeUnknown(first, kept.xid))
            assert not await batch.committed(other, OutcomeUnknown(first, str(int(kept.xid) + 1))), "by another"
            changed = first._replace(object=first.object.replace(b"mine", b"ours"))
            assert not await batch.committed(other, OutcomeUnknown(changed, kept.xid)), "a number that was given again"

    with_store(body)
