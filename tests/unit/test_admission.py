"""What a person wrote is kept as written, defaults come behind it, and every mistake is named."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.kinds import KINDS, Kind
from casare_api.machinery.admission import MAX_CAUSES, admit, check_storable
from casare_api.machinery.errors import ApiError

ROBOT, WORKFLOW, JOB = KINDS["Robot"], KINDS["Workflow"], KINDS["Job"]
Object = dict[str, Any]


def robot(**spec: Any) -> Object:
    return {"metadata": {"name": "pc-01"}, "spec": spec}


def refused(obj: Any, kind: str = "Robot", mode: Any = "Strict") -> ApiError:
    with pytest.raises(ApiError) as caught:
        admit(KINDS[kind], obj, mode)
    return caught.value


def test_what_was_written_keeps_its_order_and_defaults_follow() -> None:
    admitted, warnings = admit(ROBOT, {"spec": {"tags": ["z", "a"], "environment": "dev"}, "metadata": {"name": "x"}})
    assert list(admitted) == ["spec", "metadata", "apiVersion", "kind"] and warnings == []
    assert list(admitted["spec"].items()) == [
        ("tags", ["z", "a"]),
        ("environment", "dev"),
        ("maxConcurrentJobs", 1),
        ("desiredState", "Active"),
    ]


def test_defaults_reach_into_what_was_begun_and_not_into_what_was_not() -> None:
    spec = {"runner": "x", "retry": {"limit": 2, "backoff": {"max": "1m"}}}
    admitted, _ = admit(WORKFLOW, {"metadata": {"name": "w"}, "spec": spec})
    assert admitted["spec"]["retry"] == {
        "limit": 2,
        "backoff": {"max": "1m", "initial": "10s", "factor": 2},
        "onRobotLost": "Requeue",
        "robotLostLimit": 3,
        "selfFence": False,
    }
    assert "retry" not in admit(WORKFLOW, {"metadata": {"name": "w"}, "spec": {"runner": "x"}})[0]["spec"]
    tainted, _ = admit(ROBOT, robot(taints=[{"key": "a"}, {"key": "b", "effect": "NoPlace", "value": "c"}]))
    assert tainted["spec"]["taints"] == [
        {"key": "a", "effect": "NoPlace"},
        {"key": "b", "effect": "NoPlace", "value": "c"},
    ]


def test_null_means_not_set_wherever_a_field_is() -> None:
    obj = {
        "metadata": {"name": "x", "labels": None},
        "spec": {"environment": None, "drain": {"deadline": None}, "tags": None},
        "status": None,
    }
    admitted, _ = admit(ROBOT, obj)
    assert admitted["spec"] == {
        "environment": "default",
        "drain": {"deadline": "15m", "then": "Requeue"},
        "maxConcurrentJobs": 1,
        "desiredState": "Active",
    }
    assert admitted["metadata"] == {"name": "x"} and "status" not in admitted
    free = admit(JOB, {"metadata": {"name": "j"}, "spec": {"workflowRef": {"name": "w"}, "parameters": {"a": None}}})[0]
    assert free["spec"]["parameters"] == {"a": None}, "what is people's own data stays as it is"
    assert refused({"metadata": {"name": "x"}, "spec": {"role": None}}, "ApiKey").causes[0].field == "spec.role"


def test_numbers_stay_as_they_were_written() -> None:
    spec = {"runner": "x", "retry": {"backoff": {"factor": 2}}, "parameters": {"a": 1.0, "b": 1, "c": True}}
    text = json.dumps(admit(WORKFLOW, {"metadata": {"name": "w"}, "spec": spec})[0]["spec"]["parameters"])
    assert text == '{"a": 1.0, "b": 1, "c": true}'


NAMES = st.sampled_from(["a", "berlin", "x-1"])
ROBOTS = st.fixed_dictionaries(
    {},
    optional={
        "environment": NAMES | st.none(),
        "tags": st.lists(NAMES, max_size=3, unique=True) | st.none(),
        "maxConcurrentJobs": st.integers(1, 100),
        "drain": st.fixed_dictionaries(
            {}, optional={"deadline": st.sampled_from(["1m", "2h"]), "then": st.just("Wait")}
        ),
        "taints": st.lists(st.fixed_dictionaries({"key": NAMES}, optional={"value": NAMES}), max_size=1),
    },
)
WORKFLOWS = st.fixed_dictionaries(
    {"runner": NAMES},
    optional={
        "args": st.lists(st.text(max_size=3).filter(lambda text: "\x00" not in text), max_size=3),
        "retry": st.fixed_dictionaries(
            {}, optional={"limit": st.integers(0, 9), "backoff": st.just({"initial": "1s"})}
        ),
        "requirements": st.fixed_dictionaries(
            {}, optional={"tags": st.lists(NAMES, unique=True), "prefer": st.just([{"sameRobot": True}])}
        ),
        "concurrency": st.fixed_dictionaries({"key": NAMES}),
        "priority": st.integers(0, 20) | st.none(),
        "env": st.lists(st.fixed_dictionaries({"name": st.just("A")}, optional={"value": NAMES}), max_size=1),
    },
)
JOBS = st.fixed_dictionaries({"workflow": WORKFLOWS})
SPECS = st.one_of(
    st.tuples(st.just("Robot"), ROBOTS),
    st.tuples(st.just("Workflow"), WORKFLOWS),
    st.tuples(st.just("Job"), JOBS),
    st.tuples(st.just("Schedule"), JOBS.map(lambda spec: {"every": "5m", "jobTemplate": {"spec": spec}})),
)


@settings(deadline=None)
@given(SPECS, st.dictionaries(NAMES, st.integers(), max_size=2))
def test_admitting_twice_is_admitting_once(drawn: tuple[str, Object], extra: Object) -> None:
    kind, spec = drawn
    written = {"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {**{f"x-{key}": 1 for key in extra}, **spec}}
    once, warnings = admit(KINDS[kind], copy.deepcopy(written), "Warn")
    twice, none = admit(KINDS[kind], copy.deepcopy(once), "Strict")
    assert twice == once and json.dumps(twice) == json.dumps(once)
    assert len(warnings) == len(extra) + len(none)  # what does nothing yet, is said each time
    assert all(line.endswith("has no effect yet") for line in none)
    kept = [key for key, value in spec.items() if value is not None]
    assert list(once["spec"])[: len(kept)] == kept


def test_unknown_fields_are_refused_left_out_with_a_warning_or_left_out() -> None:
    obj = {**robot(colour="red", taints=[{"key": "a", "shade": 1}]), "size": 5}
    error = refused(copy.deepcopy(obj))
    assert error.status == 400 and 'unknown field "spec.colour"' in error.message
    assert [cause.field for cause in error.causes] == ["spec.taints[0].shade", "spec.colour", "size"]
    assert "allowed here: robotId, displayName" in error.causes[1].message
    for mode, count in (("Warn", 3), ("Ignore", 0)):
        admitted, warnings = admit(ROBOT, copy.deepcopy(obj), mode)  # type: ignore[arg-type]
        assert len(warnings) == count
        assert admitted["spec"]["taints"] == [{"key": "a", "effect": "NoPlace"}] and "size" not in admitted


def test_a_field_that_does_nothing_yet_is_a_warning_unless_it_says_what_happens_anyway() -> None:
    for harmless, expected in ((None, ["spec.pauseOnFailures has no effect yet"]), (3, [])):
        kind = replace(KINDS["Schedule"], not_yet={"spec.pauseOnFailures": harmless})
        spec = {"every": "1h", "pauseOnFailures": 3, "jobTemplate": {"spec": {"workflowRef": {"name": "w"}}}}
        assert admit(kind, {"metadata": {"name": "s"}, "spec": spec})[1] == expected


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.plural)
def test_what_does_nothing_yet_is_a_field(kind: Kind) -> None:
    schema = kind.model.model_json_schema()
    for path in kind.not_yet:
        at = schema
        for part in path.split("."):
            found = at["properties"][part]
            refs = [one["$ref"] for one in (found, *found.get("anyOf", [])) if "$ref" in one]
            at = schema["$defs"][refs[0].rsplit("/", 1)[1]] if refs else found


def test_rules_across_fields_speak_once_unknown_fields_are_out() -> None:
    error = refused({"metadata": {"name": "x"}, "spec": {"role": "robot", "colour": "red"}}, "ApiKey", "Warn")
    assert error.status == 422 and error.causes[0].field == "spec.robotName"


def test_all_mistakes_are_told_at_once_up_to_a_number() -> None:
    error = refused(robot(maxConcurrentJobs=0, desiredState="Off", tags=[1], colour="red"))
    assert {cause.field for cause in error.causes} == {
        "spec.maxConcurrentJobs",
        "spec.desiredState",
        "spec.tags[0]",
        "spec.colour",
    }
    many = refused({"metadata": {"name": "w"}, "spec": {"runner": "x", "args": [1] * 1000}}, "Workflow")
    assert len(many.causes) == MAX_CAUSES + 1 and many.causes[-1].message == "and 980 more"
    assert "\n" not in many.message and len(many.message) < 5_000


def test_a_long_value_is_shown_short() -> None:
    error = refused(robot(environment="X" * 100_000))
    assert len(error.message) < 400 and "XXX..." in error.message


@pytest.mark.parametrize("obj", [None, 5, "x", [], [{}], True])
def test_what_is_no_object_is_refused(obj: Any) -> None:
    assert refused(obj).message == "the body must be an object of kind Robot"


@pytest.mark.parametrize("meta", [None, 5, "x", []])
def test_metadata_is_an_object(meta: Any) -> None:
    assert refused({"metadata": meta}).causes[0].field == "metadata"


def test_depth_count_and_characters_are_bounded() -> None:
    nested: Any = "x"
    for _ in range(1_000_000):
        nested = [nested]
    for bad in (
        nested,
        [0] * 100_001,
        {"a": "\x00"},
        {"\x00": 1},
        ["\ud800"],
        {1: 2},
        math.nan,
        [math.inf],
        {"a": -math.inf},
    ):
        with pytest.raises(ApiError) as caught:
            check_storable(bad)
        assert caught.value.status == 400 and caught.value.message.isprintable()
        while isinstance(nested, list):  # a million levels are taken apart by hand: Python itself would not survive it
            nested = nested[0]
    check_storable({"ü": ["\U0001f916", 1e308, -(2**63), None, True, {"": {}}]})


@pytest.mark.parametrize(
    ("meta", "field"),
    [
        ({"name": "PC_01"}, "metadata.name"),
        ({"generateName": "Job_"}, "metadata.generateName"),
        ({"name": "x", "namespace": "a.b"}, "metadata.namespace"),
        ({"name": "x", "labels": {"a b": "c"}}, "metadata.labels"),
        ({"name": "x", "labels": {"a": "-"}}, "metadata.labels"),
        ({"name": "x", "annotations": {"a": "ü" * 200_000}}, "metadata.annotations"),
        ({"name": "x", "finalizers": ["a b"]}, "metadata.finalizers"),
        ({"name": "x", "ownerReferences": [{"kind": "Job"}]}, "metadata.ownerReferences[0].apiVersion"),
        ({"name": "x", "creationTimestamp": "yesterday"}, "metadata.creationTimestamp"),
    ],
)
def test_metadata_is_checked(meta: Object, field: str) -> None:
    assert field in [cause.field for cause in refused({"metadata": meta}).causes]


def test_what_the_server_writes_may_come_along() -> None:
    meta = {
        "name": "x",
        "generateName": "job-",
        "namespace": "default",
        "uid": "any",
        "resourceVersion": "5",
        "generation": 3,
        "creationTimestamp": "2026-11-22T20:00:00Z",
        "managedFields": [{}],
        "selfLink": "/x",
    }
    assert admit(ROBOT, {"metadata": dict(meta)})[0]["metadata"] == meta
