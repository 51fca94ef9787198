"""Is a robot in maintenance, since when and until when, and when is the next time?

A window begins when its cron rule fires on the wall clock of its time zone, and lasts its duration in real time,
whatever the clocks do meanwhile. Windows that overlap or touch are one stretch: what is said of its end is true of all
of them. Pure: the time comes from the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from casare_api.decisions.cron import cron_times
from casare_api.machinery.durations import parse_duration

_HOPS = 24  # windows in a row that are followed to find where a stretch ends; beyond that it has no end
_FIRST_LOOK = timedelta(hours=1)  # back in time; then ever further, so that a dense rule is not gone through for days
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Window:
    """A rule by which maintenance comes again and again."""

    name: str
    cron: str
    duration: timedelta
    time_zone: str = "UTC"

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Window:
        """From an item of `spec.maintenanceWindows`."""
        return cls(spec["name"], spec["cron"], parse_duration(spec["duration"]), spec.get("timeZone") or "UTC")

    def first_after(self, moment: datetime) -> datetime | None:
        """Its first begin later than a moment."""
        return next(cron_times(self.cron, self.time_zone, "Once", moment), None)

    def begins(self, at: datetime) -> tuple[datetime, datetime] | None:
        """Of its occurrences that hold at a moment, the begins of the first and the last."""
        first = self.first_after(at - self.duration)
        if first is None or first > at:
            return None
        return first, self._last(at) or first

    def _last(self, at: datetime) -> datetime | None:
        look = _FIRST_LOOK
        while True:
            found = None
            for moment in cron_times(self.cron, self.time_zone, "Once", at - min(look, self.duration)):
                if moment > at:
                    break
                found = moment
            if found is not None or look >= self.duration:
                return found
            look *= 4


@dataclass(frozen=True, slots=True)
class Stretch:
    """Maintenance without a break, of one window or of several; `name` is that of the one that matters now.

    `start` None: it goes back further than anybody looks; `end` None: no end of it is in sight.
    """

    name: str
    start: datetime | None
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a moment has: the stretch that holds then, and the next window that begins after it."""

    current: Stretch | None = None
    next: Stretch | None = None


NOTHING = Found()


def window_at(windows: Sequence[Mapping[str, Any]], now: datetime) -> Found:
    """What `spec.maintenanceWindows` say of a moment. ValueError for a rule that admission would have refused."""
    if not windows:
        return NOTHING
    return _found(tuple(sorted(map(Window.of, windows), key=lambda one: one.name)), now)


@lru_cache(maxsize=256)  # a fleet that shares its windows is asked about at the same moment
def _found(windows: tuple[Window, ...], now: datetime) -> Found:
    current = _current(windows, now)
    if current is None:
        return Found(None, _next(windows, now))
    return Found(current, None if current.end is None else _next(windows, current.end))


def _current(windows: Sequence[Window], now: datetime) -> Stretch | None:
    active = [(begins[1] + one.duration, one) for one in windows if (begins := one.begins(now)) is not None]
    if not active:
        return None
    _, longest = max(active, key=lambda each: each[0])
    return Stretch(longest.name, _start(windows, now), _end(windows, now))


def _start(windows: Sequence[Window], now: datetime) -> datetime | None:
    """Where the stretch that holds at a moment begins."""
    at = now
    for _ in range(_HOPS):
        earlier = min((begins[0] for one in windows if (begins := one.begins(at)) is not None), default=None)
        if earlier is None:  # nothing holds just before what was found
            return at + _TICK
        at = earlier - _TICK
    return None


def _end(windows: Sequence[Window], now: datetime) -> datetime | None:
    """Where the stretch that holds at a moment ends."""
    at = now
    for _ in range(_HOPS):
        later = max(
            (begins[1] + one.duration for one in windows if (begins := one.begins(at)) is not None), default=None
        )
        if later is None:
            return at
        at = later
    return None


def _next(windows: Sequence[Window], after: datetime) -> Stretch | None:
    begins = [(begin, one) for one in windows if (begin := one.first_after(after)) is not None]
    if not begins:
        return None
    begin, one = min(begins, key=lambda each: each[0])
    return Stretch(one.name, begin, begin + one.duration)
