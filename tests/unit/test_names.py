"""Names, labels, and the name that a robot's id becomes."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.machinery import names


@pytest.mark.parametrize("name", ["a", "pc-01", "a.b-c.d", "0", "x" * 253])
def test_good_names(name: str) -> None:
    assert names.check_name(name) is None


@pytest.mark.parametrize(
    "name", ["", "A", "a_b", "-a", "a-", "a..b", "a.-b", ".a", "a b", "ä", "x" * 254, "a\n", "a\x00"]
)
def test_bad_names_get_a_reason(name: str) -> None:
    assert re.match("must ", names.check_name(name) or "")


def test_namespaces_allow_no_dots() -> None:
    assert names.check_dns_label("finance-2") is None
    for bad in ("a.b", "", "x" * 64, "A"):
        assert re.match("must ", names.check_dns_label(bad) or "")


@pytest.mark.parametrize("key", ["site", "example.com/site", "a_B.c", "x" * 63, "a" * 253 + "/b"])
def test_good_label_keys(key: str) -> None:
    assert names.check_label_key(key) is None


@pytest.mark.parametrize("key", ["", "/a", "a/", "a/b/c", "A/b", "-a", "a b", "x" * 64, "a\n"])
def test_bad_label_keys(key: str) -> None:
    assert "part must" in (names.check_label_key(key) or "")


def test_label_values() -> None:
    assert [names.check_label_value(good) for good in ("", "a", "A_b.c-d", "x" * 63)] == [None] * 4
    assert all(names.check_label_value(bad) for bad in ("x" * 64, "-", "a/b", "a ", "ä", "a\n"))


def test_generated_names_end_in_five_letters_without_vowels() -> None:
    name = names.generate("reconcile-")
    assert re.fullmatch(rf"reconcile-[{names.ALPHABET}]{{5}}", name)
    assert names.generate("a-", random.Random(1)) == names.generate("a-", random.Random(1))
    assert len(names.generate("x" * 200)) == 63


@pytest.mark.parametrize("robot_id", ["pc-01", "a", "pc.01.lan", "x" * 63])
def test_a_robot_id_that_is_a_name_stays(robot_id: str) -> None:
    assert names.robot_name(robot_id) == robot_id


@pytest.mark.parametrize(
    ("robot_id", "slug"),
    [
        ("PC_01", "pc-01"),
        ("pc 01", "pc-01"),
        ("Müller's PC", "muller-s-pc"),
        ("straße", "strasse"),
        ("\uff30\uff23", "pc"),
        ("机器人", "robot"),
        ("", "robot"),
        ("___", "robot"),
        ("\ud800", "robot"),
        ("a..b", "a-b"),
        ("x" * 64, "x" * 56),
    ],
)
def test_any_other_becomes_a_slug_and_a_hash(robot_id: str, slug: str) -> None:
    name = names.robot_name(robot_id)
    assert re.fullmatch(rf"{re.escape(slug)}-[0-9a-f]{{6}}", name)
    assert name == names.robot_name(robot_id)


def test_ids_of_the_same_slug_get_different_names() -> None:
    assert len({names.robot_name(each) for each in ("PC_01", "pc 01", "Pc-01", "pc-01", "pc_01")}) == 5


@settings(deadline=None)
@given(st.text())
def test_any_id_works(robot_id: str) -> None:
    name = names.robot_name(robot_id)
    assert names.check_name(name) is None and len(name) <= 63
