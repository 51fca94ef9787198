"""How do rows become aligned text? As kubectl has it: upper-case headers, two spaces between, `<none>` for nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from casare_cli import styles

GAP = "  "
NOTHING = "<none>"
Value = str | int | None


class Table:
    """Lines up rows under headers. Widths only grow, so that rows which come later stay under the first ones."""

    def __init__(self, headers: Sequence[str], colours: bool = False) -> None:
        self._headers = [header.upper() for header in headers]
        self._widths = [_width(header) for header in self._headers]
        self._colours = colours

    def header(self) -> str:
        """The line of headers."""
        return self._line(self._headers, colours=False)

    def lines(self, rows: Sequence[Sequence[Value]]) -> list[str]:
        """A line for each row."""
        cells = [[_text(value) for value in row] for row in rows]
        for row in cells:
            self._widths = [max(width, _width(cell)) for width, cell in zip(self._widths, row, strict=True)]
        return [self._line(row, self._colours) for row in cells]

    def all(self, rows: Sequence[Sequence[Value]]) -> list[str]:
        """The headers, aligned with the rows, and the rows."""
        lines = self.lines(rows)
        return [self.header(), *lines]

    def _line(self, cells: Sequence[str], colours: bool) -> str:
        padding = [" " * (width - _width(cell)) for cell, width in zip(cells, self._widths, strict=True)]
        shown = [styles.paint(cell) if colours else cell for cell in cells]
        return GAP.join(cell + space for cell, space in zip(shown, padding, strict=True)).rstrip()


def _text(value: Value) -> str:
    return NOTHING if value is None or value == "" else styles.plain(str(value))


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
