"""A strategic merge patch does to built-in objects what kubectl's users expect of it, and never half of it."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.machinery.errors import ApiError
from casare_api.machinery.patches import merge_patch
from casare_api.machinery.strategic import strategic_patch

Object = dict[str, Any]
META: Object = {"metadata": {"name": "c", "labels": {"a": "1", "b": "2"}, "finalizers": ["x", "y"]}}


def owner(uid: str, **more: Any) -> Object:
    return {"uid": uid, "kind": "Job", **more}


def owners(*items: Object) -> Object:
    return {"metadata": {"ownerReferences": list(items)}}


def finalizers(*items: str, **directives: Any) -> Object:
    return {"metadata": {"finalizers": list(items)} | directives}


@pytest.mark.parametrize(
    ("current", "patch", "wanted"),
    [
        ({"data": {"a": "1"}}, {"data": {"b": "2"}}, {"data": {"a": "1", "b": "2"}}),
        ({"data": {"a": "1", "b": "2"}}, {"data": {"a": None, "z": None}}, {"data": {"b": "2"}}),
        ({"data": {"a": "1"}}, {"data": None}, {}),
        ({}, {"data": {"a": None, "b": {"c": None}}}, {"data": {"b": {}}}),
        ({"data": "text"}, {"data": {"a": "1"}}, {"data": {"a": "1"}}),
        ({"data": {"a": "1"}}, {"data": ["x"]}, {"data": ["x"]}),
        ({"spec": {"finalizers": ["a", "b"]}}, {"spec": {"finalizers": ["c"]}}, {"spec": {"finalizers": ["c"]}}),
        ({"items": [{"a": 1}]}, {"items": [{"b": None}]}, {"items": [{"b": None}]}),
        ({"finalizers": ["a"]}, {"finalizers": ["b"]}, {"finalizers": ["b"]}),
        # $patch
        ({"data": {"a": "1"}}, {"data": {"$patch": "replace", "b": "2", "c": None}}, {"data": {"b": "2"}}),
        ({"data": {"a": "1"}}, {"data": {"$patch": "delete", "b": "2"}}, {"data": {}}),
        ({"data": {"a": "1"}}, {"data": {"$patch": "merge", "b": "2"}}, {"data": {"a": "1", "b": "2"}}),
        ({}, {"data": {"$patch": "replace", "b": "2"}}, {"data": {"b": "2"}}),
        ({"data": {"a": "1"}, "x": 1}, {"$patch": "replace", "x": 2}, {"x": 2}),
        ({"data": {"a": "1"}}, {"$patch": "delete"}, {}),
        # $retainKeys
        ({"s": {"a": 1, "b": 2, "c": {"d": 3}}}, {"s": {"$retainKeys": ["a", "c"], "c": {"e": 4}, "b": None}},
         {"s": {"a": 1, "c": {"d": 3, "e": 4}}}),
        ({"s": {"a": 1}}, {"s": {"$retainKeys": []}}, {"s": {}}),
        (META, {"metadata": {"$retainKeys": ["finalizers"], "$setElementOrder/finalizers": ["y", "x"]}}, finalizers("y", "x")),
    ],
)  # fmt: skip
def test_maps(current: Object, patch: Object, wanted: Object) -> None:
    assert strategic_patch(current, patch) == wanted


def test_owners_merge_by_uid() -> None:
    current = owners(owner("1", name="a", controller=True), owner("2", name="b"))
    patch = owners(owner("2", name="c", controller=None), owner("3"), {"uid": "1", "controller": None})
    assert strategic_patch(current, patch) == owners(owner("1", name="a"), owner("2", name="c"), owner("3"))
    assert strategic_patch({}, patch) == owners(owner("2", name="c"), owner("3"), {"uid": "1"})
    assert strategic_patch(current, {"metadata": {"ownerReferences": None}}) == {"metadata": {}}
    assert strategic_patch(current, owners()) == current


def test_owners_are_taken_out_by_uid() -> None:
    current = owners(owner("1"), owner("2"))
    assert strategic_patch(current, owners({"$patch": "delete", "uid": "1"}, owner("3"))) == owners(owner("2"), owner("3"))
    assert strategic_patch(current, owners({"$patch": "delete", "uid": "9"})) == current
    assert strategic_patch({}, owners({"$patch": "delete", "uid": "9"})) == owners()


def test_owners_are_replaced_where_the_list_says_so() -> None:
    patch = owners(owner("3"), {"$patch": "replace"}, {"$patch": "merge", "uid": "4"})
    assert strategic_patch(owners(owner("1")), patch) == owners(owner("3"), {"uid": "4"})
    assert strategic_patch(owners(owner("1")), owners({"$patch": "replace"})) == owners()


def test_conditions_of_a_namespace_merge_by_type() -> None:
    current = {"status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}}
    patch = {"status": {"conditions": [{"type": "A", "status": "False"}]}}
    merged = strategic_patch(current, patch)
    assert [each["status"] for each in merged["status"]["conditions"]] == ["False", "True"]


@pytest.mark.parametrize(
    ("current", "patch", "wanted"),
    [
        (["a", "b"], finalizers("c", "a"), ["a", "b", "c"]),
        ([], finalizers("c", "a", "c"), ["c", "a"]),
        (["a", "b"], {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "z"]}}, ["b"]),
        (["a", "b"], finalizers("c", **{"$deleteFromPrimitiveList/finalizers": ["a"]}), ["b", "c"]),
        (["a", "b", "c"], {"metadata": {"$setElementOrder/finalizers": ["c", "b", "a"]}}, ["c", "b", "a"]),
        (["a", "b"], finalizers("c", **{"$setElementOrder/finalizers": ["c", "b"]}), ["c", "a", "b"]),
        (["a", "b", "c"], finalizers("n", **{"$setElementOrder/finalizers": ["c", "n"]}), ["a", "b", "c", "n"]),
        (["a", "b"], finalizers("n", **{"$setElementOrder/finalizers": ["b", "n", "a"]}), ["b", "n", "a"]),
        # what kubectl apply sends to take b out and put n in, where another client had added o
        (["a", "o", "b"], finalizers("n", **{"$setElementOrder/finalizers": ["a", "n"],
                                             "$deleteFromPrimitiveList/finalizers": ["b"]}), ["a", "n", "o"]),
    ],
)  # fmt: skip
def test_finalizers_are_a_set_in_order(current: list[str], patch: Object, wanted: list[str]) -> None:
    assert strategic_patch(finalizers(*current), patch) == finalizers(*wanted)


def test_owners_are_ordered_by_uid() -> None:
    order = {"$setElementOrder/ownerReferences": [{"uid": "3"}, {"uid": "1"}]}
    patch = {"metadata": {"ownerReferences": [owner("3")]} | order}
    assert strategic_patch(owners(owner("1"), owner("2")), patch) == owners(owner("3"), owner("1"), owner("2"))


def test_directives_for_lists_that_are_not_there_do_nothing() -> None:
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["a"]}}
    assert strategic_patch({}, patch) == {"metadata": {}}
    assert strategic_patch({"a": ["x"]}, {"$setElementOrder/a": ["y"], "a": ["z"]}) == {"a": ["z"]}
    assert strategic_patch({"a": ["x", "y", 1, True]}, {"$deleteFromPrimitiveList/a": ["x", 1]}) == {"a": ["y", True]}


@pytest.mark.parametrize(
    ("patch", "code", "message"),
    [
        ([], 400, "must be an object"),
        ({"data": {"$patch": "destroy", "a": 1}}, 422, 'unknown patch type: "destroy" in map: {"a": 1}'),
        ({"data": {"$patch": None}}, 422, "unknown patch type: null in map: {}"),
        ({"data": {"$patch": ["replace"]}}, 422, 'unknown patch type: ["replace"]'),
        ({"data": {"$retainKeys": "a"}}, 400, "invalid patch format of retainKeys"),
        ({"data": {"$retainKeys": [["a"]]}}, 400, "invalid patch format of retainKeys"),
        ({"data": {"$retainKeys": ["a"], "b": 1}}, 400, "invalid patch format of retainKeys"),
        ({"data": {"$setElementOrder": ["a"]}}, 400, "invalid patch format of setElementOrder list"),
        ({"data": {"$setElementOrder/x": "a"}}, 400, "invalid patch format of setElementOrder list"),
        ({"data": {"$setElementOrderly/x": ["a"]}}, 400, "invalid patch format of setElementOrder list"),
        ({"data": {"$deleteFromPrimitiveList/x": {}}}, 400, "invalid patch format of primitive list"),
        ({"data": {"$deleteFromPrimitiveList/x": [{}]}}, 400, "invalid patch format of primitive list"),
        ({"metadata": {"$deleteFromPrimitiveList/ownerReferences": ["1"]}}, 400, "invalid patch format of primitive list"),
        (owners({"name": "a"}), 422, 'map: {"name": "a"} does not contain declared merge key: uid'),
        (owners({"$patch": "delete", "name": "a"}), 422, "does not contain declared merge key: uid"),
        (owners({"$patch": "x", "uid": "a"}), 422, 'unknown patch type: "x"'),
        ({"metadata": {"ownerReferences": ["a"]}}, 422, 'map: "a" does not contain declared merge key: uid'),
        ({"metadata": {"finalizers": [["a"]]}}, 422, "lists of lists are not supported"),
        ({"metadata": {"finalizers": [{"a": "b"}]}}, 422, 'metadata.finalizers holds texts, not {"a": "b"}'),
        (finalizers("a", **{"$setElementOrder/finalizers": ["b"]}), 422, "the order in the patch's metadata.finalizers doesn't match"),
        (finalizers("a", "b", **{"$setElementOrder/finalizers": ["b", "a"]}), 422, "doesn't match $setElementOrder: "),
    ],
)  # fmt: skip
def test_a_directive_that_makes_no_sense_is_refused(patch: Any, code: int, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        strategic_patch(META | owners(owner("1")), patch)
    assert caught.value.status == code and message in caught.value.message and "\n" not in caught.value.message


def test_the_inputs_stay_as_they_are() -> None:
    current, patch = copy.deepcopy(META), {"metadata": {"finalizers": ["z"], "labels": {"$patch": "replace", "c": ["d"]}}}
    before = copy.deepcopy((current, patch))
    strategic_patch(current, patch)["metadata"]["labels"]["c"].append("e")
    assert (current, patch) == before


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["a", "b", "replace", "delete", "merge", "uid"]))
PLAIN = st.sampled_from(["metadata", "finalizers", "ownerReferences", "uid", "data", "a"])
LISTS = st.sampled_from(["finalizers", "ownerReferences", "a"])
DIRECTIVES = st.sampled_from(["$patch", "$retainKeys", "$setElementOrder"]) | st.builds(
    "{}/{}".format, st.sampled_from(["$setElementOrder", "$deleteFromPrimitiveList"]), LISTS
)


def json_of(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12)


def objects(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Object]:
    inner = json_of(keys)
    meta = st.dictionaries(keys, inner | st.lists(st.sampled_from("abc")) | st.lists(st.fixed_dictionaries({"uid": st.sampled_from("abc")})))
    return st.dictionaries(keys, inner, max_size=3) | st.fixed_dictionaries({"metadata": meta})


@settings(deadline=None)
@given(objects(PLAIN), objects(PLAIN | DIRECTIVES))
def test_any_patch_is_carried_out_or_refused(current: Object, patch: Object) -> None:
    before = copy.deepcopy((current, patch))
    try:
        result = strategic_patch(current, patch)
    except ApiError as error:
        assert error.status in (400, 422) and "\n" not in error.message
    else:
        assert isinstance(result, dict)
    assert (current, patch) == before


SIMPLE = json_of(st.sampled_from(["data", "labels", "a"]))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["data", "a"]), SIMPLE), st.dictionaries(st.sampled_from(["data", "a"]), SIMPLE))
def test_without_directives_and_merged_lists_it_is_a_merge_patch(current: Object, patch: Object) -> None:
    assert strategic_patch(current, patch) == merge_patch(current, patch)


@settings(deadline=None)
@given(*[st.lists(st.sampled_from("abcdef"), unique=True)] * 3)
def test_no_finalizer_is_lost_and_the_order_asked_for_is_kept(current: list[str], added: list[str], order: list[str]) -> None:
    order = list(dict.fromkeys([*(each for each in order if each not in added), *added]))
    patch = finalizers(*added, **{"$setElementOrder/finalizers": order})
    result = strategic_patch(finalizers(*current), patch)["metadata"]["finalizers"]
    assert sorted(result) == sorted({*current, *added})
    assert [each for each in result if each in order] == [each for each in order if each in result]
    others = [each for each in current if each not in order]
    assert [each for each in result if each in others] == others
    assert strategic_patch(finalizers(*result), patch)["metadata"]["finalizers"] == result, "once more changes nothing"


@pytest.mark.parametrize("many", [20_000, 100_000])
def test_long_lists_take_linear_time(many: int) -> None:
    names = [str(number) for number in range(many)]
    begun = time.process_time()
    strategic_patch(finalizers(*names), finalizers("n", **{"$setElementOrder/finalizers": [*reversed(names), "n"]}))
    strategic_patch(owners(*map(owner, names)), owners(*({"$patch": "delete", "uid": name} for name in names)))
    assert time.process_time() - begun < many / 20_000


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: Any = "x"
    for _ in range(150):
        deep = {"a": deep}
    for current, patch in (({}, deep), (deep, {})):
        with pytest.raises(ApiError, match="nested deeper than 100 levels"):
            strategic_patch(current, patch)
