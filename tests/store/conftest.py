"""What the store's tests share: an open store, robots to write, and a way to run them on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from casare_api.kinds import KINDS, Object
from casare_api.kinds.core import NAMESPACE
from casare_store import admission
from casare_store.operations import Operation
from casare_store.sealing import Sealer
from casare_store.store import Store

T = TypeVar("T")
ROBOT = KINDS["Robot"]


def robot(name: str, **spec: Any) -> Object:
    """An admitted Robot."""
    return {
        "apiVersion": "fleet.casare.net/v1", "kind": "Robot", "metadata": {"name": name, "namespace": "default"},
        "spec": {"environment": "default", "maxConcurrentJobs": 1, "desiredState": "Active", **spec},
    }  # fmt: skip


def labelled(name: str, **labels: str) -> Object:
    made = robot(name)
    return {**made, "metadata": {**made["metadata"], "labels": labels}}


def relabel(name: str, **labels: str) -> Operation:
    """Gives a robot other labels."""
    return admission.update(
        ROBOT,
        "default",
        name,
        lambda current, context: {**current, "metadata": {**current["metadata"], "labels": labels}},
    )


@pytest.fixture
def with_store(database: str) -> Callable[[Callable[[Store], Awaitable[T]]], T]:
    """Runs an async test body with an open store that has the default namespace."""

    def run(body: Callable[[Store], Awaitable[T]]) -> T:
        async def main() -> T:
            store = await Store.open(database)
            try:
                await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "default"}}))
                return await body(store)
            finally:
                await store.close()

        return asyncio.run(asyncio.wait_for(main(), 120))

    return run


def run(url: str, *bodies: tuple[Sealer | None, Callable[[Store], Awaitable[None]]]) -> None:
    """Runs each body with a store that has this sealer, one after the other, on one database."""

    async def main() -> None:
        for number, (sealer, body) in enumerate(bodies):
            store = await Store.open(url, sealer=sealer)
            try:
                if not number:
                    await store.writer.write(admission.create(NAMESPACE, {"metadata": {"name": "default"}}))
                await body(store)
            finally:
                await store.close()

    asyncio.run(asyncio.wait_for(main(), 120))
