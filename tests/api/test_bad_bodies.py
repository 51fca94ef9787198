"""A body of any kind, size and depth is answered: taken, or refused in words.

No answer is a 500, and (checked when the shared server stops) no traceback is in its log.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_apiserver import bodies

from .conftest import (
    ALL_KINDS,
    JSON,
    JSON_PATCH,
    MANY,
    MERGE,
    SAMPLES,
    TEXT,
    Api,
    Robot,
    answered,
    is_status,
    message,
    sample,
)


@MANY
@given(kind=st.sampled_from(ALL_KINDS), body=JSON)
def test_any_json_at_all_is_answered(api: Api, kind: str, body: Any) -> None:
    api.key and answered(api.call("POST", api.path(kind), body))
    answered(api.call("POST", api.path(kind), {**SAMPLES[kind], "metadata": body}))
    answered(
        api.call("POST", api.path(kind), {"metadata": {"name": f"{api.namespace}-h"}, "spec": body, "status": body})
    )
    answered(api.call("DELETE", api.path(kind, "nobody"), body))


@MANY
@given(
    body=JSON,
    operations=st.lists(
        st.fixed_dictionaries(
            {
                "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "fly"]) | JSON,
                "path": st.sampled_from(
                    ["", "/", "/spec", "/metadata", "/metadata/labels/a", "/spec/args/0", "/spec/args/-"]
                )
                | TEXT,
            },
            optional={"value": JSON, "from": st.sampled_from(["/spec", "/metadata/name", ""]) | JSON},
        ),
        max_size=4,
    ),
)
def test_any_patch_at_all_is_answered(api: Api, body: Any, operations: list[Any]) -> None:
    if not api.find("Workflow", "patched"):
        api.create("Workflow", "patched")
    for change, type_ in (
        (body, MERGE),
        ({"spec": body}, MERGE),
        ({"metadata": body}, MERGE),
        (operations, JSON_PATCH),
    ):
        for path in (api.path("Workflow", "patched"), api.path("Workflow", "patched", "status")):
            answered(api.call("PATCH", path, change, headers={"content-type": type_}))


@MANY
@given(
    content=st.binary(max_size=80),
    type_=st.sampled_from(
        [
            "application/json",
            "application/yaml",
            "text/plain",
            "",
            "application/json; charset=utf-16",
            MERGE,
            JSON_PATCH,
            "application/vnd.kubernetes.protobuf",
            "multipart/form-data",
        ]
    ),
)
def test_any_bytes_at_all_are_answered(api: Api, content: bytes, type_: str) -> None:
    for method, path in (
        ("POST", api.path("Robot")),
        ("PUT", api.path("Robot", "x")),
        ("PATCH", api.path("Robot", "x")),
        ("DELETE", api.path("Robot", "x")),
        ("POST", api.path("Robot", "x", "report")),
    ):
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
            assert answered(api.call("PUT", api.path("Robot", "x"), content=body)) in (400, 422)
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
        ('a: !!float ""', "not YAML"),
        ('a: !!int ""', "not YAML"),
        ("a: !!int 1_0", "not YAML"),
        ("a: !!bool x", "not YAML"),
        ("a: !!timestamp x", "not YAML"),
        ("a: !!set {b}", "not YAML"),
        ("!!merge a: {}", "not YAML"),
        ("just text", "must be an object"),
        ("", "must be an object"),
    ],
)
def test_bad_yaml_is_refused_in_words(api: Api, text: str, said: str) -> None:
    answer = api.call("POST", api.path("Robot"), content=text.encode(), headers={"content-type": "application/yaml"})
    assert said in message(answer, 400)


def test_numbers_of_yaml_are_those_of_its_later_version() -> None:
    """1:30 is no number to the base of 60, 010 is none to the base of 8, and `<<` is a key."""
    text = b"[12, -1, +1, 010, 0x1F, 0o17, 1., -.5e3, !!float 1, 1:30, 1_0, 0b1, 2026-01-01, yes, ~, =, {<<: {}}]"
    assert bodies.from_yaml(text) == [
        *(12, -1, 1, 10, 31, 15, 1.0, -500.0, 1.0),
        *("1:30", "1_0", "0b1", "2026-01-01", True, None, "=", {"<<": {}}),
    ]


def test_a_long_number_to_the_base_of_60_is_text_and_takes_no_time() -> None:
    begun = time.process_time()
    assert bodies.from_yaml(b"1:" * 300_000 + b"1") == "1:" * 300_000 + "1"
    assert time.process_time() - begun < 2, "it took half a minute"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "5",
        '"x"',
        "{",
        '{"a":}',
        "{'a':1}",
        '{"a":NaN}',
        '{"a":1e999}',
        '{"a":"\\ud800"}',
        "\ufeff{}",
        '{"a":1}{"b":2}',
    ],
)
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


def test_sizes_are_bounded(api: Api) -> None:
    def post(body: Any, kind: str = "Workflow") -> Any:
        return api.call("POST", api.path(kind), body)

    huge = sample("Workflow", "big", annotations={"a": "x" * 3_200_000})
    assert is_status(post(huge), 413, "RequestEntityTooLarge")
    chunked = api.http.build_request(
        "POST",
        api.path("Workflow"),
        content=iter([b"x" * 1_000_000] * 4),
        headers={"authorization": f"Bearer {api.key}"},
    )
    assert is_status(api.http.send(chunked), 413)
    big = sample("Workflow", "big", annotations={"a": "x" * 300_000})
    assert "metadata.annotations: Too long" in message(post(big), 422)
    many = sample("Workflow", "big", {"spec": {"runner": "x", "parameters": {"enum": list(range(150_000))}}})
    assert "more than 100000 values" in message(post(many), 400)
    large = sample("Workflow", "big", {"spec": {"runner": "x", "parameters": {"enum": list(range(50_000))}}})
    assert "a JSON Schema may have no more than 65536 characters" in message(post(large), 422)
    wrong = sample("Workflow", "big", {"spec": {"runner": "command", "args": [1] * 900}})
    answer = post(wrong)
    assert "and 880 more" in message(answer, 422) and len(answer.json()["details"]["causes"]) == 21
    yaml = api.call("POST", api.path("Workflow"), content=b"a: b\n" * 300_000, headers={"content-type": "text/yaml"})
    assert is_status(yaml, 413)
    assert is_status(
        api.call("POST", f"{api.path('Job', 'x', 'log')}?uid=x&attempt=1&seq=1", content=b"x" * 300_000), 413
    )


@MANY
@given(body=JSON, job=JSON)
def test_any_report_at_all_is_answered(api: Api, body: Any, job: Any) -> None:
    name = f"{api.namespace}-r"
    path = api.path("Robot", name, "report")
    if not api.find("Robot", name):
        api.create("Robot", name)
    good = {"namespace": "x", "name": "x", "uid": "x", "attempt": 1, "phase": "Running"}
    for said in (
        body,
        {"jobs": body},
        {"agent": body},
        {"telemetry": body},
        {"jobs": [job]},
        {"jobs": [{**good, "name": job}]},
        {"jobs": [{**good, "progress": job, "startedTime": body}]},
    ):
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
