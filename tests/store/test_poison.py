"""One operation that can't be written is refused by itself, wherever it is found out; the writer goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from casare_api.kinds import KINDS, Object
from casare_api.machinery.errors import ApiError
from casare_store import admission, logs, reads, settling
from casare_store.operations import Operation
from casare_store.store import Store

from .conftest import ROBOT, labelled, robot

WithStore = Callable[[Callable[[Store], Awaitable[Any]]], Any]


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """The servers' own log, one line an entry: the default draws pictures of tracebacks for seconds."""
    logs.configure("test")


def outcome(found: object) -> object:
    return found.status if isinstance(found, ApiError) else found


def bad(name: str, **spec: Any) -> Object:
    return {**robot(name), "spec": {**robot(name)["spec"], **spec}}


POISONS: dict[str, tuple[Operation, int]] = {
    "a key that Postgres can't read": (admission.create(ROBOT, robot("a\x00b")), 422),
    "a label that Postgres can't keep": (admission.create(ROBOT, labelled("p", site="a\x00b")), 422),
    "a value of the wrong type": (admission.create(ROBOT, bad("p", environment={"no": "text"})), 500),
    "a number too great for its column": (admission.create(ROBOT, bad("p", maxConcurrentJobs=2**40)), 500),
    "a number against the constraint": (admission.create(ROBOT, bad("p", maxConcurrentJobs=101)), 422),
    "a time that is none": (admission.create(KINDS["Event"], {
        "metadata": {"namespace": "default", "name": "p"}, "involvedObject": {}, "lastTimestamp": "yesterday",
    }), 422),
    "a change that is a bug": (admission.update(ROBOT, "default", "there", lambda current, context: 1 / 0), 500),
}  # fmt: skip


@pytest.mark.parametrize("poison", sorted(POISONS))
@pytest.mark.parametrize("position", [0, 10, 20])
def test_the_others_of_its_batch_are_written(with_store: WithStore, poison: str, position: int) -> None:
    operation, code = POISONS[poison]

    async def body(store: Store) -> list[object]:
        await store.writer.write(admission.create(ROBOT, robot("there")))
        good = [admission.create(ROBOT, robot(f"r{number:02}")) for number in range(20)]
        batch = [*good[:position], operation, *good[position:]]
        found = await asyncio.gather(*map(store.writer.write, batch), return_exceptions=True)
        assert outcome(found.pop(position)) == code
        assert all(isinstance(one, dict) for one in found), found
        await store.writer.write(admission.create(ROBOT, robot("afterwards")))
        page = await reads.read(store.pool, reads.Query(ROBOT))
        assert b"".join(page.chunks).count(b'"kind":"Robot"') == 22
        return found

    with_store(body)


def test_what_was_refused_leaves_nothing_beside_the_rows(with_store: WithStore) -> None:
    """A job that has no row is not remembered as declared."""

    async def body(store: Store) -> None:
        job: Object = {
            "apiVersion": "fleet.casare.net/v1", "kind": "Job", "spec": {"workflow": {"runner": "x"}, "priority": 10},
            "metadata": {"namespace": "default", "name": "j", "annotations": {settling.DECLARED: "content"},
                         "ownerReferences": [{"uid": 5}]},
        }  # fmt: skip
        with pytest.raises(ApiError) as refused:
            await store.writer.write(admission.create(KINDS["Job"], job))
        assert refused.value.status == 422
        async with store.pool.connection() as connection:
            found = await (await connection.execute("SELECT count(*) FROM declared")).fetchone()
        assert found == (0,)

    with_store(body)
