"""How is a moment written? As RFC 3339 in UTC, ending in ``Z``: ``2026-11-22T20:00:00Z``.

Whatever goes out has that form, in whole seconds unless microseconds are asked for. Whatever comes in may carry any
offset and any fraction; it leaves here as an aware datetime in UTC. There is no clock in this module.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_FORM = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:([Zz])|([+-])([0-9]{2}):([0-9]{2}))"
)


@lru_cache(maxsize=4096)
def to_text(moment: datetime, micro: bool = False) -> str:
    """RFC 3339 in UTC; fractions are cut off, or with ``micro`` kept as six digits. ValueError for a naive datetime."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone can't be written: give it one")
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(timespec="microseconds" if micro else "seconds") + "Z"


def from_text(text: str) -> datetime:
    """The moment, aware and in UTC. ValueError in words for anything that is not RFC 3339."""
    if not isinstance(text, str):
        raise ValueError(f"{_shown(text)} is not a time: write it like 2026-11-22T20:00:00Z")
    return _parsed(text)


@lru_cache(maxsize=16_384)  # many jobs have the same times, and each is looked at again and again
def _parsed(text: str) -> datetime:
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError(f"{_shown(text)} is not a time: write it like 2026-11-22T20:00:00Z")
    year, month, day, hour, minute, second = (int(form[group]) for group in range(1, 7))
    micro = int((form[7] or "0")[:6].ljust(6, "0"))
    try:
        local = datetime(year, month, day, hour, minute, second, micro, _zone(form))
        return local.astimezone(UTC)
    except (ValueError, OverflowError) as problem:
        raise ValueError(f"{_shown(text)} is not a time: {problem}") from None


def _zone(form: re.Match[str]) -> timezone:
    if form[8]:
        return UTC
    hours, minutes = int(form[10]), int(form[11])
    if hours > 23 or minutes > 59:
        raise ValueError("the offset must be between -23:59 and +23:59")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if form[9] == "-" else offset)


def _shown(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."
