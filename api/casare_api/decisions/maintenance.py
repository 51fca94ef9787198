"""Is a robot in maintenance, since when and until when, and when is the next time?

A window begins when its cron rule fires on the wall clock of its time zone, and lasts its duration in real time,
whatever the clocks do meanwhile. Windows that overlap or touch are one stretch: what is said of its end is true of all
of them. Pure: the time comes from the caller. What it takes to find out is bounded, whatever the windows are: a tangle
whose end is not found within that has none in sight, and a time to look again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from casare_api.decisions.cron import cron_times
from casare_api.machinery.durations import parse_duration

LONGEST = timedelta(days=31)  # that a window lasts; one that was stored before there was a longest is cut
_HOPS = 24  # windows in a row that are followed to find where a stretch begins or ends
_LOOKS = 60  # at rules, for each of the two: all of it is done while the history is locked
_AHEAD = timedelta(days=366)  # how far the next window is looked for
_AGAIN = timedelta(minutes=5)  # where no end was found
_TICK = timedelta(microseconds=1)
_MINUTE = timedelta(minutes=1)
_SPARE = timedelta(days=2)  # before the end of the calendar, for the clocks of other zones
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


class _Tangled(Exception):
    """More would have to be looked at than is done under a lock."""


@dataclass(slots=True)
class _Looks:
    left: int = _LOOKS

    def one(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _Tangled


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
        duration = min(parse_duration(spec["duration"]), LONGEST)
        return cls(spec["name"], spec["cron"], duration, spec.get("timeZone") or "UTC")

    def first(self, after: datetime, until: datetime) -> datetime | None:
        """Its first begin later than a moment and not later than another one."""
        return next(cron_times(self.cron, self.time_zone, "Once", after, until), None)

    def holds_since(self, at: datetime) -> datetime | None:
        """The first begin of its occurrences that hold at a moment."""
        return self.first(at - self.duration, at)

    def last(self, at: datetime, looks: _Looks) -> datetime | None:
        """The last begin of its occurrences that hold at a moment: found by halves where there are many."""
        looks.one()
        found, high = self.holds_since(at), at  # there is no begin later than high
        while found is not None:
            looks.one()
            following = self.first(found, high)
            if following is None:
                return found
            found, high = self._halved(following, high, looks)
        return None

    def _halved(self, found: datetime, high: datetime, looks: _Looks) -> tuple[datetime, datetime]:
        """A later begin or an earlier end of what is looked through; begins are a minute apart."""
        while high - found >= _MINUTE:
            looks.one()
            middle = found + (high - found) / 2
            if (later := self.first(middle, high)) is not None:
                return later, high
            high = middle
        return found, high


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
    """What a moment has: the stretch that holds then, and the next window that begins after it.

    `again`: when to look again, where it was not seen how this ends.
    """

    current: Stretch | None = None
    next: Stretch | None = None
    again: datetime | None = None


NOTHING = Found()


def window_at(windows: Sequence[Mapping[str, Any]], now: datetime) -> Found:
    """What `spec.maintenanceWindows` say of a moment. ValueError for a rule that admission would have refused."""
    if not windows:
        return NOTHING
    return _found(tuple(sorted(map(Window.of, windows), key=lambda one: one.name)), now)


@lru_cache(maxsize=256)  # a fleet that shares its windows is asked about at the same moment
def _found(windows: tuple[Window, ...], now: datetime) -> Found:
    active = [one for one in windows if one.holds_since(now) is not None]
    if not active:
        return _and_next(None, windows, now)
    name, end = _end(windows, active, now)
    current = Stretch(name, _start(windows, now), end)
    return Found(current, None, _later(now, _AGAIN)) if end is None else _and_next(current, windows, end)


def _start(windows: Sequence[Window], now: datetime) -> datetime | None:
    """Where the stretch that holds at a moment begins."""
    at = now
    for _ in range(min(_HOPS, _LOOKS // len(windows))):
        earlier = min((begin for one in windows if (begin := one.holds_since(at)) is not None), default=None)
        if earlier is None:  # nothing holds just before what was found
            return at + _TICK
        at = earlier - _TICK
    return None


def _end(windows: Sequence[Window], active: Sequence[Window], now: datetime) -> tuple[str, datetime | None]:
    """Which of the windows that hold at a moment lasts longest, and where the stretch ends."""
    name, at, looks = active[0].name, now, _Looks()
    try:
        at, name = max(((_ends(one, now, looks), one.name) for one in active), key=lambda each: each[0])
        for _ in range(_HOPS):
            later = max((_ends(one, at, looks) for one in windows), default=at)
            if later == at:
                return name, at
            at = later
    except _Tangled:
        pass
    return name, None


def _ends(one: Window, at: datetime, looks: _Looks) -> datetime:
    begin = one.last(at, looks)
    return at if begin is None else _later(begin, one.duration)


def _and_next(current: Stretch | None, windows: Sequence[Window], after: datetime) -> Found:
    until = min(_later(after, _AHEAD), _END_OF_TIME - _SPARE)
    begins = [(begin, one) for one in windows if (begin := one.first(after, until)) is not None]
    if not begins:
        return Found(current, None, until)
    begin, one = min(begins, key=lambda each: each[0])
    return Found(current, Stretch(one.name, begin, _later(begin, one.duration)))


def _later(moment: datetime, span: timedelta) -> datetime:
    return moment + span if span < _END_OF_TIME - moment else _END_OF_TIME
