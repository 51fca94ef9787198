"""Who tried what he may not? Refused attempts, on their way into the audit log.

They are collected, equal ones are counted, and only a few a minute are written, so that nobody fills the disk.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

import psycopg
import psycopg_pool
import structlog

from casare_api.decisions import auditing
from casare_api.decisions.access import Identity
from casare_api.decisions.auditing import Refusal
from casare_api.kinds import Kind
from casare_apiserver.wire import Scope
from casare_store.store import Store

WRITE_EVERY = 1.0  # seconds
AGAIN = 60.0  # seconds in which equal refusals are one more row at most
MOST_KNOWN = 1000  # different ones of the last minute
# Rows: 3 MB a day at most, whatever anybody tries. As much for those who are known as for all who are not, so that
# nobody without a key can hide what somebody with one tries.
BURST, PER_SECOND = 100.0, 0.05
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


@dataclass(slots=True)
class Refusals:
    """What was refused, on its way into the log; nobody waits for it, and a crash loses the last second of it."""

    store: Store
    _counts: dict[Refusal, int] = field(default_factory=dict)  # that are not written yet
    _written: dict[Refusal, float] = field(default_factory=dict)  # when, in the last minute
    _unsaid: int = 0
    _left: dict[bool, float] = field(default_factory=lambda: {True: BURST, False: BURST})  # by whether they are known
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
        if self._left[False] >= 1 and self._unsaid:
            unsaid, self._unsaid = self._unsaid, 0
            self._left[False] -= 1
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
        self._left = {known: min(BURST, left + (now - self._filled) * PER_SECOND) for known, left in self._left.items()}
        self._filled = now
        self._written = {what: at for what, at in self._written.items() if now - at < AGAIN}
        taken = {}
        for what in list(self._counts):
            if what in self._written:
                continue
            count, is_known = self._counts.pop(what), what.role != "anonymous"
            if self._left[is_known] < 1 or len(self._written) >= MOST_KNOWN:
                self._unsaid += count
                continue
            taken[what] = count
            self._written[what] = now
            self._left[is_known] -= 1
        return taken
