"""Events have two faces: what one says the other says too, in its own words, and nothing is lost between them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.kinds import KINDS, SERVED
from casare_api.kinds.events import EVENTS_V1, FACE, problems
from casare_api.machinery import tables
from casare_api.machinery.admission import admit
from casare_api.machinery.schema import object_schema
from casare_api.machinery.selectors import FieldSelector

Object = dict[str, Any]
EVENT = KINDS["Event"]

WORD = st.text("abc", min_size=1, max_size=5)
SECOND = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(lambda at: at.isoformat(timespec="seconds") + "Z")
MICRO = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(lambda at: at.isoformat(timespec="microseconds") + "Z")
REFERENCE = st.fixed_dictionaries({}, optional=dict.fromkeys(("kind", "namespace", "name", "apiVersion", "fieldPath"), WORD))
COUNT = st.integers(0, 2**31 - 1)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "reason": WORD, "message": WORD, "type": WORD, "action": WORD, "reportingComponent": WORD, "reportingInstance": WORD,
    "source": st.fixed_dictionaries({}, optional={"component": WORD, "host": WORD}), "count": COUNT, "related": REFERENCE,
    "firstTimestamp": SECOND, "lastTimestamp": SECOND, "eventTime": MICRO,
    "series": st.fixed_dictionaries({}, optional={"count": COUNT, "lastObservedTime": MICRO}),
}  # fmt: skip
STEPS = ["f:involvedObject", *(f"f:{name}" for name in FIELDS)]
OWNED: st.SearchStrategy[Object] = st.dictionaries(st.sampled_from(STEPS), st.just({"f:message": {}}), max_size=5)
ENTRY = st.fixed_dictionaries({
    "manager": WORD, "operation": st.sampled_from(["Apply", "Update"]), "apiVersion": st.just("v1"), "fieldsType": st.just("FieldsV1"),
    "fieldsV1": OWNED,
})  # fmt: skip
META = st.fixed_dictionaries(
    {"name": st.just("e"), "namespace": st.just("default")},
    optional={"labels": st.dictionaries(WORD, WORD, max_size=2), "managedFields": st.lists(ENTRY, min_size=1, max_size=2)},
)
STORED = st.fixed_dictionaries(
    {"apiVersion": st.just("v1"), "kind": st.just("Event"), "metadata": META, "involvedObject": REFERENCE}, optional=FIELDS
)
NEW: Object = {
    "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "t1"}, "involvedObject": {"kind": "Robot", "namespace": "t1", "name": "pc-01"},
    "eventTime": "2026-01-01T00:00:00.000001Z", "reportingComponent": "example.com/ctl", "reportingInstance": "ctl-1", "action": "Starting",
    "reason": "Started", "type": "Normal",
}  # fmt: skip


def new(**fields: Any) -> Object:
    """A good new event, as it is stored, with other fields; None for one that is left out."""
    return {key: value for key, value in (NEW | fields).items() if value is not None}


# -- two forms -------------------------------------------------------------------------------------------------------


@given(STORED)
def test_what_is_shown_and_stored_again_is_what_was_stored(stored: Object) -> None:
    shown = FACE.from_stored(stored)
    assert FACE.to_stored(shown) == stored
    assert list(FACE.to_stored(shown)) == list(stored)


@given(STORED)
def test_what_is_stored_and_shown_again_is_what_was_said(stored: Object) -> None:
    said = FACE.from_stored(stored)
    assert FACE.from_stored(FACE.to_stored(said)) == said


@given(STORED)
def test_what_has_its_form_already_keeps_it(stored: Object) -> None:
    shown = FACE.from_stored(stored)
    assert FACE.from_stored(shown) == shown and FACE.to_stored(stored) == stored


@given(STORED)
def test_what_one_face_admits_the_other_does(stored: Object) -> None:
    core, _ = admit(EVENT, stored)
    newer, _ = admit(EVENTS_V1, FACE.from_stored(core))
    assert FACE.to_stored(newer) == core


@given(STORED)
def test_a_row_is_the_same_on_both_faces(stored: Object) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    [one], [other] = tables.rows(EVENT, [stored], now, "None"), tables.rows(EVENTS_V1, [FACE.from_stored(stored)], now, "None")
    assert one == other


def test_nothing_is_changed_in_what_it_was_given() -> None:
    entry = {"manager": "m", "apiVersion": "v1", "fieldsV1": {".": {}, "f:message": {}}}
    stored = new(message="x", metadata={"name": "e", "managedFields": [entry]})
    shown = FACE.from_stored(stored)
    assert shown["metadata"]["managedFields"] == [{**entry, "apiVersion": "events.k8s.io/v1", "fieldsV1": {".": {}, "f:note": {}}}]
    assert stored["metadata"]["managedFields"] == [entry] and "message" in stored and entry["fieldsV1"] == {".": {}, "f:message": {}}


def test_every_field_of_one_face_is_in_the_other() -> None:
    stored, shown = object_schema(EVENT)["properties"], object_schema(EVENTS_V1)["properties"]
    assert {FACE.names.get(name, name) for name in stored} == set(shown) and set(FACE.names) <= set(stored)
    assert not set(FACE.names) & set(FACE.names.values())


def test_a_selection_by_one_face_is_one_by_the_other() -> None:
    said = FieldSelector.parse("regarding.name=a,reason!=b,metadata.name=c,type=Warning", EVENTS_V1.selectable)
    assert str(FACE.selected(said)) == "involvedObject.name=a,reason!=b,metadata.name=c,type=Warning"
    for field in EVENTS_V1.selectable:
        [term] = FACE.selected(FieldSelector.parse(f"{field}=x", EVENTS_V1.selectable)).terms
        assert term.field in EVENT.selectable


def test_a_face_has_no_objects_of_its_own() -> None:
    assert EVENTS_V1.stored is EVENT and EVENTS_V1 not in KINDS.values()
    assert [kind for kind in SERVED if kind.stored is not kind] == [EVENTS_V1]


# -- rules of the newer face -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"eventTime": None}, "eventTime: Required value"),
        ({"reportingComponent": None}, "reportingController: Required value"),
        ({"reportingComponent": "a b"}, "reportingController: Invalid value: "),
        ({"reportingInstance": None}, "reportingInstance: Required value"),
        ({"reportingInstance": "x" * 129}, 'reportingInstance: Invalid value: "": can have at most 128 characters'),
        ({"action": None}, "action: Required value"),
        ({"action": ""}, "action: Required value"),
        ({"action": "x" * 129}, 'action: Invalid value: "": can have at most 128 characters'),
        ({"reason": None}, "reason: Required value"),
        ({"reason": "x" * 129}, 'reason: Invalid value: "": can have at most 128 characters'),
        ({"message": "ü" * 513}, 'message: Invalid value: "": can have at most 1024 characters'),
        ({"type": None}, 'type: Invalid value: "": has invalid value: '),
        ({"type": "Bad"}, 'type: Invalid value: "": has invalid value: Bad'),
        ({"involvedObject": {}}, 'involvedObject.namespace: Invalid value: "": does not match event.namespace'),
        ({"firstTimestamp": "2026-01-01T00:00:00Z"}, 'firstTimestamp: Invalid value: "": needs to be unset'),
        ({"lastTimestamp": "2026-01-01T00:00:00Z"}, 'lastTimestamp: Invalid value: "": needs to be unset'),
        ({"count": 1}, 'count: Invalid value: "": needs to be unset'),
        ({"source": {"host": "pc"}}, 'source: Invalid value: "": needs to be unset'),
        ({"series": {"count": 1, "lastObservedTime": NEW["eventTime"]}}, 'series.count: Invalid value: "": should be at least 2'),
        ({"series": {"count": 2}}, "series.lastObservedTime: Required value"),
    ],
)
def test_a_new_event_that_is_refused(fields: Object, said: str) -> None:
    [cause] = problems(None, new(**fields))
    assert str(cause).startswith(said)


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"message": "x" * 1024}, {"action": "x" * 128}, {"source": {}, "count": 0}, {"related": {"name": "b"}}, {"type": "Warning"},
        {"series": {"count": 2, "lastObservedTime": NEW["eventTime"]}}, {"reportingComponent": "kubelet"},
        {"involvedObject": {"kind": "Node", "name": "n"}, "metadata": {"name": "e", "namespace": "default"}},
    ],
)  # fmt: skip
def test_a_new_event_that_is_good(fields: Object) -> None:
    assert problems(None, new(**fields)) == []


@pytest.mark.parametrize("field", sorted(set(FIELDS) - {"series", "reportingComponent"}))
def test_what_was_told_is_told(field: str) -> None:
    was, now = new(**{field: "a"}), new(**{field: "b"})
    assert [str(cause) for cause in problems(was, now)] == [f'{field}: Invalid value: "b": field is immutable']
    assert [cause.field for cause in problems(was, new(**{field: None}))] == [field]


def test_a_series_and_what_is_known_about_the_event_may_change() -> None:
    series = {"count": 2, "lastObservedTime": NEW["eventTime"]}
    assert problems(new(), new(series=series, metadata={"name": "e", "namespace": "t1", "labels": {"a": "b"}})) == []
    assert [str(cause) for cause in problems(new(), new(series={"count": 1}))] == [
        'series.count: Invalid value: "": should be at least 2', "series.lastObservedTime: Required value",
    ]  # fmt: skip


def test_what_an_older_recorder_left_out_is_no_reason_to_refuse_a_change() -> None:
    older = new(eventTime=None, action=None, reportingInstance=None, count=3, series={"count": 1})
    assert problems(older, {**older, "metadata": {**older["metadata"], "labels": {"a": "b"}}}) == []
    assert problems(older, {**older, "source": {}}) == []
