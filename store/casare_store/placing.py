"""What does placement read, and what does it look at again before it writes?

Queues, jobs and robots are read outside the history lock, a bounded number at a time however much waits; what is about
to change is looked at again under it. Whether a job is `ready` (in its queue) or `parked` (outside until its
concurrency key has room) is no part of history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from psycopg import AsyncConnection
from psycopg.adapt import Transformer
from psycopg.pq.abc import PGresult

from casare_api.decisions.placement import Key, Share
from casare_api.kinds import Object
from casare_store.arrays import Bools, Int8s, Texts
from casare_store.batch import Batch
from casare_store.pipeline import Pipeline

Connection = AsyncConnection[Any]
QUEUES = 4000  # of one look
KEYS = 1000  # concurrency keys of one look
PROMOTED = 2000  # jobs at a time
TEXT = 4096  # bytes: a text as short as that comes with its job's rank, which costs a quarter of asking for it again

Place = tuple[str, ...]  # in an index: where the next look begins

_LIVE = "phase IN ('Assigned', 'Running')"
# A release that knows nothing of it leaves `parked` as it is when it changes the rest: it says something only here.
_PARKED = "parked AND NOT ready AND phase = 'Queued'"
_WAITS = "j.parked AND NOT j.ready AND j.phase = 'Queued'"
# Of jobs that are named by uid. The index of what is ready can't answer it: to a planner whose statistics are of empty
# queues that one looks cheaper than the key, and then every look reads whole queues (4.5 instead of 0.3 ms a job).
_IS_READY = "ready IS NOT FALSE"


def walk(after: str = "true") -> str:
    """The queues from a condition on: a loose walk over the partial index, one look-up a queue however long it is."""
    return f"""
WITH RECURSIVE q AS (
    (SELECT namespace, class FROM jobs WHERE ready AND {after} ORDER BY namespace, class LIMIT 1)
    UNION ALL
    SELECT n.namespace, n.class FROM q, LATERAL (
        SELECT namespace, class FROM jobs WHERE ready AND (namespace, class) > (q.namespace, q.class)
        ORDER BY namespace, class LIMIT 1) n
)"""


_QUEUES = f"""{walk("(namespace, class) > ($1::text, $2::bigint)")}
SELECT s.namespace, s.class, c.requirements
FROM (SELECT * FROM q LIMIT $3::int) s LEFT JOIN classes c ON c.class = s.class ORDER BY s.namespace, s.class"""

_SPECIAL = f"""
SELECT (SELECT true FROM jobs WHERE {_PARKED} ORDER BY namespace, ckey, class, climit, rank LIMIT 1) IS NOT NULL,
    EXISTS (SELECT FROM quotas)"""

_HEADS = f"""
SELECT k.n, h.rank, h.uid::text, h.ckey, coalesce(h.climit, 0),
    CASE WHEN h.ckey IS NOT NULL THEN (SELECT count(*) FROM jobs l
        WHERE l.namespace = k.namespace AND l.ckey = h.ckey AND l.{_LIVE}) ELSE 0 END,
    CASE WHEN k.same THEN coalesce(h.last_robot, (SELECT robot_uid FROM last_robots l
        WHERE l.namespace = k.namespace AND l.workflow = h.workflow))::text END,
    h.text
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bool[])
    WITH ORDINALITY AS k(namespace, class, most, same, n), LATERAL (
    SELECT j.rank, j.uid, j.ckey, j.climit, j.workflow, j.last_robot,
        CASE WHEN octet_length(j.head) + octet_length(j.tail) <= {TEXT} THEN j.head || j.tail END AS text
    FROM jobs j WHERE j.ready AND j.namespace = k.namespace AND j.class = k.class ORDER BY j.rank LIMIT k.most) h
ORDER BY k.n, h.rank"""

# Every live job has a robot: with that said only one index will do.
_RUNNING = f"SELECT namespace, count(*) FROM jobs WHERE robot_uid IS NOT NULL AND {_LIVE} GROUP BY namespace"
_QUOTAS = "SELECT namespace, weight, max_running FROM quotas"

# One row, as nothing is said of a robot that is online and idle: a line each takes three times as long.
_OBSERVED = f"""
SELECT count(*), coalesce(max(t.rv), 0), coalesce(array_agg(t.uid::text) FILTER (WHERE l.online IS NOT TRUE), '{{}}'),
    coalesce((SELECT json_object_agg(u.robot_uid, u.used)::text FROM (SELECT robot_uid, count(*) AS used
        FROM jobs WHERE robot_uid IS NOT NULL AND {_LIVE} GROUP BY robot_uid) u), '{{}}')
FROM robots t LEFT JOIN leases l ON l.robot_uid = t.uid"""


@dataclass(frozen=True, slots=True)
class QueueHead:
    """A queue that has jobs: a namespace and a class of requirements (their canonical JSON)."""

    namespace: str
    class_: int
    requirements: str


@dataclass(frozen=True, slots=True)
class Look:
    """Queues that hold a job that may be placed, in the order of their index; `after` is None where these are the last.

    Besides: whether any job waits for its concurrency key, and whether there is any quota.
    """

    queues: list[QueueHead]
    after: Place | None
    has_parked: bool
    has_quotas: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """What is observed of robots, by uid.

    `stamp` is another one when any robot has been made, changed or deleted: how many there are, and the newest revision
    of one. `used`: live jobs, of those that have any.
    """

    stamp: tuple[int, int] = (0, 0)
    offline: frozenset[str] = frozenset()
    used: dict[str, int] = field(default_factory=dict)

    def differing(self, other: Observed) -> set[str]:
        """The robots that fare differently there."""
        return {uid for uid, _ in self.used.items() ^ other.used.items()} | (self.offline ^ other.offline)


class Head(NamedTuple):
    """A job at the head of its queue. `live`: how many jobs of its key robots have."""

    rank: datetime
    uid: str
    key: str | None
    limit: int
    live: int
    last: str | None
    text: str | None

    @property
    def is_full(self) -> bool:
        return self.key is not None and self.live >= self.limit


START: Place = ("", str(-(2**63)))


async def queues(connection: Connection, after: Place = START, limit: int = QUEUES) -> Look:
    """The next queues behind a place in their order."""
    pipeline = Pipeline(connection)
    pipeline.send(_QUEUES, (*after, str(limit)))
    pipeline.send(_SPECIAL)
    found, special = await pipeline.finish()
    heads = [QueueHead(namespace, class_, said or "{}") for namespace, class_, said in _rows(found)]
    last = heads[-1] if len(heads) == limit else None
    return Look(heads, (last.namespace, str(last.class_)) if last else None, *_rows(special)[0])


async def heads(
    connection: Connection, wanted: Sequence[tuple[QueueHead, int, bool]], with_shares: bool
) -> tuple[list[list[Head]], dict[str, Share]]:
    """The first jobs of each queue, at most so many; with True also the robot that each should have again if it likes.

    And what each namespace may have and has, where that is asked for.
    """
    args = (
        Texts(one.namespace for one, _, _ in wanted),
        Int8s(one.class_ for one, _, _ in wanted),
        Int8s(most for _, most, _ in wanted),
        Bools(same for _, _, same in wanted),
    )
    pipeline = Pipeline(connection)
    pipeline.send(_HEADS, args)
    for query in (_RUNNING, _QUOTAS) if with_shares else ():
        pipeline.send(query)
    rows, *rest = await pipeline.finish()
    found: list[list[Head]] = [[] for _ in wanted]
    for n, *head in _rows(rows):
        found[n - 1].append(Head(*head))
    return found, _shares(*rest) if rest else {}


def _shares(running: PGresult, quotas: PGresult) -> dict[str, Share]:
    live, said = dict(_rows(running)), {namespace: limits for namespace, *limits in _rows(quotas)}
    return {
        namespace: Share(weight, live.get(namespace, 0), most)
        for namespace in live.keys() | said.keys()
        for weight, most in [said.get(namespace, (1, None))]
    }


async def texts(connection: Connection, uids: Iterable[str]) -> dict[str, Object]:
    """Jobs as objects, for writing."""
    pipeline = Pipeline(connection)
    query = f"SELECT uid::text, head || tail FROM jobs WHERE uid = ANY($1::uuid[]) AND {_IS_READY}"
    pipeline.send(query, (Texts(uids),))
    (found,) = await pipeline.finish()
    return {uid: orjson.loads(text) for uid, text in _rows(found)}


async def observed(connection: Connection) -> Observed:
    """How all robots fare."""
    cursor = await connection.execute(_OBSERVED, prepare=True)
    found = await cursor.fetchone()
    assert found is not None  # an aggregate
    count, newest, offline, used = found
    return Observed((count, newest), frozenset(offline), orjson.loads(used))


async def robot_revisions(connection: Connection) -> dict[str, int]:
    """The revision of every robot, by uid."""
    cursor = await connection.execute("SELECT uid::text, rv FROM robots", prepare=True)
    return dict(await cursor.fetchall())


async def robot_objects(connection: Connection, uids: Iterable[str]) -> list[Object]:
    """Robots as objects, without what is observed."""
    cursor = await connection.execute("SELECT head || tail FROM robots WHERE uid = ANY(%s::uuid[])", (list(uids),))
    return [orjson.loads(text) for (text,) in await cursor.fetchall()]


# -- concurrency keys ----------------------------------------------------------------------------------------------

# A loose walk over what is parked: by key, its limit and class. Of each the first that have room, those that are in the
# queue already counted among them. Rows that somebody is writing are left for the next look: who waits for nobody can't
# be in a deadlock. A job that an older release held back while it was parked leaves the line; timers make it ready.
_NOT_HELD = """strpos(tail, '"heldUntil":"') = 0"""
_PROMOTE = f"""
WITH RECURSIVE g AS (
    (SELECT namespace, ckey, class, climit FROM jobs WHERE {_PARKED}
     AND (namespace, ckey, class, climit) > ($1::text, $2::text, $3::bigint, $4::int)
     ORDER BY namespace, ckey, class, climit LIMIT 1)
    UNION ALL
    SELECT n.* FROM g, LATERAL (
        SELECT namespace, ckey, class, climit FROM jobs WHERE {_PARKED}
        AND (namespace, ckey, class, climit) > (g.namespace, g.ckey, g.class, g.climit)
        ORDER BY namespace, ckey, class, climit LIMIT 1) n
), s AS MATERIALIZED (SELECT * FROM g LIMIT $5::int
), r AS MATERIALIZED (
    SELECT s.*, greatest(0, least($6::int, s.climit - (SELECT count(*) FROM jobs l
        WHERE l.namespace = s.namespace AND l.ckey = s.ckey AND l.{_LIVE}))) AS room FROM s
), b AS MATERIALIZED (
    SELECT b.uid FROM r, LATERAL (SELECT u.uid, u.parked FROM (
        (SELECT j.uid, j.rank, true AS parked FROM jobs j WHERE {_WAITS} AND j.namespace = r.namespace
         AND j.ckey = r.ckey AND j.class = r.class AND j.climit = r.climit ORDER BY j.rank LIMIT r.room)
        UNION ALL
        (SELECT j.uid, j.rank, false FROM jobs j WHERE j.ready AND j.ckey IS NOT NULL AND j.namespace = r.namespace
         AND j.ckey = r.ckey AND j.class = r.class AND j.climit = r.climit ORDER BY j.rank LIMIT r.room)
        ) u ORDER BY u.rank LIMIT r.room) b
    WHERE r.room > 0 AND b.parked LIMIT $6::int
), p AS (
    UPDATE jobs SET ready = {_NOT_HELD}, parked = false WHERE {_PARKED} AND uid IN (
        SELECT uid FROM jobs WHERE uid IN (SELECT uid FROM b) AND {_PARKED} FOR UPDATE SKIP LOCKED)
    RETURNING 1
)
SELECT (SELECT count(*) FROM p), n.n, l.*
FROM (SELECT count(*) AS n FROM s) n
    LEFT JOIN (SELECT * FROM s ORDER BY namespace DESC, ckey DESC, class DESC, climit DESC LIMIT 1) l ON true"""

_PARK = f"""
UPDATE jobs SET ready = false, parked = true WHERE {_IS_READY} AND uid IN (
    SELECT uid FROM jobs WHERE uid = ANY($1::uuid[]) AND {_IS_READY} AND ckey IS NOT NULL FOR UPDATE SKIP LOCKED)"""

FIRST_KEY: Place = ("", "", str(-(2**63)), "0")


async def promote(connection: Connection, after: Place = FIRST_KEY, limit: int = KEYS) -> tuple[int, Place | None]:
    """Puts jobs into their queues whose keys have room, from a place in the keys' order on.

    How many, and the place to go on from; None after the last key.
    """
    pipeline = Pipeline(connection)
    pipeline.send(_PROMOTE, (*after, str(limit), str(PROMOTED)))
    (found,) = await pipeline.finish()
    promoted, looked, *last = _rows(found)[0]
    return promoted, tuple(map(str, last)) if looked == limit else None


async def park(connection: Connection, uids: Iterable[str]) -> None:
    """Takes jobs out of their queues until their keys have room."""
    pipeline = Pipeline(connection)
    pipeline.send(_PARK, (Texts(uids),))
    await pipeline.finish()


# -- what is looked at again ---------------------------------------------------------------------------------------

_STILL = f"SELECT uid::text, rv FROM jobs WHERE uid = ANY($1::uuid[]) AND {_IS_READY}"
# Three answers of the robots, not one: put together here, they take less than half of the time of a join.
_SLOTS = "SELECT uid::text, rv, slots FROM robots WHERE uid = ANY($1::uuid[])"
_ONLINE = "SELECT robot_uid::text FROM leases WHERE robot_uid = ANY($1::uuid[]) AND online"
_BUSY = f"SELECT robot_uid::text, count(*) FROM jobs WHERE robot_uid = ANY($1::uuid[]) AND {_LIVE} GROUP BY robot_uid"
_LIMITED = f"""
SELECT q.namespace, q.most - (SELECT count(*) FROM (
    SELECT namespace FROM jobs WHERE robot_uid IS NOT NULL AND {_LIVE} OFFSET 0) l WHERE l.namespace = q.namespace)
FROM (SELECT namespace, max_running AS most FROM quotas
    WHERE namespace = ANY($1::text[]) OFFSET 0) q WHERE q.most IS NOT NULL"""
_TAKEN = f"""
SELECT k.namespace, k.ckey, (SELECT count(*) FROM jobs l
    WHERE l.namespace = k.namespace AND l.ckey = k.ckey AND l.{_LIVE})
FROM unnest($1::text[], $2::text[]) AS k(namespace, ckey)"""
_LAST = """
INSERT INTO last_robots (namespace, workflow, robot_uid) VALUES ($1, $2, $3::uuid)
ON CONFLICT (namespace, workflow) DO UPDATE SET robot_uid = excluded.robot_uid, at = clock_timestamp()"""
_NOTE_KEY = f"UPDATE jobs SET ckey = $2, climit = $3::int WHERE uid = $1::uuid AND {_IS_READY} AND ckey IS NULL"


@dataclass(slots=True)
class Room:
    """What there is room for, under the history lock.

    jobs: revisions of those that may still be placed; robots: of those that are online, revision and free slots;
    namespaces: how many more may run, of those that have a limit; live: how many jobs of a key robots have.
    """

    jobs: dict[str, int]
    robots: dict[str, tuple[int, int]]
    namespaces: dict[str, int]
    live: dict[Key, int]


@dataclass(slots=True)
class Looking:
    """Postgres looks what there is room for; `room` waits for it. Nothing else may be asked of the batch before."""

    batch: Batch

    async def room(self) -> Room:
        """What there is room for."""
        still, slots, online, busy, limited, taken = map(_rows, await self.batch.pipeline.finish())
        used, reachable = dict(busy), {uid for (uid,) in online}
        return Room(
            dict(still),
            {uid: (rv, most - used.get(uid, 0)) for uid, rv, most in slots if uid in reachable},
            dict(limited),
            {(namespace, key): count for namespace, key, count in taken},
        )


def look_again(
    batch: Batch, jobs: Iterable[str], robots: Iterable[str], namespaces: Iterable[str], keys: Iterable[Key]
) -> Looking:
    """Asks, without waiting, for all that these assignments need."""
    pipeline, wanted, ordered = batch.pipeline, Texts(robots), list(keys)
    pipeline.send(_STILL, (Texts(jobs),))
    for query in (_SLOTS, _ONLINE, _BUSY):
        pipeline.send(query, (wanted,))
    pipeline.send(_LIMITED, (Texts(namespaces),))
    pipeline.send(_TAKEN, (Texts(key[0] for key in ordered), Texts(key[1] for key in ordered)))
    pipeline.flush()
    return Looking(batch)


def note_key(batch: Batch, uid: str, key: str, limit: int) -> None:
    """Notes with the batch the concurrency key of an older release's job, which would be chosen for ever."""
    batch.also(_NOTE_KEY, (uid, key, str(limit)))


def remember(batch: Batch, namespace: str, workflow: str, robot: str) -> None:
    """Notes with the batch which robot has the latest job of a workflow."""
    batch.also(_LAST, (namespace, workflow, robot))


# -- why they wait -------------------------------------------------------------------------------------------------


async def save_reasons(
    connection: Connection, looked_at: Iterable[tuple[str, int]], reasons: dict[tuple[str, int], str]
) -> None:
    """Keeps why queues wait, one row a queue: none for those of `looked_at` that have no reason. Not part of history.

    Queues that are gone are forgotten.
    """
    silent = [key for key in looked_at if key not in reasons]
    async with connection.transaction():
        await connection.execute(
            "DELETE FROM queue_reasons q WHERE EXISTS (SELECT FROM unnest(%b, %b) AS k(namespace, class) "
            "WHERE k.namespace = q.namespace AND k.class = q.class) OR NOT EXISTS (SELECT FROM jobs j "
            "WHERE j.ready AND j.namespace = q.namespace AND j.class = q.class)",
            (Texts(key[0] for key in silent), Int8s(key[1] for key in silent)),
        )
        await connection.execute(
            "INSERT INTO queue_reasons SELECT * FROM unnest(%b, %b, %b) ON CONFLICT (namespace, class) "
            "DO UPDATE SET reasons = excluded.reasons WHERE queue_reasons.reasons <> excluded.reasons",
            (Texts(key[0] for key in reasons), Int8s(key[1] for key in reasons), Texts(reasons.values())),
        )


# -- rows ----------------------------------------------------------------------------------------------------------


def _rows(result: PGresult) -> list[tuple[Any, ...]]:
    """The values of a result as the driver loads them: numbers, words and truth."""
    loader = Transformer()
    loader.set_pgresult(result)
    return loader.load_rows(0, result.ntuples, tuple)
