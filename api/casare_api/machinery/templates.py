"""What does ``{{ parameters.month }}`` stand for? Text with places to fill in, and nothing more.

A place holds a dotted path into the variables, or a text in quotes, and may pass it through filters:
``{{ scheduledTime | month:-1 }}``, ``{{ parameters.city | lower }}``; ``{{ "{{" }}`` gives the braces themselves. There
is no code in it: no calls, no arithmetic, nothing evaluated, and what was filled in is not looked at again. The work is
linear in what is read and written; what is written is bounded, on the way from filter to filter too.

A time is filled in as RFC 3339 in UTC, but its filters see the zone it comes in: a schedule hands ``scheduledTime``
over in the schedule's own time zone, so that ``month`` is the month that people there live in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from casare_api.machinery import times

MOST_WRITTEN = 4 * 2**20  # characters, over everything that one call fills in
MAX_DEPTH = 100
MOST_FILTERS = 8  # in one place
FARTHEST = 100_000  # months or days that a filter may go

_QUOTED = r""""[^"]*"|'[^']*'"""
# What is repeated stands in a lookahead and is not tried again, so that a place that is never closed is found out in
# one pass. A possessive quantifier would say the same, but Python 3.11.2 (Debian 12) gets it wrong in a group.
_PLACE = re.compile(rf"\{{\{{(?=((?:{_QUOTED}|[^\"'}}]|\}}(?!\}}))*))\1\}}\}}")
_STEP = re.compile(rf"(?=((?:{_QUOTED}|[^\"'|])+))\1")
_DIRECTIVES = frozenset("YmdHMSyjbBaAVGuzZ")
_MISSING = object()


def render(text: str, variables: Mapping[str, Any]) -> str:
    """The text with its places filled in. ValueError, in one line, for a place that can't be."""
    return _Renderer(variables).text(text)


def render_tree(value: Any, variables: Mapping[str, Any]) -> Any:
    """A new value with every text in it rendered; keys of objects and whatever is no text stay as they are."""
    return _Renderer(variables).tree(value, 0)


class _Renderer:
    """One call's variables, and how much it may still write."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        self._left = MOST_WRITTEN

    def tree(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.tree(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.tree(each, depth + 1) for each in value]
        return value

    def text(self, text: str) -> str:
        parts, at = [], 0
        while (opened := text.find("{{", at)) >= 0:
            place = _PLACE.match(text, opened)
            if place is None:
                raise ValueError(f"{_shown(text[opened:])} is never closed: it needs }}}} behind it")
            parts += [text[at:opened], self._fill(place[1])]
            at = place.end()
        return "".join([*parts, text[at:]])

    def _fill(self, place: str) -> str:
        try:
            filled = _text_of(self._value(place))
        except ValueError as problem:
            raise ValueError(f"{_shown('{{' + place + '}}')}: {problem}") from None
        self._charge(filled)
        return filled

    def _charge(self, written: Any) -> None:
        self._left -= len(written) if isinstance(written, str) else 0
        if self._left < 0:
            raise ValueError(f"the text grows beyond {MOST_WRITTEN} characters")

    def _value(self, place: str) -> Any:
        path, *steps = [step.strip() for step in _STEP.findall(place)] or [""]
        if len(steps) > MOST_FILTERS:
            raise ValueError(f"{len(steps)} filters are too many: at most {MOST_FILTERS}")
        value = path[1:-1] if path[:1] in ("'", '"') else self._look_up(path)
        for step in steps:
            name, _, argument = step.partition(":")
            value = _filtered(value, name.strip(), _unquoted(argument.strip()))
            self._charge(value)  # each may write several times what it was given
        if value is _MISSING:
            raise ValueError(self._unknown(path))
        return value

    def _look_up(self, path: str) -> Any:
        value: Any = self._variables
        for key in path.split("."):
            if not isinstance(value, Mapping) or key not in value:
                return _MISSING
            value = value[key]
        return value

    def _unknown(self, path: str) -> str:
        """What there is where the path leads nowhere."""
        value, walked = self._variables, []
        for key in path.split("."):
            if not isinstance(value.get(key), Mapping):
                break
            value = value[key]
            walked.append(key)
        names = sorted(map(str, value))
        listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") or "nothing"
        return f"unknown name {_shown(path)}: {'.'.join(walked) + ' has' if walked else 'there is'} {listed}"


# -- filters -------------------------------------------------------------------------------------------------------


def _month(moment: datetime, argument: str) -> str:
    """The month so many months away: ``2026-10``."""
    months = moment.year * 12 + moment.month - 1 + _steps(argument)
    return date(months // 12, months % 12 + 1, 1).strftime("%Y-%m") if 12_000 <= months < 120_000 else _too_far()


def _day(moment: datetime, argument: str) -> str:
    """The day so many days away: ``2026-10-31``."""
    try:
        return (moment.date() + timedelta(days=_steps(argument))).isoformat()
    except OverflowError:
        return _too_far()


def _date(moment: datetime, argument: str) -> str:
    """The time in a form of one's own, with the directives of ``strftime`` that are the same everywhere."""
    return re.sub(r"%(.?)", lambda found: _directive(moment, found[1]), argument, flags=re.DOTALL)


def _directive(moment: datetime, letter: str) -> str:
    if letter == "%":
        return "%"
    if letter not in _DIRECTIVES:
        raise ValueError(f"date knows no %{letter}; it knows {' '.join('%' + each for each in sorted(_DIRECTIVES))}")
    return moment.strftime(f"%{letter}")


def _zone(moment: datetime, argument: str) -> datetime:
    """The same moment as clocks in that time zone show it, for the filters behind."""
    try:
        return moment.astimezone(ZoneInfo(argument))
    except (KeyError, ValueError, OSError, OverflowError):
        raise ValueError(f"{_shown(argument)} is not a time zone: write it like Europe/Berlin") from None


_OF_TIMES: dict[str, Callable[[datetime, str], Any]] = {"month": _month, "day": _day, "date": _date, "zone": _zone}
_OF_ANYTHING: dict[str, Callable[[Any, str], Any]] = {
    "lower": lambda value, _: _text_of(value).lower(),
    "upper": lambda value, _: _text_of(value).upper(),
    "json": lambda value, _: json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_text_of),
    "default": lambda value, _: value,
}


def _filtered(value: Any, name: str, argument: str) -> Any:
    if name not in _OF_TIMES and name not in _OF_ANYTHING:
        raise ValueError(f"unknown filter {_shown(name)}: there is {', '.join(sorted(_OF_TIMES | _OF_ANYTHING))}")
    if value is _MISSING:
        return argument if name == "default" else _MISSING
    if name in _OF_TIMES:
        return _OF_TIMES[name](_moment(value), argument)
    return _OF_ANYTHING[name](value, argument)


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    return times.from_text(value)


def _steps(argument: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,6}|", argument) or abs(int(argument or 0)) > FARTHEST:
        raise ValueError(f"{_shown(argument)} is not a number of steps: write it like -1")
    return int(argument or 0)


def _too_far() -> str:
    raise ValueError("that is before the year 1000 or after the year 9999")


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] in ("'", '"') and text[-1] == text[0] else text


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, datetime):
        return times.to_text(value)
    if isinstance(value, bool | int | float | Mapping | Sequence):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_text_of)
    raise ValueError(f"a {type(value).__name__} can't be written as text")


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return f"'{text}'" if len(text) <= 60 else f"'{text[:57]}...'"
