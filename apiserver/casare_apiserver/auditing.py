"""Who did what? The callers of writes, the attempts that were refused, and the route that shows the audit log.

What is written is in the log by itself: see `casare_store.auditing`. Here is who the caller is, and what is no write:
refusals are collected, equal ones counted, and at most a few a minute are written, so that nobody fills the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Protocol

import orjson
import psycopg
import psycopg_pool
import structlog

from casare_api.decisions import auditing
from casare_api.decisions.access import READ, Identity
from casare_api.decisions.audit_chain import Link, Row
from casare_api.decisions.auditing import Caller, Refusal
from casare_api.kinds import GROUP, Kind
from casare_api.machinery import durations, times
from casare_api.machinery.errors import ApiError
from casare_apiserver import wire
from casare_apiserver.wire import Request, Scope
from casare_store import auditing as store_auditing
from casare_store.store import Store

PATH = f"/apis/{GROUP}/v1/audit"
# What robots say of their work is no deed: see `agents`.
REPORTS = frozenset({("robots", "report"), ("jobs", "log"), ("jobs", "artifacts")})
MAX_LIMIT = 1000
MAX_DIGITS = 18
log = structlog.get_logger(__name__)


class Named(Protocol):
    """A path of the resource API in its parts."""

    @property
    def namespace(self) -> str | None: ...
    @property
    def plural(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def subresource(self) -> str | None: ...


def caller(who: Identity, address: str, verb: str, resource: str, subresource: str | None) -> Caller | None:
    """Whose deed a request is; None where it writes nothing, or only what a robot reports."""
    if verb in READ or (resource, subresource) in REPORTS:
        return None
    full = resource if subresource is None else f"{resource}/{subresource}"
    return Caller(auditing.plain(who.name), who.role, address, verb, full, who.namespace, who.key_uid)


def refusal(
    who: Identity | None, address: str, scope: Scope, path: Named | None, kind: Kind | None, code: int
) -> Refusal:
    """What to say of an attempt that was refused; of a key that is not good nobody knows whose it was."""
    who = who or Identity("system:unknown", "anonymous")
    verb, actor = scope["method"].lower()[:20], auditing.plain(who.name)
    if path is None:
        return Refusal(actor, who.role, address, verb, auditing.plain(scope["path"]), "", "", code)
    full = path.plural if path.subresource is None else f"{path.plural}/{path.subresource}"
    return Refusal(
        actor, who.role, address, verb, auditing.plain(full), auditing.plain(path.namespace or ""),
        auditing.plain(path.name or ""), code, kind.kind if kind else "", who.namespace, who.key_uid,
    )  # fmt: skip


# -- refusals --------------------------------------------------------------------------------------------------------

WRITE_EVERY = 1.0  # seconds
AGAIN = 60.0  # seconds in which equal refusals are one more row at most
MOST_KNOWN = 1000  # different ones of the last minute
BURST, PER_SECOND = 100.0, 0.1  # rows: 3 MB a day at most, whatever anybody tries


@dataclass(slots=True)
class Refusals:
    """What was refused, on its way into the log; nobody waits for it, and a crash loses the last second of it."""

    store: Store
    _counts: dict[Refusal, int] = field(default_factory=dict)  # that are not written yet
    _written: dict[Refusal, float] = field(default_factory=dict)  # when, in the last minute
    _unsaid: int = 0
    _left: float = BURST
    _filled: float = field(default_factory=monotonic)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="refusals")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._written.clear()
            await self._flush()

    def note(self, what: Refusal) -> None:
        """Counts a refusal; never waits, never fails."""
        if what in self._counts or len(self._counts) < MOST_KNOWN:
            self._counts[what] = self._counts.get(what, 0) + 1
        else:
            self._unsaid += 1

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY)
            if self._counts or self._unsaid:
                await self._flush()

    async def _flush(self) -> None:
        taken, unsaid = self._take(monotonic()), 0
        if self._left >= 1 and self._unsaid:
            self._left, unsaid, self._unsaid = self._left - 1, self._unsaid, 0
        entries = [auditing.refused(what, count) for what, count in taken.items()]
        entries += [auditing.unsaid(unsaid)] if unsaid else []
        if not entries:
            return
        try:
            async with self.store.batch() as batch:
                batch.trail.others += entries
                await batch.commit()
        except (psycopg.Error, psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed) as error:
            log.warning("refusals could not be written", why=str(error).split("\n")[0], count=len(entries))
            self._unsaid += unsaid + sum(taken.values())

    def _take(self, now: float) -> dict[Refusal, int]:
        """What may be written now: nothing twice a minute, and no more than a few in all."""
        self._left = min(BURST, self._left + (now - self._filled) * PER_SECOND)
        self._filled = now
        self._written = {what: at for what, at in self._written.items() if now - at < AGAIN}
        taken = {}
        for what in list(self._counts):
            if what in self._written:
                continue
            count = self._counts.pop(what)
            if self._left < 1 or len(self._written) >= MOST_KNOWN:
                self._unsaid += count
                continue
            taken[what] = count
            self._written[what], self._left = now, self._left - 1
        return taken


# -- the route -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The handler of GET .../audit."""

    store: Store

    async def read(self, request: Request) -> None:
        """A page of rows: the newest first, or behind `after` in their order.

        With `rows` they come as they are kept, so that the reader can check the chain. Raises ApiError 400, 405.
        """
        if request.method not in ("GET", "HEAD"):
            raise ApiError(405, "MethodNotAllowed", "the audit log is read: GET")
        query = query_of(request.query)
        page = await store_auditing.read(self.store.pool, query)
        form = _kept if wire.is_set(request.query, "rows") else _shown
        meta = {"continue": str(page.rows[-1].seq)} if len(page.rows) == query.limit else {}
        await request.object(200, {
            "apiVersion": f"{GROUP}/v1", "kind": "AuditList", "metadata": meta, "start": _link(page.start),
            "end": _link(page.end), "items": [form(row) for row in page.rows],
        })  # fmt: skip


def _link(link: Link) -> dict[str, Any]:
    return {"seq": link.seq, "hash": link.hash}


def _kept(row: Row) -> dict[str, Any]:
    return {"seq": row.seq, "hash": row.hash, "entry": row.entry, "actor": row.actor, "object": row.object}


def _shown(row: Row) -> Any:
    try:
        return {**orjson.loads(row.entry), "hash": row.hash}
    except (ValueError, TypeError):  # somebody changed it: `verify` says which
        return {"seq": row.seq, "actor": row.actor, "object": row.object, "unreadable": True}


def query_of(said: Mapping[str, str]) -> store_auditing.Query:
    """Which rows the query parameters ask for. Raises ApiError 400."""
    about = (said.get("kind", ""), said.get("namespace", ""), said.get("name", ""))
    if any(about) and not (about[0] and about[2]):
        raise ApiError.bad_request("an object is named by kind, name and (where it has one) namespace")
    limit = _number(said, "limit")
    return store_auditing.Query(
        said.get("actor", ""), about if any(about) else None, _since(said.get("since", "")), _number(said, "after"),
        _number(said, "before"), min(limit or 100, MAX_LIMIT),
    )  # fmt: skip


def _number(said: Mapping[str, str], name: str) -> int | None:
    text = said.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise ApiError.bad_request(f"{name}: {text[:60]!r} is no whole number")
    return int(text)


def _since(text: str) -> datetime | timedelta | None:
    """A time, or how long ago."""
    if not text:
        return None
    try:
        return times.from_text(text) if "-" in text else durations.parse_duration(text)
    except ValueError:
        why = f"since: {text[:60]!r} is neither a time such as 2026-01-31T08:00:00Z nor a span such as 2h or 7d"
        raise ApiError.bad_request(why) from None

