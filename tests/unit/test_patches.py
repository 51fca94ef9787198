"""Patches: the examples of the RFCs, what kubectl's apply computes, and bounds on hostile input."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.machinery.errors import ApiError
from casare_api.machinery.patches import json_equal, json_patch, merge_patch, three_way

SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 2.5]) | st.text("ab/~0", max_size=3)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~-", max_size=2), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


# -- merge patch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_as_in_the_rfc(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


def mutable_parts(value: Any) -> set[int]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = {id(value)} if isinstance(value, dict | list) else set()
    return own.union(*(mutable_parts(each) for each in children))


@settings(deadline=None)
@given(JSON, JSON)
def test_merge_patch_changes_and_shares_nothing(target: Any, patch: Any) -> None:
    before = copy.deepcopy((target, patch))
    result = merge_patch(target, patch)
    assert (target, patch) == before
    assert not mutable_parts(result) & (mutable_parts(target) | mutable_parts(patch))


@pytest.mark.parametrize("levels", [150, 100_000])
def test_deep_input_is_a_bad_request_and_no_recursion_error(levels: int) -> None:
    deep = nested(levels)
    calls: list[Callable[[], object]] = [
        lambda: merge_patch(deep, {}),
        lambda: merge_patch({}, deep),
        lambda: json_patch(deep, []),
        lambda: json_patch({}, [{"op": "add", "path": "/a", "value": deep}]),
        lambda: json_patch({"a": 1}, [{"op": "test", "path": "/a", "value": deep}]),
        lambda: three_way({}, deep, {}),
        lambda: three_way({}, {}, deep),
        lambda: three_way(deep, {}, {}),
    ]
    for call in calls:
        with pytest.raises(ApiError, match="nested deeper than 100 levels") as caught:
            call()
        assert caught.value.status == 400


def test_a_hundred_levels_are_fine() -> None:
    assert merge_patch(nested(99), nested(99)) == nested(99)
    assert three_way(nested(99), nested(99), nested(99)) is None


# -- JSON patch ----------------------------------------------------------------------------------------------------


def op(name: str, path: str, **members: Any) -> dict[str, Any]:
    return {"op": name, "path": path, **members}


@pytest.mark.parametrize(
    ("target", "operations", "result"),
    [  # most of them RFC 6902, appendix A
        ({"foo": "bar"}, [op("add", "/baz", value="qux")], {"baz": "qux", "foo": "bar"}),
        ({"foo": ["bar", "baz"]}, [op("add", "/foo/1", value="qux")], {"foo": ["bar", "qux", "baz"]}),
        ({"foo": ["bar"]}, [op("add", "/foo/-", value=["abc"])], {"foo": ["bar", ["abc"]]}),
        ({"foo": ["bar"]}, [op("add", "/foo/1", value=1)], {"foo": ["bar", 1]}),
        ({"baz": "qux", "foo": 1}, [op("remove", "/baz")], {"foo": 1}),
        ({"foo": [1, 2, 3]}, [op("remove", "/foo/1")], {"foo": [1, 3]}),
        ({"baz": "qux"}, [op("replace", "/baz", value="boo")], {"baz": "boo"}),
        ({"a": [1, 2]}, [op("replace", "/a/0", value=None)], {"a": [None, 2]}),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        (
            {"foo": ["all", "grass", "cows", "eat"]},
            [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
            {"foo": ["all", "cows", "eat", "grass"]},
        ),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}),
        (
            {"baz": "qux", "foo": ["a", 2, "c"]},
            [op("test", "/baz", value="qux"), op("test", "/foo/1", value=2.0)],
            {"baz": "qux", "foo": ["a", 2, "c"]},
        ),
        ({"/": 9, "~1": 10}, [op("test", "/~01", value=10), op("test", "/~1", value=9)], {"/": 9, "~1": 10}),
        ({"": 1}, [op("replace", "/", value=2)], {"": 2}),
        ({"a": 1}, [op("add", "", value=[1])], [1]),
        ({"a": 1}, [op("remove", "")], None),
        ({"a": 1}, [op("add", "/a", value=2, extra="ignored")], {"a": 2}),
        ({"a": {"0": 1}}, [op("replace", "/a/0", value=2)], {"a": {"0": 2}}),
        ({}, [], {}),
    ],
)
def test_json_patch_as_in_the_rfc(target: Any, operations: list[Any], result: Any) -> None:
    before = copy.deepcopy((target, operations))
    assert json_patch(target, operations) == result
    assert (target, operations) == before


@pytest.mark.parametrize(
    "operation",
    [
        op("test", "/baz", value="bar"),
        op("test", "/one", value=True),
        op("test", "/none", value=False),
        op("test", "/nope", value=None),
        op("add", "/no/such", value=1),
        op("add", "/list/5", value=1),
        op("add", "/list/01", value=1),
        op("add", "/list/x", value=1),
        op("add", "/list/-1", value=1),
        op("add", "/baz/x", value=1),
        op("replace", "/nope", value=1),
        op("replace", "/list/-", value=1),
        op("remove", "/nope"),
        op("remove", "/list/2"),
        op("remove", "baz"),
        op("remove", "/a~2"),
        op("remove", "/list/\u0660"),
        {"op": "move", "from": "/map", "path": "/map/inner"},
        {"op": "move", "from": "/nope", "path": "/x"},
        {"op": "copy", "from": "/nope", "path": "/x"},
        op("merge", "/baz", value=1),
        op("remove", "/a" * 2000),
    ],
)
def test_what_can_t_be_carried_out_is_invalid(operation: dict[str, Any]) -> None:
    target = {"baz": "qux", "one": 1, "none": None, "list": [1, 2], "map": {"x": 1}}
    with pytest.raises(ApiError) as caught:
        json_patch(target, [op("add", "/before", value=1), operation])
    assert (caught.value.status, caught.value.reason) == (422, "Invalid")
    assert caught.value.message.startswith(
        "the server rejected our request due to an error in our request: operation 2 ("
    )
    assert len(caught.value.message) < 400
    assert "before" not in target


@pytest.mark.parametrize(
    "document",
    [
        {},
        None,
        "x",
        [1],
        [{}],
        [{"op": "add", "path": "/a"}],
        [{"op": "test", "path": "/a"}],
        [{"op": "add", "value": 1}],
        [{"op": "add", "path": 1, "value": 1}],
        [{"op": 1, "path": ""}],
        [{"op": "move", "path": "/a"}],
        [{"op": "copy", "path": "/a", "from": None}],
        [op("test", "", value={})] * 10_001,
    ],
)
def test_what_is_no_json_patch_is_a_bad_request(document: Any) -> None:
    with pytest.raises(ApiError) as caught:
        json_patch({}, document)
    assert (caught.value.status, caught.value.reason) == (400, "BadRequest")


def test_copies_can_t_multiply_without_bound() -> None:
    with pytest.raises(ApiError) as caught:
        json_patch({"a": ["x" * 100]}, [{"op": "copy", "from": "/a", "path": "/a/-"}] * 60)
    assert caught.value.status in (400, 413)  # too deep or too large, whichever comes first
    with pytest.raises(ApiError) as caught:
        json_patch({"a": "x" * 2**20, "b": []}, [{"op": "copy", "from": "/a", "path": "/b/-"}] * 10)
    assert (caught.value.status, caught.value.reason) == (413, "RequestEntityTooLarge")


def test_moves_can_t_nest_without_bound() -> None:
    nest = [
        op("add", "/b", value={}),
        {"op": "move", "from": "/a", "path": "/b/a"},
        {"op": "move", "from": "/b", "path": "/a"},
    ]
    with pytest.raises(ApiError, match="nested deeper"):
        json_patch({"a": {}}, nest * 3000)


@settings(deadline=None)
@given(
    JSON,
    st.lists(
        st.fixed_dictionaries(
            {
                "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
                "path": st.text("/ab~01-", max_size=5),
                "from": st.text("/ab~01-", max_size=5),
                "value": JSON,
            }
        ),
        max_size=4,
    ),
)
def test_any_patch_works_or_is_refused_and_changes_nothing(target: Any, operations: list[Any]) -> None:
    before = copy.deepcopy((target, operations))
    try:
        result = json_patch(target, operations)
        assert not mutable_parts(result) & (mutable_parts(target) | mutable_parts(operations))
    except ApiError as error:
        assert error.status == 422
    assert (target, operations) == before


def test_equality_is_that_of_json() -> None:
    assert json_equal(1, 1.0) and json_equal({"a": [1]}, {"a": [1.0]}) and json_equal(None, None)
    assert not json_equal(1, True) and not json_equal([0], [False]) and not json_equal("1", 1)
    assert not json_equal({"a": None}, {"b": None}) and not json_equal({}, []) and not json_equal([1], [1, 1])


# -- three-way -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("original", "modified", "current", "patch"),
    [
        ({"a": 1}, {"a": 1}, {"a": 1}, None),
        (None, {"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1}, {"a": 5}, {"a": 1}),
        ({"a": 1, "b": 2}, {"a": 1}, {"a": 1, "b": 2}, {"b": None}),
        ({"a": 1, "b": 2}, {"a": 1}, {"a": 1}, None),
        ({}, {"a": 1}, {"a": 1, "b": 2}, None),
        ({"m": {"a": 1, "b": 2}}, {"m": {"a": 1}}, {"m": {"a": 1, "b": 2, "c": 3}}, {"m": {"b": None}}),
        ({"m": {"a": 1}}, {"m": {}}, {"m": {"a": 1}}, {"m": {"a": None}}),
        ({"l": [1]}, {"l": [1, 2]}, {"l": [1]}, {"l": [1, 2]}),
        ({"l": [1]}, {"l": [1]}, {"l": [1, 9]}, {"l": [1]}),
        ({}, {"a": {"b": 1, "c": None}}, {"a": 7}, {"a": {"b": 1}}),
        ({"a": 1}, {"a": None}, {"a": 1}, {"a": None}),
        ({}, {"a": None}, {"a": 1}, None),
        ({}, {"a": True}, {"a": 1}, {"a": True}),
        ({}, {"a": {}}, {}, {"a": {}}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": {"b": 1}}, {"a": 2}),
    ],
)
def test_three_way_as_kubectl_computes_it(original: Any, modified: Any, current: Any, patch: Any) -> None:
    assert three_way(original, modified, current) == patch


def without_nulls(value: Any) -> Any:
    return (
        {key: without_nulls(each) for key, each in value.items() if each is not None}
        if isinstance(value, dict)
        else value
    )


def contains(outer: Any, inner: Any) -> bool:
    """Whether all that `inner` says is so in `outer`."""
    if isinstance(inner, dict) and isinstance(outer, dict):
        return all(key in outer and contains(outer[key], value) for key, value in inner.items())
    return json_equal(outer, inner)


@settings(deadline=None)
@given(st.none() | OBJECTS, OBJECTS, OBJECTS)
def test_apply_reaches_what_is_wanted_and_then_rests(original: Any, modified: Any, current: Any) -> None:
    before = copy.deepcopy((original, modified, current))
    patch = three_way(original, modified, current)
    assert (original, modified, current) == before
    result = current if patch is None else merge_patch(current, patch)
    wanted = without_nulls(modified)
    assert contains(result, wanted)
    assert not [key for key in without_nulls(original or {}) if key not in wanted and result.get(key) is not None]
    assert all(key in result for key in current if key not in (original or {}))
    assert three_way(modified, modified, result) is None
    assert patch is None or not json_equal(result, current)
