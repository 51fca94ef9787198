"""What becomes of an object that can't be written? It is set aside for a while and told of, and all others move.

A set that the database refuses, or over which a duty trips, is halved until the culprit stands alone. What says nothing
of the object itself (a lost connection, a lock that was not to be had) is no refusal.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
import structlog

from casare_api.kinds import Object
from casare_api.kinds.core import EVENT
from casare_store.batch import OutcomeUnknown
from casare_store.events import Recorder

ASIDE_FOR = 60.0  # seconds
MOST = 20  # culprits in one set: where there are more it may well be the database, so that the duty rather fails
# Says nothing of an object: the connection, a lock, the server's machine, a server that only answers reads.
_PASSING = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction, OutcomeUnknown, OSError)
log = structlog.get_logger(__name__)

Write = Callable[[Sequence[str]], Awaitable[int]]  # writes the objects of these uids together, or none; how many


@dataclass(slots=True)
class Aside:
    """The objects that a duty of this process leaves alone, by uid."""

    events: Recorder
    duty: str
    clock: Callable[[], float] = time.monotonic
    _until: dict[str, float] = field(default_factory=dict)

    @property
    def uids(self) -> list[str]:
        """Those that are left alone now."""
        if self._until:
            now = self.clock()
            self._until = {uid: until for uid, until in self._until.items() if until > now}
        return list(self._until)

    def skip(self, uid: str, seconds: float = ASIDE_FOR) -> None:
        """Leaves an object alone for a while."""
        self._until[uid] = self.clock() + seconds

    async def write(self, uids: Sequence[str], write: Write, seen: Mapping[str, Object]) -> int:
        """Writes what can be written; how many. `seen` has the objects as far as they were read, for their events.

        Raises what `write` raises where that is no refusal, and the refusal itself where too many are refused: those
        that were found are aside then.
        """
        found: list[str] = []
        return await self._write(uids, write, seen, found) if uids else 0

    async def _write(self, uids: Sequence[str], write: Write, seen: Mapping[str, Object], found: list[str]) -> int:
        try:
            return await write(uids)
        except Exception as error:  # a mistake of ours that one object brings to light must stop no other either
            if _is_passing(error) or len(found) >= MOST:
                raise
            if len(uids) == 1:
                found.append(uids[0])
                self._refuse(uids[0], seen.get(uids[0]), error)
                return 0
        middle = len(uids) // 2
        return await self._write(uids[:middle], write, seen, found) + await self._write(
            uids[middle:], write, seen, found
        )

    def _refuse(self, uid: str, obj: Object | None, error: Exception) -> None:
        self.skip(uid)
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        meta = obj["metadata"] if obj is not None else {}
        about = {"kind": (obj or {}).get("kind"), "namespace": meta.get("namespace"), "name": meta.get("name")}
        log.error("an object can't be written; it is left alone", duty=self.duty, uid=uid, why=why, **about)
        if obj is not None and obj.get("kind") != EVENT.kind:
            words = f"{self.duty} can't write it and tries again in {ASIDE_FOR:g} seconds: {why}"
            self.events.tell(obj, "NotWritable", words, "Warning")


def _is_passing(error: Exception) -> bool:
    too_large = isinstance(error, psycopg.errors.ProgramLimitExceeded)  # a value that fits into no index
    return isinstance(error, _PASSING) and not too_large
