"""What hangs on what? Objects by the uids of their owners, and whose deletion waits for them.

An owner is in the namespace of its dependents, or in none. References to anything else are to nobody: who may write in
one namespace holds up and deletes nothing in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from casare_api.kinds import KINDS, Kind, Object
from casare_store.batch import Batch
from casare_store.columns import table
from casare_store.known import Key

Connection = AsyncConnection[Any]
_FEW = 50  # of the dependents in an owner's way, of each kind
# Those of `w`, which has a uid and its namespace, in the table `t` of some kind: the index is over the uids.
_OWNED = "t.owners @> ARRAY[w.uid] AND w.namespace IN ('', t.namespace)"


@dataclass(frozen=True, slots=True)
class Named:
    """One object, by what `Store.batch` reads it with, and its uid."""

    key: Key
    uid: str

    @property
    def kind(self) -> Kind:
        return KINDS[self.key[0]]

    @property
    def namespace(self) -> str:
        return self.key[1]


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
    namespaces = {one.uid: one.namespace for one in owners}
    query, count = _of_every_kind(
        "SELECT t.owners::text[], '{kind}', t.namespace, t.name, t.uid::text "
        "FROM {table} t WHERE t.owners && %s::uuid[]"
    )
    cursor = await connection.execute(query, [list(namespaces)] * count)
    return _named(
        found for uids, *found in await cursor.fetchall() if any(namespaces.get(uid) in ("", found[1]) for uid in uids)
    )


async def parents(batch: Batch, objects: Iterable[Named]) -> set[str]:
    """Which of these objects (uid) have dependents of their own."""
    namespaces = {one.uid: one.namespace for one in objects}
    any_ = " OR ".join(f"EXISTS (SELECT FROM {table(kind)} t WHERE {_OWNED})" for kind in KINDS.values())
    query = f"SELECT w.uid::text FROM unnest(%s::uuid[], %s::text[]) AS w(uid, namespace) WHERE {any_}"
    return {row[0] for row in await batch.select(query, (list(namespaces), list(namespaces.values())))}


async def alive(batch: Batch, uids: Iterable[str]) -> dict[str, str]:
    """Those of these objects that are there, by uid with their namespace."""
    query, count = _of_every_kind("SELECT t.uid::text, t.namespace FROM {table} t WHERE t.uid = ANY(%s::uuid[])")
    return {row[0]: row[1] for row in await batch.select(query, [sorted(set(uids))] * count)}


def is_clear(obj: Object) -> bool:
    """Whether it can be told whom an object belongs to. As in Kubernetes, not where it is in no namespace and its owner
    is of a kind that is in one: it does not say in which, and is not deleted for that."""
    refs = () if obj["metadata"].get("namespace") else obj["metadata"].get("ownerReferences") or ()
    return all(ref["kind"] in KINDS and not KINDS[ref["kind"]].namespaced for ref in refs)


async def blockers(batch: Batch, owners: Mapping[Named, bool]) -> list[tuple[str, str]]:
    """Pairs (owner, dependent) of what is in the way of these deletions: a few of each owner, none where nothing is.

    Owners are given with whether only dependents with `blockOwnerDeletion` count.
    """
    refs = "(t.head || t.tail)::jsonb #> '{{metadata,ownerReferences}}'"
    blocking = "jsonb_build_array(jsonb_build_object('uid', w.uid, 'blockOwnerDeletion', true))"
    query, count = _of_every_kind(
        "SELECT w.uid::text, d.uid::text FROM unnest(%s::uuid[], %s::text[], %s::bool[]) "
        "AS w(uid, namespace, only_blocking), LATERAL ("
        f"SELECT t.uid FROM {{table}} t WHERE {_OWNED} "
        f"AND (NOT w.only_blocking OR {refs} @> {blocking}) LIMIT {_FEW}) d"
    )
    args = [[one.uid for one in owners], [one.namespace for one in owners], list(owners.values())]
    return [(row[0], row[1]) for row in await batch.select(query, args * count)]


def settled(batch: Batch, uids: Iterable[str]) -> None:
    """These deletions wait for nothing any more."""
    batch.also("DELETE FROM deletions WHERE uid = ANY($1::uuid[])", ("{" + ",".join(uids) + "}",))


def _of_every_kind(query: str) -> tuple[str, int]:
    """One query over the tables of all kinds, and of how many."""
    parts = [query.format(kind=kind.kind, table=table(kind)) for kind in KINDS.values()]
    return " UNION ALL ".join(parts), len(parts)


def _named(rows: Iterable[Sequence[Any]]) -> list[Named]:
    return [Named((kind, namespace, name), uid) for kind, namespace, name, uid in rows]
