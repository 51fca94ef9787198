"""How do Secrets come under another key? Their envelopes are opened and sealed anew where they lie, in rows and log.

What is in them stays the same, so their resourceVersion stays, too: nobody who watches or reads as of a past revision
sees a difference, and there is one row of the audit log a step. A walk goes step by step through the rows and then
through the log; it may end anywhere and begin again, twice at once too. What is written meanwhile, and sealed with
another key by an apiserver that still does so, is found by the next walk.

Envelopes are opened and sealed without the history lock. Under it they are put in their places, where the object still
has the version that was read: no other write is lost by it, and none that read the object before can undo it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from psycopg import AsyncConnection

from casare_api.decisions import auditing
from casare_api.kinds import KINDS
from casare_api.machinery.errors import ApiError
from casare_store.sealing import KEY_OF, Sealer
from casare_store.store import Store

MOST = 200  # envelopes that a step looks at
MOST_BYTES = 1024 * 1024  # of those that it seals anew, but for one that is larger by itself
SPAN = 100_000  # revisions of the log that a step looks at
Part = Literal["secrets", "log"]
_FIRST = {"secrets": "00000000-0000-0000-0000-000000000000", "log": "0"}
_PLACE = re.compile(r"secrets:(?P<secrets>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|log:(?P<log>[0-9]{1,18})")

assert [kind.kind for kind in KINDS.values() if kind.sealed] == ["Secret"], "their tables are named here"


@dataclass(frozen=True, slots=True)
class Place:
    """How far a walk is: behind a row, by its uid, or behind a revision of the log."""

    part: Part = "secrets"
    after: str = _FIRST["secrets"]

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises ApiError 400."""
        if not text:
            return cls()
        match = _PLACE.fullmatch(text)
        if match is None:
            raise ApiError.bad_request("continue: give what the last answer said, or nothing to begin")
        return cls("log", match["log"]) if match["log"] else cls("secrets", match["secrets"])

    def __str__(self) -> str:
        return f"{self.part}:{self.after}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """One that was found: where it lies (uid or revision), its object's version, its key, and the size of the text."""

    place: str
    rv: int
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Broken:
    """An envelope that its own key, which is here, does not open; `name` is its object's namespace and name."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a step has found, by key as it is afterwards, the broken among them."""

    part: Part
    found: Counter[str] = field(default_factory=Counter)
    resealed: int = 0
    broken: list[Broken] = field(default_factory=list)
    next: Place | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """An apiserver that is connected now: its keys, first the one that it seals with. No address: a Unix socket."""

    keys: tuple[str, ...]
    address: str


async def servers(store: Store) -> list[Server]:
    """The apiservers that have keys, of this release or a later one; equal ones on one computer once."""
    query = (
        "SELECT DISTINCT application_name, coalesce(host(client_addr), '') FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'casare-writer %' ORDER BY 1, 2"
    )
    async with store.pool.connection() as connection:
        rows = await (await connection.execute(query)).fetchall()
    return [Server(tuple(name.split(" ", 1)[1].split("+")), address) for name, address in rows]


async def step(store: Store, sealer: Sealer, at: Place, *, writes: bool) -> Step:
    """Looks at what lies next and, where asked to, seals it anew as far as it can be opened."""
    async with store.pool.connection() as connection:
        there, end = await (_rows if at.part == "secrets" else _log)(connection, at.after)
        taken, wanted = chosen(there, sealer, writes)
        texts = await _texts(connection, at.part, wanted) if wanted else []
    if len(taken) < len(there):
        end = taken[-1].place
    changed, names = _resealed(sealer, texts)
    written = await _write(store, sealer, at.part, changed) if changed else set()
    # What was deleted or written meanwhile is found by the next walk.
    gone = {one.place for one in wanted} - written - names.keys()
    found = Counter(sealer.key_id if one.place in written else one.key for one in taken if one.place not in gone)
    broken = [Broken(one.key, names[one.place]) for one in wanted if one.place in names]
    return Step(at.part, found, len(written), broken, _next(at.part, end))


def chosen(there: Sequence[Envelope], sealer: Sealer, writes: bool) -> tuple[list[Envelope], list[Envelope]]:
    """How many of them one step takes, and which of those it seals anew."""
    taken: list[Envelope] = []
    wanted: list[Envelope] = []
    size = 0
    for one in there:
        if writes and one.key != sealer.key_id and one.key in sealer.key_ids:
            size += one.size
            if wanted and size > MOST_BYTES:
                break
            wanted.append(one)
        taken.append(one)
    return taken, wanted


def _next(part: Part, end: str | None) -> Place | None:
    """Where the walk goes on; None where it is over."""
    if end is not None:
        return Place(part, end)
    return Place("log", _FIRST["log"]) if part == "secrets" else None


def _resealed(
    sealer: Sealer, texts: Sequence[tuple[str, int, str]]
) -> tuple[list[tuple[str, int, str]], dict[str, str]]:
    """The same sealed anew, and of those that are broken the namespaces and names, by place."""
    changed, broken = [], {}
    for place, rv, text in texts:
        obj = orjson.loads(text)
        try:
            changed.append((place, rv, orjson.dumps(sealer.reseal(obj)).decode()))
        except ApiError:
            broken[place] = f"{obj['metadata'].get('namespace')}/{obj['metadata']['name']}"
    return changed, broken


# -- statements ------------------------------------------------------------------------------------------------------

_OF_ROWS = (
    f"SELECT uid::text, rv, {KEY_OF.format('head || tail')}, octet_length(head) FROM secrets WHERE uid > %s::uuid "
    "ORDER BY secrets.uid LIMIT %s"
)
_OF_LOG = (
    f"SELECT rv::text, rv, {KEY_OF.format('object')}, octet_length(object) FROM changes "
    "WHERE rv > %s AND rv <= %s AND kind = 'Secret' ORDER BY changes.rv LIMIT %s"
)
_TEXTS: dict[Part, str] = {
    "secrets": "SELECT uid::text, rv, head || tail FROM secrets WHERE uid = ANY(%s::uuid[])",
    "log": "SELECT rv::text, rv, object FROM changes WHERE rv = ANY(%s::bigint[])",
}
_WRITE: dict[Part, str] = {
    "secrets": "UPDATE secrets t SET head = n.text, tail = '' FROM unnest(%s::uuid[], %s::bigint[], %s::text[]) "
               "AS n(uid, rv, text) WHERE t.uid = n.uid AND t.rv = n.rv RETURNING n.uid::text",
    "log": "UPDATE changes t SET object = n.text FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) "
           "AS n(place, rv, text) WHERE t.rv = n.rv RETURNING n.place::text",
}  # fmt: skip


async def _rows(connection: AsyncConnection[Any], after: str) -> tuple[list[Envelope], str | None]:
    """The next rows, and behind which of them others may come."""
    rows = await (await connection.execute(_OF_ROWS, (after, MOST))).fetchall()
    return _envelopes(rows), rows[-1][0] if len(rows) == MOST else None


async def _log(connection: AsyncConnection[Any], after: str) -> tuple[list[Envelope], str | None]:
    """The next entries of the log, and the revision behind which others may come."""
    head, compacted = (await (await connection.execute("SELECT rv, compacted_rv FROM heads")).fetchall())[0]
    first = max(int(after), compacted)
    last = min(first + SPAN, head)
    rows = await (await connection.execute(_OF_LOG, (first, last, MOST))).fetchall()
    if len(rows) == MOST:
        return _envelopes(rows), str(rows[-1][0])
    return _envelopes(rows), str(last) if last < head else None


def _envelopes(rows: Sequence[Sequence[Any]]) -> list[Envelope]:
    return [Envelope(place, rv, key, size) for place, rv, key, size in rows if key]


async def _texts(
    connection: AsyncConnection[Any], part: Part, wanted: Sequence[Envelope]
) -> list[tuple[str, int, str]]:
    """Place, version and text of those that still are as they were found."""
    versions = {one.place: one.rv for one in wanted}
    rows = await (await connection.execute(_TEXTS[part], (list(versions),))).fetchall()
    return [(place, rv, text) for place, rv, text in rows if versions[place] == rv]


async def _write(store: Store, sealer: Sealer, part: Part, changed: Sequence[tuple[str, int, str]]) -> set[str]:
    """Puts them in their places, where those still have the same version; where that was."""
    async with store.batch() as batch:
        rows = await batch.select(_WRITE[part], [list(column) for column in zip(*changed, strict=True)])
        done = {place for (place,) in rows}
        if done and batch.by is not None:
            batch.trail.others.append(auditing.resealed(batch.by, sealer.key_id, part, len(done)))
        await batch.commit()
    return done
