"""What is a person told who had all Secrets sealed anew: what was done, what is left and why, and may the old key go?"""

from __future__ import annotations

from typing import Any

import pytest

from casare_cli.resealing import Sealed, shown, verdict

ONE = {"key": "new", "opens": ["new", "old"], "address": "10.0.0.4"}


def walk(*steps: dict[str, Any]) -> Sealed:
    found = Sealed()
    for step in steps:
        found.add({"key": "new", "opens": ["new", "old"], "apiservers": [ONE], "part": "secrets", "found": {}, "resealed": 0,
                   "broken": [], **step})  # fmt: skip
    return found


def broken(count: int, key: str = "old") -> list[dict[str, str]]:
    return [{"key": key, "name": f"a/{n}"} for n in range(count)]


DONE = walk({"resealed": 1, "found": {"new": 1}}, {"part": "log", "resealed": 1}, {"part": "log", "resealed": 2})


def test_nothing_is_left() -> None:
    lines, is_over = verdict(DONE, walk({"found": {"new": 1}}, {"part": "log", "found": {"new": 3}}))
    assert is_over and lines[0] == "1 Secret and 3 entries of the log are sealed anew with the key new"
    assert "no other key is needed any more" in lines[1] and len(lines) == 2


@pytest.mark.parametrize(
    ("done", "now", "why"),
    [
        (DONE, [{"found": {"old": 2}}, {"part": "log", "found": {"old": 1}}], "written meanwhile; run this again"),
        (DONE, [{"found": {"gone": 2}}], "sealed with the key gone, which is not here: name it in CASARE_SECRET_KEY_FALLBACKS"),
        (walk({"broken": broken(7)}), [{"found": {"old": 7}}],
         "which does not open a/0, a/1, a/2, a/3, a/4 ... (changed in the database): delete them, and run this again"),
        (walk({"broken": broken(1)}), [{"found": {"old": 1}}], "does not open a/0 (changed in the database): delete it,"),
        (walk({"broken": broken(1)}, {"part": "log", "broken": broken(3)}), [{"found": {"old": 1}}, {"part": "log", "found": {"old": 4}}],
         "1 Secret and 1 entry of the log are still sealed with the key old, which does not open a/0"),
        (walk({"broken": broken(2, "else")}), [{"found": {"old": 2}}], "key old: they were written meanwhile"),
        (walk({"part": "log", "broken": broken(2)}), [{"part": "log", "found": {"old": 3}}],
         "0 Secrets and 1 entry of the log are still sealed with the key old: they were written meanwhile"),
        (walk({"part": "log", "broken": broken(2)}), [{"found": {"old": 1}}, {"part": "log", "found": {"old": 2}}],
         "1 Secret and 0 entries of the log are still sealed with the key old: they were written meanwhile"),
        (DONE, [{"apiservers": [ONE, {"key": "old", "opens": ["old", "new"], "address": ""}]}, {"part": "log"}],
         "different keys (at 10.0.0.4 new; at socket old)"),
    ],
)  # fmt: skip
def test_while_something_is_left_no_key_may_go(done: Sealed, now: list[dict[str, Any]], why: str) -> None:
    lines, is_over = verdict(done, walk(*now))
    assert not is_over and why in lines[1] and lines[-1] == "no key may be taken away yet"
    assert all("\n" not in line for line in lines)


def test_what_no_key_opens_in_the_log_needs_none() -> None:
    """It can't be deleted there, and goes with its part of the log."""
    lines, is_over = verdict(walk({"part": "log", "broken": broken(2)}), walk({"part": "log", "found": {"old": 2, "new": 1}}))
    assert is_over and "no other key is needed any more" in lines[-1]
    assert lines[1] == "2 entries of the log are broken: no key opens them, and they go when the log is cut off"


def test_the_keys_are_shown_the_one_that_seals_first() -> None:
    found = walk({"found": {"old": 2, "new": 1, "gone": 1}}, {"part": "log", "found": {"old": 5}})
    assert [line.split() for line in shown(found)][1:] == [
        ["new", "1", "0", "10.0.0.4", "10.0.0.4"], ["gone", "1", "0", "<none>", "<none>"], ["old", "2", "5", "<none>", "10.0.0.4"],
    ]  # fmt: skip
