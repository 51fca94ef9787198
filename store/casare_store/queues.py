"""What do the duties read? Silent robots, what is due, what nobody owns; each one set, in one query.

All of it is read outside the history lock where it is large, and read again inside for what is about to change.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from psycopg import AsyncConnection

from casare_api.decisions.deletion import RUNNING
from casare_api.kinds import Kind, Object
from casare_store.batch import Batch
from casare_store.columns import table
from casare_store.heartbeats import COVERAGE_GAP, LONGEST
from casare_store.rendering import ROBOT_PHASE

Connection = AsyncConnection[Any]

# -- presence ------------------------------------------------------------------------------------------------------

# Since when somebody listened without a gap to a robot `l`, NULL while nobody does: since the apiserver that is there
# the longest began to, and since another one was heard of last, whose robots had to find their way to this one. One
# that was there for less than a lease is no reason: or else one that dies again and again would keep everybody online.
_COVERED = f"""
(SELECT CASE WHEN count(*) FILTER (WHERE c.listens) > 0 THEN greatest(min(c.since) FILTER (WHERE c.listens),
        max(c.last) FILTER (WHERE NOT c.listens AND c.last - c.since > l.expires_at - l.last_seen)) END
 FROM (SELECT since, last, last > clock_timestamp() - interval '{COVERAGE_GAP.total_seconds():g} s' AS listens
       FROM coverage) c)"""
_SILENT_FOR_A_LEASE = f"""
l.expires_at < clock_timestamp() AND {_COVERED} + (l.expires_at - l.last_seen) < clock_timestamp()"""

_CAME = "SELECT robot_uid::text FROM leases WHERE NOT online AND expires_at > clock_timestamp() LIMIT 500"
_WENT = f"SELECT l.robot_uid::text FROM leases l WHERE l.online AND {_SILENT_FOR_A_LEASE} LIMIT 500"


async def came_and_went(connection: Connection) -> tuple[list[str], list[str]]:
    """Robots that are back, and robots that have been silent for all of their lease while somebody was listening."""
    came = await (await connection.execute(_CAME, prepare=True)).fetchall()
    went = await (await connection.execute(_WENT, prepare=True)).fetchall()
    return [row[0] for row in came], [row[0] for row in went]


async def set_online(batch: Batch, uids: list[str], online: bool) -> list[str]:
    """Changes presence under the lock; the robots it really changed for.

    It is decided again: a heartbeat may have come in between, and a controller that hung knows nothing of the time.
    """
    still = "l.expires_at > clock_timestamp()" if online else _SILENT_FOR_A_LEASE
    rows = await batch.select(  # in the order in which heartbeats lock them
        "UPDATE leases SET online = %s WHERE robot_uid IN (SELECT l.robot_uid FROM leases l "
        f"WHERE l.robot_uid = ANY(%s::uuid[]) AND l.online <> %s AND {still} ORDER BY l.robot_uid FOR UPDATE OF l) "
        "RETURNING robot_uid::text",
        (online, uids, online),
    )
    return [row[0] for row in rows]


_SILENT = f"""
SELECT j.head || j.tail, greatest(l.last_seen, {_COVERED}), r.uid IS NULL, clock_timestamp(),
       CASE WHEN l.expires_at > l.last_seen THEN l.expires_at - l.last_seen
            ELSE interval '{LONGEST.total_seconds():g} s' END
FROM jobs j LEFT JOIN robots r ON r.uid = j.robot_uid LEFT JOIN leases l ON l.robot_uid = j.robot_uid
WHERE j.phase IN ('Assigned', 'Running') AND (r.uid IS NULL OR NOT l.online AND {_COVERED} IS NOT NULL)"""
_SILENT_PAGE = f"{_SILENT} AND j.uid > %s::uuid ORDER BY j.uid LIMIT %s"
_STILL_SILENT = f"{_SILENT} AND j.uid = ANY(%s::uuid[]) ORDER BY j.uid"


@dataclass(frozen=True, slots=True)
class Silence:
    """A live job whose robot is offline (since when, in time that somebody listened) or gone, at the time `now`.

    `lease` is how long the robot was promised to be waited for: the longest there is, where that is not known any more.
    """

    job: Object
    since: datetime | None
    robot_is_gone: bool
    now: datetime
    lease: timedelta

    def not_before(self, moment: datetime | None) -> Silence:
        """The same where there was nothing to be heard until then."""
        return self if moment is None or self.since is None else replace(self, since=max(self.since, moment))


async def jobs_of_silent_robots(connection: Connection, page: int = 1000) -> AsyncIterator[Silence]:
    """All of them, a page at a time. While nobody listens, no robot is judged that is still there."""
    after = "00000000-0000-0000-0000-000000000000"
    while True:
        cursor = await connection.execute(_SILENT_PAGE, (after, page), prepare=True)
        rows = await cursor.fetchall()
        for text, *facts in rows:
            yield Silence(orjson.loads(text), *facts)
        if len(rows) < page:
            return
        after = orjson.loads(rows[-1][0])["metadata"]["uid"]


async def still_silent(batch: Batch, jobs: Sequence[str]) -> list[Silence]:
    """Those of these jobs (uid) of which the same is true under the history lock, with what is true by then."""
    return [Silence(orjson.loads(text), *facts) for text, *facts in await batch.select(_STILL_SILENT, (list(jobs),))]


_STALE = f"""
SELECT t.uid::text FROM robots t LEFT JOIN leases l ON l.robot_uid = t.uid CROSS JOIN LATERAL (
    SELECT count(*) AS used FROM jobs j WHERE j.robot_uid = t.uid AND j.phase IN ('Assigned', 'Running')) u
WHERE u.used <> t.used OR t.phase <> {ROBOT_PHASE}
ORDER BY t.rv LIMIT %s"""


async def stale_robots(connection: Connection, limit: int) -> list[str]:
    """Robots whose watchers have been told another phase or number of used slots than is true now."""
    cursor = await connection.execute(_STALE, (limit,), prepare=True)
    return [row[0] for row in await cursor.fetchall()]


# -- what is due ---------------------------------------------------------------------------------------------------


async def due(connection: Connection, kind: Kind, limit: int, aside: Sequence[str] = ()) -> list[str]:
    """The uids of the objects whose timer ran out, the longest overdue first, but for those that are set aside."""
    cursor = await connection.execute(  # the time is a query of its own: an index is not searched for what may change
        f"SELECT uid::text FROM {table(kind)} WHERE due <= (SELECT clock_timestamp()) AND uid <> ALL(%s::uuid[]) "
        "ORDER BY due LIMIT %s",
        (list(aside), limit),
        prepare=True,
    )
    return [uid for (uid,) in await cursor.fetchall()]


# -- garbage -------------------------------------------------------------------------------------------------------


async def orphans(connection: Connection, table: str, all_tables: list[str], limit: int) -> list[tuple[str, str, str]]:
    """Objects of a kind whose owners are all gone, but for those that are being deleted: namespace, name, uid.

    An owner is in the same namespace, or in none. Only the texts of what has no owner are read (OFFSET 0 keeps the
    planner from reading them first).
    """
    alive = " UNION ALL ".join(
        f"SELECT FROM {one} o WHERE o.uid = w.uid AND o.namespace IN ('', t.namespace)" for one in all_tables
    )
    cursor = await connection.execute(
        f"SELECT t.namespace, t.name, t.uid::text FROM (SELECT t.* FROM {table} t WHERE t.owners IS NOT NULL "
        f"AND NOT EXISTS (SELECT FROM unnest(t.owners) AS w(uid) WHERE EXISTS ({alive})) OFFSET 0) t "
        "WHERE (t.head || t.tail)::jsonb #> '{metadata,deletionTimestamp}' IS NULL LIMIT %s",
        (limit,),
    )
    return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]


async def namespaces_to_empty(connection: Connection) -> list[str]:
    """Namespaces that are being deleted."""
    cursor = await connection.execute("SELECT name FROM namespaces WHERE phase = 'Terminating' ORDER BY name")
    return [row[0] for row in await cursor.fetchall()]


# What robots need to say that a job has ended: it goes when none runs in the namespace any more.
_NEEDED = {"robots": "true", "apikeys": "t.role = 'robot'"}


async def content(connection: Connection, table: str, namespace: str, limit: int) -> list[tuple[str, str, str]]:
    """Objects of a kind in a namespace that may go now: namespace, name, uid."""
    runs = "EXISTS (SELECT FROM jobs j WHERE j.namespace = t.namespace AND j.phase = 'Running')"
    cursor = await connection.execute(
        f"SELECT namespace, name, uid::text FROM {table} t WHERE namespace = %s "
        f"AND NOT ({_NEEDED.get(table, 'false')} AND {runs}) ORDER BY rv LIMIT %s",
        (namespace, limit),
    )
    return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]


_SWEEPS = (
    "DELETE FROM job_logs l WHERE ctid = ANY(ARRAY(SELECT x.ctid FROM job_logs x WHERE "
    "NOT EXISTS (SELECT FROM jobs j WHERE j.uid = x.job_uid) AND x.at < clock_timestamp() - interval '10 minutes' "
    "LIMIT 5000))",
    "DELETE FROM artifacts a WHERE ctid = ANY(ARRAY(SELECT x.ctid FROM artifacts x WHERE "
    "NOT EXISTS (SELECT FROM jobs j WHERE j.uid = x.job_uid) AND x.at < clock_timestamp() - interval '10 minutes' "
    "LIMIT 5000))",
    # No file is longer on its way (artifacts.TRANSFER of the apiserver). At most 500 MB at a time.
    "DELETE FROM artifact_parts WHERE ctid = ANY(ARRAY(SELECT x.ctid FROM artifact_parts x WHERE "
    "NOT EXISTS (SELECT FROM artifacts a WHERE a.id = x.id) AND x.at < clock_timestamp() - interval '1 hour' "
    "LIMIT 2000))",
    # What runs with selfFence outlives its robot: until when, is counted from when that was seen last.
    "DELETE FROM leases l WHERE NOT EXISTS (SELECT FROM robots r WHERE r.uid = l.robot_uid) "
    "AND NOT EXISTS (SELECT FROM jobs j WHERE j.robot_uid = l.robot_uid AND j.phase IN ('Assigned', 'Running')) "
    "AND last_seen < clock_timestamp() - interval '1 hour'",
    "DELETE FROM key_uses u WHERE NOT EXISTS (SELECT FROM apikeys k WHERE k.uid = u.key_uid)",
    "DELETE FROM coverage WHERE last < clock_timestamp() - interval '1 hour'",
    "DELETE FROM last_robots l WHERE NOT EXISTS (SELECT FROM workflows w "
    "WHERE w.namespace = l.namespace AND w.name = l.workflow)",
)

# What some text names is kept, be it by chance: every text is read once, however much there is to keep. Whoever uses
# an old revision or file again renews its `made` first, so that it can't go meanwhile.
_SEARCHES = (
    """DELETE FROM revisions WHERE (namespace, hash) IN (
    SELECT namespace, hash FROM revisions WHERE made < clock_timestamp() - interval '1 day' EXCEPT (
        SELECT namespace, (regexp_matches(head, '"revision":"([0-9a-f]{16})"', 'g'))[1] FROM jobs UNION
        SELECT namespace, (regexp_matches(head, '"revision":"([0-9a-f]{16})"', 'g'))[1] FROM workflows) LIMIT 5000)
    AND made < clock_timestamp() - interval '1 day'""",
    """DELETE FROM blobs WHERE (namespace, sha256) IN (
    SELECT namespace, sha256 FROM blobs WHERE made < clock_timestamp() - interval '1 day' EXCEPT (
        SELECT namespace, (regexp_matches(content, '[0-9a-f]{64}', 'g'))[1] FROM revisions UNION
        SELECT namespace, (regexp_matches(head, '[0-9a-f]{64}', 'g'))[1] FROM jobs WHERE workflow IS NULL) LIMIT 1000)
    AND made < clock_timestamp() - interval '1 day'""",
)


async def sweep(connection: Connection) -> int:
    """Removes what lies beside rows that are gone, a bounded number at a time; how many rows went."""
    return await _run(connection, _SWEEPS)


async def search(connection: Connection) -> int:
    """Removes revisions and files that nothing names any more; how many. Reads every job: for once an hour."""
    return await _run(connection, _SEARCHES)


# A release before this one records the end of a job and leaves on it what kept it until then.
_LEFT_OVER = f"""
SELECT namespace, name, uid::text FROM jobs WHERE phase IN ('Succeeded', 'Failed', 'Cancelled', 'Expired')
AND CASE WHEN strpos(head, '"{RUNNING}"') > 0 THEN (head || tail)::jsonb #> '{{metadata,deletionTimestamp}}' IS NOT NULL
    AND (head || tail)::jsonb #> '{{metadata,finalizers}}' ? '{RUNNING}' END LIMIT 500"""


async def left_over(connection: Connection) -> list[tuple[str, str, str]]:
    """Jobs (namespace, name, uid) that were to go when they ended and are there still. Reads every job, as `search`."""
    cursor = await connection.execute(_LEFT_OVER.encode())
    return [(row[0], row[1], row[2]) for row in await cursor.fetchall()]


async def _run(connection: Connection, statements: Iterable[str]) -> int:
    total = 0
    for statement in statements:
        cursor = await connection.execute(statement)
        total += cursor.rowcount
    return total
