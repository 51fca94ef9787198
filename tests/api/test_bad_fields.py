"""A field that is wrong, or that there is not: named, with what was found and what is allowed.

No answer is a 500, and (checked when the shared server stops) no traceback is in its log.
"""

from __future__ import annotations

import itertools
import random
import re
import secrets
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from casare_api.kinds import KINDS

from .conftest import ALL_KINDS, SAMPLES, Api, answered, is_status, message, sample

NUMBERS = itertools.count()
UNSTORABLE = ["a\x00b", "\ud800"]
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    5,
    2**31,
    2**63 - 1,
    1e300,
    0.5,
    "",
    "x",
    " ",
    "\n",
    "Ünï",
    "x" * 300,
    *UNSTORABLE,
    [],
    [None],
    [[]],
    ["x"],
    [{}],
    [1],
    {},
    {"x": 1},
    {"": None},
    {"name": "x"},
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+23:59",
    "2026-01-01T00:00:00Z",
    "36500d",
    "99999999999999d",
    "0s",
    "* * * * *",
    "Mars/Olympus",
]


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
    """A good share of all (field, value) pairs, always the same; each also as a patch of an object that is there."""
    paths = [path for path in fields_of(KINDS[kind].model) if path != ("metadata", "name")]
    pairs = list(itertools.product(paths, VALUES))
    chosen = random.Random(kind).sample(pairs, k=min(len(pairs), max(200, len(pairs) // 12)))
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
        status = {
            "status": {
                "queuedTime": value,
                "phase": value,
                "robotUID": value,
                "nextFireTime": value,
                "slots": value,
                "assignedTime": value,
                "conditions": value,
            }
        }
        answered(api.patch(kind, there, status, "status")) if KINDS[kind].has_status else None


def test_a_job_that_would_be_stuck_can_not_be_written(api: Api) -> None:
    """A status without what its phase needs would stop the timers and the writer for everybody."""
    api.create("Job", "j")
    uid = "00000000-0000-4000-8000-000000000000"
    for status, field in (
        ({"phase": "Queued"}, "status.queuedTime"),
        ({"phase": "Assigned", "queuedTime": "2026-01-01T00:00:00Z", "robotUID": uid}, "status.assignedTime"),
        (
            {"phase": "Assigned", "queuedTime": "2026-01-01T00:00:00Z", "assignedTime": "x", "robotUID": uid},
            "status.assignedTime",
        ),
        (
            {
                "phase": "Assigned",
                "queuedTime": "2026-01-01T00:00:00Z",
                "assignedTime": "2026-01-01T00:00:00Z",
                "robotUID": "somebody",
            },
            "status.robotUID",
        ),
        ({"phase": "Sleeping", "queuedTime": "2026-01-01T00:00:00Z"}, "status.phase"),
    ):
        patch = [{"op": "replace", "path": "/status", "value": status}]
        assert field in message(api.patch("Job", "j", patch, "status"), 422)
    skipping = {"status": {"phase": "Running", "startedTime": "2026-01-01T00:00:00Z", "robotUID": uid}}
    assert "a job does not go from Queued to Running" in message(api.patch("Job", "j", skipping, "status"), 422)


SPECS: list[tuple[str, dict[str, Any], str]] = [
    (
        "Robot",
        {"desiredState": "Sleepy"},
        'spec.desiredState: Unsupported value: "Sleepy": supported values: "Active", "Paused", "Drained"',
    ),
    ("Robot", {"maxConcurrentJobs": 101}, "spec.maxConcurrentJobs: Invalid value: 101: must be at most 100"),
    ("Robot", {"maxConcurrentJobs": "2"}, 'spec.maxConcurrentJobs: Invalid value: "2": must be an integer'),
    ("Robot", {"maxConcurrentJobs": True}, "spec.maxConcurrentJobs: Invalid value: true: must be an integer"),
    ("Robot", {"tags": "finance"}, 'spec.tags: Invalid value: "finance": must be a list'),
    ("Robot", {"tags": ["a", 5]}, "spec.tags[1]: Invalid value: 5: must be a string"),
    ("Robot", {"environment": "Pro Duction"}, 'spec.environment: Invalid value: "Pro Duction": must match'),
    ("Robot", {"restartRequestedAt": "tomorrow"}, "is not a time: write it like 2026-11-22T20:00:00Z"),
    (
        "Robot",
        {"maintenanceWindows": [{"name": "a", "cron": "0 2 * *", "duration": "2h"}]},
        "spec.maintenanceWindows[0].cron: Invalid value",
    ),
    (
        "Robot",
        {"maintenanceWindows": [{"name": "a", "cron": "0 2 * * 0", "duration": "2 hours"}]},
        "is not a duration: write it like 90s, 5m, 1h30m or 7d",
    ),
    (
        "Robot",
        {"maintenanceWindows": [{"name": "a", "cron": "0 2 * * 0", "duration": "2h", "timeZone": "Mars/Olympus"}]},
        "is not a time zone",
    ),
    ("Workflow", {}, "spec.runner: Required value"),
    ("Workflow", {"runner": "python"}, "spec.source: Required value: for runner python"),
    ("Workflow", {"runner": "command"}, "spec.args: Required value: for runner command"),
    ("Workflow", {"runner": "x", "timeout": "soon"}, "spec.timeout: Invalid value: \"soon\": 'soon' is not a duration"),
    ("Workflow", {"runner": "x", "priority": 21}, "spec.priority: Invalid value: 21: must be at most 20"),
    (
        "Workflow",
        {"runner": "x", "retry": {"backoff": {"factor": "two"}}},
        'spec.retry.backoff.factor: Invalid value: "two": must be a number',
    ),
    ("Workflow", {"runner": "x", "limits": {"memory": "much"}}, "is not an amount: write it like 500Mi"),
    (
        "Workflow",
        {"runner": "x", "files": [{"name": "../../etc/passwd", "path": "x"}]},
        "spec.files[0].name: Invalid value",
    ),
    ("Workflow", {"runner": "x", "source": {"inline": "a", "module": "b"}}, "exactly one of file, inline, module, git"),
    (
        "Workflow",
        {"runner": "x", "parameters": {"type": "strin"}},
        "spec.parameters.type: Invalid value: not a JSON Schema",
    ),
    ("Workflow", {"runner": "x", "parameters": {"$ref": "https://example.com/x"}}, "a schema may refer only to itself"),
    (
        "Workflow",
        {"runner": "x", "requirements": {"robotSelector": [{"key": "s", "operator": "In"}]}},
        "spec.requirements.robotSelector: Invalid value: label expression on s: In takes some values",
    ),
    ("Schedule", {}, "spec.jobTemplate: Required value"),
    ("Schedule", {"cron": "61 * * * *"}, "spec.cron: Invalid value: \"61 * * * *\": minute '61' is not valid"),
    ("Schedule", {"cron": "0 0 30 2 *"}, "spec.cron: Invalid value"),
    ("Schedule", {"cron": "* * * * * *"}, "spec.cron: Invalid value"),
    ("Schedule", {"every": "0s"}, "spec.every: Invalid value"),
    ("Schedule", {"cron": "0 3 * * *", "timeZone": "Mars/Olympus"}, "is not a time zone: write it like Europe/Berlin"),
    ("Schedule", {"cron": "0 3 * * *", "every": "5m"}, "exactly one of cron, every, at is needed, found cron, every"),
    ("ApiKey", {"role": "king"}, 'supported values: "robot", "viewer", "operator", "admin"'),
    ("ApiKey", {"role": "viewer", "hash": "md5:1234"}, 'spec.hash: Invalid value: "md5:1234": must match'),
    ("ApiKey", {"role": "viewer", "expiresAt": "2026-13-01T00:00:00Z"}, "spec.expiresAt: Invalid value"),
    ("Job", {}, "spec.workflowRef: Required value"),
    ("Job", {"workflowRef": {"name": "nope"}}, 'spec.workflowRef.name: Not found: there is no workflow "nope"'),
    ("Job", {"workflow": {"runner": "x", "parameters": {"type": 5}}}, "spec.workflow.parameters.type: Invalid value"),
    ("Job", {"workflow": {"runner": "x"}, "priority": -1}, "spec.priority: Invalid value: -1: must be at least 0"),
    ("Fire", {"scheduleName": "x", "scheduledTime": "now"}, "spec.scheduledTime: Invalid value"),
]


@pytest.mark.parametrize(("kind", "spec", "said"), SPECS)
def test_a_wrong_field_is_named_with_what_was_found_and_what_is_allowed(
    api: Api, kind: str, spec: dict[str, Any], said: str
) -> None:
    if kind == "Schedule" and spec:
        spec = {**spec, "jobTemplate": {"spec": {"workflow": {"runner": "x"}}}}
    answer = api.call("POST", api.path(kind), {"metadata": {"name": "x"}, "spec": spec})
    assert said in message(answer, 422)
    assert answer.json()["details"]["name"] == "x" and answer.json()["details"]["kind"] == kind


@pytest.mark.parametrize(
    "meta",
    [
        {"name": "PC_01"},
        {"name": "-a"},
        {"name": "a" * 254},
        {"name": "a/b"},
        {"name": "ä"},
        {"generateName": "A-"},
        {"name": "x", "labels": {"a": "b c"}},
        {"name": "x", "labels": {"a": 5}},
        {"name": "x", "labels": {"a/b/c": "d"}},
        {"name": "x", "annotations": {"": "d"}},
        {"name": "x", "finalizers": ["not a name"]},
        {"name": "x", "labels": []},
        {"name": "x", "ownerReferences": [{"apiVersion": "v1", "kind": "Job", "name": "x", "uid": "y"}]},
    ],
)
def test_wrong_metadata_is_named(api: Api, meta: dict[str, Any]) -> None:
    answer = api.call("POST", api.path("Workflow"), {"metadata": meta, **SAMPLES["Workflow"]})
    assert "metadata." in message(answer, 422)


def test_namespaces_are_single_words(api: Api) -> None:
    for name in ("a.b", "A", "x" * 64):
        assert is_status(api.call("POST", api.path("Namespace"), {"metadata": {"name": name}}), 422, "Invalid")


def test_two_robots_do_not_share_an_id(api: Api) -> None:
    robot_id = "PC_" + secrets.token_hex(3)
    api.create("Robot", f"{api.namespace}-1", {"spec": {"robotId": robot_id}})
    taken = api.call(
        "POST", api.path("Robot"), {"metadata": {"name": f"{api.namespace}-2"}, "spec": {"robotId": robot_id}}
    )
    assert is_status(taken, 409) and "spec.robotId" in taken.json()["message"]


# -- unknown fields --------------------------------------------------------------------------------------------------


def unknown() -> dict[str, Any]:
    return {
        "metadata": {"name": "u"},
        "spec": {"tags": ["a"], "colour": "red", "taints": [{"key": "a", "shade": 1}]},
        "size": 5,
    }


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
    expected = {
        '299 - "unknown field \\"spec.colour\\""',
        '299 - "unknown field \\"spec.taints[0].shade\\""',
        '299 - "unknown field \\"size\\""',
    }
    assert set(warnings) == (set() if mode == "Ignore" else expected)
    patched = api.patch(
        "Robot", body["metadata"]["name"], {"spec": {"shape": "round"}}, params={"fieldValidation": "Strict"}
    )
    assert 'unknown field "spec.shape"' in message(patched, 400)


def test_a_warning_is_one_short_line_whatever_the_field_was_called(api: Api) -> None:
    nasty = {"a\r\nx-evil: 1": 1, "ü\t": 2, "y" * 5000: 3, **{f"f{number}": 1 for number in range(2000)}}
    body = {"metadata": {"name": f"{api.namespace}-u"}, "spec": nasty}
    made = api.call("POST", api.path("Robot"), body)
    assert made.status_code == 201 and "x-evil" not in made.headers
    warnings = made.headers.get_list("warning")
    assert sum(map(len, warnings)) < 10_000 and all(len(line) < 300 and line.isascii() for line in warnings)


@pytest.mark.parametrize("mode", ["Loose", "strict", "0"])
def test_an_unknown_way_of_validating_is_refused(api: Api, mode: str) -> None:
    answer = api.call("POST", api.path("Robot"), sample("Robot", "x"), params={"fieldValidation": mode})
    assert 'supported values: "Strict", "Warn", "Ignore"' in message(answer, 422)
