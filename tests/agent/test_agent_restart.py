"""Restart: once for each new word, on disk before it happens, and no clock in it."""

from __future__ import annotations

from pathlib import Path

from casare_agent.__main__ import again
from casare_agent.restart import FILE, Restart


def test_a_wish_is_handled_once_whoever_looks_afterwards(tmp_path: Path) -> None:
    restart = Restart(tmp_path)
    assert not restart.is_wanted
    restart.hear("2026-11-22T20:00:00Z")
    assert restart.is_wanted and restart.note() and not restart.is_wanted
    after = Restart(tmp_path)
    assert after.handled == "2026-11-22T20:00:00Z"
    after.hear("2026-11-22T20:00:00Z")
    assert not after.is_wanted
    after.hear("1999-01-01T00:00:00Z")  # another one, though an earlier time: it is a word
    assert after.is_wanted
    after.hear(None)
    assert not after.is_wanted


def test_an_agent_that_crashes_before_it_was_noted_restarts_again_and_then_no_more(tmp_path: Path) -> None:
    Restart(tmp_path).hear("a")
    again = Restart(tmp_path)
    again.hear("a")
    assert again.is_wanted and again.note()
    assert Restart(tmp_path).handled == "a"


def test_where_it_cannot_be_noted_the_agent_stays_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.new").mkdir()
    restart = Restart(tmp_path)
    restart.hear("a")
    assert not restart.note() and not restart.is_wanted and restart.handled == "a"
    assert Restart(tmp_path).handled is None


def test_a_robot_that_was_to_be_made_again_is_made_again_once() -> None:
    assert again(["-m", "casare_agent", "--enlist-again", "--config", "a.env"]) == ["-m", "casare_agent", "--config", "a.env"]
