"""How do people learn what happened to an object? Events: one per object and reason, with a count, rate limited.

Nothing decides by them, so losing some under load is allowed and delaying anything for them is not: they are collected
and written once a second through the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass, field

import structlog

from casare_api.kinds import KINDS, Object
from casare_api.kinds.core import EVENT
from casare_api.machinery import times
from casare_store.operations import Context, Operation
from casare_store.writer import Writer

WRITE_EVERY = 0.5  # seconds
MOST = 100  # events a write; what is beyond it is dropped and counted
MOST_NORMAL = 25  # of them, so that warnings have room: at thousands of jobs a second nobody reads that each has begun
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Happened:
    """Something to tell of an object: a reason in one word, a message, Normal or Warning."""

    obj: Object
    reason: str
    message: str
    type: str = "Normal"


@dataclass(slots=True)
class Recorder:
    """Collects events of one process and writes them."""

    writer: Writer
    component: str
    _waiting: dict[tuple[str, str], list[Happened]] = field(default_factory=dict)
    _dropped: int = 0
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="events")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def takes(self, uid: str, reason: str, type_: str = "Normal") -> bool:
        """Whether an event of this object would be kept, so that nobody finds words for one that is dropped."""
        return (uid, reason) in self._waiting or len(self._waiting) < (MOST_NORMAL if type_ == "Normal" else MOST)

    def tell(self, obj: Object, reason: str, message: str, type_: str = "Normal") -> None:
        """Notes an event; never waits, never fails."""
        uid = obj["metadata"]["uid"]
        if self.takes(uid, reason, type_):
            self._waiting.setdefault((uid, reason), []).append(Happened(obj, reason, message, type_))
        else:
            self._dropped += 1

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY)
            try:
                if self._waiting:
                    await self.flush()
            except Exception:
                log.exception("events could not be written")

    async def flush(self) -> None:
        """Writes what was collected."""
        waiting, self._waiting = self._waiting, {}
        if self._dropped:
            log.info("events dropped", count=self._dropped)
            self._dropped = 0
        operations = [_operation(group, self.component) for group in waiting.values()]
        await self.writer.submit(operations)  # one that is refused is lost: its object's namespace is going, say


def _operation(group: list[Happened], component: str) -> Operation:
    """Counts up the event of this object and reason, or makes it."""
    last = group[-1]
    meta = last.obj["metadata"]
    namespace = meta.get("namespace") or "default"
    digest = hashlib.sha256(f"{meta['uid']}{last.reason}".encode()).hexdigest()[:12]
    name = f"{meta['name'][:200]}.{digest}"

    def mutate(current: Object | None, context: Context) -> Object:
        now = times.to_text(context.now)
        fresh = {"message": last.message[:1024], "type": last.type, "lastTimestamp": now}
        if current is not None:
            return {**current, **fresh, "count": int(current.get("count") or 0) + len(group)}
        kind = KINDS[last.obj["kind"]]
        involved = {
            "kind": kind.kind,
            "namespace": namespace,
            "name": meta["name"],
            "uid": meta["uid"],
            "apiVersion": kind.api_version,
        }
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved,
            "reason": last.reason,
            **fresh,
            "source": {"component": component},
            "firstTimestamp": now,
            "count": len(group),
            "reportingComponent": component,
        }

    return Operation(EVENT, namespace, name, mutate)
