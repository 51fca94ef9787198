"""ConfigMap, Secret and Lease are as in Kubernetes; no message about a Secret shows what is in it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from casare_api.decisions import config
from casare_api.kinds import KINDS, Object, find
from casare_api.machinery.admission import admit
from casare_api.machinery.errors import ApiError

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
MIB = 2**20


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def admitted(kind: str, **obj: Any) -> Object:
    return admit(KINDS[kind], {"metadata": {"name": "x"}, **obj})[0]


def refused(kind: str, **obj: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        admitted(kind, **obj)
    return caught.value


def test_their_names_are_those_of_kubernetes() -> None:
    assert find("cm") is KINDS["ConfigMap"] and find("leases.coordination.k8s.io") is KINDS["Lease"]
    assert KINDS["Lease"].path("a", "b") == "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"
    assert KINDS["Secret"].path("a") == "/api/v1/namespaces/a/secrets"
    assert [kind for kind, one in KINDS.items() if one.sealed] == ["Secret"]
    assert not any(KINDS[kind].has_status or KINDS[kind].categories for kind in ("ConfigMap", "Secret", "Lease"))


def test_cells_are_those_of_kubectl() -> None:
    meta = {"name": "x", "creationTimestamp": "2026-11-22T19:59:00Z"}
    objects = {
        "ConfigMap": {"data": {"a": "b"}, "binaryData": {"c": "eA=="}},
        "Secret": {"type": "Opaque", "data": {"a": "eA=="}},
        "Lease": {"spec": {"holderIdentity": "me"}},
    }
    shown = {
        kind: {one.name: one.cell({"metadata": meta, **obj}, NOW) for one in KINDS[kind].columns}
        for kind, obj in objects.items()
    }
    assert shown == {
        "ConfigMap": {"Name": "x", "Data": 2, "Age": "60s"},
        "Secret": {"Name": "x", "Type": "Opaque", "Data": 1, "Age": "60s"},
        "Lease": {"Name": "x", "Holder": "me", "Age": "60s"},
    }


def test_a_secret_is_opaque_unless_it_says_otherwise() -> None:
    assert admitted("Secret")["type"] == "Opaque"
    assert admitted("Secret", type="kubernetes.io/tls")["type"] == "kubernetes.io/tls"


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
@pytest.mark.parametrize("key", ["a b", "a/b", "ä", "", ".", "..", "..a", "x" * 254])
def test_keys_are_words_that_can_be_file_names(kind: str, key: str) -> None:
    error = refused(kind, data={key: ""})
    assert error.status == 422 and error.causes[0].field == f"data[{key[:253]}]"
    assert len(error.message) < 1000


def test_keys_may_be_as_long_as_a_file_name_and_hold_what_one_holds() -> None:
    for key in ("x" * 253, "A.b_c-1", ".hidden", "-"):
        assert admitted("ConfigMap", data={key: ""})["data"] == {key: ""}


@pytest.mark.parametrize(
    ("kind", "fits", "too_long"),
    [
        ("ConfigMap", {"data": {"a": "ü" * (MIB // 4)}, "binaryData": {"b": b64(bytes(MIB // 2))}},
         {"data": {"a": "ü" * (MIB // 4)}, "binaryData": {"b": b64(bytes(MIB // 2 + 1))}}),
        ("Secret", {"data": {"a": b64(bytes(MIB))}}, {"data": {"a": b64(bytes(MIB))}, "stringData": {"b": "x"}}),
        ("Secret", {"data": {"a": b64(bytes(MIB))}, "stringData": {"a": "x" * MIB}}, {"stringData": {"a": "x" * (MIB + 1)}}),
    ],
)  # fmt: skip
def test_all_values_together_are_no_more_than_a_mebibyte(kind: str, fits: Object, too_long: Object) -> None:
    admitted(kind, **fits)
    error = refused(kind, **too_long)
    assert error.status == 422 and len(error.message) < 300
    (cause,) = error.causes
    assert (cause.field, cause.reason) == ("data", "FieldValueTooLong")
    assert cause.message == "Too long: may not be more than 1048576 bytes"


def test_a_key_is_text_or_binary() -> None:
    error = refused("ConfigMap", data={"a": ""}, binaryData={"a": ""})
    assert "duplicate of key present in binaryData" in error.message and error.causes[0].field == "data[a]"


SECRETIVE: list[Object] = [
    {"data": {"a": "hunter2"}}, {"data": {"a": "hunter2!"}}, {"data": "hunter2"}, {"data": ["hunter2"]}, {"data": {"a": ["hunter2"]}},
    {"stringData": {"a": {"hunter2": 1}}}, {"stringData": "hunter2"}, {"stringData": {"a": "hunter2\0"}}, {"data": {"a": "\ud800hunter2"}},
    {"metadata": {"name": "x", "annotations": {"a": ["hunter2"]}}}, {"metadata": {"name": "x", "annotations": "hunter2"}},
    {"type": ["hunter2"]}, {"immutable": "hunter2"}, {"password": "hunter2"}, {"stringData": {"a": "hunter2" * MIB}},
]  # fmt: skip


@pytest.mark.parametrize("obj", SECRETIVE, ids=lambda obj: ascii(obj)[:60])
def test_no_message_shows_what_is_in_a_secret(obj: Object) -> None:
    error = refused("Secret", **obj)
    assert error.status in (400, 422) and "hunter2" not in str(error.body())


def test_a_message_about_a_configmap_shows_what_is_wrong() -> None:
    assert '"hunter2"' in refused("ConfigMap", binaryData={"a": "hunter2"}).message


def test_string_data_becomes_data_and_is_not_kept() -> None:
    made = config.secret(None, admitted("Secret", data={"a": b64("old"), "b": b64("b")}, stringData={"a": "neü", "c": ""}))
    assert made["data"] == {"a": b64("neü"), "b": b64("b"), "c": ""} and "stringData" not in made
    assert config.secret(made, made) == made
    assert "data" not in config.secret(None, admitted("Secret", stringData={}))


def test_base64_is_kept_without_line_breaks() -> None:
    text = b64(bytes(100))
    folded = f"{text[:76]}\n{text[76:]}\r\n"
    assert config.secret(None, admitted("Secret", data={"a": folded}))["data"] == {"a": text}
    assert config.configmap(None, admitted("ConfigMap", binaryData={"a": folded}))["binaryData"] == {"a": text}


@pytest.mark.parametrize(("kind", "rule"), [("ConfigMap", config.configmap), ("Secret", config.secret)])
def test_what_is_immutable_stays(kind: str, rule: Any) -> None:
    old = admitted(kind, data={"a": b64("x")}, immutable=True)
    labelled = {**old, "metadata": {"name": "x", "labels": {"a": "b"}}}
    assert rule(old, labelled) == labelled
    assert rule({**old, "immutable": False}, old) == old
    changes: list[tuple[Object, list[str]]] = [
        ({"data": {"a": b64("y")}}, ["data"]), ({"data": {}}, ["data"]), ({"immutable": False}, ["immutable"]),
        ({"immutable": None, "data": {"b": ""}}, ["immutable", "data"]),
    ]  # fmt: skip
    for change, fields in changes:
        with pytest.raises(ApiError) as caught:
            rule(old, {**old, **change})
        assert caught.value.status == 422 and [cause.field for cause in caught.value.causes] == fields
        assert "Forbidden: field is immutable when `immutable` is set" in caught.value.message
        assert b64("x") not in caught.value.message and b64("y") not in caught.value.message


def test_the_type_of_a_secret_stays() -> None:
    with pytest.raises(ApiError, match="type: Invalid value: field is immutable"):
        config.secret(admitted("Secret"), admitted("Secret", type="other"))


def test_the_times_of_a_lease_come_back_byte_for_byte() -> None:
    spec = {
        "holderIdentity": "", "leaseDurationSeconds": 15, "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.120000Z", "leaseTransitions": 0, "strategy": "s", "preferredHolder": "other",
    }  # fmt: skip
    assert admitted("Lease", spec=spec)["spec"] == spec
    assert "spec" not in admitted("Lease")


@pytest.mark.parametrize(
    "spec",
    [{"leaseDurationSeconds": 0}, {"leaseDurationSeconds": -1}, {"leaseTransitions": -1}, {"renewTime": "now"}, {"renewTime": 5},
     {"preferredHolder": "x"}, {"leaseDurationSeconds": 2**31}, {"holder": "x"}],
)  # fmt: skip
def test_a_lease_that_can_not_be_is_refused(spec: Object) -> None:
    assert refused("Lease", spec=spec).status in (400, 422)
