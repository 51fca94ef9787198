"""What does a YAML text say, as JSON, and on which line does it say each thing?

YAML 1.1 as kubectl reads it: a bare `yes`, `on` or `y` is true, `010` is eight. Dates stay the text they are, and
`12:30` is no number. Keys are the text they are. A key that appears twice is an error. Documents are split before
they are parsed, so that a broken one spoils only itself. Nothing recurses deeper or grows larger than the limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_DEPTH = 100  # as the server has it
MAX_VALUES = 500_000  # with every alias counted as what it stands for

_SEPARATOR = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_EMPTY_LINE = re.compile(r"\s*(#.*)?|%.*|\.\.\.\s*")

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_BASED = re.compile(r"([-+]?)0(?:[xX]([0-9a-fA-F_]+)|[bB]([01_]+)|[oO]?([0-7_]+))")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9_]*)(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_NOT_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"


class Unreadable(Exception):
    """A document that says nothing: what is wrong with it, and on which line of the whole text (from 1)."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line, self.message = line, message


@dataclass(frozen=True, slots=True)
class Text:
    """One document as written: its number (from 1) in the whole text and the line (from 1) that it starts on."""

    number: int
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a document says, the line it begins on, and the line of each field path (`spec.env[0].name`)."""

    value: Any
    line: int
    lines: dict[str, int] = field(default_factory=dict)


def documents(text: str) -> list[Text]:
    """The documents of a text that say anything; numbers count what `---` separates."""
    starts = [match.start() for match in _SEPARATOR.finditer(text)]
    pieces = [text[start:end] for start, end in zip([0, *starts], [*starts, len(text)], strict=True)]
    if _blank(pieces[0]) and len(pieces) > 1:
        pieces[1] = pieces[0] + pieces[1]
        pieces = pieces[1:]
    found, line = [], 1
    for number, piece in enumerate(pieces, 1):
        if not _blank(piece):
            found.append(Text(number, line, piece))
        line += piece.count("\n")
    return found


def parse(document: Text) -> Parsed:
    """What one document says. Raises Unreadable."""
    builder, parsed = _Builder(document.line), Parsed(None, document.line)
    try:
        events = yaml.parse(document.text, Loader=_LOADER)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                first = next(events)
                parsed = Parsed(builder.build(first, events, "", 0), builder.line_of(first), builder.lines)
    except yaml.MarkedYAMLError as error:
        raise _explained(error, document) from None
    except yaml.YAMLError as error:
        position = int(getattr(error, "position", 0))
        line = document.line + document.text.count("\n", 0, position)
        raise Unreadable(line, "not valid YAML: it holds a control character") from None
    return parsed


def scalar(text: str) -> Any:
    """What a plain (unquoted) scalar says: null, true, 42, 4.2 or the text itself. ValueError for .inf and .nan."""
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if based := _BASED.fullmatch(text):
        return _number(*based.groups())
    if _FLOAT.fullmatch(text) and text.strip("+-.") != "":
        return float(text.replace("_", ""))
    if _NOT_JSON.fullmatch(text):
        raise ValueError(f"{text} can't be written in JSON")
    return text


def line_of(lines: dict[str, int], path: str, default: int) -> int:
    """The line of a field, else of the nearest field around it."""
    while path:
        if path in lines:
            return lines[path]
        cut = max(path.rfind("."), path.rfind("["))
        path = path[:cut] if cut > 0 else ""
    return default


# -- steps -------------------------------------------------------------------------------------------------------


class _Builder:
    """Makes values of one document's events; `first` is the line of the whole text that the document starts on."""

    def __init__(self, first: int) -> None:
        self.lines: dict[str, int] = {}
        self._first = first
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0

    def line_of(self, event: Any) -> int:
        return self._first + int(event.start_mark.line)

    def build(self, event: Any, events: Iterator[Any], path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise Unreadable(self.line_of(event), f"nested deeper than {MAX_DEPTH} levels")
        self.lines.setdefault(path, self.line_of(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._count
        self._grow(event, 1)
        value = self._value(event, events, path, depth)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._count - before)
        return value

    def _value(self, event: Any, events: Iterator[Any], path: str, depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if event.tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):
            raise Unreadable(self.line_of(event), f"the tag {_short(event.tag)} means nothing here")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, path, depth)
        return self._mapping(events, path, depth)

    def _sequence(self, events: Iterator[Any], path: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self.build(event, events, f"{path}[{len(items)}]", depth + 1))
        return items

    def _mapping(self, events: Iterator[Any], path: str, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: list[Any] = []
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._key(event)
            below = f"{path}.{key}" if path else key
            if key in own:
                raise Unreadable(self.line_of(event), f'the key "{key}" appears twice in {path or "the document"}')
            self.lines[below] = self.line_of(event)
            value = self.build(next(events), events, below, depth + 1)
            if key == "<<" and event.implicit[0]:
                merged += self._merged(event, value)
            else:
                own[key] = value
        for other in merged:
            own = {**own, **{key: value for key, value in other.items() if key not in own}}
        return own

    def _key(self, event: Any) -> str:
        if isinstance(event, yaml.AliasEvent):
            value = self._alias(event)
            if isinstance(value, str):
                return value
        elif isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        raise Unreadable(self.line_of(event), "a key must be text; write {{ ... }} in quotes")

    def _merged(self, event: Any, value: Any) -> list[Any]:
        others = value if isinstance(value, list) else [value]
        if not all(isinstance(other, dict) for other in others):
            raise Unreadable(self.line_of(event), "<<: merges objects only")
        return others

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise Unreadable(
                self.line_of(event), f"*{event.anchor} stands for nothing: there is no &{event.anchor} before it"
            )
        value, count = self._anchors[event.anchor]
        self._grow(event, count)
        return value

    def _grow(self, event: Any, count: int) -> None:
        self._count += count
        if self._count > MAX_VALUES:
            raise Unreadable(self.line_of(event), f"the document holds more than {MAX_VALUES} values")

    def _scalar(self, event: Any) -> Any:
        tag, text = event.tag, event.value
        if (tag in (None, "!") and not event.implicit[0]) or tag == f"{_TAG}str":
            return text
        try:
            value = scalar(text)
        except ValueError as error:
            raise Unreadable(self.line_of(event), str(error)) from None
        if tag is None or _fits(tag, value):
            return value
        raise Unreadable(self.line_of(event), f"{_short(tag)} does not fit {text!r}")


def _fits(tag: str, value: Any) -> bool:
    kinds = {"int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)}
    wanted = kinds.get(tag.removeprefix(_TAG), ())
    return isinstance(value, wanted) and (isinstance(value, bool) == (tag == f"{_TAG}bool"))


def _short(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag


def _number(sign: str, hexadecimal: str | None, binary: str | None, octal: str | None) -> int:
    digits, base = (hexadecimal, 16) if hexadecimal else (binary, 2) if binary else (octal or "0", 8)
    plain = str(digits).replace("_", "") or "0"
    return int(plain, base) * (-1 if sign == "-" else 1)


def _blank(piece: str) -> bool:
    lines = piece.removeprefix("---").splitlines()
    return all(_EMPTY_LINE.fullmatch(line) for line in lines)


def _explained(error: yaml.MarkedYAMLError, document: Text) -> Unreadable:
    """libyaml's words, with what people mostly did wrong."""
    mark, said = error.problem_mark or error.context_mark, str(error.problem or error)
    if mark is None:
        return Unreadable(document.line, f"not valid YAML: {said}")
    rows = document.text.splitlines()
    row = rows[mark.line] if mark.line < len(rows) else ""
    char = row[mark.column : mark.column + 1]
    if "cannot start any token" in said and char == "\t":
        said = "a tab can't indent: use spaces"
    elif "cannot start any token" in said:
        said = f"a value can't begin with {char}: put it in quotes"
    elif "mapping values are not allowed" in said:
        said = 'a ": " stands where none can: indent differently, or put the value in quotes'
    return Unreadable(document.line + mark.line, f"not valid YAML: {said} (column {mark.column + 1})")


# libyaml's parser where PyYAML was built with it: ten times as fast. Only events are taken from it; its composer
# recurses in C and crashes on deep input.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
