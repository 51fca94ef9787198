"""Which robots may have lost their last key, which keys wait to go, and which say what is not true any more?

Each is one set, in one query, and no more than a guess where it looks into texts: what is decided is decided by the
keys themselves, read under the history lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from psycopg import AsyncConnection

from casare_api.decisions.keys import ROBOT_PATIENCE, may_be_of
from casare_api.decisions.revoking import HELD
from casare_api.kinds import Object
from casare_store.batch import Batch

Connection = AsyncConnection[Any]
Keys = dict[str, list[Object]]  # of robots, by the robot's uid

# A text has one status, which is its end: what people wrote before it is cut off. Plain searches: patterns take five
# times as long, and every key is looked at.
_STATUS = """split_part({}.head, '"status":{{', -1)"""
_ACTIVE = f"""strpos({_STATUS}, '"phase":"Active"') > 0"""
_GOING = """strpos({}.head, '"deletionTimestamp":"') > 0"""

_SUSPECTS = f"""
SELECT DISTINCT r.uid::text FROM apikeys k JOIN robots r ON r.namespace = k.namespace AND r.name = k.robot_name
WHERE k.role = 'robot' AND k.hash IS NOT NULL AND (NOT {_ACTIVE.format("k")} OR {_GOING.format("k")})
  AND NOT EXISTS (SELECT FROM apikeys g WHERE g.namespace = k.namespace AND g.robot_name = k.robot_name
                  AND g.role = 'robot' AND g.hash IS NOT NULL AND {_ACTIVE.format("g")} AND NOT {_GOING.format("g")}
                  AND (strpos({_STATUS.format("g")}, '"robotUID":"') = 0
                       OR strpos({_STATUS.format("g")}, r.uid::text) > 0))
  AND (EXISTS (SELECT FROM jobs j WHERE j.robot_uid = r.uid AND j.phase IN ('Assigned', 'Running'))
       OR EXISTS (SELECT FROM leases l WHERE l.robot_uid = r.uid AND l.online))"""


async def suspects(connection: Connection) -> list[str]:
    """Robots (uid) with a key that was taken back and none that is good, which are online or have live jobs."""
    cursor = await connection.execute(_SUSPECTS.encode(), prepare=True)
    return [uid for (uid,) in await cursor.fetchall()]


_KEYS = """
SELECT r.uid::text, k.head || k.tail FROM robots r JOIN apikeys k ON k.namespace = r.namespace AND k.robot_name = r.name
WHERE r.uid = ANY(%s::uuid[]) AND k.role = 'robot'"""


async def keys_of(connection: Connection, robots: Sequence[str]) -> tuple[Keys, datetime]:
    """All keys of robots (uid), and the time."""
    cursor = await connection.execute(_KEYS, (list(robots),))
    found = _grouped(await cursor.fetchall())
    time = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
    assert time is not None
    return found, time[0]


async def keys_now(batch: Batch, robots: Sequence[str]) -> Keys:
    """The same under the history lock."""
    return _grouped(await batch.select(_KEYS, (list(robots),)))


def _grouped(rows: list[tuple[Any, ...]]) -> Keys:
    found: Keys = {}
    for uid, text in rows:
        key = orjson.loads(text)
        if may_be_of(key, uid):  # not that of a robot of this name before
            found.setdefault(uid, []).append(key)
    return found


# A heartbeat that came before the key went bad may be written a moment later: as the lease says that the robot was
# seen after that, it changes nothing. Whoever is heard of later still calls with another key than its own, which it
# may. Rows in the order in which heartbeats lock them.
_END_LEASES = """
UPDATE leases l SET expires_at = clock_timestamp() - interval '1 second', last_seen = greatest(l.last_seen, n.until)
FROM (SELECT l.robot_uid, k.at + interval '3 seconds' AS until
      FROM leases l JOIN unnest(%s::uuid[], %s::timestamptz[]) AS k(uid, at) ON k.uid = l.robot_uid
      WHERE l.expires_at > clock_timestamp() AND l.last_seen <= k.at + interval '3 seconds'
      ORDER BY l.robot_uid FOR UPDATE OF l) n WHERE n.robot_uid = l.robot_uid"""


async def end_leases(connection: Connection, moments: Mapping[str, datetime]) -> int:
    """Ends the leases of robots that can't renew them since these moments; how many there were."""
    cursor = await connection.execute(_END_LEASES, (list(moments), list(moments.values())))
    return cursor.rowcount


# In the order in which heartbeats lock them.
_TAKE_OFFLINE = """
UPDATE leases SET online = false WHERE robot_uid IN (
    SELECT robot_uid FROM leases WHERE robot_uid = ANY(%s::uuid[]) AND online AND expires_at < clock_timestamp()
    ORDER BY robot_uid FOR UPDATE) RETURNING robot_uid::text"""


async def take_offline(batch: Batch, robots: Sequence[str]) -> list[str]:
    """Nothing is placed any more on those of these robots (uid) whose lease is over; which they were."""
    return [uid for (uid,) in await batch.select(_TAKE_OFFLINE, (list(robots),))]


_HELD = f"""
SELECT k.uid::text, r.uid::text FROM apikeys k LEFT JOIN robots r ON r.namespace = k.namespace AND r.name = k.robot_name
WHERE {_GOING.format("k")} AND strpos(k.head, '"{HELD}"') > 0 ORDER BY k.rv LIMIT %s"""


async def held(connection: Connection, limit: int) -> dict[str, str | None]:
    """Deleted keys (uid) whose jobs are to be looked after first, with their robots (None: there is none)."""
    cursor = await connection.execute(_HELD, (limit,))
    return dict(await cursor.fetchall())


# The server writes its times in one form, so that they sort as text. People hear of a robot's key later: see `tidied`.
_FORM = """'YYYY-MM-DD"T"HH24:MI:SS"Z"'"""
_NOW = f"to_char(clock_timestamp() AT TIME ZONE 'UTC', {_FORM})"
_THEN = f"to_char((clock_timestamp() - %s::interval) AT TIME ZONE 'UTC', {_FORM})"
_UNTIDY = f"""
SELECT k.uid::text FROM (SELECT uid, role, {_STATUS.format("a")} AS said FROM apikeys a
                         WHERE strpos(a.head, '"previousUntil":"') > 0 OR strpos(a.head, '"rotationDueTime":"') > 0) k,
    (SELECT {_NOW} AS now, {_THEN} AS patient) n
WHERE k.uid <> ALL(%s::uuid[]) AND (
    strpos(k.said, '"previousUntil":"') > 0
    AND left(split_part(k.said, '"previousUntil":"', 2), 20) COLLATE "C" <= n.now
 OR strpos(k.said, '"rotationDueTime":"') > 0
    AND left(split_part(k.said, '"rotationDueTime":"', 2), 20) COLLATE "C"
        <= CASE k.role WHEN 'robot' THEN n.patient ELSE n.now END
    AND strpos(k.said, '"phase":"Active"') > 0 AND strpos(k.said, '"RotationDue"') = 0) LIMIT %s"""


async def untidy(connection: Connection, limit: int, aside: Sequence[str]) -> list[str]:
    """Keys (uid) with an overlap that is over, and those that are due and do not say so, but for those set aside."""
    cursor = await connection.execute(_UNTIDY, (ROBOT_PATIENCE, list(aside), limit))
    return [uid for (uid,) in await cursor.fetchall()]
