"""Whatever comes in: the answer says what is wrong and what is allowed, and the server goes on.

No answer is a 500, and (checked when the shared server stops) no traceback is in its log.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import secrets
import socket
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from casare_api.kinds import KINDS

from .conftest import ALL_KINDS, JSON_PATCH, MERGE, SAMPLES, Api, Robot, dumps, is_status, message, sample

NUMBERS = itertools.count()
MANY = settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
UNSTORABLE = ["a\x00b", "\ud800"]
VALUES: list[Any] = [
    None, True, 0, -1, 5, 2**31, 2**63 - 1, 1e300, 0.5, "", "x", " ", "\n", "Ünï", "x" * 300, *UNSTORABLE,
    [], [None], [[]], ["x"], [{}], [1], {}, {"x": 1}, {"": None}, {"name": "x"}, "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+23:59", "2026-01-01T00:00:00Z", "36500d", "99999999999999d", "0s", "* * * * *", "Mars/Olympus",
]  # fmt: skip
TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=True) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def answered(response: Any) -> int:
    """The code of an answer that is either good or a Status for people."""
    code = int(response.status_code)
    assert code < 500 or code == 504, (code, response.text)
    if code >= 400:
        assert is_status(response, code)
    return code


@pytest.fixture(autouse=True)
def the_server_goes_on(api: Api) -> Iterator[None]:
    yield
    api.create("Workflow", "afterwards")


# -- every field of every kind -------------------------------------------------------------------------------------


def fields_of(model: type[BaseModel], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all fields of a model, as they are written; what is in a list or an object is below it as "[]"."""
    for name, field in model.model_fields.items():
        path = (*at, field.alias or name)
        yield path
        for inner, is_list in inside(field.annotation):
            if len(path) < 8:
                yield from fields_of(inner, (*path, "[]") if is_list else path)


def inside(annotation: Any) -> Iterator[tuple[type[BaseModel], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, False
    is_list = typing.get_origin(annotation) is list
    if is_list or typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        for part in typing.get_args(annotation):
            yield from ((model, is_list or below) for model, below in inside(part))


def put(obj: Any, path: tuple[str, ...], value: Any) -> Any:
    """A copy of the object with a value at a path; missing parts are made."""
    if not path:
        return value
    head, *rest = path
    if head == "[]":
        return [put((obj or [{}])[0] if isinstance(obj, list) and obj else {}, tuple(rest), value)]
    obj = obj if isinstance(obj, dict) else {}
    return {**obj, head: put(obj.get(head), tuple(rest), value)}


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_field_with_every_wrong_value_is_refused_in_words_or_taken(api: Api, kind: str) -> None:
    """A third of all (field, value) pairs, always the same; each also as a patch of an object that is there."""
    paths = [path for path in fields_of(KINDS[kind].model) if path != ("metadata", "name")]
    pairs = list(itertools.product(paths, VALUES))
    chosen = random.Random(kind).sample(pairs, k=min(len(pairs), max(350, len(pairs) // 8)))
    there = f"{api.namespace}-there"
    api.create(kind, there)
    for path, value in chosen:
        name = f"{api.namespace}-{next(NUMBERS)}"
        body = put(sample(kind, name), path, value)
        made = api.call("POST", api.path(kind), body, params={"fieldValidation": "Strict"})
        if answered(made) == 422 and path[0] in ("spec", "metadata") and value not in UNSTORABLE:
            causes = made.json().get("details", {}).get("causes", [])
            assert causes and all(cause["message"] for cause in causes), (path, value, made.text)
            told = {re.split(r"[.\[]", cause["field"])[0] for cause in causes}
            assert path[0] in told, (path, value, made.text)
        answered(api.patch(kind, there, put({}, path, value)))
    if not api.find(kind, there):
        return  # a finalizer or a deletion was among them
    for value in VALUES:
        status = {"status": {"queuedTime": value, "phase": value, "robotUID": value, "nextFireTime": value,
                             "slots": value, "assignedTime": value, "conditions": value}}  # fmt: skip
        answered(api.patch(kind, there, status, "status")) if KINDS[kind].has_status else None


def test_a_job_that_would_be_stuck_can_not_be_written(api: Api) -> None:
    """A status without what its phase needs would stop the timers and the writer for everybody."""
    api.create("Job", "j")
    uid = "00000000-0000-4000-8000-000000000000"
    for status, field in (
        ({"phase": "Queued"}, "status.queuedTime"),
        ({"phase": "Assigned", "queuedTime": "2026-01-01T00:00:00Z", "robotUID": uid}, "status.assignedTime"),
        ({"phase": "Assigned", "queuedTime": "2026-01-01T00:00:00Z", "assignedTime": "x", "robotUID": uid},
         "status.assignedTime"),
        ({"phase": "Assigned", "queuedTime": "2026-01-01T00:00:00Z", "assignedTime": "2026-01-01T00:00:00Z",
          "robotUID": "somebody"}, "status.robotUID"),
        ({"phase": "Sleeping", "queuedTime": "2026-01-01T00:00:00Z"}, "status.phase"),
    ):  # fmt: skip
        patch = [{"op": "replace", "path": "/status", "value": status}]
        assert field in message(api.patch("Job", "j", patch, "status"), 422)
    skipping = {"status": {"phase": "Running", "startedTime": "2026-01-01T00:00:00Z", "robotUID": uid}}
    assert "a job does not go from Queued to Running" in message(api.patch("Job", "j", skipping, "status"), 422)


# -- whole bodies ----------------------------------------------------------------------------------------------------


@MANY
@given(kind=st.sampled_from(ALL_KINDS), body=JSON)
def test_any_json_at_all_is_answered(api: Api, kind: str, body: Any) -> None:
    api.key and answered(api.call("POST", api.path(kind), body))
    answered(api.call("POST", api.path(kind), {**SAMPLES[kind], "metadata": body}))
    answered(api.call("POST", api.path(kind), {"metadata": {"name": f"{api.namespace}-h"}, "spec": body, "status": body}))
    answered(api.call("DELETE", api.path(kind, "nobody"), body))


@MANY
@given(body=JSON, operations=st.lists(st.fixed_dictionaries({
    "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "fly"]) | JSON,
    "path": st.sampled_from(["", "/", "/spec", "/metadata", "/metadata/labels/a", "/spec/args/0", "/spec/args/-"]) | TEXT,
}, optional={"value": JSON, "from": st.sampled_from(["/spec", "/metadata/name", ""]) | JSON}), max_size=4))  # fmt: skip
def test_any_patch_at_all_is_answered(api: Api, body: Any, operations: list[Any]) -> None:
    if not api.find("Workflow", "patched"):
        api.create("Workflow", "patched")
    for change, type_ in ((body, MERGE), ({"spec": body}, MERGE), ({"metadata": body}, MERGE), (operations, JSON_PATCH)):
        for path in (api.path("Workflow", "patched"), api.path("Workflow", "patched", "status")):
            answered(api.call("PATCH", path, change, headers={"content-type": type_}))


@MANY
@given(content=st.binary(max_size=80), type_=st.sampled_from(
    ["application/json", "application/yaml", "text/plain", "", "application/json; charset=utf-16", MERGE, JSON_PATCH,
     "application/vnd.kubernetes.protobuf", "multipart/form-data"]))  # fmt: skip
def test_any_bytes_at_all_are_answered(api: Api, content: bytes, type_: str) -> None:
    for method, path in (("POST", api.path("Robot")), ("PUT", api.path("Robot", "x")), ("PATCH", api.path("Robot", "x")),
                         ("DELETE", api.path("Robot", "x")), ("POST", api.path("Robot", "x", "report"))):  # fmt: skip
        answered(api.call(method, path, content=content, headers={"content-type": type_}))


@pytest.mark.parametrize("depth", [99, 101, 900, 2_000, 1_000_000])
@pytest.mark.parametrize("where", ['"spec":', '"kind":', '"metadata":{"name":"deep"},"x":', '"apiVersion":'])
def test_depth_is_bounded(api: Api, depth: int, where: str) -> None:
    for number, (left, right) in enumerate(((b"[", b"]"), (b'{"a":', b"}"))):
        head = where.replace("deep", f"{api.namespace}-{number}")
        body = b"{" + head.encode() + left * depth + b"1" + right * depth + b"}"
        if len(body) < 3_000_000:
            expected = (201,) if depth == 99 and '"x"' in where else (400, 422)  # unknown, and left out
            assert answered(api.call("POST", api.path("Robot"), content=body)) in expected
            patch = {"content-type": MERGE}
            assert answered(api.call("PATCH", api.path("Robot", "x"), content=body, headers=patch)) in (400, 404)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2", "not YAML"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: " + "[" * 200 + "]" * 200, "nested deeper than 100 levels"),
        ("- " * 5_000 + "x", "nested deeper than 100 levels"),
        ("a: !!python/object/apply:os.system [ls]", "not YAML"),
        ("a: !!binary aGVsbG8=", "not YAML"),
        ("1: x", "must be a string"),
        ("a: .nan", "finite"),
        ("a: .inf", "finite"),
        ("a: 99999999999999999999999999", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML"),
        ("\x00", "not YAML"),
        ("just text", "must be an object"),
        ("", "must be an object"),
    ],
)
def test_bad_yaml_is_refused_in_words(api: Api, text: str, said: str) -> None:
    answer = api.call("POST", api.path("Robot"), content=text.encode(), headers={"content-type": "application/yaml"})
    assert said in message(answer, 400)


@pytest.mark.parametrize("text", ["", "null", "[]", "5", '"x"', "{", '{"a":}', "{'a':1}", '{"a":NaN}', '{"a":1e999}',
                                  '{"a":"\\ud800"}', "\ufeff{}", '{"a":1}{"b":2}'])  # fmt: skip
def test_bad_json_is_refused_in_words(api: Api, text: str) -> None:
    assert message(api.call("POST", api.path("Robot"), content=text.encode()), 400)


@pytest.mark.parametrize("spot", ["name", "spec", "label", "annotation", "key"])
def test_what_no_database_keeps_is_refused(api: Api, spot: str) -> None:
    bad = "a\x00b"
    bodies = {
        "name": {"metadata": {"name": bad}},
        "spec": {"metadata": {"name": "x"}, "spec": {"tags": ["fine", bad]}},
        "label": {"metadata": {"name": "x", "labels": {"a": bad}}},
        "annotation": {"metadata": {"name": "x", "annotations": {"a": bad}}},
        "key": {"metadata": {"name": "x"}, "spec": {bad: 1}},
    }
    assert "NUL" in message(api.call("POST", api.path("Robot"), bodies[spot]), 400)


# -- sizes, types, options -------------------------------------------------------------------------------------------


def test_sizes_are_bounded(api: Api) -> None:
    def post(body: Any, kind: str = "Workflow") -> Any:
        return api.call("POST", api.path(kind), body)

    huge = sample("Workflow", "big", annotations={"a": "x" * 3_200_000})
    assert is_status(post(huge), 413, "RequestEntityTooLarge")
    chunked = api.http.build_request("POST", api.path("Workflow"), content=iter([b"x" * 1_000_000] * 4),
                                     headers={"authorization": f"Bearer {api.key}"})  # fmt: skip
    assert is_status(api.http.send(chunked), 413)
    big = sample("Workflow", "big", annotations={"a": "x" * 300_000})
    assert "metadata.annotations: Too long" in message(post(big), 422)
    many = sample("Workflow", "big", {"spec": {"runner": "x", "parameters": {"enum": list(range(150_000))}}})
    assert "more than 100000 values" in message(post(many), 400)
    wrong = sample("Workflow", "big", {"spec": {"runner": "command", "args": [1] * 900}})
    answer = post(wrong)
    assert "and 880 more" in message(answer, 422) and len(answer.json()["details"]["causes"]) == 21
    yaml = api.call("POST", api.path("Workflow"), content=b"a: b\n" * 300_000, headers={"content-type": "text/yaml"})
    assert is_status(yaml, 413)
    assert is_status(api.call("POST", f"{api.path('Job', 'x', 'log')}?uid=x&attempt=1&seq=1", content=b"x" * 300_000), 413)


def test_the_head_of_a_request_is_bounded(api: Api) -> None:
    """An endless path or header ends the connection before it fills the memory."""
    for head in (b"GET /" + b"a" * 2_000_000, b"GET / HTTP/1.1\r\nhost: " + b"a" * 2_000_000):
        with socket.create_connection(("127.0.0.1", api.server.port), timeout=20) as connection:
            answer = b""
            try:
                connection.sendall(head)
                while data := connection.recv(4096):
                    answer += data
            except ConnectionError:
                pass
            assert answer == b"" or b" 400 " in answer.splitlines()[0]


@pytest.mark.parametrize("raw", [
    b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 100,
    b"POST /apis HTTP/1.1\r\ncontent-length: -5\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /api/v1/namespaces HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
])  # fmt: skip
def test_what_is_no_http_is_hung_up_on(api: Api, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=20) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(4096):
                pass
        except ConnectionError:
            pass


@pytest.mark.parametrize(
    ("method", "type_", "allowed"),
    [
        ("POST", "text/plain", "application/json, application/yaml"),
        ("PUT", "application/xml", "application/json, application/yaml"),
        ("PATCH", "application/json", "application/json-patch+json, application/merge-patch+json"),
        ("PATCH", "application/strategic-merge-patch+json", "application/json-patch+json, application/merge-patch+json"),
        ("PATCH", "", "application/json-patch+json, application/merge-patch+json"),
    ],
)
def test_other_media_types_are_refused_with_those_there_are(api: Api, method: str, type_: str, allowed: str) -> None:
    path = api.path("Workflow", None if method == "POST" else "w")
    answer = api.call(method, path, content=b"{}", headers={"content-type": type_})
    assert is_status(answer, 415, "UnsupportedMediaType")
    assert answer.json()["message"].endswith(f"accepted media types include: {allowed}")


def test_a_body_without_a_media_type_is_json(api: Api) -> None:
    assert api.call("POST", api.path("Workflow"), content=dumps(sample("Workflow", "w"))).status_code == 201


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "MKCOL", "PROPFIND"])
def test_other_methods_are_refused(api: Api, method: str) -> None:
    for path in (api.path("Workflow"), api.path("Workflow", "w"), api.path("Workflow", "w", "status")):
        assert is_status(api.call(method, path), 405, "MethodNotAllowed")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "robots/x"), ("PUT", "robots"), ("PATCH", "robots"), ("POST", "robots/x/status"),
        ("DELETE", "robots/x/status"), ("GET", "robots/x/report"), ("PUT", "jobs/x/log"), ("GET", "apikeys/x/token"),
        ("DELETE", "workflows/x/revisions/y"), ("POST", "blobs/x"), ("GET", "blobs"), ("DELETE", "blobs/x"),
    ],
)  # fmt: skip
def test_what_a_route_can_not_do_is_refused(api: Api, method: str, path: str) -> None:
    assert is_status(api.call(method, f"/apis/fleet.casare.net/v1/namespaces/{api.namespace}/{path}"), 405)


@pytest.mark.parametrize(
    "path",
    [
        "/apis/fleet.casare.net/v1/namespaces/{ns}/frobs", "/apis/fleet.casare.net/v1/namespaces/{ns}/robots/x/frob",
        "/apis/fleet.casare.net/v1/namespaces/{ns}/robots/x/status/y", "/apis/fleet.casare.net/v1/namespaces/{ns}/jobs/x/log/1",
        "/apis/fleet.casare.net/v1/namespaces//robots", "/apis/fleet.casare.net/v1/namespaces/{ns}//robots",
        "/apis/fleet.casare.net/v1/namespaces/{ns}/robots/x/y/z/w", "/apis/fleet.casare.net/v2/robots", "/apis", "/nope",
        "/api/v1/namespaces/{ns}/namespaces/x", "/api/v1/namespaces/{ns}/events/x/status", "/api/v1/pods",
        "/apis/fleet.casare.net/v1/namespaces/{ns}/workflows/x/revisions",
    ],
)  # fmt: skip
def test_paths_that_there_are_not_are_not_found(api: Api, path: str) -> None:
    assert is_status(api.call("GET", path.format(ns=api.namespace)), 404, "NotFound")


@pytest.mark.parametrize("name", ["%00", "a%00b", "%2e%2e", "..%2f..%2fetc", "%ff%fe", "a%0d%0aX-Evil:1", "%252e", "%F0%9F%A4%96",
                                  "x" * 5000, "'; DROP TABLE robots; --", "%25", "a b", "a%2Fstatus"])  # fmt: skip
def test_weird_names_are_looked_up_or_refused_and_never_believed(api: Api, name: str) -> None:
    root = f"/apis/fleet.casare.net/v1/namespaces/{api.namespace}"
    for path in (f"{root}/robots/{name}", f"{root}/robots/{name}/status", f"/api/v1/namespaces/{name}",
                 f"/apis/fleet.casare.net/v1/namespaces/{name}/robots/x", f"{root}/workflows/w/revisions/{name}",
                 f"{root}/jobs/{name}/log", f"{root}/blobs/{name}"):  # fmt: skip
        assert answered(api.call("GET", path)) in (400, 404)
    for path, body in ((f"{root}/robots/{name}/report", {}), (f"{root}/apikeys/{name}/token", {})):
        assert answered(api.call("POST", path, body)) in (400, 404, 405)
    answer = api.call("GET", f"/apis/fleet.casare.net/v1/namespaces/{name}/robots")
    assert answered(answer) in (200, 400, 404) and "x-evil" not in answer.headers


@MANY
@given(query=st.dictionaries(
    st.sampled_from(["labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch",
                     "timeoutSeconds", "allowWatchBookmarks", "sendInitialEvents", "dryRun", "fieldValidation", "pretty",
                     "propagationPolicy", "attempt", "follow", "watch"]),
    st.text(max_size=12) | st.integers().map(str) | st.just("9" * 5000) | st.sampled_from(
        ["true", "All", "Strict", "a=b", "a in (b)", "status.phase=x", "metadata.name=\x00", "a>1", "%", "&=", "\ud800"[:0]]),
    max_size=4))  # fmt: skip
def test_any_options_at_all_are_answered(api: Api, query: dict[str, str]) -> None:
    query.pop("watch", None)
    answered(api.call("GET", api.path("Robot"), params=query))
    answered(api.call("POST", api.path("Robot"), {"metadata": {"generateName": "r-"}}, params=query))
    answered(api.call("DELETE", api.path("Robot", "nobody"), params=query))
    answered(api.call("GET", api.path("Job", "nobody", "log"), params=query))
    answered(api.call("GET", api.path("Robot"), params={**query, "watch": "true", "resourceVersion": "999999999999"}))


@pytest.mark.parametrize("raw", ["%", "%zz", "a=%ff&limit=%c3%28", "limit=1&limit=2", "&&&=&=", "limit", "\\", "x" * 20_000])
def test_any_query_string_at_all_is_answered(api: Api, raw: str) -> None:
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=20) as connection:
        head = f"GET {api.path('Robot')}?{raw} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.key}\r\nconnection: close\r\n"
        connection.sendall(f"{head}\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    assert answer.split(b" ")[1] in (b"200", b"400")


# -- unknown fields --------------------------------------------------------------------------------------------------


def unknown() -> dict[str, Any]:
    return {"metadata": {"name": "u"}, "spec": {"tags": ["a"], "colour": "red", "taints": [{"key": "a", "shade": 1}]},
            "size": 5}  # fmt: skip


def test_strict_refuses_unknown_fields_and_names_all_of_them(api: Api) -> None:
    answer = api.call("POST", api.path("Robot"), unknown(), params={"fieldValidation": "Strict"})
    assert message(answer, 400).startswith(
        'Robot in version "v1" cannot be handled as a Robot: strict decoding error: unknown field "'
    )
    fields = {cause["field"] for cause in answer.json()["details"]["causes"]}
    assert fields == {"spec.colour", "spec.taints[0].shade", "size"}
    told = {cause["field"]: cause["message"] for cause in answer.json()["details"]["causes"]}
    assert "allowed here: key, value, effect" in told["spec.taints[0].shade"]
    assert api.find("Robot", "u") is None


@pytest.mark.parametrize("mode", ["Warn", "Ignore", None])
def test_unknown_fields_are_left_out_with_a_warning_or_without(api: Api, mode: str | None) -> None:
    body = unknown()
    body["metadata"]["name"] = f"{api.namespace}-u"
    made = api.call("POST", api.path("Robot"), body, params={"fieldValidation": mode} if mode else None)
    assert made.status_code == 201
    spec = made.json()["spec"]
    assert "colour" not in spec and spec["taints"] == [{"key": "a", "effect": "NoPlace"}] and "size" not in made.json()
    warnings = made.headers.get_list("warning")
    expected = {'299 - "unknown field \\"spec.colour\\""', '299 - "unknown field \\"spec.taints[0].shade\\""',
                '299 - "unknown field \\"size\\""'}  # fmt: skip
    assert set(warnings) == (set() if mode == "Ignore" else expected)
    patched = api.patch("Robot", body["metadata"]["name"], {"spec": {"shape": "round"}}, params={"fieldValidation": "Strict"})
    assert 'unknown field "spec.shape"' in message(patched, 400)


def test_a_warning_is_one_short_line_whatever_the_field_was_called(api: Api) -> None:
    nasty = {"a\r\nx-evil: 1": 1, "ü\t": 2, "y" * 5000: 3, **{f"f{number}": 1 for number in range(2000)}}
    body = {"metadata": {"name": f"{api.namespace}-u"}, "spec": nasty}
    made = api.call("POST", api.path("Robot"), body)
    assert made.status_code == 201 and "x-evil" not in made.headers
    warnings = made.headers.get_list("warning")
    assert sum(map(len, warnings)) < 10_000 and all(len(line) < 300 and line.isascii() for line in warnings)


# -- particular fields -----------------------------------------------------------------------------------------------

SPECS: list[tuple[str, dict[str, Any], str]] = [
    ("Robot", {"desiredState": "Sleepy"},
     'spec.desiredState: Unsupported value: "Sleepy": supported values: "Active", "Paused", "Drained"'),
    ("Robot", {"maxConcurrentJobs": 101}, "spec.maxConcurrentJobs: Invalid value: 101: must be at most 100"),
    ("Robot", {"maxConcurrentJobs": "2"}, 'spec.maxConcurrentJobs: Invalid value: "2": must be an integer'),
    ("Robot", {"maxConcurrentJobs": True}, "spec.maxConcurrentJobs: Invalid value: true: must be an integer"),
    ("Robot", {"tags": "finance"}, 'spec.tags: Invalid value: "finance": must be a list'),
    ("Robot", {"tags": ["a", 5]}, "spec.tags[1]: Invalid value: 5: must be a string"),
    ("Robot", {"environment": "Pro Duction"}, 'spec.environment: Invalid value: "Pro Duction": must match'),
    ("Robot", {"restartRequestedAt": "tomorrow"}, "is not a time: write it like 2026-11-22T20:00:00Z"),
    ("Robot", {"maintenanceWindows": [{"name": "a", "cron": "0 2 * *", "duration": "2h"}]},
     "spec.maintenanceWindows[0].cron: Invalid value"),
    ("Robot", {"maintenanceWindows": [{"name": "a", "cron": "0 2 * * 0", "duration": "2 hours"}]},
     "is not a duration: write it like 90s, 5m, 1h30m or 7d"),
    ("Robot", {"maintenanceWindows": [{"name": "a", "cron": "0 2 * * 0", "duration": "2h", "timeZone": "Mars/Olympus"}]},
     "is not a time zone"),
    ("Workflow", {}, "spec.runner: Required value"),
    ("Workflow", {"runner": "python"}, "spec.source: Required value: for runner python"),
    ("Workflow", {"runner": "command"}, "spec.args: Required value: for runner command"),
    ("Workflow", {"runner": "x", "timeout": "soon"}, "spec.timeout: Invalid value: \"soon\": 'soon' is not a duration"),
    ("Workflow", {"runner": "x", "priority": 21}, "spec.priority: Invalid value: 21: must be at most 20"),
    ("Workflow", {"runner": "x", "retry": {"backoff": {"factor": "two"}}},
     'spec.retry.backoff.factor: Invalid value: "two": must be a number'),
    ("Workflow", {"runner": "x", "limits": {"memory": "much"}}, "is not an amount: write it like 500Mi"),
    ("Workflow", {"runner": "x", "files": [{"name": "../../etc/passwd", "path": "x"}]},
     "spec.files[0].name: Invalid value"),
    ("Workflow", {"runner": "x", "source": {"inline": "a", "module": "b"}}, "exactly one of file, inline, module, git"),
    ("Workflow", {"runner": "x", "parameters": {"type": "strin"}}, "spec.parameters.type: Invalid value: not a JSON Schema"),
    ("Workflow", {"runner": "x", "parameters": {"$ref": "https://example.com/x"}}, "a schema may refer only to itself"),
    ("Workflow", {"runner": "x", "requirements": {"robotSelector": [{"key": "s", "operator": "In"}]}},
     "spec.requirements.robotSelector: Invalid value: label expression on s: In takes some values"),
    ("Schedule", {}, "spec.jobTemplate: Required value"),
    ("Schedule", {"cron": "61 * * * *"}, "spec.cron: Invalid value: \"61 * * * *\": minute '61' is not valid"),
    ("Schedule", {"cron": "0 0 30 2 *"}, "spec.cron: Invalid value"),
    ("Schedule", {"cron": "* * * * * *"}, "spec.cron: Invalid value"),
    ("Schedule", {"every": "0s"}, "spec.every: Invalid value"),
    ("Schedule", {"cron": "0 3 * * *", "timeZone": "Mars/Olympus"}, "is not a time zone: write it like Europe/Berlin"),
    ("Schedule", {"cron": "0 3 * * *", "every": "5m"}, "exactly one of cron, every, at is needed, found cron, every"),
    ("ApiKey", {"role": "king"}, 'supported values: "robot", "viewer", "operator", "admin"'),
    ("ApiKey", {"role": "viewer", "hash": "md5:1234"}, "spec.hash: Invalid value: \"md5:1234\": must match"),
    ("ApiKey", {"role": "viewer", "expiresAt": "2026-13-01T00:00:00Z"}, "spec.expiresAt: Invalid value"),
    ("Job", {}, "spec.workflowRef: Required value"),
    ("Job", {"workflowRef": {"name": "nope"}}, 'spec.workflowRef.name: Not found: there is no workflow "nope"'),
    ("Job", {"workflow": {"runner": "x", "parameters": {"type": 5}}}, "spec.workflow.parameters.type: Invalid value"),
    ("Job", {"workflow": {"runner": "x"}, "priority": -1}, "spec.priority: Invalid value: -1: must be at least 0"),
    ("Fire", {"scheduleName": "x", "scheduledTime": "now"}, "spec.scheduledTime: Invalid value"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spec", "said"), SPECS)
def test_a_wrong_field_is_named_with_what_was_found_and_what_is_allowed(
    api: Api, kind: str, spec: dict[str, Any], said: str
) -> None:
    if kind == "Schedule" and spec:
        spec = {**spec, "jobTemplate": {"spec": {"workflow": {"runner": "x"}}}}
    answer = api.call("POST", api.path(kind), {"metadata": {"name": "x"}, "spec": spec})
    assert said in message(answer, 422)
    assert answer.json()["details"]["name"] == "x" and answer.json()["details"]["kind"] == kind


@pytest.mark.parametrize("meta", [
    {"name": "PC_01"}, {"name": "-a"}, {"name": "a" * 254}, {"name": "a/b"}, {"name": "ä"}, {"generateName": "A-"},
    {"name": "x", "labels": {"a": "b c"}}, {"name": "x", "labels": {"a": 5}}, {"name": "x", "labels": {"a/b/c": "d"}},
    {"name": "x", "annotations": {"": "d"}}, {"name": "x", "finalizers": ["not a name"]}, {"name": "x", "labels": []},
    {"name": "x", "ownerReferences": [{"apiVersion": "v1", "kind": "Job", "name": "x", "uid": "y"}]},
])  # fmt: skip
def test_wrong_metadata_is_named(api: Api, meta: dict[str, Any]) -> None:
    answer = api.call("POST", api.path("Workflow"), {"metadata": meta, **SAMPLES["Workflow"]})
    assert "metadata." in message(answer, 422)


def test_namespaces_are_single_words(api: Api) -> None:
    for name in ("a.b", "A", "x" * 64):
        assert is_status(api.call("POST", api.path("Namespace"), {"metadata": {"name": name}}), 422, "Invalid")


@pytest.mark.parametrize("mode", ["Loose", "strict", "0"])
def test_an_unknown_way_of_validating_is_refused(api: Api, mode: str) -> None:
    answer = api.call("POST", api.path("Robot"), sample("Robot", "x"), params={"fieldValidation": mode})
    assert 'supported values: "Strict", "Warn", "Ignore"' in message(answer, 422)


def test_two_robots_do_not_share_an_id(api: Api) -> None:
    robot_id = "PC_" + secrets.token_hex(3)
    api.create("Robot", f"{api.namespace}-1", {"spec": {"robotId": robot_id}})
    taken = api.call("POST", api.path("Robot"), {"metadata": {"name": f"{api.namespace}-2"}, "spec": {"robotId": robot_id}})
    assert is_status(taken, 409) and robot_id in taken.json()["message"]


@MANY
@given(body=JSON, job=JSON)
def test_any_report_at_all_is_answered(api: Api, body: Any, job: Any) -> None:
    name = f"{api.namespace}-r"
    path = api.path("Robot", name, "report")
    if not api.find("Robot", name):
        api.create("Robot", name)
    good = {"namespace": "x", "name": "x", "uid": "x", "attempt": 1, "phase": "Running"}
    for said in (body, {"jobs": body}, {"agent": body}, {"telemetry": body}, {"jobs": [job]}, {"jobs": [{**good, "name": job}]},
                 {"jobs": [{**good, "progress": job, "startedTime": body}]}):  # fmt: skip
        answer = api.call("POST", path, said)
        assert answered(answer) in (200, 400, 413, 422)
        for outcome in answer.json().get("jobs", []):
            assert outcome["code"] in (404, 409, 422) and outcome["message"]


def test_one_bad_transition_holds_up_no_other(api: Api) -> None:
    rob = Robot(api, f"{api.namespace}-r")
    good = {"namespace": api.namespace, "name": "nope", "uid": "x", "attempt": 1, "phase": "Running"}
    bad = {**good, "message": "x" * 10_000}
    answer = rob.report(bad, good, {**good, "attempt": "one"}, {**good, "outputs": {"big": "x" * 300_000}}, {})
    assert [outcome["code"] for outcome in answer["jobs"]] == [422, 404, 422, 422, 422]
    assert "message" in answer["jobs"][0]["message"] and "outputs: Too long" in answer["jobs"][3]["message"]
    for big in ({"agent": {"x": "y" * 20_000}}, {"telemetry": {"x": "y" * 20_000}}):
        assert is_status(rob.api.call("POST", rob.path, big), 422)


def test_json_of_an_answer_is_one_line(api: Api) -> None:
    text = api.call("GET", api.path("Robot")).text
    assert text.endswith("\n") and text.count("\n") == 1 and json.loads(text)
