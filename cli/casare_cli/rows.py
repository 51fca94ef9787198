"""What do the rows of a CSV file mean as parameters? One job a row; the columns are named in the first line.

The workflow's JSON Schema says what a cell is: a number, true or false, JSON for lists and objects, text otherwise. An
empty cell is a parameter that is not set. Text is UTF-8, with or without a byte order mark; cells are separated by
commas, or by the semicolons or tabs that some spreadsheets write; quoted cells may hold all of these and line breaks.
Pure but for `read`; what is wrong is told with its row (the first one below the header is 1), line and column.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casare_api.kinds import Object
from casare_cli.failures import Failure
from casare_cli.parameters import types_of

MAX_CELL = 3 * 2**20  # characters; no job may be larger
SHOWN = 10  # problems that are told at once
_INTEGER = re.compile(r"[-+]?[0-9]{1,19}")
_TRUTH = {"true": True, "false": False}
_LOOSE_TRUTH = {**_TRUTH, "yes": True, "no": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number and the line of the file where it ends, both from 1, and its parameters."""

    number: int
    line: int
    parameters: Object


class Wrong(ValueError):
    """What is wrong with a cell, in words that follow its place."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A file of rows, by its name and text, and the schema of the workflow's parameters (None: any)."""

    name: str
    text: str
    schema: Any = None

    def checked(self) -> int:
        """How many rows there are, once all of them are known to be right. Raises Failure with the first problems."""
        problems: list[str] = []
        count = 0
        for row in self._rows(problems.append):
            count += 1
            if len(problems) >= SHOWN or row is None:
                break
        if problems:
            raise Failure("; ".join(problems[:SHOWN]))
        if not count:
            raise Failure(f"{self.name}: there is no row below the header: no job to submit")
        return count

    def rows(self) -> Iterator[Row]:
        """The rows of a file that was checked."""
        return (row for row in self._rows(_refuse) if row is not None)

    def unknown(self) -> list[str]:
        """Columns that the workflow's schema does not name, where it names any."""
        properties = self.schema.get("properties") if isinstance(self.schema, dict) else None
        if not isinstance(properties, dict) or not properties:
            return []
        return [column for column in _header(self.name, self._reader()) if column not in properties]

    def _reader(self) -> Any:
        csv.field_size_limit(MAX_CELL)
        first = self.text.lstrip("\r\n").partition("\n")[0]
        return csv.reader(io.StringIO(self.text, newline=""), delimiter=_separator(first), strict=True)

    def _rows(self, tell: Callable[[str], None]) -> Iterator[Row | None]:
        """The rows as they come, None where the rest can't be read; `tell` hears what is wrong."""
        reader = self._reader()
        columns = _header(self.name, reader)
        types = [types_of(self.schema, column) for column in columns]
        number = 0
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                tell(f"{self.name}: row {number + 1} (line {reader.line_num}): {_said(error)}")
                yield None
                return
            if cells is None:
                return
            if not any(cell.strip() for cell in cells):
                continue  # a blank line, or what a spreadsheet makes of one
            number += 1
            where = f"{self.name}: row {number} (line {reader.line_num})"
            yield Row(number, reader.line_num, _parameters(where, columns, types, cells, tell))


def read(path: str) -> tuple[str, str]:
    """The name and the text of a file, `-` for standard input. Raises Failure."""
    name = "standard input" if path == "-" else path
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {path}: {(error.strerror or type(error).__name__).lower()}") from None
    try:
        return name, data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Failure(f"{name}: line {line} is not UTF-8: save the file as CSV in UTF-8") from None


def value(text: str, types: set[str]) -> Any:
    """What the text of a cell means where the schema allows these types; none at all: text. Raises Wrong."""
    for name in ("null", "boolean", "integer", "number", "array", "object"):
        if name in types:
            found = _READ[name](text.strip(), types)
            if found is not _NO:
                return found
    if not types or "string" in types:
        return text
    wanted = " or ".join(_NAMES[name] for name in sorted(types) if name in _NAMES)
    raise Wrong(f"{_short(text)} is not {wanted}")


# -- parts -------------------------------------------------------------------------------------------------------

_NO = object()
_NAMES = {
    "array": "a list in JSON",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object in JSON",
}


def _boolean(text: str, types: set[str]) -> Any:
    words = _LOOSE_TRUTH if types.isdisjoint({"integer", "number", "string"}) else _TRUTH
    return words.get(text.lower(), _NO)


def _integer(text: str, types: set[str]) -> Any:
    return int(text) if _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**64 else _NO


def _number(text: str, types: set[str]) -> Any:
    whole = _integer(text, types)
    if whole is not _NO:
        return whole
    try:
        found = float(text) if "_" not in text else math.nan
    except ValueError:
        return _NO
    return found if math.isfinite(found) else _NO


def _refused(constant: str) -> Any:
    raise ValueError(constant)


def _json(wanted: type) -> Callable[[str, set[str]], Any]:
    def parsed(text: str, types: set[str]) -> Any:
        try:
            found = json.loads(text, parse_constant=_refused)  # NaN is no JSON
        except (ValueError, RecursionError):
            return _NO
        return found if isinstance(found, wanted) else _NO

    return parsed


_READ: dict[str, Callable[[str, set[str]], Any]] = {
    "null": lambda text, types: None if text == "null" else _NO,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "array": _json(list),
    "object": _json(dict),
}


def _separator(line: str) -> str:
    """A comma, unless the header has none and one of the others instead."""
    return next((char for char in (",", ";", "\t") if char in line), ",")


def _header(name: str, reader: Any) -> list[str]:
    """The names of the columns. Raises Failure where a name is missing or there twice."""
    try:
        columns = [cell.strip() for cell in next((cells for cells in reader if any(cells)), [])]
    except csv.Error as error:
        raise Failure(f"{name}: the header: {_said(error)}") from None
    while columns and not columns[-1]:
        columns.pop()
    if not columns:
        raise Failure(f"{name} is empty: its first line must name the columns")
    for number, column in enumerate(columns, 1):
        if not column:
            raise Failure(f"{name}: the header: column {number} has no name")
        if column in columns[: number - 1]:
            raise Failure(f'{name}: the header: column "{column}" is there twice')
    return columns


def _parameters(
    where: str, columns: Sequence[str], types: Sequence[set[str]], cells: Sequence[str], tell: Callable[[str], None]
) -> Object:
    if len(cells) < len(columns) or any(cells[len(columns) :]):  # spreadsheets add empty ones
        tell(f"{where} has {len(cells)} cells, and the header names {len(columns)} columns")
    found: Object = {}
    for column, allowed, text in zip(columns, types, cells, strict=False):
        if not text.strip():
            continue
        try:
            found[column] = value(text, allowed)
        except Wrong as error:
            tell(f'{where}, column "{column}": {error}')
    return found


def _refuse(problem: str) -> None:
    raise Failure(problem)


def _said(error: csv.Error) -> str:
    """What csv says, in words for people."""
    text = str(error)
    if "unexpected end of data" in text:
        return "a quote that begins a cell is never closed"
    if "expected after" in text:
        return "there is text behind the closing quote of a cell; a quote within a quoted cell is written twice"
    if "field larger than" in text:
        return "a cell is larger than 3 MiB (or a quote is never closed)"
    return text


def _short(text: str) -> str:
    return json.dumps(text if len(text) <= 40 else text[:37] + "...", ensure_ascii=False)
