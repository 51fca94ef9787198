"""How are spans of time and amounts of bytes written? As ``1h30m`` and ``500Mi``.

A duration is one number and unit after another, the greatest first, each unit once: ``90s``, ``5m``, ``1h30m``,
``7d``, ``500ms``, ``1.5h``. It is never negative and never above 100 years, so that adding it to a time of our era
is always possible. What ``format_duration`` writes, ``parse_duration`` reads back exactly. Quantities follow
Kubernetes: ``Ki Mi Gi Ti Pi Ei`` are powers of 1024, ``k M G T P E`` of 1000.
"""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction
from functools import lru_cache
from math import ceil

LONGEST = timedelta(days=36500)
MOST_BYTES = 2**63 - 1

# Microseconds each, greatest first: the order in which they may be written.
_UNITS = {"w": 604_800_000_000, "d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
_WRITTEN = {unit: _UNITS[unit] for unit in ("d", "h", "m", "s")}
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_DURATION = re.compile("".join(rf"(?:({_NUMBER}){unit})?" for unit in _UNITS))

_QUANTITY = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)([KMGTPE]i|[kMGTPE])?")
_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)}
_FACTORS = _BINARY | {letter: 1000**power for power, letter in enumerate("kMGTPE", 1)}


@lru_cache(maxsize=4096)
def parse_duration(text: str) -> timedelta:
    """``1h30m`` as a timedelta. ValueError in words for anything else."""
    if text == "0":
        return timedelta()
    form = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if form is None or not text:
        raise ValueError(f"{_shown(text)} is not a duration: write it like 90s, 5m, 1h30m or 7d")
    written = zip(form.groups(), _UNITS.values(), strict=True)
    micro = round(sum(Fraction(number) * size for number, size in written if number))
    if micro > LONGEST // timedelta(microseconds=1):
        raise ValueError(f"{_shown(text)} is too long: at most {LONGEST.days}d")
    return timedelta(microseconds=micro)


def format_duration(span: timedelta) -> str:
    """The duration in its greatest units: ``1h30m``, ``7d``, ``500ms``, ``0s``. ValueError for a negative one."""
    left = span // timedelta(microseconds=1)
    if left < 0:
        raise ValueError("a duration can't be negative")
    words = []
    for unit, size in _WRITTEN.items():
        count, left = divmod(left, size)
        if count:
            words.append(f"{count}{unit}")
    if left:
        words.append(f"{left / 1000:.3f}".rstrip("0").rstrip(".") + "ms")
    return "".join(words) or "0s"


def human(span: timedelta) -> str:
    """An age for a table's column: about three significant figures, as kubectl's AGE shows it.

    The steps are those of ``HumanDuration`` in k8s.io/apimachinery/pkg/util/duration.
    """
    seconds = int(span.total_seconds())  # towards zero, as there
    if seconds < -1:
        return "<invalid>"
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    minutes, hours = seconds // 60, seconds // 3600
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    return _human_days(hours)


def parse_quantity(text: str | int) -> int:
    """``500Mi`` as bytes, rounded up. ValueError in words for anything else."""
    form = _QUANTITY.fullmatch(str(text)) if isinstance(text, str | int) and not isinstance(text, bool) else None
    if form is None:
        raise ValueError(f"{_shown(text)} is not an amount: write it like 500Mi, 2Gi or 1k")
    amount: int = ceil(Fraction(form[1]) * _FACTORS.get(form[2] or "", 1))
    if amount > MOST_BYTES:
        raise ValueError(f"{_shown(text)} is too much: at most {MOST_BYTES}")
    return amount


def format_quantity(amount: int) -> str:
    """Bytes in the greatest power of 1024 that divides them: ``500Mi``. ValueError for a negative amount."""
    if amount < 0:
        raise ValueError("an amount can't be negative")
    for suffix, factor in reversed(_BINARY.items()):
        if amount and amount % factor == 0:
            return f"{amount // factor}{suffix}"
    return str(amount)


def _human_days(hours: int) -> str:
    days = hours // 24
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(great: int, unit: str, small: int, small_unit: str) -> str:
    return f"{great}{unit}{small}{small_unit}" if small else f"{great}{unit}"


def _shown(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."
