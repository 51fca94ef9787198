"""Which rows of the audit log are too old? They are dropped a thousand at a time, and the log says that they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from casare_store import auditing
from casare_store.store import Store

SETTING, DAYS = "CASARE_AUDIT_DAYS", 400  # more than a year: last year's audit can still be looked up
MOST_DAYS = 36_500
PER_RUN = 50  # ranges


@dataclass(slots=True)
class Audit:
    """The duty; without an age rows are kept for ever."""

    store: Store
    age: timedelta | None = timedelta(days=DAYS)
    name: str = "audit"
    every: float = 600.0
    watches: frozenset[str] = frozenset()

    async def run_once(self) -> dict[str, int]:
        dropped = 0
        while self.age is not None and dropped < PER_RUN * auditing.DROPPED_AT_ONCE:
            last = await auditing.due(self.store.pool, self.age)
            if last is None:
                break
            async with self.store.batch() as batch:
                await auditing.drop(batch, last)
                await batch.commit()
            dropped += auditing.DROPPED_AT_ONCE
        return {"dropped": dropped}


def age_of(environment: Mapping[str, str]) -> timedelta | None:
    """For how long rows are kept, as the setting says; None for ever. Raises ValueError with one line for people."""
    text = environment.get(SETTING, "").strip() or str(DAYS)
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= MOST_DAYS):
        raise ValueError(f"{SETTING} is {text[:40]!r}: give a whole number of days up to {MOST_DAYS}, or 0 for ever")
    return timedelta(days=int(text)) if int(text) else None
