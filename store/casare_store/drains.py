"""What does the duty that drains robots read? Robots that have changed, and the live jobs of some of them.

All of it is read outside the history lock, and what is about to change is read again under it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from psycopg import AsyncConnection

from casare_api.kinds import Object
from casare_store.batch import Batch
from casare_store.heartbeats import LONGEST

Connection = AsyncConnection[Any]
_LIVE = "j.phase IN ('Assigned', 'Running')"


@dataclass(frozen=True, slots=True)
class Hands:
    """How many jobs a robot has, and how many of them have not begun."""

    live: int = 0
    assigned: int = 0


async def now(connection: Connection) -> datetime:
    """The database's time."""
    (found,) = await (await connection.execute("SELECT clock_timestamp()", prepare=True)).fetchone() or (None,)
    assert isinstance(found, datetime)
    return found


async def changed(connection: Connection, after: int, limit: int) -> list[tuple[int, Object]]:
    """The next robots that have changed since a revision, with theirs, in its order; without what is observed.

    Revisions are given out in the order of commits: none comes late.
    """
    query = "SELECT rv, head || tail FROM robots WHERE rv > %s ORDER BY rv LIMIT %s"
    cursor = await connection.execute(query, (after, limit), prepare=True)
    return [(rv, orjson.loads(text)) for rv, text in await cursor.fetchall()]


async def hands(connection: Connection, uids: Collection[str]) -> dict[str, Hands]:
    """What these robots have to do; those that are gone are left out."""
    cursor = await connection.execute(
        "SELECT t.uid::text, count(j.uid), count(j.uid) FILTER (WHERE j.phase = 'Assigned') FROM robots t "
        f"LEFT JOIN jobs j ON j.robot_uid = t.uid AND {_LIVE} WHERE t.uid = ANY(%s::uuid[]) GROUP BY t.uid",
        (list(uids),),
        prepare=True,
    )
    return {uid: Hands(live, assigned) for uid, live, assigned in await cursor.fetchall()}


async def live_jobs(connection: Connection, uids: Iterable[str], after: str, limit: int) -> list[Object]:
    """The next jobs that these robots have, by uid."""
    cursor = await connection.execute(
        f"SELECT j.head || j.tail FROM jobs j WHERE j.robot_uid = ANY(%s::uuid[]) AND {_LIVE} "
        "AND j.uid > %s::uuid ORDER BY j.uid LIMIT %s",
        (list(uids), after, limit),
        prepare=True,
    )
    return [orjson.loads(text) for (text,) in await cursor.fetchall()]


# An agent that is leaving is Offline at its first word of that (its lease ends before it was seen), but it is there
# until its words stop: it ends what it runs, and says so. For a while this takes one without a good key for there, too:
# the rule on its jobs looks at its keys.
_THERE = f"""
SELECT robot_uid::text, online FROM leases WHERE robot_uid = ANY(%s::uuid[]) AND (online OR expires_at < last_seen
    AND last_seen > clock_timestamp() - interval '{LONGEST.total_seconds():g} s')"""


async def there(connection: Connection, uids: Iterable[str]) -> dict[str, bool]:
    """Those of the robots that can be told something; whether they are online, or just leaving."""
    return dict(await (await connection.execute(_THERE, (list(uids),), prepare=True)).fetchall())


async def there_now(batch: Batch, uids: Iterable[str]) -> dict[str, bool]:
    """The same under the history lock."""
    return dict(await batch.select(_THERE, (list(uids),)))
