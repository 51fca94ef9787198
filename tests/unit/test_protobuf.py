"""A protobuf body is read as the JSON that it could have been; whatever else it is, is a bad request."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from casare_api.machinery import protobuf, protobuf_fields, times
from casare_api.machinery.errors import ApiError
from casare_api.machinery.protobuf import decode
from casare_api.machinery.protobuf_fields import KINDS, MESSAGES, Field

Object = dict[str, Any]


# -- an encoder, for the tests alone -------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    number %= 2**64
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def bytes_field(number: int, value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def one(number: int, of: str, value: Any) -> bytes:
    match of:
        case "string":
            return bytes_field(number, value)
        case "bytes":
            return bytes_field(number, base64.b64decode(value))
        case "bool" | "int32" | "int64":
            return number_field(number, int(value))
        case "Time" | "MicroTime":
            moment = times.from_text(value)
            seconds = int(moment.replace(microsecond=0).timestamp())
            return bytes_field(number, number_field(1, seconds) + number_field(2, moment.microsecond * 1000))
        case "FieldsV1":
            return bytes_field(number, bytes_field(1, json.dumps(value)))
        case "ExtraValue":
            return bytes_field(number, b"".join(bytes_field(1, each) for each in value))
        case _:
            return bytes_field(number, message(of, value))


def field_bytes(number: int, field: Field, value: Any) -> bytes:
    if field.shape == "list":
        return b"".join(one(number, field.type, each) for each in value)
    if field.shape == "map":
        entries = (bytes_field(1, key) + one(2, field.type, each) for key, each in value.items())
        return b"".join(bytes_field(number, entry) for entry in entries)
    return one(number, field.type, value)


def message(name: str, value: Object) -> bytes:
    return b"".join(field_bytes(number, field, value[field.name])
                    for number, field in MESSAGES[name].items() if field.name in value)  # fmt: skip


def frame(api_version: str, kind: str, raw: bytes, rest: bytes = b"") -> bytes:
    meta = bytes_field(1, api_version) + bytes_field(2, kind)
    return b"k8s\0" + bytes_field(1, meta) + bytes_field(2, raw) + rest + bytes_field(3, "") + bytes_field(4, "")


def encode(obj: Object) -> bytes:
    name = protobuf_fields.message_of(obj["apiVersion"], obj["kind"])
    assert name is not None
    return frame(obj["apiVersion"], obj["kind"], message(name, obj))


# -- what clients send ---------------------------------------------------------------------------------------------


NO_META = "0a10 0a00 1200 1a00 2200 2a00 3200 3800 4200"
# Byte for byte what kubectl 1.37 sent: texts and numbers that are empty, and messages that are.
RECORDED: list[tuple[str, str, Object]] = [
    (
        "create ns t1",
        "6b387300 0a0f 0a027631 12094e616d657370616365 121a"
        "0a12 0a027431 1200 1a00 2200 2a00 3200 3800 4200 1200 1a02 0a00 1a00 2200",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "t1"}, "spec": {}, "status": {}},
    ),
    (
        "create secret generic s --from-literal=a=b -n team-a",
        "6b387300 0a0c 0a027631 1206536563726574 1223"
        "0a17 0a0173 1200 1a067465616d2d61 2200 2a00 3200 3800 4200 1206 0a0161 120162 1a00 1a00 2200",
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "team-a"}, "data": {"a": "Yg=="}},
    ),
    (
        "auth can-i patch robots/pc-01 -n team-a",
        "6b387300 0a32 0a17617574686f72697a6174696f6e2e6b38732e696f2f7631"
        "121753656c665375626a656374416363657373526576696577 1254" + NO_META +
        "1236 0a34 0a067465616d2d61 12057061746368 1a10666c6565742e6361736172652e6e6574 2200 2a06726f626f7473"
        "3200 3a0570632d3031 1a08 0800 1200 1a00 2000 1a00 2200",
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
         "spec": {"resourceAttributes": {"namespace": "team-a", "verb": "patch", "group": "fleet.casare.net",
                                         "resource": "robots", "name": "pc-01"}}, "status": {"allowed": False}},
    ),
    (
        "auth can-i --list -n team-a",
        "6b387300 0a31 0a17617574686f72697a6174696f6e2e6b38732e696f2f7631"
        "121653656c665375626a65637452756c6573526576696577 1222" + NO_META +
        "1208 0a067465616d2d61 1a04 1800 2200 1a00 2200",
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "metadata": {},
         "spec": {"namespace": "team-a"}, "status": {"incomplete": False}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("command", "body", "wanted"), RECORDED, ids=[command for command, _, _ in RECORDED])
def test_what_kubectl_sends(command: str, body: str, wanted: Object) -> None:
    assert decode(bytes.fromhex(body)) == wanted


META: Object = {
    "name": "é-1", "namespace": "t1", "uid": "u", "resourceVersion": "12", "generation": 3,
    "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "1969-12-31T23:59:59Z",
    "deletionGracePeriodSeconds": 0, "labels": {"a": "", "b": "c"}, "annotations": {"x/y": "z" * 300},
    "ownerReferences": [
        {"kind": "Job", "name": "j", "uid": "u2", "apiVersion": "v1", "controller": False, "blockOwnerDeletion": True}
    ],
    "finalizers": ["a/b", "c"],
    "managedFields": [
        {"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:01Z",
         "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {".": {}, "f:a": {}}}},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "obj",
    [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": META, "data": {"k": "v", "": ""},
         "binaryData": {"b": "AP8=", "empty": ""}, "immutable": False},
        {"apiVersion": "v1", "kind": "Secret", "metadata": META, "data": {"password": "c2VjcmV0"},
         "stringData": {"plain": "text"}, "type": "Opaque", "immutable": True},
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": META, "spec": {
            "holderIdentity": "", "leaseDurationSeconds": 15, "acquireTime": "2026-01-01T00:00:00.000000Z",
            "renewTime": "2026-01-01T00:00:00.123456Z", "leaseTransitions": 0}},
        {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "Failed", "count": -1,
         "involvedObject": {"kind": "Robot", "name": "pc", "namespace": "t1", "uid": "u"}, "type": "Warning",
         "firstTimestamp": "2026-01-01T00:00:00Z", "eventTime": "2026-01-01T00:00:00.000001Z", "source": {},
         "series": {"count": 2, "lastObservedTime": "9999-12-31T23:59:59.999999Z"}, "related": {"name": "x"}},
        {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "n", "reason": "r",
         "regarding": {"kind": "Robot"}, "eventTime": "2026-01-01T00:00:00.000001Z"},
        {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "", "resourceVersion": "7"},
         "gracePeriodSeconds": 0, "propagationPolicy": "Background", "dryRun": ["All"], "orphanDependents": False},
        {"apiVersion": "meta.k8s.io/v1", "kind": "DeleteOptions"},
        {"apiVersion": "coordination.k8s.io/v1", "kind": "DeleteOptions", "preconditions": {}},
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": {
            "resourceAttributes": {"verb": "get", "resource": "robots", "group": "fleet.casare.net", "labelSelector": {
                "requirements": [{"key": "a", "operator": "In", "values": ["b", ""]}]}}}, "status": {"allowed": False}},
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "t1"}},
        {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "status": {
            "userInfo": {"username": "me", "groups": ["a"], "extra": {"k": ["x", "y"], "none": []}}}},
        {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 0}, "status": {"replicas": 3}},
    ],
    ids=lambda obj: f"{obj['apiVersion']}-{obj['kind']}",
)  # fmt: skip
def test_an_object_is_the_same_as_in_json(obj: Object) -> None:
    assert decode(encode(obj)) == obj


def test_what_go_leaves_out_is_left_out() -> None:
    raw = bytes_field(1, bytes_field(1, "") + number_field(7, 0) + bytes_field(8, b"") + bytes_field(9, number_field(1, -62135596800)))
    raw += bytes_field(3, "") + number_field(8, 0) + bytes_field(10, number_field(1, -62135596800) + number_field(2, 0))
    assert decode(frame("v1", "Event", raw)) == {"apiVersion": "v1", "kind": "Event", "metadata": {}}


def test_times_are_cut_to_what_json_shows() -> None:
    time_of = number_field(1, 1_767_225_600) + number_field(2, 123_456_789)
    decoded = decode(frame("v1", "Event", bytes_field(6, time_of) + bytes_field(10, time_of)))
    assert decoded["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert decoded["eventTime"] == "2026-01-01T00:00:00.123456Z"


def test_unknown_fields_of_any_wire_type_are_skipped() -> None:
    strange = number_field(900, 2**64 - 1) + bytes_field(901, b"\xff" * 9) + varint(902 << 3 | 1) + b"\xff" * 8
    strange += varint(903 << 3 | 5) + b"\xff" * 4
    meta = bytes_field(1, strange + bytes_field(1, "n") + strange)
    deep = b""
    for _ in range(2000):
        deep = bytes_field(904, deep)
    body = frame("v1", "Namespace", strange + meta + deep, rest=strange)
    assert decode(body) == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}


def test_what_comes_twice_is_merged_and_the_last_word_counts() -> None:
    labels = [bytes_field(11, bytes_field(1, key) + bytes_field(2, value)) for key, value in ("ax", "by", "az")]
    pieces = [bytes_field(1, bytes_field(1, "old")), bytes_field(1, bytes_field(1, "") + bytes_field(3, "t1")),
              *(bytes_field(1, label) for label in labels)]  # fmt: skip
    assert decode(frame("v1", "ConfigMap", b"".join(pieces)))["metadata"] == {
        "namespace": "t1", "labels": {"a": "z", "b": "y"},
    }  # fmt: skip


def test_numbers_are_twos_complement() -> None:
    lease = number_field(2, 2**32 - 1) + number_field(5, -(2**31))
    spec = decode(frame("coordination.k8s.io/v1", "Lease", bytes_field(2, lease)))["spec"]
    assert spec == {"leaseDurationSeconds": -1, "leaseTransitions": -(2**31)}
    grace = decode(frame("v1", "DeleteOptions", number_field(1, -(2**63)) + number_field(3, 2)))
    assert (grace["gracePeriodSeconds"], grace["orphanDependents"]) == (-(2**63), True)


# -- what is malformed ---------------------------------------------------------------------------------------------

NAMED = bytes_field(1, bytes_field(1, "n"))


def meta_with(raw: bytes) -> bytes:
    return frame("v1", "Namespace", bytes_field(1, raw))


def managed(raw: bytes) -> bytes:
    return meta_with(bytes_field(17, bytes_field(7, bytes_field(1, raw))))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "does not begin with k8s"),
        (b'{"kind":"Namespace"}', "does not begin with k8s"),
        (b"k8s\0", "its TypeMeta names no kind"),
        (frame("v1", "", NAMED), "its TypeMeta names no kind"),
        (frame("v1", "Pod", NAMED), "no kind 'Pod' is known in version 'v1': send JSON"),
        (frame("v2", "Namespace", NAMED), "no kind 'Namespace' is known in version 'v2'"),
        (frame("v1", "Na\nme" * 30, NAMED), "no kind 'Na\\nmeNa"),
        (frame("v1", "ObjectMeta", NAMED), "no kind 'ObjectMeta'"),
        (frame("v1", "Namespace", NAMED, rest=bytes_field(3, "gzip")) + bytes_field(3, "gzip"), "content encoding is 'gzip'"),
        (b"k8s\0" + number_field(1, 1), "typeMeta has the wire type of something else"),
        (b"k8s\0" + bytes_field(1, bytes_field(2, b"\xff")), "typeMeta is not UTF-8"),
        (b"k8s\0\x80", "it ends within a number"),
        (b"k8s\0\x12", "it ends within a number"),
        (b"k8s\0\x12\x05\x00", "it ends within a field"),
        (b"k8s\0\x12" + varint(2**64 - 1), "it ends within a field"),
        (b"k8s\0\x09\x00", "it ends within a field"),
        (b"k8s\0\x0d\x00", "it ends within a field"),
        (b"k8s\0" + b"\xff" * 10 + b"\x01", "a number has more than ten bytes"),
        (b"k8s\0" + b"\xff" * 9 + b"\x02", "a number has more than 64 bits"),
        (b"k8s\0\x02\x00", "there is no field number 0"),
        (b"k8s\0" + bytes_field(2**29, b""), "there is no field number 536870912"),
        (b"k8s\0\x13\x14", "wire type 3 is none"),
        (b"k8s\0\x14", "wire type 4 is none"),
        (b"k8s\0\x16\x00", "wire type 6 is none"),
        (frame("v1", "Namespace", b"\x0a\x05\x0a\x09abc"), "it ends within a field"),
        (meta_with(number_field(1, 7)), "Namespace.metadata.name has the wire type of something else"),
        (meta_with(bytes_field(7, "x")), "Namespace.metadata.generation has the wire type"),
        (meta_with(varint(7 << 3 | 1) + b"\0" * 8), "Namespace.metadata.generation has the wire type"),
        (meta_with(number_field(11, 1)), "Namespace.metadata.labels has the wire type"),
        (meta_with(number_field(13, 1)), "Namespace.metadata.ownerReferences has the wire type"),
        (meta_with(bytes_field(1, b"\xed\xa0\x80")), "Namespace.metadata.name is not UTF-8"),
        (meta_with(bytes_field(11, bytes_field(1, b"\xff"))), "Namespace.metadata.labels is not UTF-8"),
        (meta_with(bytes_field(8, number_field(1, 2**62))), "creationTimestamp is not in the years 1 to 9999"),
        (meta_with(bytes_field(8, number_field(1, -62135596801))), "creationTimestamp is not in the years 1 to 9999"),
        (meta_with(bytes_field(8, number_field(1, 253402300800))), "creationTimestamp is not in the years 1 to 9999"),
        (meta_with(bytes_field(8, number_field(2, 10**9))), "creationTimestamp has 1000000000 nanoseconds"),
        (meta_with(bytes_field(8, number_field(2, -1))), "creationTimestamp has -1 nanoseconds"),
        (managed(b"{"), "managedFields.fieldsV1 is not JSON"),
        (managed(b'{"a":NaN}'), "managedFields.fieldsV1 is not JSON"),
        (managed(b'{"a":"\xff"}'), "managedFields.fieldsV1 is not JSON"),
        (managed(b"[" * 5000 + b"]" * 5000), "managedFields.fieldsV1 is not JSON"),
        (managed(b"[1]"), "managedFields.fieldsV1 is not a JSON object"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_with_its_place(body: bytes, problem: str) -> None:
    with pytest.raises(ApiError) as caught:
        decode(body)
    assert (caught.value.status, caught.value.reason) == (400, "BadRequest")
    assert problem in caught.value.message and caught.value.message.startswith("the body is not a Kubernetes protobuf object: ")
    assert caught.value.message.isprintable() and len(caught.value.message) < 250


def test_fields_within_fields_are_bounded() -> None:
    with pytest.raises(ApiError, match="nested deeper than 100 levels"):
        decode(managed(b'{"a":' * 100 + b"1" + b"}" * 100))


def is_read(body: bytes) -> bool:
    """Whether a body can be read; if not, that has to be a bad request in one line."""
    try:
        decoded = decode(body)
    except ApiError as error:
        assert error.status == 400 and error.message.isprintable()
        return False
    json.dumps(decoded, ensure_ascii=False).encode()
    return True


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([None, ("v1", "Namespace"), ("v1", "Event"), ("v1", "DeleteOptions")]))
@example(b"\x0b\x0c", ("v1", "Namespace"))
def test_any_bytes_are_read_or_refused(raw: bytes, kind: tuple[str, str] | None) -> None:
    is_read(frame(*kind, raw) if kind else b"k8s\0" + raw)


WORDS = st.text(st.characters(codec="utf-8"), max_size=6)
MOMENTS = st.datetimes().filter(lambda moment: moment.year > 1)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": WORDS, "bool": st.booleans(), "bytes": st.binary(max_size=6).map(lambda raw: base64.b64encode(raw).decode()),
    "int32": st.integers(-(2**31), 2**31 - 1), "int64": st.integers(-(2**63), 2**63 - 1), "ExtraValue": st.lists(WORDS, max_size=2),
    "Time": MOMENTS.map(lambda moment: moment.isoformat(timespec="seconds") + "Z"),
    "MicroTime": MOMENTS.map(lambda moment: moment.isoformat(timespec="microseconds") + "Z"),
    "FieldsV1": st.dictionaries(WORDS, st.dictionaries(WORDS, st.none(), max_size=2), max_size=2),
}  # fmt: skip


def is_said(value: Any) -> bool:
    return value not in ("", 0)


def values(field: Field) -> st.SearchStrategy[Any]:
    inner = VALUES[field.type] if field.type in VALUES else messages(field.type)
    if field.shape == "list":
        return st.lists(inner, min_size=1, max_size=3)
    if field.shape == "map":
        return st.dictionaries(WORDS, inner, min_size=1, max_size=3)
    return inner if field.keeps_zero else inner.filter(is_said)


def messages(name: str) -> st.SearchStrategy[Object]:
    return st.deferred(lambda: st.fixed_dictionaries({}, optional={f.name: values(f) for f in MESSAGES[name].values()}))


OBJECTS = st.sampled_from([*KINDS.items(), (("v1", "DeleteOptions"), "DeleteOptions")]).flatmap(
    lambda kind: messages(kind[1]).map(lambda body: {"apiVersion": kind[0][0], "kind": kind[0][1]} | body)
)


@settings(deadline=None)
@given(OBJECTS)
def test_every_kind_goes_there_and_back(obj: Object) -> None:
    assert decode(encode(obj)) == obj


@settings(deadline=None)
@given(OBJECTS, st.data())
def test_a_damaged_body_is_read_or_refused(obj: Object, data: st.DataObject) -> None:
    body = bytearray(encode(obj))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        match data.draw(st.sampled_from(["change", "cut", "insert", "remove"])):
            case "change" if at < len(body):
                body[at] = data.draw(st.integers(0, 255))
            case "cut":
                del body[at:]
            case "insert":
                body[at:at] = data.draw(st.binary(max_size=4))
            case _:
                del body[at : at + 2]
    is_read(bytes(body))


def test_the_table_agrees_with_what_was_recorded() -> None:
    """Names, numbers, lists and maps, against what the .proto files of a real server say."""
    recorded = Path(__file__).parent / "data" / "kubernetes_proto_fields.json"
    renamed = {"AccessStatus": "SubjectAccessReviewStatus", "RulesSpec": "SelfSubjectRulesReviewSpec",
               "RulesStatus": "SubjectRulesReviewStatus", "events.k8s.io/Event": "api/events/v1.Event",
               "Event": "api/core/v1.Event", "EventSeries": "api/core/v1.EventSeries"}  # fmt: skip
    shapes = {"repeated": "list", "map<string,": "map", "optional": "one"}
    protos = json.loads(recorded.read_text())
    checked = 0
    for name, fields in MESSAGES.items():
        wanted = renamed.get(name, name)
        found = next((value for key, value in protos.items() if key == wanted or key.endswith(f"v1.{wanted}")), None)
        if found is not None:
            checked += 1
            told = {int(number): (text.split()[-1], shapes[text.split()[0]], text.split()[-2].strip(">").split(".")[-1])
                    for number, text in found.items()}  # fmt: skip
            ours = {number: (field.name, field.shape, field.type) for number, field in fields.items()}
            plain = {"string", "bytes", "bool", "int32", "int64", "Time", "MicroTime", "FieldsV1", "ExtraValue"}
            assert {n: o[:2] for n, o in ours.items()} == {n: t[:2] for n, t in told.items()}, name
            assert all(o[2] == told[n][2] for n, o in ours.items() if o[2] in plain or told[n][2] in plain), name
    assert checked == len(MESSAGES) - 4, "those not recorded: a condition, two selectors' parts and a reference"


@pytest.mark.parametrize(
    "make",
    [
        lambda n: frame("v1", "ConfigMap", bytes_field(1, bytes_field(14, "x") * (n // 3))),
        lambda n: frame("v1", "ConfigMap", bytes_field(1, bytes_field(17, b"") * (n // 3))),
        lambda n: frame("v1", "ConfigMap", bytes_field(1, b"") * (n // 2)),
        lambda n: frame("v1", "ConfigMap", bytes_field(2, b"") * (n // 2)),
        lambda n: frame("v1", "ConfigMap", number_field(99, 2**64 - 1) * (n // 12)),
        lambda n: frame("v1", "ConfigMap", bytes_field(2, bytes_field(1, "k") + bytes_field(2, b"v" * n))),
        lambda n: managed(b'{"a":' + b"1" * n + b"}"),
        lambda n: managed(b"[" * n),
        lambda n: b"k8s\0" + bytes_field(2, b"\x80" * n),
        lambda n: b"k8s\0" + b"\x80" * n,
    ],
)
@pytest.mark.timeout(60)  # for what never ends: looking at the rest anew for each field would take hours
def test_the_largest_body_is_read_or_refused(make: Callable[[int], bytes]) -> None:
    is_read(make(3 * 2**20))


def test_fields_are_counted() -> None:
    body = frame("v1", "Namespace", bytes_field(1, bytes_field(14, "") * protobuf.MAX_FIELDS))
    with pytest.raises(ApiError, match="more than 100000 fields") as caught:
        decode(body)
    assert caught.value.status == 400


def test_the_four_messages_that_nothing_recorded_names_are_these() -> None:
    assert {"NamespaceCondition", "Selector", "Requirement", "BoundObjectReference"} <= MESSAGES.keys()


def test_a_double_is_no_field_of_ours() -> None:
    with pytest.raises(ApiError, match="has the wire type of something else"):
        decode(meta_with(varint(1 << 3 | 1) + struct.pack("<d", 1.5)))
