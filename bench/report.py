"""What does a benchmark print? Aligned tables, each target with yes or no, and JSON as the very last line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that must be at least or at most a limit."""

    what: str
    measured: float
    limit: float
    is_least: bool
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.measured >= self.limit if self.is_least else self.measured <= self.limit


def at_least(what: str, measured: float, limit: float, unit: str) -> Target:
    return Target(what, measured, limit, True, unit)


def at_most(what: str, measured: float, limit: float, unit: str) -> Target:
    return Target(what, measured, limit, False, unit)


def title(text: str) -> None:
    print(f"\n{text}", flush=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Prints rows under headers: words to the left, numbers to the right, None as a dash."""
    shown = [[_cell(cell) for cell in row] for row in rows]
    is_number = [any(isinstance(row[at], int | float) for row in rows) for at in range(len(headers))]
    widths = [max(len(line[at]) for line in [list(headers), *shown]) for at in range(len(headers))]
    for line in [list(headers), *shown]:
        cells = [
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, is_number, strict=True)
        ]
        print("  " + "  ".join(cells).rstrip(), flush=True)


def machine(facts: Mapping[str, Cell]) -> None:
    title("Machine")
    table(("fact", "value"), [(name.replace("_", " "), _cell(value)) for name, value in facts.items()])


def finish(bench: str, targets: Sequence[Target], figures: Mapping[str, Any]) -> int:
    """Prints the targets and the last line; the exit code is 0 when every target is met."""
    title("Targets")
    rows = [
        (one.what, f"{'>=' if one.is_least else '<='} {_cell(one.limit)} {one.unit}".strip(),
         f"{_cell(one.measured)} {one.unit}".strip(), "yes" if one.holds else "no")
        for one in targets
    ]  # fmt: skip
    table(("target", "wanted", "measured", "met"), rows)
    holds = all(one.holds for one in targets)
    print(json.dumps({"bench": bench, "holds": holds, "figures": figures}), flush=True)
    return 0 if holds else 1


def _cell(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        digits = 0 if abs(cell) >= 100 or cell == int(cell) else 1 if abs(cell) >= 10 else 2
        return f"{cell:,.{digits}f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def rounded(value: Any) -> Any:
    """Figures for the JSON line: three digits behind the point are enough."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    return value
