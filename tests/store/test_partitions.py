"""Partitions of the log that are made in a batch which is rolled back: history goes on all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from casare_store import admission, partitions
from casare_store.store import Store

from .conftest import ROBOT, robot


def test_a_partition_that_was_rolled_back_is_made_again(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "WIDTH", 200)

    async def body(store: Store) -> None:
        first = [admission.create(ROBOT, robot(f"a{number}")) for number in range(180)]
        await asyncio.gather(*map(store.writer.write, first))
        across = [admission.create(ROBOT, robot(f"b{number}")) for number in range(200)]
        twin = admission.create(ROBOT, robot("twin", robotId="b0"))  # Postgres refuses it, and with it the whole batch
        answers = await asyncio.gather(*map(store.writer.write, [*across, twin]), return_exceptions=True)
        assert [getattr(one, "status", 201) for one in answers if isinstance(one, Exception)] == [409]
        after = [admission.create(ROBOT, robot(f"c{number}")) for number in range(5)]
        await asyncio.gather(*map(store.writer.write, after))
        assert (await store.head()).rv == 1 + 180 + 200 + 5

    with_store(body)


def test_a_writer_whose_connection_was_closed_makes_another(with_store: Any) -> None:
    async def body(store: Store) -> None:
        for number in range(2):  # one for each of its connections, which take turns
            for lane in store.writer.lanes:
                await lane.close()
            made = await store.writer.write(admission.create(ROBOT, robot(f"r{number}")))
            assert made is not None and made["metadata"]["resourceVersion"] == str(2 + number)

    with_store(body)
