"""`casare why`: how is a JobExplanation told to a person? The sentence first, then what it rests on.

Pure: the explanation goes in, lines come out. Whatever part is missing is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from casare_api.kinds import Object
from casare_cli import styles
from casare_cli.table import Table, Value

_WIDTH = 13  # of the labels' column


def explained(why: Object, called: str) -> list[str]:
    """The lines about a job; `called` is what the person called it."""
    sentence = str(why.get("message") or "nothing is known of why it waits")
    return [
        styles.plain(f"{called} {why.get('phase') or 'Queued'}: {sentence}"),
        *_table("", ("Rule", "Robots", "Message"), [_reason(one) for one in why.get("reasons") or ()]),
        *_facts(why),
        *_table("Would serve it:", ("Robot", "State", "Free", "Message"), _serving(why.get("wouldServe") or ())),
        *_table("Nearest robots:", ("Robot", "Lacks", "To change that"), _nearest(why.get("nearest") or ())),
    ]


def _reason(one: Object) -> list[Value]:
    return [one.get("rule"), one.get("robots"), one.get("message")]


def _serving(robots: Sequence[Object]) -> list[list[Value]]:
    return [[_robot(one), one.get("state"), one.get("freeSlots"), one.get("message")] for one in robots]


def _nearest(robots: Sequence[Object]) -> list[list[Value]]:
    """A row for each thing that a robot lacks, under its name."""
    rows: list[list[Value]] = []
    for one in robots:
        lacks, changes = list(one.get("lacks") or ()), list(one.get("changes") or ())
        for number in range(max(len(lacks), len(changes))):
            rows.append([_robot(one) if not number else " ", _at(lacks, number), _at(changes, number)])
    return rows


def _robot(one: Object) -> str:
    """Its name, with its namespace where that is another one than the job's."""
    return f"{one['namespace']}/{one.get('name')}" if one.get("namespace") else str(one.get("name"))


def _at(items: Sequence[Any], number: int) -> Value:
    return str(items[number]) if number < len(items) else " "


# -- facts -------------------------------------------------------------------------------------------------------


def _facts(why: Object) -> list[str]:
    """A line for each: its place, the robots there are, its key, its quota, and until when others may pass it."""
    found = [
        *_place(why.get("place")), *_robots(why.get("robots")), *_concurrency(why.get("concurrency")),
        *_quota(why.get("quota")),
    ]  # fmt: skip
    if why.get("boundedBy"):
        found.append(("Bound", str(why["boundedBy"])))
    lines = [f"{label + ':':<{_WIDTH}}{styles.plain(text)}" for label, text in found]
    return ["", *lines] if lines else []


def _place(place: Object | None) -> Iterator[tuple[str, str]]:
    if not place:
        return
    ahead, queued = place.get("ahead", 0), place.get("queued")
    more = "" if place.get("isExact", True) else "at least "
    before = f"{more}{ahead} before it" if ahead else "none before it"
    all_ = "" if place.get("queuedIsExact", True) else "more than "
    of = f"; {all_}{queued} wait in its namespace" if queued is not None else ""
    yield "Place", f"{more}{place.get('position', ahead + 1)}, {before} for the same robots{of}"


def _robots(robots: Object | None) -> Iterator[tuple[str, str]]:
    if robots:
        words = {"total": "in all", "serving": "serve its namespace", "matching": "match", "online": "of them online",
                 "free": "free"}  # fmt: skip
        yield "Robots", ", ".join(f"{robots[key]} {said}" for key, said in words.items() if key in robots)


def _concurrency(shared: Object | None) -> Iterator[tuple[str, str]]:
    if shared:
        holders = ", ".join(f"job/{name}" for name in shared.get("holders") or ())
        told = f'"{shared.get("key")}": {shared.get("live")} of at most {shared.get("limit")} run'
        yield "Concurrency", f"{told}: {holders}" if holders else told


def _quota(quota: Object | None) -> Iterator[tuple[str, str]]:
    if quota:
        yield "Quota", ", ".join(f"{key} {value}" for key, value in quota.items() if value is not None)


def _table(title: str, headers: Sequence[str], rows: Sequence[Sequence[Value]]) -> list[str]:
    if not rows:
        return []
    indent = "  " if title else ""
    return ["", *([title] if title else []), *(indent + line for line in Table(headers).all(rows))]
