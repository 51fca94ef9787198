"""Sets of fields: the algebra on the form of the wire, the text of paths, and what comes from outside."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.machinery import fieldsets
from casare_api.machinery.fieldsets import Fields, Path

STEPS = st.sampled_from(["f:a", "f:b", "f:c", 'k:{"name":"A"}', 'v:"x"'])
PATHS = st.lists(STEPS, min_size=1, max_size=4).map(tuple)
SETS = st.lists(PATHS, max_size=6).map(lambda paths: of(paths))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


def of(paths: Iterable[Path]) -> Fields:
    return reduce(fieldsets.union, map(one, paths), {})


def one(path: Path) -> Fields:
    return {path[0]: one(path[1:])} if path else {}


def members(fields: Fields) -> set[Path]:
    return set(fieldsets.paths(fields))


# -- algebra -------------------------------------------------------------------------------------------------------


@given(st.sets(PATHS, max_size=8))
def test_a_set_holds_what_was_put_into_it(paths: set[Path]) -> None:
    assert members(of(paths)) == paths


@given(SETS, SETS)
def test_the_operations_are_those_of_sets_of_paths(one: Fields, other: Fields) -> None:
    assert members(fieldsets.union(one, other)) == members(one) | members(other)
    assert members(fieldsets.intersection(one, other)) == members(one) & members(other)
    assert members(fieldsets.difference(one, other)) == members(one) - members(other)


@given(SETS, SETS)
def test_without_takes_what_lies_below_too(one: Fields, gone: Fields) -> None:
    heads = members(gone)
    left = {path for path in members(one) if not any(path[: len(head)] == head for head in heads)}
    assert members(fieldsets.without(one, gone)) == left


@given(SETS, SETS, PATHS)
def test_has_tells_members(one: Fields, other: Fields, path: Path) -> None:
    assert fieldsets.has(one, path) == (path in members(one))
    assert all(fieldsets.has(fieldsets.union(one, other), each) for each in members(other))
    assert not fieldsets.has(one, ())


@given(SETS, SETS)
def test_a_set_is_written_in_one_way_only(one: Fields, other: Fields) -> None:
    operations = [fieldsets.union, fieldsets.intersection, fieldsets.difference, fieldsets.without]
    for result in (operation(one, other) for operation in operations):
        assert result == of(members(result)) == fieldsets.checked(result)


@given(SETS, SETS)
def test_what_does_not_change_is_the_same_object(one: Fields, other: Fields) -> None:
    assert fieldsets.union(one, fieldsets.intersection(one, other)) is one
    rest = fieldsets.difference(one, other)
    assert fieldsets.difference(rest, other) is rest
    rest = fieldsets.without(one, other)
    assert fieldsets.without(rest, other) is rest


@given(SETS, SETS)
def test_inputs_stay_as_they_were(one: Fields, other: Fields) -> None:
    before = copy.deepcopy((one, other))
    for operation in (fieldsets.union, fieldsets.intersection, fieldsets.difference, fieldsets.without):
        operation(one, other)
    assert (one, other) == before


def test_a_parent_less_its_child_is_the_parent_and_a_child_less_its_parent_is_the_child() -> None:
    parent: Fields = {"f:a": {}}
    child: Fields = {"f:a": {"f:b": {}}}
    assert fieldsets.difference(parent, child) == parent
    assert fieldsets.difference(child, parent) == child
    assert fieldsets.difference({"f:a": {".": {}, "f:b": {}}}, child) == parent
    assert fieldsets.without(child, parent) == {}


# -- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("f:spec", "f:maxConcurrentJobs"), ".spec.maxConcurrentJobs"),
        (("f:spec", "f:tags", 'v:"x"'), '.spec.tags[="x"]'),
        (("f:spec", "f:tags", "v:1"), ".spec.tags[=1]"),
        (("f:spec", "f:tags", 'k:{"name":"A"}', "f:x"), '.spec.tags[name="A"].x'),
        (("f:ports", 'k:{"containerPort":80,"protocol":"TCP"}'), '.ports[containerPort=80,protocol="TCP"]'),
        (("f:metadata", "f:annotations", "f:example.com/a.b"), ".metadata.annotations.example.com/a.b"),
        (("f:a", "i:3"), ".a[3]"),
        (("f:a", "f:ö\n"), ".a.ö\n"),
    ],
)
def test_paths_read_as_a_kubernetes_server_prints_them(path: Path, text: str) -> None:
    assert fieldsets.text(path) == text


@given(st.lists(st.text(max_size=8) | st.text("fkvi:{}[]\"'ab1.", max_size=8), max_size=4).map(tuple))
def test_there_is_a_text_for_any_path_at_all(path: Path) -> None:
    assert isinstance(fieldsets.text(path), str)


def test_the_fields_of_a_level_come_before_what_lies_deeper() -> None:
    fields: Fields = {"f:b": {}, "f:a": {".": {}, "f:z": {}}, "f:c": {"f:y": {}}}
    assert list(map(fieldsets.text, fieldsets.paths(fields))) == [".a", ".b", ".a.z", ".c.y"]


# -- from outside --------------------------------------------------------------------------------------------------


@given(JSON)
def test_anything_from_outside_is_a_set_or_refused(value: Any) -> None:
    try:
        fields = fieldsets.checked(value)
    except ValueError:
        return
    assert of(members(fields)) == fields


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        "x",
        {"f:a": None},
        {"f:a": []},
        {"a": {}},
        {"": {}},
        {"k:[]": {}},
        {"k:{": {}},
        {"v:x": {}},
        {"i:x": {}},
    ],
)
def test_what_is_no_set_is_refused(fields: Any) -> None:
    with pytest.raises(ValueError):
        fieldsets.checked(fields)


def test_too_deep_is_refused_without_a_recursion_error() -> None:
    with pytest.raises(ValueError, match="deeper"):
        fieldsets.checked(deep(5000))


def deep(levels: int) -> Fields:
    fields: Fields = {}
    for _ in range(levels):
        fields = {"f:a": fields}
    return fields


def test_steps_from_outside_get_their_one_spelling() -> None:
    fields: Fields = {"f:l": {'k:{"b": 1, "a": "x"}': {".": {}}, "v: 2.0": {}, "i:01": {}}, ".": {}}
    assert fieldsets.checked(fields) == {"f:l": {'k:{"a":"x","b":1}': {}, "v:2": {}, "i:1": {}}}


def test_steps_of_a_kind_that_nobody_knows_yet_are_left_out() -> None:
    assert fieldsets.checked({"f:a": {"z:new": {}, "f:b": {}}, "f:c": {"z:new": {}}}) == {"f:a": {"f:b": {}}}
