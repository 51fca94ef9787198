"""Who did what? The callers of writes, and the route that shows the audit log.

What is written is in the log by itself: see `casare_store.auditing`; here is who the caller is. What was refused and so
not written is in `refusals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from casare_api.decisions import auditing
from casare_api.decisions.access import READ, Identity
from casare_api.decisions.audit_chain import Link, Row
from casare_api.decisions.auditing import Caller
from casare_api.kinds import GROUP, Object
from casare_api.kinds.job import JOB
from casare_api.machinery import durations, times
from casare_api.machinery.errors import ApiError
from casare_apiserver import wire
from casare_apiserver.wire import Request
from casare_store import auditing as store_auditing
from casare_store.store import Store

# What robots say of their work is no deed: see `agents`. Whoever else says it is somebody who did that.
REPORTS = frozenset({("robots", "report"), ("jobs", "log"), ("jobs", "artifacts")})
MAX_LIMIT = 1000
MAX_DIGITS = 18


def caller(who: Identity, address: str, verb: str, resource: str, subresource: str | None) -> Caller | None:
    """Whose deed a request is; None where it writes nothing, or only what a robot reports."""
    if verb in READ or (who.role == "robot" and (resource, subresource) in REPORTS):
        return None
    full = resource if subresource is None else f"{resource}/{subresource}"
    return Caller(auditing.plain(who.name), who.role, address, verb, full, who.namespace, who.key_uid)


async def tell_beside(store: Store, job: Object) -> None:
    """A row of what somebody who is no robot put beside a job, which no batch of its own tells of."""
    by = store_auditing.CALLER.get()
    if by is not None:
        async with store.batch() as batch:
            batch.trail.others.append(auditing.beside(by, JOB, job))
            await batch.commit()


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

