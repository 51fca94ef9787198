"""What stands around a job that waits? Robots, queues, keys, quotas and recent runs, each one set in one query.

All of it is of one snapshot. What could be long is counted up to a bound and said to be at least that: however many
jobs wait, a query looks at no more than so many of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from statistics import median_low
from typing import Any

import orjson
from psycopg import AsyncConnection

from casare_api.decisions.explaining import MAX_HOLDERS, MOST_NAMED, Holders, Place
from casare_api.decisions.reasons import Alone, Reason
from casare_api.decisions.requirements import Requirements, Robot
from casare_api.kinds import Object, dig
from casare_api.kinds.quota import ONLY
from casare_api.kinds.robot import ROBOT
from casare_api.machinery import times
from casare_store import rendering
from casare_store.arrays import Int8s, Texts
from casare_store.placing import walk

Connection = AsyncConnection[Any]
MOST_COUNTED = 10_000  # jobs before one in its queues
MOST_QUEUES = 2_000
MOST_QUEUED = 10_000  # jobs of a namespace that wait
LOOKED_BACK = 5_000  # changes at the end of the log in which finished jobs are looked for
MOST_RUNS = 500  # of them that are read
_MOST_LIVE = 200  # jobs on the robots whose end is asked for


_ROBOTS = f"""
SELECT t.uid::text, t.rv, coalesce(l.online, false), coalesce(u.used, 0) FROM {rendering.source_of_all(ROBOT)}"""

_QUEUES = f"""{walk()}
SELECT q.namespace, c.requirements FROM (SELECT * FROM q LIMIT %s) q LEFT JOIN classes c USING (class)"""

# A count stops at its bound only where its rows come one by one, in the order of an index. A plan that was made while
# there were few jobs is kept, and is to be no other.
_IN_ORDER = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off"

# Jobs before one: those of a lower rank, and of its own rank those that were made before.
_AHEAD = """
SELECT count(*) FROM (SELECT FROM unnest(%b, %b) AS k(namespace, class), LATERAL (
    (SELECT FROM jobs j WHERE j.ready AND j.namespace = k.namespace AND j.class = k.class AND j.rank < %s
     ORDER BY j.rank LIMIT %s)
    UNION ALL
    (SELECT FROM jobs j WHERE j.ready AND j.namespace = k.namespace AND j.class = k.class AND j.rank = %s
     AND j.uid < %s::uuid LIMIT %s)) h LIMIT %s) ahead"""

_PARKED = "j.parked AND NOT j.ready AND j.phase = 'Queued'"  # see `placing`: what `parked` says of other rows is old

# The lines of the jobs that are parked for a key, each found by one look-up, however many jobs there are.
_PARKED_AHEAD = f"""
WITH RECURSIVE k AS (SELECT %s::text AS namespace, %s::text AS ckey), c AS (
    (SELECT j.namespace, j.ckey, j.class, j.climit FROM k, jobs j
     WHERE {_PARKED} AND j.namespace = k.namespace AND j.ckey = k.ckey ORDER BY j.class, j.climit LIMIT 1)
    UNION ALL
    SELECT n.* FROM c, LATERAL (SELECT j.namespace, j.ckey, j.class, j.climit FROM jobs j
        WHERE {_PARKED} AND j.namespace = c.namespace AND j.ckey = c.ckey AND (j.class, j.climit) > (c.class, c.climit)
        ORDER BY j.class, j.climit LIMIT 1) n
)
SELECT count(*) FROM (SELECT FROM c, LATERAL (SELECT FROM jobs j
    WHERE {_PARKED} AND j.namespace = c.namespace AND j.ckey = c.ckey AND j.class = c.class AND j.climit = c.climit
    AND (j.rank, j.uid) < (%s, %s::uuid) ORDER BY j.rank LIMIT %s) h LIMIT %s) ahead"""

_QUEUED = """
SELECT (SELECT count(*) FROM (SELECT FROM jobs WHERE ready AND namespace = %s LIMIT %s) r)
     + (SELECT count(*) FROM (SELECT FROM jobs WHERE phase = 'Queued' AND NOT ready AND namespace = %s LIMIT %s) h)"""

_HOLDERS = """
SELECT name, count(*) OVER () FROM jobs WHERE namespace = %s AND ckey = %s AND phase IN ('Assigned', 'Running')
ORDER BY name LIMIT %s"""

_SHARES = """
SELECT n.namespace, q.head || q.tail, coalesce(u.used, 0)
FROM unnest(%b) AS n(namespace) LEFT JOIN quotas q ON q.namespace = n.namespace AND q.name = %s LEFT JOIN (
    SELECT namespace, count(*) AS used FROM jobs WHERE phase IN ('Assigned', 'Running') GROUP BY namespace
) u ON u.namespace = n.namespace"""

_LIVE = """
SELECT robot_uid::text, head || tail FROM jobs
WHERE robot_uid = ANY(%s::uuid[]) AND phase IN ('Assigned', 'Running') LIMIT %s"""

# The log says of each change what its object's selectable fields are: the phase is the third, the workflow the sixth.
_RUNS = """
SELECT c.namespace, c.fields::jsonb ->> 5, c.object FROM changes c
WHERE c.rv > (SELECT rv FROM heads) - %s AND c.kind = 'Job' AND c.type = 'MODIFIED'
  AND c.fields::jsonb ->> 2 = 'Succeeded'
  AND (c.namespace, c.fields::jsonb ->> 5) IN (SELECT * FROM unnest(%b, %b))
ORDER BY c.rv DESC LIMIT %s"""

Workflow = tuple[str, str]  # its namespace and name


@dataclass(frozen=True, slots=True)
class _Seen:
    """A robot as it was seen: its revision, online or not, its live jobs; as it would be idle, and as it is."""

    mark: tuple[int, bool, int]
    idle: Robot
    now: Robot

    @classmethod
    def of(cls, mark: tuple[int, bool, int], idle: Robot) -> _Seen:
        _, online, used = mark
        return cls(mark, idle, idle.observed(used, online))


@dataclass(slots=True)
class Fleet:
    """The robots as placement sees them; what did not change since the last time is not parsed again."""

    _known: dict[str, _Seen] = field(default_factory=dict)  # by uid

    async def read(self, connection: Connection) -> list[Robot]:
        """All robots of the fleet, as they are now."""
        known, cursor = self._known, await connection.execute(_ROBOTS, prepare=True)
        marks = {uid: (rv, online, used) for uid, rv, online, used in await cursor.fetchall()}
        same = {uid for uid, mark in marks.items() if uid in known and known[uid].mark[0] == mark[0]}
        idle = await _idle(connection, marks.keys() - same) | {uid: known[uid].idle for uid in same}
        self._known = {
            uid: known[uid] if uid in same and known[uid].mark == mark else _Seen.of(mark, idle[uid])
            for uid, mark in marks.items()
            if uid in idle
        }
        return [each.now for each in self._known.values()]


async def _idle(connection: Connection, uids: Collection[str]) -> dict[str, Robot]:
    """These robots as their texts say, by uid: online, and without a job."""
    if not uids:
        return {}
    cursor = await connection.execute("SELECT head || tail FROM robots WHERE uid = ANY(%s::uuid[])", (list(uids),))
    found = [Robot.from_object(orjson.loads(text)) for (text,) in await cursor.fetchall()]
    return {robot.uid: robot for robot in found}


async def job(connection: Connection, namespace: str, name: str) -> Object | None:
    """A job as it is stored."""
    cursor = await connection.execute(
        "SELECT head || tail FROM jobs WHERE namespace = %s AND name = %s", (namespace, name), prepare=True
    )
    found = await cursor.fetchone()
    return orjson.loads(found[0]) if found else None


async def now(connection: Connection) -> datetime:
    """The database's time."""
    found = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
    assert found is not None
    moment: datetime = found[0]
    return moment


async def unattended(connection: Connection) -> Reason | None:
    """What is said of all that waits when no controller has looked after it for a while, as it is said of each job."""
    found = await (await connection.execute(f"SELECT {rendering.UNATTENDED}", prepare=True)).fetchone()
    assert found is not None
    reason: Reason | None = orjson.loads(found[0]) if found[0] else None
    return reason


async def in_order(connection: Connection) -> None:
    """From here on the transaction's queries stop at their bounds: before those for jobs, behind that for robots."""
    await connection.execute(_IN_ORDER)


async def asked(connection: Connection) -> list[tuple[str, Requirements]]:
    """Queues that hold a job that may be placed, at most so many: their namespaces, and what their jobs ask for."""
    cursor = await connection.execute(_QUEUES, (MOST_QUEUES,), prepare=True)
    found = await cursor.fetchall()
    return [(namespace, _requirements(said or "{}")) for namespace, said in found]


@lru_cache(maxsize=10_000)
def _requirements(canonical: str) -> Requirements:
    return Requirements.from_dict(orjson.loads(canonical))


async def place(
    connection: Connection, job: Object, rank: datetime, rivals: Sequence[tuple[str, Requirements]], are_all: bool
) -> Place:
    """Where a job stands among those of these queues, and among those that wait for its concurrency key.

    ``are_all`` says that no other queue has a job before it.
    """
    namespace, uid = job["metadata"]["namespace"], job["metadata"]["uid"]
    names, classes = Texts(one for one, _ in rivals), Int8s(wanted.digest() for _, wanted in rivals)
    most = MOST_COUNTED + 1
    ahead = await _count(connection, _AHEAD, (names, classes, rank, most, rank, uid, most, most))
    key = dig(job, "spec", "concurrency", "key")
    if key is not None and ahead < most:
        ahead += await _count(connection, _PARKED_AHEAD, (namespace, key, rank, uid, most, most))
    queued = await _count(connection, _QUEUED, (namespace, MOST_QUEUED + 1) * 2)
    return Place(min(ahead, MOST_COUNTED), are_all and ahead < most, min(queued, MOST_QUEUED), queued <= MOST_QUEUED)


async def _count(connection: Connection, query: str, args: tuple[Any, ...]) -> int:
    found = await (await connection.execute(query, args, prepare=True)).fetchone()
    return int(found[0]) if found else 0


async def holders(connection: Connection, job: Object) -> Holders:
    """The jobs that have its concurrency key now."""
    key = dig(job, "spec", "concurrency", "key")
    if key is None:
        return Holders(0, ())
    cursor = await connection.execute(_HOLDERS, (job["metadata"]["namespace"], key, MAX_HOLDERS), prepare=True)
    rows = await cursor.fetchall()
    return Holders(rows[0][1] if rows else 0, [name for name, _ in rows])


async def shares(connection: Connection, namespaces: Collection[str]) -> dict[str, Alone]:
    """What these namespaces may have, by their Quotas, and have."""
    cursor = await connection.execute(_SHARES, (Texts(sorted(namespaces)), ONLY), prepare=True)
    return {namespace: _share(text, running) for namespace, text, running in await cursor.fetchall()}


def _share(text: str | None, running: int) -> Alone:
    spec = orjson.loads(text).get("spec") or {} if text else {}
    return Alone(int(spec.get("weight") or 1), running, spec.get("maxRunning"))


async def outlook(
    connection: Connection, namespaces: Collection[str], robots: Iterable[Robot]
) -> tuple[dict[str, Alone], dict[str, timedelta]]:
    """What `reasons.told` asks for beside queues and robots: shares; where few robots are full, when they have room.

    Of many robots some one always has room soon, and nobody waits for one of them by name.
    """
    full = [robot for robot in robots if robot.schedulable and not robot.free_slots]
    when = await ends(connection, full, await now(connection)) if len(full) <= MOST_NAMED else {}
    return await shares(connection, namespaces), when


# -- when robots have room ---------------------------------------------------------------------------------------------


async def ends(connection: Connection, robots: Iterable[Robot], now: datetime) -> dict[str, timedelta]:
    """In how long each of these robots usually has room, by its uid; those of which nothing is known are left out.

    A job usually takes the median of the latest runs of its workflow that succeeded, as far as the log's end has them.
    """
    uids = [robot.uid for robot in robots]
    if not uids:
        return {}
    cursor = await connection.execute(_LIVE, (uids, _MOST_LIVE), prepare=True)
    live: list[tuple[str, Object]] = [(uid, orjson.loads(text)) for uid, text in await cursor.fetchall()]
    usual = await _usual(connection, {one for _, job in live if (one := _workflow(job)) is not None})
    found: dict[str, timedelta] = {}
    for uid, job in live:
        left = _left(job, usual.get(_workflow(job) or ("", "")), now)
        if left is not None:
            found[uid] = min(left, found.get(uid, left))
    return found


def _left(job: Object, usual: timedelta | None, now: datetime) -> timedelta | None:
    """How long a job still takes; None where nobody knows, or where it takes longer than it usually does."""
    started = dig(job, "status", "startedTime")
    elapsed = now - times.from_text(started) if started else timedelta()
    return usual - elapsed if usual is not None and elapsed < usual else None


def _workflow(job: Object) -> Workflow | None:
    name = dig(job, "spec", "workflowRef", "name")
    return (job["metadata"]["namespace"], name) if name else None


async def _usual(connection: Connection, workflows: Collection[Workflow]) -> dict[Workflow, timedelta]:
    """How long the latest runs of these workflows took, the median of each."""
    if not workflows:
        return {}
    names = Texts(one for one, _ in workflows), Texts(name for _, name in workflows)
    cursor = await connection.execute(_RUNS, (LOOKED_BACK, *names, MOST_RUNS), prepare=True)
    runs: dict[Workflow, list[timedelta]] = defaultdict(list)
    for namespace, name, text in await cursor.fetchall():
        status = orjson.loads(text)["status"]
        began, ended = status.get("startedTime"), status.get("finishedTime")
        if began and ended:
            runs[namespace, name].append(times.from_text(ended) - times.from_text(began))
    return {key: median_low(found) for key, found in runs.items()}
