"""Who is alive? Heartbeats land in the narrow table of leases, never in a resource.

Each apiserver collects them and flushes once a second in one statement, rows locked in key order so that two
apiservers never deadlock; with each flush it writes a tick, so that presence knows for which time anybody was there to
hear. A heartbeat is acknowledged only while the last flush is younger than 2 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from casare_store import news
from casare_store.connection import CHANNEL

FLUSH_EVERY = 1.0  # seconds
GATHERED = 0.05  # seconds that a flush for somebody new waits for others: a whole fleet may be coming back
ADAPT_EVERY = 10.0  # seconds
ACKNOWLEDGED = 2.0  # seconds that a flush vouches for
SMALL_FLEET, LARGE_FLEET = 1_000, 10_000  # robots
COVERAGE_GAP = timedelta(seconds=3)  # an apiserver whose last tick is older hears nobody
log = structlog.get_logger(__name__)


def interval(robots: int) -> int:
    """Seconds until a robot's next heartbeat: 3 for a small fleet, up to 10 for one of 10,000."""
    share = (robots - SMALL_FLEET) / (LARGE_FLEET - SMALL_FLEET)
    return round(3 + 7 * min(max(share, 0.0), 1.0))


def grace(seconds: int) -> timedelta:
    """How long a lease lasts: three intervals plus a second."""
    return timedelta(seconds=3 * seconds + 1)


LONGEST = grace(interval(LARGE_FLEET))  # of all leases


# A heartbeat has waited for its flush: that long ago its robot was seen, and its lease counts from there. One that
# another apiserver heard later, or after which it left, says nothing any more.
_LOCK_AND_UPDATE = """
WITH said AS (SELECT robot_uid, telemetry, clock_timestamp() - make_interval(secs => waited) AS at
              FROM unnest(%b::uuid[], %b::text[], %b::float8[]) AS n(robot_uid, telemetry, waited)),
locked AS (SELECT l.robot_uid, l.online FROM leases l JOIN said USING (robot_uid) ORDER BY l.robot_uid FOR UPDATE OF l)
UPDATE leases l SET last_seen = greatest(l.last_seen, said.at),
                    expires_at = CASE WHEN said.at > l.last_seen THEN said.at + %s ELSE l.expires_at END,
                    telemetry = coalesce(said.telemetry, l.telemetry)
FROM said JOIN locked USING (robot_uid) WHERE l.robot_uid = said.robot_uid
RETURNING l.robot_uid::text, locked.online"""
_INSERT = """
INSERT INTO leases (robot_uid, last_seen, expires_at, online, telemetry)
SELECT robot_uid, seen.at, seen.at + %s, false, telemetry
FROM unnest(%b::uuid[], %b::text[]) AS n(robot_uid, telemetry), (SELECT clock_timestamp() AS at) AS seen
ORDER BY robot_uid
ON CONFLICT (robot_uid) DO NOTHING"""
_LEAVE = """
UPDATE leases SET last_seen = clock_timestamp(), expires_at = clock_timestamp() - interval '1 second'
WHERE robot_uid IN (SELECT robot_uid FROM leases WHERE robot_uid = ANY(%s::uuid[]) ORDER BY robot_uid FOR UPDATE)"""
_TICK = """
INSERT INTO coverage AS c (apiserver, since, last) VALUES (%s, clock_timestamp(), clock_timestamp())
ON CONFLICT (apiserver) DO UPDATE SET last = clock_timestamp(),
    since = CASE WHEN c.last < clock_timestamp() - %s THEN clock_timestamp() ELSE c.since END"""


@dataclass(slots=True)
class Noted:
    """What came since the last flush: telemetry and time (the process's clock) of each robot that beat, and more.

    `promised` is the longest interval that one of them was told.
    """

    telemetry: dict[str, str | None] = field(default_factory=dict)
    at: dict[str, float] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    promised: int = 0

    def and_then(self, later: Noted) -> Noted:
        """Both, where this one could not be written."""
        return Noted(
            {**self.telemetry, **later.telemetry}, {**self.at, **later.at}, self.leaving | later.leaving,
            max(self.promised, later.promised),
        )  # fmt: skip


@dataclass(slots=True)
class Heartbeats:
    """The heartbeats of one apiserver process; a `pool` of their own lets them wait for nobody."""

    pool: AsyncConnectionPool[AsyncConnection[Any]]
    others: Sequence[AsyncConnectionPool[AsyncConnection[Any]]] = ()  # rid of dead connections after an outage
    clock: Callable[[], float] = time.monotonic
    identity: str = field(default_factory=lambda: str(uuid.uuid4()))
    interval: int = 3  # seconds, handed out to agents
    _noted: Noted = field(default_factory=Noted)
    _flushed_at: float = -1e9
    _soon: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None
    _known: set[str] = field(default_factory=set)  # robots whose lease exists; only a hint to flush new ones at once

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="heartbeats")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def leave(self, robot_uid: str) -> None:
        """Notes that a robot is there but going: nothing is placed on it any more."""
        self._noted.leaving.add(robot_uid)
        self._noted.telemetry.pop(robot_uid, None)  # what it said before must not bring it back
        self._soon.set()

    def beat(self, robot_uid: str, telemetry: str | None) -> bool:
        """Notes a sign of life; whether it is vouched for (else the agent should try again soon)."""
        noted = self._noted
        noted.telemetry[robot_uid], noted.at[robot_uid] = telemetry, self.clock()
        noted.promised = max(noted.promised, self.interval)
        if robot_uid not in self._known:
            self._soon.set()
        return self.is_fresh()

    def is_fresh(self) -> bool:
        """Whether the database took a flush within the last two seconds."""
        return self.clock() - self._flushed_at < ACKNOWLEDGED

    async def is_alive(self, robot_uid: str) -> bool:
        """Whether the robot's lease lasts still, whoever took its heartbeats. One look-up: not for every report."""
        async with self.pool.connection() as connection:
            query = "SELECT expires_at > clock_timestamp() FROM leases WHERE robot_uid = %s"
            found = await (await connection.execute(query, (robot_uid,), prepare=True)).fetchone()
        return bool(found and found[0])

    async def _run(self) -> None:
        adapted_at = -1e9
        while True:
            noted, self._noted = self._noted, Noted()
            try:
                await self.write(noted)
                if not self.is_fresh():
                    await self._check_pools()  # after an outage: no request shall meet a connection that is dead
                self._flushed_at = self.clock()
                if self.clock() - adapted_at >= ADAPT_EVERY:
                    await self.adapt()
                    adapted_at = self.clock()
            except (psycopg.Error, TimeoutError) as error:
                self._noted = noted.and_then(self._noted)
                self._known.clear()
                log.warning("heartbeats can't be written", why=str(error).split("\n")[0], robots=len(noted.telemetry))
            await self._pause()

    async def _pause(self) -> None:
        """Until the next flush; where somebody new came that is soon, but those who come with it go along."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._soon.wait(), FLUSH_EVERY)
            await asyncio.sleep(GATHERED)
        self._soon.clear()

    async def _check_pools(self) -> None:
        for pool in (self.pool, *self.others):
            await pool.check()

    async def flush(self, waiting: dict[str, str | None], leaving: Collection[str] = ()) -> None:
        """Writes heartbeats that came just now, and the tick."""
        await self.write(Noted(waiting, leaving=set(leaving)))

    async def write(self, noted: Noted) -> None:
        """Writes what was noted and the tick; a robot that was not online wakes the duties.

        A lease is as long as the interval that its robot was told, even if that is shorter by now.
        """
        lease = grace(max(self.interval, noted.promised))
        async with self.pool.connection() as connection, connection.transaction():
            await connection.execute(_TICK, (self.identity, COVERAGE_GAP))
            if noted.leaving:
                await connection.execute(_LEAVE, (sorted(noted.leaving),))
            if not noted.telemetry:
                return
            uids, now = list(noted.telemetry), self.clock()
            waited = [max(now - noted.at.get(uid, now), 0.0) for uid in uids]
            said = uids, list(noted.telemetry.values()), waited
            cursor = await connection.execute(_LOCK_AND_UPDATE, (*said, lease))
            found = dict(await cursor.fetchall())
            new = sorted(uid for uid in uids if uid not in found)
            if new:
                await connection.execute(_INSERT, (lease, new, [noted.telemetry[uid] for uid in new]))
            self._known |= {uid for uid, online in found.items() if online}
            self._known -= {uid for uid, online in found.items() if not online}
            if new or not all(found.values()):
                await connection.execute(f"NOTIFY {CHANNEL}, '{news.LEASE}'")

    async def adapt(self) -> None:
        """Sets the interval from the number of leases alive."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute("SELECT count(*) FROM leases WHERE online")
            found = await cursor.fetchone()
        self.interval = interval(int(found[0]) if found else 0)
