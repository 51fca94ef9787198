"""Whom a key's hash stands for, and which keys end with a robot: each found without looking at the others."""

from __future__ import annotations

from typing import Any

from casare_api.decisions.access import Identity
from casare_apiserver.claims import Claims, Known


class Unwalked(dict[str, Any]):
    """A dictionary that nobody may go through."""

    def __iter__(self) -> Any:
        raise AssertionError("all keys are walked over")

    items = values = keys = __iter__


def known(key: str, hashed: str, robot: str | None = None, is_previous: bool = False) -> Known:
    who = Identity(key, "robot", "default", "r", key, key_hash=hashed, robot_uid=robot, key_name=key)
    return Known(who, None, is_previous=is_previous)


def claims(*those: Known) -> Claims:
    made = Claims(Unwalked(), Unwalked(), Unwalked())
    for one in those:
        made.put(str(one.identity.key_uid), str(one.identity.key_hash), one)
    return made


def test_the_keys_of_a_robot_are_found_without_a_walk_over_all() -> None:
    first, second, other = known("a", "1", "R"), known("a", "2", "R"), known("b", "3", "Q")
    found = claims(first, second, other, known("c", "4"))
    assert found.of_robot("R") == [first, second] and found.of_robot("Q") == [other] and found.of_robot("S") == []


def test_a_key_that_is_taken_away_is_nobodys_and_leaves_nothing_behind() -> None:
    found = claims(known("a", "1", "R"))
    found.put("a", "1", None)
    assert found.meant("1") is None and not found.hashes_of("a") and found.of_robot("R") == []
    assert found == claims()


def test_a_key_that_is_put_again_is_there_once() -> None:
    later = known("a", "1", "Q")
    found = claims(known("a", "1", "R"), later)
    assert found == claims(later) and found.of_robot("R") == []


def test_whose_key_it_is_now_goes_before_whose_it_was() -> None:
    before, now = known("a", "1", "R", is_previous=True), known("b", "1", "R")
    for found in (claims(before, now), claims(now, before)):
        assert found.meant("1") == now and set(found.of_robot("R")) == {before, now}
        found.put("b", "1", None)
        assert found.meant("1") == before and found.of_robot("R") == [before]
