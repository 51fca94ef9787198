"""What hangs on what? Objects by the uids of their owners, and whose deletion waits for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from casare_api.kinds import KINDS, Kind
from casare_store.batch import Batch, Key
from casare_store.columns import table

Connection = AsyncConnection[Any]
_FEW = 50  # of the dependents in an owner's way, of each kind


@dataclass(frozen=True, slots=True)
class Named:
    """One object, by what `Store.batch` reads it with, and its uid."""

    key: Key
    uid: str

    @property
    def kind(self) -> Kind:
        return KINDS[self.key[0]]


async def waiting(connection: Connection) -> list[Named]:
    """Objects whose deletion waits for their dependents. Some may be gone by now."""
    cursor = await connection.execute("SELECT kind, namespace, name, uid::text FROM deletions", prepare=True)
    return _named(row for row in await cursor.fetchall() if row[0] in KINDS)


async def deleted(connection: Connection, since: int | None) -> tuple[list[Named], int]:
    """What was deleted after revision `since` (None: nothing), and the revision that this is true at."""
    cursor = await connection.execute("SELECT rv FROM heads", prepare=True)
    row = await cursor.fetchone()
    head = row[0] if row is not None else 0
    if since is None or since >= head:
        return [], head
    cursor = await connection.execute(
        "SELECT kind, namespace, name, uid::text FROM changes WHERE rv > %s AND rv <= %s AND type = 'DELETED'",
        (since, head), prepare=True,
    )
    return _named(found for found in await cursor.fetchall() if found[0] in KINDS), head


async def of(connection: Connection, owners: Iterable[Named]) -> list[Named]:
    """All dependents of these owners."""
    uids = [one.uid for one in owners]
    query, count = _of_every_kind(
        "SELECT '{kind}', t.namespace, t.name, t.uid::text FROM {table} t WHERE t.owners && %s::uuid[]"
    )
    cursor = await connection.execute(query, [uids] * count)
    return _named(await cursor.fetchall())


async def parents(batch: Batch, uids: Iterable[str]) -> set[str]:
    """Which of these objects have dependents of their own."""
    return await _that(batch, uids, "EXISTS (SELECT FROM {table} t WHERE t.owners @> ARRAY[w.uid])")


async def alive(batch: Batch, uids: Iterable[str]) -> set[str]:
    """Which of these objects are there."""
    return await _that(batch, uids, "EXISTS (SELECT FROM {table} t WHERE t.uid = w.uid)")


async def blockers(batch: Batch, owners: Mapping[str, bool]) -> list[tuple[str, str]]:
    """Pairs (owner, dependent) of what is in the way of these deletions: a few of each owner, none where nothing is.

    Owners (uid) are given with whether only dependents with `blockOwnerDeletion` count.
    """
    refs = "(t.head || t.tail)::jsonb #> '{{metadata,ownerReferences}}'"
    blocking = "jsonb_build_array(jsonb_build_object('uid', w.uid, 'blockOwnerDeletion', true))"
    query, count = _of_every_kind(
        "SELECT w.uid::text, d.uid::text FROM unnest(%s::uuid[], %s::bool[]) AS w(uid, only_blocking), LATERAL ("
        "SELECT t.uid FROM {table} t WHERE t.owners @> ARRAY[w.uid] "
        f"AND (NOT w.only_blocking OR {refs} @> {blocking}) LIMIT {_FEW}) d"
    )
    return [(row[0], row[1]) for row in await batch.select(query, [list(owners), list(owners.values())] * count)]


def settled(batch: Batch, uids: Iterable[str]) -> None:
    """These deletions wait for nothing any more."""
    batch.also("DELETE FROM deletions WHERE uid = ANY($1::uuid[])", ("{" + ",".join(uids) + "}",))


def _of_every_kind(query: str) -> tuple[str, int]:
    """One query over the tables of all kinds, and of how many."""
    parts = [query.format(kind=kind.kind, table=table(kind)) for kind in KINDS.values()]
    return " UNION ALL ".join(parts), len(parts)


async def _that(batch: Batch, uids: Iterable[str], condition: str) -> set[str]:
    any_ = " OR ".join(condition.format(table=table(kind)) for kind in KINDS.values())
    query = f"SELECT w.uid::text FROM unnest(%s::uuid[]) AS w(uid) WHERE {any_}"
    return {row[0] for row in await batch.select(query, (sorted(set(uids)),))}


def _named(rows: Iterable[tuple[Any, ...]]) -> list[Named]:
    return [Named((kind, namespace, name), uid) for kind, namespace, name, uid in rows]
