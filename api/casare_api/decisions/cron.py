"""When does a cron expression fire, on the days the clocks change too?

Five fields (minute, hour, day of month, month, day of week) or one of the words ``@hourly``, ``@daily``, ``@weekly``,
``@monthly``, ``@yearly``; expressions with seconds are refused. As in Debian's cron, day of month and day of week must
both match where one of them begins with a star; otherwise either is enough. Moments come in order, each once.

Daylight saving. A cron expression speaks of what the clock on the wall shows in ``timeZone``. When the clock is put
forward some of its times do not exist, when it is put back some exist twice. ``dst`` rules over expressions that
name hours of the day (``30 2 * * *``):

=======  ==============================================  ===========================================
dst      a time that does not exist                       a time that exists twice
=======  ==============================================  ===========================================
Once     fires when the clock has been put forward, at    fires at the first of the two
         the first moment that exists again; several
         such times fire there together, once
Skip     does not fire                                    fires at the first of the two
Twice    as with Once                                     fires at both
=======  ==============================================  ===========================================

An expression whose hour field names every hour (``*/15 * * * *``, ``5 * * * *``) is a rhythm, not a time of day: it
fires whenever the wall clock shows a minute it names, whatever ``dst`` says. So nothing is made up for an hour
that does not exist, and an hour that exists twice is kept twice.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

LONGEST_CRON = 200
HORIZON = 50  # years within which an expression fires, or never

_Moments = tuple[datetime | None, datetime | None]  # the first and the second time round

_WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L, LW",
    "month": "1-12, JAN-DEC",
    "day-of-week": "0-7, SUN-SAT, 5L, 1#2",
}
_NEVER = "never comes: the months it names have no such day"
_LONGEST_SHIFT = timedelta(hours=25)  # beyond any change of a zone's offset: some islands have left out a day


@lru_cache(maxsize=1024)
def check_cron(text: str) -> str | None:
    """The problem with a cron expression, in words that follow the field's path, or None."""
    if len(text) > LONGEST_CRON:
        return f"must be no more than {LONGEST_CRON} characters"
    if text.strip().startswith("@"):
        return None if text.strip().lower() in _WORDS else f"must be one of {', '.join(_WORDS)}, or five fields"
    count = len(text.split())
    if count != len(_FIELDS):
        seconds = "; seconds are not supported" if count == 6 else ""
        return f"must have five fields (minute hour day-of-month month day-of-week), not {count}{seconds}"
    try:
        return None if next(CronSim(text, datetime(2000, 1, 1)), None) else _NEVER
    except CronSimError as problem:
        return _cron_problem(text, str(problem))


def check_time_zone(name: str) -> str | None:
    """The problem with the name of a time zone, or None."""
    try:
        _zone(name)
    except ValueError as problem:
        return str(problem)
    return None


def cron_times(
    text: str, time_zone: str, dst: str, after: datetime, until: datetime | None = None
) -> Iterator[datetime]:
    """All moments later than ``after`` at which the expression fires, in UTC, each once, in order, lazily.

    With ``until`` none that is later, and no day beyond it is looked at, however seldom the expression fires.
    ValueError in words for an expression or a zone that is not valid.
    """
    last = after
    try:
        for moment in _in_order(_wall_times(text, _zone(time_zone), dst, after, until)):
            if until is not None and moment > until:
                return
            if moment > last:
                yield moment
                last = moment
    except OverflowError:  # the end of the calendar
        return


def _wall_times(
    text: str, zone: ZoneInfo, dst: str, after: datetime, until: datetime | None
) -> Iterator[_Moments]:
    """For each time on the wall that the expression names: the moments it fires at, by ``dst``."""
    # Within the last hour before the clock is put back, times already passed come a second time.
    ahead = _offset(after, zone) - _offset(after + _LONGEST_SHIFT, zone)
    if ahead > timedelta() and _offset(after, zone) == _offset(after + ahead, zone):
        ahead = timedelta()  # the change is further away than it puts the clock back
    start = after.astimezone(zone).replace(tzinfo=None) - max(ahead, timedelta())
    cron = _parse(text, start)
    rhythm = len(cron.hours) == 24
    for wall in cron if until is None else _until(cron, until.astimezone(zone).date() + timedelta(days=1)):
        if wall.year > start.year + HORIZON:
            return
        first, second = _moments(wall, zone)
        if first is None:
            yield (None if rhythm or dst == "Skip" else _end_of_gap(wall, zone)), None
        else:
            yield first, (second if rhythm or dst == "Twice" else None)


def _until(cron: CronSim, last: date) -> Iterator[datetime]:
    """The times on the wall up to a day; a rule that fires less often than that is not followed further."""
    while _comes(cron, last):
        wall = next(cron, None)
        if wall is None:
            return
        yield wall


def _comes(cron: CronSim, last: date) -> bool:
    at = cron.dt
    is_over = (max(cron.hours), max(cron.minutes)) <= (at.hour, at.minute)
    ahead = at.date().toordinal() + is_over
    for day in map(date.fromordinal, range(ahead, last.toordinal() + 1)):
        if day.month in cron.months and cron.match_day(day):
            return True
    return False


def _in_order(pairs: Iterable[_Moments]) -> Iterator[datetime]:
    """First moments come in order, and so do second ones: a merge of the two."""
    waiting: deque[datetime] = deque()
    for first, second in pairs:
        while first is not None and waiting and waiting[0] <= first:
            yield waiting.popleft()
        if first is not None:
            yield first
        if second is not None:
            waiting.append(second)
    yield from waiting


def _moments(wall: datetime, zone: ZoneInfo) -> _Moments:
    """The moments at which the wall clock shows ``wall``: one, two, or none (PEP 495)."""
    before = _utcoffset(wall.replace(tzinfo=zone))
    behind = _utcoffset(wall.replace(tzinfo=zone, fold=1))
    first, second = (wall - before).replace(tzinfo=UTC), (wall - behind).replace(tzinfo=UTC)
    if before == behind:
        return first, None
    return (first, second) if before > behind else (None, None)


def _end_of_gap(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment at which the clock was put forward over ``wall``, which it therefore never showed."""
    low = (wall - _utcoffset(wall.replace(tzinfo=zone, fold=1))).replace(tzinfo=UTC)
    high = (wall - _utcoffset(wall.replace(tzinfo=zone))).replace(tzinfo=UTC)
    old = _offset(low, zone)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        low, high = (middle, high) if _offset(middle, zone) == old else (low, middle)
    return high


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return _utcoffset(moment.astimezone(zone))


def _utcoffset(moment: datetime) -> timedelta:
    return moment.utcoffset() or timedelta()


def _parse(text: str, start: datetime) -> CronSim:
    cron = copy.copy(_parsed(text))
    cron.dt = start.replace(microsecond=0)
    return cron


@lru_cache(maxsize=1024)
def _parsed(text: str) -> CronSim:
    """Never iterated itself: it is copied."""
    try:
        return CronSim(_WORDS.get(text.strip().lower(), text), datetime(2000, 1, 1))
    except CronSimError:
        raise ValueError(f"cron {check_cron(text) or 'is not valid'}") from None


def _cron_problem(text: str, said: str) -> str:
    """Which of the five fields it is, and what would be right there."""
    for name, field in zip(_FIELDS, text.split(), strict=True):
        if name in said:
            alone = " ".join(field if each == name else "*" for each in _FIELDS)
            try:
                CronSim(alone, datetime(2000, 1, 1))
            except CronSimError:
                return f"{name} '{field}' is not valid: it takes {_FIELDS[name]}, lists, ranges and steps"
    return _NEVER


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    try:
        if name in ("localtime", "posixrules", "Factory"):  # files of a machine, not zones
            raise ValueError
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"'{name}' is not a time zone: write it like Europe/Berlin or UTC") from None
