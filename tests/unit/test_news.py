"""What a NOTIFY says: by this release, by an older one, and by nobody we know."""

from __future__ import annotations

import pytest

from casare_store import news


def test_what_is_told_is_heard() -> None:
    assert news.parse(news.payload(17, {"Robot", "Job"})) == (17, frozenset({"Job", "Robot"}))


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("", (0, None)),  # an older release's
        (news.LEASE, (0, frozenset({news.LEASE}))),
        ("17 ", (17, None)),
        ("x Job", (0, frozenset({"Job"}))),
        ("² Job", (0, frozenset({"Job"}))),
    ],
)
def test_what_says_less_may_be_anything_and_is_never_an_error(said: str, heard: object) -> None:
    assert news.parse(said) == heard
