"""How many writes a second does the store commit, one by one and with group commit?

Clients are coroutines of one process: each creates a Robot of 700 bytes, updates it, and goes on with the next one, so
half of the writes are creations and half are updates. One by one, a write is a transaction of its own on a connection
of its own, with the same code and in the same ordered log. A write counts when its commit was confirmed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import samples
from casare_api.kinds import Object
from casare_api.kinds.core import NAMESPACE
from casare_api.kinds.robot import ROBOT
from casare_api.machinery.admission import admit
from casare_store import admission
from casare_store import batch as batches
from casare_store.connection import connect_for_batches
from casare_store.operations import Context, Operation, apply
from casare_store.pipeline import Connection
from casare_store.writer import Writer
from measuring import Round

CLIENTS = (1, 16, 64, 256)
CONNECTIONS = 64  # at most, one by one: the embedded server allows 100, and they wait for each other anyway
SPACE = "default"
Write = Callable[[Operation], Awaitable[Any]]
_ADMITTED, _ = admit(ROBOT, samples.robot(SPACE, "r-000000000"))  # what is measured begins behind validation


@dataclass(slots=True)
class Bench:
    """The store under measurement: a writer, connections for single writes, and names that no round uses twice."""

    writer: Writer
    connections: asyncio.Queue[Connection] = field(default_factory=asyncio.Queue)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    written: int = 0

    async def together(self, operation: Operation) -> Any:
        """A write with group commit."""
        return await self.writer.write(operation)

    async def alone(self, operation: Operation) -> Any:
        """A write as a batch of one on the next connection that is free."""
        connection = await self.connections.get()
        try:
            async with batches.begin(connection) as batch:
                known = await batch.read({operation.key, *operation.reads})
                new = apply(batch, operation, Context(batch.now, known, batch.also))
                await batch.commit()
            return new
        finally:
            self.connections.put_nowait(connection)

    async def round(self, write: Write, clients: int, seconds: float) -> Round:
        """One round: that many clients write until the time is over; their last writes are waited for."""
        latencies: list[float] = []
        begun = perf_counter()
        await asyncio.gather(*[self._client(write, begun + seconds, latencies) for _ in range(clients)])
        self.written += len(latencies)
        return Round.of(latencies, perf_counter() - begun)

    async def _client(self, write: Write, until: float, latencies: list[float]) -> None:
        made: Object | None = None
        while (begun := perf_counter()) < until:
            operation = self._create() if made is None else _update(made)
            new = await write(operation)
            made = new if made is None else None
            latencies.append(perf_counter() - begun)

    def _create(self) -> Operation:
        metadata = {**_ADMITTED["metadata"], "name": f"r-{next(self.numbers):09d}"}
        return admission.create(ROBOT, {**_ADMITTED, "metadata": metadata})


def _update(made: Object) -> Operation:
    """Changes what a person might: the tags."""
    name, spec = made["metadata"]["name"], {**made["spec"], "tags": ["invoices", "quarter-end", "sap"]}
    return admission.update(ROBOT, SPACE, name, lambda current, context: {**current, "spec": spec})


async def measure(url: str, rounds: int, seconds: float, before: Callable[[], None]) -> tuple[dict[str, Any], int]:
    """Rounds by (way, clients), ways and clients in turn so that a noisy moment hits all; and how many were written.

    `before` is called before each round.
    """
    found: dict[str, dict[int, list[Round]]] = {"one by one": {}, "group commit": {}}
    async with AsyncExitStack() as stack:
        bench = await _open(url, stack)
        await bench.round(bench.together, 64, seconds / 2)
        await bench.round(bench.alone, 16, seconds / 2)
        for _, clients, (way, write) in itertools.product(
            range(rounds), CLIENTS, (("one by one", bench.alone), ("group commit", bench.together))
        ):
            before()
            found[way].setdefault(clients, []).append(await bench.round(write, clients, seconds))
    return found, bench.written


async def _open(url: str, stack: AsyncExitStack) -> Bench:
    bench = Bench(Writer(url))
    await bench.writer.start()
    stack.push_async_callback(bench.writer.stop)
    await bench.writer.write(admission.create(NAMESPACE, samples.namespace(SPACE)))
    bench.written += 1
    for _ in range(CONNECTIONS):
        connection = await connect_for_batches(url, "bench")
        stack.push_async_callback(connection.close)
        bench.connections.put_nowait(connection)
    return bench
