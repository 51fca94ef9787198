"""When was each key last used, and from where? Noted in memory, written in the background, once a minute and key.

It is no part of history, and nothing is decided by it: what an apiserver that is killed had not written is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import psycopg
import structlog

from casare_apiserver.wire import Scope
from casare_store import uses
from casare_store.uses import Pool, Use

NOTED_EVERY = 61.0  # seconds a key
FLUSH_EVERY = 5.0  # seconds
STOP_WITHIN = 2.0  # seconds
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Uses:
    """The uses of keys in one apiserver process."""

    pool: Pool
    address: Callable[[Scope], str] = lambda scope: (scope.get("client") or ("",))[0]  # of whoever asks
    clock: Callable[[], float] = monotonic
    _noted: dict[str, float] = field(default_factory=dict)  # by the key's uid
    _waiting: dict[str, tuple[float, str]] = field(default_factory=dict)  # when and from where
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="key-uses")

    async def stop(self) -> None:
        """Writes what is known as far as the database takes it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_WITHIN):
                    await self.flush()

    def note(self, key_uid: str, scope: Scope) -> None:
        """Notes that a key was used for a request; called for each of them."""
        now = self.clock()
        if now - self._noted.get(key_uid, -NOTED_EVERY) >= NOTED_EVERY:
            self._noted[key_uid] = now
            self._waiting[key_uid] = now, self.address(scope)

    def forget(self, key_uid: str) -> None:
        """The key is not good any more."""
        self._noted.pop(key_uid, None)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            await self.flush()

    async def flush(self) -> None:
        """Writes what was noted since the last time; what can't be written now is written later."""
        waiting, self._waiting = self._waiting, {}
        now = self.clock()
        found = [Use(uid, now - at, address) for uid, (at, address) in sorted(waiting.items())]
        try:
            if found:
                await uses.write(self.pool, found)
        except (psycopg.Error, TimeoutError) as error:
            self._waiting = waiting | self._waiting
            log.warning("the uses of keys can't be written", why=str(error).split("\n")[0], keys=len(waiting))
