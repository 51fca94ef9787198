"""The controllers of the machine: real duties, and whatever a test likes between their look and their write."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import psycopg_pool

from casare_controller.duties.draining import Draining
from casare_controller.duties.placement import Placement
from casare_controller.duties.presence import Presence
from casare_controller.duties.timers import Timers
from casare_store.batch import OutcomeUnknown
from casare_store.events import Recorder
from casare_store.store import Store

# What is in the way when a connection is killed; anything else is a bug.
TROUBLE = (psycopg.OperationalError, psycopg_pool.PoolTimeout, OutcomeUnknown)
Step = Callable[[], Awaitable[None]]


class WatchedStore(Store):
    """A controller's store: what is to happen between a duty's look and its write happens before a batch begins."""

    meanwhile: list[Step]

    @contextlib.asynccontextmanager
    async def batch(self, keys: Any = ()) -> Any:
        while self.meanwhile:
            await self.meanwhile.pop()()
        async with super().batch(keys) as found:
            yield found


@dataclass
class Controller:
    store: WatchedStore
    duties: dict[str, Any] = field(default_factory=dict)

    @classmethod
    async def open(cls, url: str) -> Controller:
        store = await WatchedStore.open(url, pool_size=2)
        assert isinstance(store, WatchedStore)
        store.meanwhile = []
        events = Recorder(store.writer, "controller")  # never started: events are nobody's decision
        made = (Placement(store, events), Presence(store, events), Timers(store, events), Draining(store, events, "1.0"))
        return cls(store, {duty.name: duty for duty in made})

    async def run(self, duty: str, *meanwhile: Step) -> bool:
        """A run of a duty, during which this happens; whether it came to its end."""
        self.store.meanwhile = list(meanwhile)
        try:
            await self.duties[duty].run_once()
        except TROUBLE:
            return False
        finally:
            self.store.meanwhile = []
        return True
