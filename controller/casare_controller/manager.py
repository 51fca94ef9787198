"""When does which duty run, and on which controller?

Each duty has a task: it waits for news or for its timer, holds the duty's lock, and runs `run_once()`.
Losing a wake-up costs latency, never correctness: every duty looks at how things stand. The locks are a session's, so
that a controller that dies gives them up at once; two that both believe to hold one do no harm, since every change is
decided again under the store's history lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg
import psycopg_pool
import structlog
from psycopg import AsyncConnection

from casare_store import news
from casare_store.batch import OutcomeUnknown
from casare_store.connection import connect
from casare_store.store import Store

LOCKS = 0x0CA5A5E2  # the first argument of every duty's advisory lock
BELIEVED = 0.5  # seconds that a look at a lock is good for: a placement takes less time than looking again
TAKE_OVER_EVERY = 1.0  # seconds between tries for a lock that somebody else holds
log = structlog.get_logger(__name__)


class Duty(Protocol):
    """One duty: `every` seconds at the latest, sooner when one of the kinds it `watches` changes."""

    name: str
    every: float
    watches: frozenset[str]

    async def run_once(self) -> dict[str, int]:
        """Moves what is toward what is wanted; returns what was done, by name. Empty or zeros: nothing to do."""
        ...


@dataclass(slots=True)
class Locks:
    """The duties' locks that this process holds, on one connection of its own."""

    url: str
    connection: AsyncConnection[Any] | None = None
    held: set[str] = field(default_factory=set)
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, float] = field(default_factory=dict)  # when the database last said so
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def hold(self, name: str) -> bool:
        """Whether this process holds the duty's lock, as of a moment ago; takes it when it is free."""
        async with self._turn:
            if self.clock() - self._seen.get(name, -BELIEVED) < BELIEVED:
                return True
            try:
                if self.connection is None or self.connection.closed:
                    self.held.clear()
                    self._seen.clear()
                    self.connection = await connect(self.url, "duties")
                query = "SELECT 1" if name in self.held else "SELECT pg_try_advisory_lock(%s, hashtext(%s))"
                cursor = await self.connection.execute(query, () if name in self.held else (LOCKS, name))
                found = await cursor.fetchone()
            except psycopg.OperationalError:
                await self.release()
                raise
            if found and found[0]:
                self.held.add(name)
                self._seen[name] = self.clock()
            return name in self.held

    async def release(self) -> None:
        """Gives all locks up."""
        self.held.clear()
        self._seen.clear()
        if self.connection is not None:
            await self.connection.close()
            self.connection = None


@dataclass(slots=True)
class Manager:
    """Runs duties until it is stopped."""

    store: Store
    duties: list[Duty]
    locks: Locks = field(init=False)
    _wakes: dict[str, asyncio.Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.locks = Locks(self.store.url)
        self._wakes = {duty.name: asyncio.Event() for duty in self.duties}

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then the runs under way are finished and the locks given up."""
        follower = asyncio.create_task(self._follow(), name="log-follower")
        tasks = [asyncio.create_task(self._drive(duty, stop), name=f"duty-{duty.name}") for duty in self.duties]
        await stop.wait()
        for wake in self._wakes.values():
            wake.set()
        await asyncio.gather(*tasks)
        follower.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await follower
        await self.locks.release()

    async def _drive(self, duty: Duty, stop: asyncio.Event) -> None:
        """The loop of one duty."""
        failures = 0
        while not stop.is_set():
            wait = duty.every
            self._wakes[duty.name].clear()
            try:
                if await self.locks.hold(duty.name):
                    done = await duty.run_once()
                    if any(done.values()):
                        log.info("duty", duty=duty.name, **done)
                    wait, failures = duty.every, 0  # what it has just done may bring it back sooner
                else:
                    wait = TAKE_OVER_EVERY
            except (psycopg.OperationalError, psycopg_pool.PoolTimeout, OutcomeUnknown) as error:
                failures += 1
                log.warning("the database can't be used", duty=duty.name, why=str(error).split("\n")[0])
                await self._check_pools()
                wait = _backoff(failures)
            except Exception:
                failures += 1
                log.exception("a duty failed; it is tried again", duty=duty.name)
                wait = _backoff(failures)
            awaited = self._wakes[duty.name] if not failures else stop  # what failed is not tried sooner
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(awaited.wait(), wait)

    async def _check_pools(self) -> None:
        """After an outage: or else each dead connection costs some duty another try, and ever longer waits."""
        for pool in (self.store.pool, self.store.batches):
            with contextlib.suppress(psycopg.Error, psycopg_pool.PoolClosed):
                await pool.check()

    async def _follow(self) -> None:
        """Wakes duties when what they watch has changed; a robot that comes, and a second of silence, are Leases."""
        while True:
            try:
                async for told in news.follow(self.store.url):
                    kinds = told if told != frozenset() else {news.LEASE}
                    for duty in self.duties:
                        if kinds is None or duty.watches & kinds:
                            self._wakes[duty.name].set()
            except psycopg.Error:
                await asyncio.sleep(0.5)
            except Exception:
                log.exception("nobody hears of changes; trying again")
                await asyncio.sleep(0.5)


def _backoff(failures: int) -> float:
    """Seconds until a duty that failed runs again: doubling to 15 s, with jitter."""
    return min(15.0, 0.2 * 2.0 ** min(failures, 7)) * random.uniform(0.5, 1.0)
