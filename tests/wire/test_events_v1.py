"""`events.k8s.io/v1`, where newer recorders tell what happens: the same Events as in core/v1, in other words."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.kinds import GROUP

from ..api.conftest import JSON, MANY, MERGE, Api, Watch, answered, is_status, message

Object = dict[str, Any]
NEWER = "events.k8s.io/v1"
APPLY, STRATEGIC = "application/apply-patch+yaml", "application/strategic-merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
WATCHLIST = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true", "timeoutSeconds": "1"}
NOW = datetime.now(UTC)  # an event of long ago would be tidied away
AT = f"{NOW:%Y-%m-%dT%H:%M:%S}.120450Z"
CALLED = {
    "regarding": "involvedObject", "note": "message", "reportingController": "reportingComponent", "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp", "deprecatedLastTimestamp": "lastTimestamp", "deprecatedCount": "count",
}  # fmt: skip


def told(api: Api, name: str = "e1", /, **fields: Any) -> Object:
    """What a new recorder tells, with other fields; None for one that it leaves out."""
    event = {
        "apiVersion": NEWER, "kind": "Event", "metadata": {"name": name, "namespace": api.namespace}, "eventTime": AT,
        "reportingController": "example.com/ctl", "reportingInstance": "ctl-1", "action": "Starting", "reason": "Started", "type": "Normal",
        "regarding": {"kind": "Robot", "apiVersion": f"{GROUP}/v1", "namespace": api.namespace, "name": "pc-01", "uid": "u-1"},
        "related": {"kind": "Job", "name": "j"}, "note": "it is started",
    }  # fmt: skip
    return {key: value for key, value in (event | fields).items() if value is not None}


def path(api: Api, name: str | None = None) -> str:
    """Where events are on the newer face."""
    return f"/apis/{NEWER}/namespaces/{api.namespace}/events" + (f"/{name}" if name else "")


def post(api: Api, name: str = "e1", /, **fields: Any) -> Object:
    made = api.call("POST", path(api), told(api, name, **fields))
    assert made.status_code == 201, made.text
    return dict(made.json())


def newer(api: Api, name: str = "e1") -> Object:
    found = api.call("GET", path(api, name))
    assert found.status_code == 200, found.text
    return dict(found.json())


def change(api: Api, patch: Any, type_: str = MERGE, name: str = "e1", **more: Any) -> httpx2.Response:
    return api.call("PATCH", path(api, name), patch, headers={"content-type": type_}, **more)


def as_core(event: Object) -> Object:
    """What core/v1 calls the same."""
    return {CALLED.get(key, key): value for key, value in event.items()} | {"apiVersion": "v1"}


# -- two representations of one object -------------------------------------------------------------------------------


def as_protobuf(api: Api) -> bytes:
    """`told()` as client-go sends it, with the numbers of the message's fields and all that is not set."""
    at = datetime.fromisoformat(AT)
    micro = number(1, int(at.timestamp())) + number(2, at.microsecond * 1000)
    said = told(api)
    regarding = b"".join(text(n, said["regarding"].get(key, "")) for n, key in enumerate(("kind", "namespace", "name", "uid", "apiVersion"), 1))
    event = b"".join((
        text(1, text(1, "e1") + text(2, "") + text(3, api.namespace) + text(8, b"")), text(2, micro), text(4, "example.com/ctl"),
        text(5, "ctl-1"), text(6, "Starting"), text(7, "Started"), text(8, regarding), text(9, text(1, "Job") + text(3, "j")),
        text(10, "it is started"), text(11, "Normal"), text(12, text(1, "") + text(2, "")), text(13, b""), text(14, b""), number(15, 0),
    ))  # fmt: skip
    return b"k8s\0" + text(1, text(1, NEWER) + text(2, "Event")) + text(2, event) + text(3, "") + text(4, "")


def text(number: int, value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])


@pytest.mark.parametrize("form", ["json", "protobuf"])
def test_what_a_new_recorder_tells_is_on_both_faces(api: Api, form: str) -> None:
    type_, body = ("application/json", json.dumps(told(api)).encode()) if form == "json" else ("application/vnd.kubernetes.protobuf", as_protobuf(api))
    made = api.call("POST", path(api), content=body, headers={"content-type": type_, "accept": "application/vnd.kubernetes.protobuf,application/json"})
    assert made.status_code == 201, made.text
    meta = made.json()["metadata"]
    wanted = {**told(api), "metadata": meta, **({"deprecatedSource": {}} if form == "protobuf" else {})}
    assert made.json() == newer(api) == wanted
    assert api.get("Event", "e1") == as_core(wanted)


def test_what_an_older_recorder_told_has_the_newer_face(api: Api) -> None:
    when = f"{NOW:%Y-%m-%dT%H:%M:%S}Z"
    fields = {
        "involvedObject": {"kind": "Robot", "name": "pc-01"}, "reason": "Online", "message": "hello", "type": "Warning", "count": 3,
        "source": {"component": "ctl", "host": "pc"}, "firstTimestamp": when, "lastTimestamp": when, "reportingComponent": "ctl",
    }  # fmt: skip
    made = api.create("Event", "old", fields)
    shown = newer(api, "old")
    assert as_core(shown) == made == api.get("Event", "old")
    assert (shown["deprecatedCount"], shown["note"], shown["deprecatedSource"]["host"]) == (3, "hello", "pc")


@pytest.mark.parametrize("micro", ["000000", "100000", "999999"])
def test_microseconds_come_back_byte_for_byte(api: Api, micro: str) -> None:
    at = AT[:-7] + micro + "Z"
    made = post(api, eventTime=at, series={"count": 2, "lastObservedTime": at})
    core = api.get("Event", "e1")
    for seen in (made, newer(api), core):
        assert (seen["eventTime"], seen["series"]["lastObservedTime"]) == (at, at)


def test_the_times_of_a_series_have_the_form_that_go_reads(api: Api) -> None:
    series = {"count": 2, "lastObservedTime": f"{NOW:%Y-%m-%dT%H:%M:%S}+00:00"}
    api.create("Event", "e1", {"involvedObject": {"kind": "Robot", "name": "a"}, "series": series})
    assert newer(api)["series"]["lastObservedTime"] == f"{NOW:%Y-%m-%dT%H:%M:%S}.000000Z"


def test_an_event_goes_with_its_last_time_and_not_with_its_first(api: Api) -> None:
    """A series is of now, though the event was first seen long ago: nothing tidies it away."""
    post(api, eventTime="2001-01-01T00:00:00.000000Z", series={"count": 2, "lastObservedTime": AT})
    post(api, "gone", eventTime="2001-01-01T00:00:00.000000Z")
    with api.watch("Event", resourceVersion="0") as watch:
        seen: list[tuple[str, str]] = []
        while ("DELETED", "gone") not in seen:
            seen += watch.take(1)
    assert ("DELETED", "e1") not in seen and newer(api)["series"]["count"] == 2


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000001Z"])
def test_the_ends_of_time_are_times(api: Api, at: str) -> None:
    assert post(api, eventTime=at)["eventTime"] == at


# -- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"eventTime": None}, "eventTime: Required value"),
        ({"reportingController": None}, "reportingController: Required value"),
        ({"reportingInstance": ""}, "reportingInstance: Required value"),
        ({"action": None}, "action: Required value"),
        ({"type": "Bad"}, 'type: Invalid value: "": has invalid value: Bad'),
        ({"note": "x" * 1025}, 'message: Invalid value: "": can have at most 1024 characters'),
        ({"deprecatedCount": 1}, 'count: Invalid value: "": needs to be unset'),
        ({"action": None, "eventTime": None}, "[action: Required value, eventTime: Required value]"),
    ],
)
def test_a_new_event_says_when_by_whom_and_what_was_done(api: Api, fields: Object, said: str) -> None:
    refused = api.call("POST", path(api), told(api, **fields))
    assert message(refused, 422) == f'Event "e1" is invalid: {said}'
    assert refused.json()["details"]["kind"] == "Event" and refused.json()["details"]["causes"]
    assert api.find("Event", "e1") is None


def test_what_was_told_does_not_change_but_for_its_series(api: Api) -> None:
    made = post(api)
    refused = change(api, {"note": "never mind"})
    assert message(refused, 422) == 'Event "e1" is invalid: message: Invalid value: "never mind": field is immutable'
    series = {"count": 2, "lastObservedTime": AT}
    assert change(api, {"series": series}, STRATEGIC).status_code == 200
    assert change(api, {"series": {"count": 3}, "metadata": {"labels": {"a": "b"}}}, STRATEGIC).json()["series"] == {**series, "count": 3}
    assert "at least 2" in message(change(api, {"series": {"count": 1}}), 422)
    core = api.get("Event", "e1")
    assert core["series"]["count"] == 3 and core["message"] == made["note"] and core["metadata"]["labels"] == {"a": "b"}


def test_core_v1_may_change_what_it_likes_and_the_newer_face_shows_it(api: Api) -> None:
    post(api)
    assert api.changed("Event", "e1", {"message": "goodbye"})["message"] == newer(api)["note"] == "goodbye"


def test_a_patch_is_one_of_the_representation_it_is_sent_to(api: Api) -> None:
    post(api)
    stray = change(api, {"message": "x"}, params={"fieldValidation": "Strict"})
    assert message(stray, 400).endswith('unknown field "message"')
    tested = [{"op": "test", "path": "/regarding/name", "value": "pc-01"}, {"op": "add", "path": "/series", "value": {"count": 2, "lastObservedTime": AT}}]
    assert change(api, tested, "application/json-patch+json").json()["series"]["count"] == 2
    assert is_status(change(api, [{"op": "test", "path": "/message", "value": "it is started"}], "application/json-patch+json"), 422)


def test_a_write_that_changes_nothing_is_no_change(api: Api) -> None:
    made = post(api)
    assert change(api, {"action": made["action"]}).json() == made
    assert api.call("PUT", path(api, "e1"), {**made, "deprecatedSource": None}).json() == made
    assert newer(api)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_it_is_replaced_in_its_own_words(api: Api) -> None:
    made = post(api)
    body = {**made, "series": {"count": 2, "lastObservedTime": AT}}
    replaced = api.call("PUT", path(api, "e1"), body)
    assert replaced.json()["series"] == body["series"] and api.get("Event", "e1")["series"] == body["series"]
    assert is_status(api.call("PUT", path(api, "e1"), body), 409, "Conflict")
    assert "API version in the data (v1)" in message(api.call("PUT", path(api, "e1"), as_core(body)), 400)


def test_a_dry_run_keeps_nothing(api: Api) -> None:
    tried = api.call("POST", path(api), told(api), params={"dryRun": "All"})
    assert tried.status_code == 201 and tried.json()["note"] == "it is started" and api.find("Event", "e1") is None


def test_an_owner_is_an_owner_on_both_faces(api: Api) -> None:
    applied = api.call("PATCH", path(api, "e1"), told(api), params={"fieldManager": "ctl"}, headers={"content-type": APPLY})
    assert applied.status_code == 201, applied.text
    [mine], [same] = applied.json()["metadata"]["managedFields"], api.get("Event", "e1")["metadata"]["managedFields"]
    assert (mine["apiVersion"], same["apiVersion"]) == (NEWER, "v1") and "f:note" in mine["fieldsV1"] and "f:message" in same["fieldsV1"]
    core = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e1"}, "involvedObject": {"kind": "Robot"}, "message": "no"}
    other = api.call("PATCH", api.path("Event", "e1"), core, params={"fieldManager": "other"}, headers={"content-type": APPLY})
    assert message(other, 409) == 'Apply failed with 1 conflict: conflict with "ctl": .message'
    again = api.call("PATCH", path(api, "e1"), told(api), params={"fieldManager": "ctl"}, headers={"content-type": APPLY})
    assert again.status_code == 200 and again.json() == applied.json()


def test_errors_name_the_face(api: Api) -> None:
    post(api)
    assert message(api.call("GET", path(api, "nope")), 404) == 'events.events.k8s.io "nope" not found'
    assert message(change(api, {}, name="nope"), 404) == 'events.events.k8s.io "nope" not found'
    assert message(api.call("POST", path(api), told(api)), 409) == 'events.events.k8s.io "e1" already exists'
    assert message(api.call("POST", path(api, "e1"), told(api)), 405) == 'create is not supported on resources of kind "events.events.k8s.io"'
    assert is_status(api.call("POST", path(api), as_core(told(api))), 400) and is_status(api.call("POST", api.path("Event"), told(api)), 400)


FIELDS = ["metadata", "regarding", "related", "series", "deprecatedSource", "eventTime", "deprecatedFirstTimestamp", "note", "type", "deprecatedCount"]


@MANY
@given(field=st.sampled_from(FIELDS), value=JSON)
def test_whatever_an_event_says_it_is_answered(api: Api, field: str, value: Any) -> None:
    post(api, name := secrets.token_hex(8))
    said = {"name": name, "managedFields": value} if field == "metadata" else value
    answered(api.call("POST", path(api), told(api, "new-" + name, **{field: said})))
    for type_ in (MERGE, STRATEGIC):
        answered(change(api, {field: said}, type_, name))
    config = {"apiVersion": NEWER, "kind": "Event", "metadata": {"name": name}, field: value}
    answered(change(api, config, APPLY, name, params={"fieldManager": "x", "force": "true"}))
    assert newer(api, name)["note"] == "it is started"


# -- lists, tables and watches ---------------------------------------------------------------------------------------


def names(api: Api, **params: str) -> list[str]:
    found = api.call("GET", path(api), params=params)
    assert found.status_code == 200, found.text
    return [item["metadata"]["name"] for item in found.json()["items"]]


def test_events_are_selected_by_what_they_are_about(api: Api) -> None:
    post(api, "a")
    post(api, "b", regarding={**told(api)["regarding"], "name": "pc-02", "uid": "u-2"}, type="Warning", reason="Lost")
    for selector, wanted in {
        "regarding.name=pc-02": ["b"], "regarding.kind=Robot": ["a", "b"], "regarding.uid=u-1,regarding.namespace=" + api.namespace: ["a"],
        f"regarding.apiVersion={GROUP}/v1,reason!=Lost": ["a"], "type=Warning": ["b"], "metadata.name=a": ["a"], "regarding.name=x": [],
    }.items():  # fmt: skip
        assert names(api, fieldSelector=selector) == wanted, selector
    assert api.names("Event", fieldSelector="involvedObject.name=pc-02") == ["b"]


@pytest.mark.parametrize("field", ["involvedObject.name", "note", "regarding", "action", "eventTime"])
def test_no_other_field_is_selected_by(api: Api, field: str) -> None:
    assert message(api.call("GET", path(api), params={"fieldSelector": f"{field}=x"}), 400) == f"field label not supported: {field}"
    assert is_status(api.call("GET", path(api), params={"fieldSelector": f"{field}=x", "watch": "true"}), 400)


def test_a_list_is_in_the_words_of_its_face_page_by_page(api: Api) -> None:
    post(api, "a")
    post(api, "b")
    api.create("Event", "c", {"involvedObject": {"kind": "Robot", "name": "pc-01"}, "message": "older"})
    first = api.call("GET", path(api), params={"limit": "2"}).json()
    assert (first["kind"], first["apiVersion"]) == ("EventList", NEWER)
    rest = api.call("GET", path(api), params={"limit": "2", "continue": first["metadata"]["continue"]}).json()
    assert [(item["apiVersion"], item["note"]) for item in first["items"] + rest["items"]] == [
        (NEWER, "it is started"), (NEWER, "it is started"), (NEWER, "older")
    ]  # fmt: skip
    everywhere = api.call("GET", f"/apis/{NEWER}/events", params={"fieldSelector": f"metadata.namespace={api.namespace}"}).json()
    assert [item["metadata"]["name"] for item in everywhere["items"]] == ["a", "b", "c"]


def test_a_table_is_the_same_and_its_objects_are_the_faces(api: Api) -> None:
    post(api)
    for include, key in (("Object", "note"), ("Metadata", "metadata")):
        accept = {"accept": TABLE}
        table, core = (api.call("GET", at, headers=accept, params={"includeObject": include}).json() for at in (path(api), api.path("Event")))
        heads = [[(one["name"], one["type"], one["priority"]) for one in each["columnDefinitions"]] for each in (table, core)]
        assert heads[0] == heads[1] and table["rows"][0]["cells"][1:] == core["rows"][0]["cells"][1:]
        assert key in table["rows"][0]["object"] and "message" not in table["rows"][0]["object"]
    partial = api.call("GET", path(api), headers={"accept": PARTIAL}).json()
    assert partial["kind"] == "PartialObjectMetadataList" and [item["metadata"]["name"] for item in partial["items"]] == ["e1"]


def test_one_change_is_watched_on_both_faces(api: Api) -> None:
    with (
        api.watch("Event", path(api), fieldSelector="regarding.name=pc-01") as shown,
        api.watch("Event", fieldSelector="involvedObject.name=pc-01") as core,
    ):
        post(api, "other", regarding={**told(api)["regarding"], "name": "pc-02"})
        post(api)
        api.changed("Event", "e1", {"message": "goodbye"})
        change(api, {"series": {"count": 2, "lastObservedTime": AT}})
        api.delete("Event", "e1")
        for type_, note in (("ADDED", "it is started"), ("MODIFIED", "goodbye"), ("MODIFIED", "goodbye"), ("DELETED", "goodbye")):
            one, other = shown.next(), core.next()
            assert (one["type"], one["object"]["apiVersion"], one["object"]["note"]) == (type_, NEWER, note)
            assert other == {"type": type_, "object": as_core(one["object"])}


def test_what_leaves_a_selection_is_shown_as_it_was(api: Api) -> None:
    post(api)
    with api.watch("Event", path(api), fieldSelector="reason=Started") as shown:
        api.changed("Event", "e1", {"reason": "Other", "message": "x"})
        left = shown.next()
    assert (left["type"], left["object"]["reason"], left["object"]["note"]) == ("DELETED", "Started", "x")


def test_a_watch_list_ends_with_a_bookmark_of_the_face(api: Api) -> None:
    post(api)
    with api.watch("Event", path(api), resourceVersion="", **WATCHLIST) as watch:
        found = ended(watch)
    # then one bookmark for the end of the list, one for the end of the watch, and between them those of each half a minute
    assert [event["type"] for event in found[:3]] == ["ADDED", "BOOKMARK", "BOOKMARK"]
    assert {event["type"] for event in found[2:]} == {"BOOKMARK"}
    assert {event["object"]["apiVersion"] for event in found} == {NEWER}
    assert found[0]["object"]["note"] == "it is started"
    assert found[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def ended(watch: Watch) -> list[Object]:
    found = watch.rest()
    assert int(found[-1]["object"]["metadata"]["resourceVersion"]) > 0
    return found


# -- deletion --------------------------------------------------------------------------------------------------------


def test_a_deletion_on_one_face_is_one_on_the_other(api: Api) -> None:
    uid = post(api)["metadata"]["uid"]
    done = api.call("DELETE", path(api, "e1"), {"propagationPolicy": "Background"}).json()
    assert (done["status"], done["details"]) == ("Success", {"name": "e1", "group": "events.k8s.io", "kind": "events", "uid": uid})
    assert api.find("Event", "e1") is None
    post(api, metadata={"name": "held", "finalizers": ["example.com/x"]})
    held = api.call("DELETE", path(api, "held")).json()
    assert held["apiVersion"] == NEWER and held["metadata"]["deletionTimestamp"] and held["note"] == "it is started"
    assert change(api, {"metadata": {"finalizers": None}}, name="held").status_code == 200 and api.find("Event", "held") is None


def test_a_collection_is_deleted_as_it_was_selected(api: Api) -> None:
    post(api, "a")
    post(api, "b", type="Warning")
    gone = api.call("DELETE", path(api), params={"fieldSelector": "type=Warning"}).json()
    assert (gone["kind"], gone["apiVersion"]) == ("EventList", NEWER) and [item["note"] for item in gone["items"]] == ["it is started"]
    assert api.names("Event") == names(api) == ["a"]
