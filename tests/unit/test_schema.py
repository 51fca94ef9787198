"""A schema says of every field what it is and what it is for, and allows what admission allows."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, Field

from casare_api.kinds import KINDS, Kind
from casare_api.kinds.kind import Model
from casare_api.machinery import durations
from casare_api.machinery.admission import admit
from casare_api.machinery.errors import ApiError
from casare_api.machinery.schema import metadata_schema, model_schema, object_schema
from casare_api.machinery.strategic import MERGED

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
WORDS = {
    "type", "description", "enum", "default", "format", "pattern", "minLength", "maxLength", "minimum", "maximum",
    "minItems", "maxItems", "required", "properties", "items", "additionalProperties",
}  # fmt: skip
TIME, UID = "2026-11-22T20:00:00Z", "00000000-0000-4000-8000-000000000000"
HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
WORKFLOW = {
    "description": "Match invoices with the bank statement",
    "runner": "python",
    "source": {"file": "reconcile.py", "sha256": HASH},
    "python": {"interpreter": "python3", "requirements": ["openpyxl>=3.1"]},
    "args": ["--month", "{{ parameters.month }}"],
    "files": [{"name": "invoices.csv", "path": "data/invoices.csv", "sha256": HASH}],
    "env": [
        {"name": "LANG", "value": "C.UTF-8"},
        {"name": "SAP_PASSWORD", "secretRef": {"name": "sap", "key": "password"}},
    ],
    "parameters": {"type": "object", "required": ["month"], "properties": {"month": {"type": "string"}}},
    "requirements": {
        "environment": "production",
        "capabilities": ["browser"],
        "tags": ["finance"],
        "robotSelector": [{"key": "site", "operator": "In", "values": ["berlin", "paris"]}],
        "tolerations": [{"key": "certified", "operator": "Exists"}],
        "prefer": [{"sameRobot": True}, {"labels": {"floor": "2"}}],
    },
    "priority": 10,
    "timeout": "30m",
    "gracePeriod": "20s",
    "retry": {"limit": 2, "backoff": {"initial": "10s", "factor": 2, "max": "5m"}, "onRobotLost": "Requeue"},
    "lostAfter": "2m",
    "concurrency": {"key": "sap-login", "limit": 1},
    "limits": {"memory": "2Gi", "logSize": "100Mi", "artifactSize": "500Mi"},
    "ttlAfterFinished": "7d",
}
JOB = {
    "workflowRef": {"name": "reconcile-invoices"},
    "parameters": {"month": "2026-10"},
    "priority": 0,
    "requirements": {"robotName": "pc-01"},
    "concurrency": {"key": "sap-{{ parameters.month }}", "limit": 1},
    "notBefore": "2026-11-23T06:00:00+01:00",
    "startDeadline": "2h",
    "idempotencyKey": "invoices-2026-10",
    "cancel": False,
}
REFERENCE = {"kind": "Job", "namespace": "default", "name": "j", "uid": UID, "apiVersion": "fleet.casare.net/v1"}
CONDITION = {"type": "Ready", "status": "True", "reason": "Heartbeat", "message": "x", "lastTransitionTime": TIME}
RULE = {"verbs": ["get"], "apiGroups": ["fleet.casare.net"], "resources": ["jobs"], "resourceNames": ["a"]}
SUBJECT = {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "casare:role:viewer"}
ROLE_REF = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "casare:viewer"}
SAMPLES: dict[str, dict[str, Any]] = {
    "Namespace": {"status": {"phase": "Active"}},
    "ConfigMap": {"data": {"a": "b"}, "binaryData": {"c": "AAA="}},
    "Secret": {"type": "Opaque", "data": {"password": "c2VjcmV0"}},
    "Robot": {
        "spec": {
            "robotId": "PC_01", "displayName": "PC-01", "serves": ["*"], "environment": "production",
            "capabilities": ["browser", "desktop"], "tags": ["finance", "sap"], "maxConcurrentJobs": 2,
            "desiredState": "Active", "drain": {"deadline": "15m", "then": "Requeue"}, "restartRequestedAt": TIME,
            "taints": [{"key": "certified", "value": "no", "effect": "NoPlace"}],
            "maintenanceWindows": [
                {"name": "patch-day", "cron": "0 2 * * 0", "duration": "2h", "timeZone": "Europe/Berlin"}
            ],
        },
        "status": {
            "phase": "Busy", "conditions": [CONDITION], "lastSeenTime": TIME, "slots": {"total": 2, "used": 1},
            "displayName": "PC-01 (b486ee59)",
            "agent": {"version": "1.0.0", "pid": 4242},
        },
    },
    "ApiKey": {
        "spec": {
            "role": "robot", "robotName": "pc-01", "description": "key of the Berlin PC", "expiresAt": TIME,
            "revoked": False, "onRevoke": "Requeue", "rotation": {"every": "90d", "overlap": "24h"},
            "hash": f"sha256:{HASH}",
        },
        "status": {"phase": "Active", "hint": "crpa_...x7Qd", "lastUsedIP": "10.1.2.3", "robotUID": UID},
    },
    "JoinToken": {
        "spec": {
            "namePattern": "pc-*", "environment": "production", "labels": {"site": "berlin"}, "ttl": "24h", "uses": 20,
            "approval": "Manual", "description": "the floor of Berlin", "revoked": False, "hash": f"sha256:{HASH}",
        },
        "status": {
            "phase": "Active", "hint": "cjt_...x7Qd", "used": 1, "usesLeft": 19, "expiresAt": TIME,
            "enrolled": [{"name": "pc-01", "uid": UID, "time": TIME}],
        },
    },
    "Workflow": {"spec": WORKFLOW, "status": {"revision": "0123456789abcdef"}},
    "Job": {
        "spec": JOB,
        "status": {
            "phase": "Running", "attempt": 2, "robotName": "pc-01", "robotUID": UID, "queuedTime": TIME,
            "startedTime": TIME, "outputs": {"matched": 312}, "progress": {"percent": 60, "message": "page 3"},
            "reasons": [{"rule": "slots", "message": "pc-01 is full", "robots": 2}],
            "attempts": [{"number": 1, "robotName": "pc-02", "phase": "Lost", "reason": "RobotOffline"}],
            "earlierAttempts": {"Lost": 3}, "conditions": [CONDITION],
        },
    },
    "Schedule": {
        "spec": {
            "cron": "30 2 1 * *", "timeZone": "Europe/Berlin", "dst": "Once", "misfirePolicy": "FireOnce",
            "catchUp": {"max": 10}, "startDeadline": "6h", "concurrencyPolicy": "Forbid", "jitter": "2m",
            "suspend": False, "pauseOnFailures": 3, "history": {"succeeded": 3, "failed": 5},
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": JOB},
        },
        "status": {"nextFireTime": TIME, "lastJobName": "month-end-1", "missed": 0, "active": []},
    },
    "Quota": {
        "spec": {"weight": 2, "maxRunning": 500, "maxQueued": 100_000, "agingInterval": "5m"},
        "status": {"used": {"running": 3, "queued": 7}},
    },
    "Fire": {
        "spec": {"scheduleName": "month-end", "scheduledTime": TIME},
        "status": {"outcome": "Fired", "jobName": "month-end-1"},
    },
    "Role": {"rules": [RULE]},
    "ClusterRole": {"rules": [RULE, {"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]},
    "RoleBinding": {"subjects": [SUBJECT], "roleRef": {**ROLE_REF, "kind": "Role"}},
    "ClusterRoleBinding": {"subjects": [SUBJECT], "roleRef": ROLE_REF},
    "Lease": {"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-11-22T20:00:00.000001Z"}},
    "Event": {"involvedObject": REFERENCE, "reason": "Started", "message": "x", "type": "Normal", "count": 1,
              "firstTimestamp": TIME, "lastTimestamp": TIME, "source": {"component": "controller"}},
}  # fmt: skip


def whole(kind: Kind) -> dict[str, Any]:
    """A sample with everything that people write, and what the server notes."""
    meta = {
        "name": "pc-01", "namespace": "default", "uid": UID, "resourceVersion": "7", "generation": 1,
        "creationTimestamp": TIME, "labels": {"site": "berlin"}, "annotations": {"note": "x"},
        "finalizers": ["example.com/wait"], "managedFields": [{"manager": "kubectl"}],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": UID}],
    }  # fmt: skip
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **SAMPLES[kind.kind]}


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and all that are in it, with their paths."""
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from nodes(below, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}.*")


def at(kind: str, path: str) -> dict[str, Any]:
    return dict(nodes(object_schema(KINDS[kind]), ""))[path]


def is_fine(schema: dict[str, Any], value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


def is_admitted(kind: Kind, obj: dict[str, Any]) -> bool:
    try:
        admit(kind, obj)
    except ApiError:
        return False
    return True


@EVERY
def test_every_field_says_what_it_is_for(kind: Kind) -> None:
    fields = [(path, one) for path, one in nodes(object_schema(kind), "") if not path.endswith(("[]", ".*"))]
    assert [path for path, one in fields if not one.get("description")] == []
    for path, one in fields:
        text = one["description"]
        assert not text[0].islower() and text[-1] in ".:" and "  " not in text and "\t" not in text, (path, text)


@EVERY
def test_a_schema_is_structural_and_stands_by_itself(kind: Kind) -> None:
    for path, one in nodes(object_schema(kind), ""):
        unknown = {word for word in one if word not in WORDS and not word.startswith("x-kubernetes-")}
        assert not unknown, (path, unknown)
        assert "type" in one or one.get("x-kubernetes-preserve-unknown-fields") is True, path
        assert one.get("default", "") is not None and None not in one.get("enum", ()), path
        assert (one.get("type") == "array") == ("items" in one) == ("x-kubernetes-list-type" in one), path
        if one.get("x-kubernetes-list-type") == "map":
            assert set(one["x-kubernetes-list-map-keys"]) <= set(one["items"]["properties"]), path


@EVERY
def test_every_choice_is_shown(kind: Kind) -> None:
    def models(annotation: Any) -> Iterator[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
            for field in annotation.model_fields.values():
                yield from models(field.annotation)
        for part in getattr(annotation, "__args__", ()):
            yield from models(part)

    def choices(annotation: Any) -> tuple[Any, ...]:
        if get_origin(annotation) is Literal:
            return get_args(annotation)
        return next((found for part in getattr(annotation, "__args__", ()) if (found := choices(part))), ())

    for model in models(kind.model):
        shown = model_schema(model)["properties"] if model.model_fields else {}
        for name, field in model.model_fields.items():
            assert tuple(shown[field.alias or name].get("enum", ())) == choices(field.annotation), (model, name)


@EVERY
def test_only_what_has_no_default_is_required(kind: Kind) -> None:
    schema = object_schema(kind)
    needed = {field.alias or name for name, field in kind.model.model_fields.items() if field.is_required()}
    assert set(schema["required"]) == needed - {"apiVersion", "kind"}
    assert schema["properties"]["kind"]["enum"] == [kind.kind]
    assert schema["description"] == kind.description


@pytest.mark.parametrize(
    ("kind", "path", "type_", "keys"),
    [
        ("Robot", ".spec.capabilities", "set", None),
        ("Robot", ".spec.tags", "set", None),
        ("Robot", ".spec.serves", "set", None),
        ("Robot", ".spec.taints", "map", ["key"]),
        ("Robot", ".spec.maintenanceWindows", "map", ["name"]),
        ("Robot", ".status.conditions", "map", ["type"]),
        ("Workflow", ".spec.files", "map", ["name"]),
        ("Workflow", ".spec.env", "map", ["name"]),
        ("Workflow", ".spec.args", "atomic", None),
        ("Workflow", ".spec.requirements.tags", "set", None),
        ("Workflow", ".spec.requirements.capabilities", "set", None),
        ("Workflow", ".spec.requirements.robotSelector", "atomic", None),
        ("Workflow", ".spec.requirements.tolerations", "atomic", None),
        ("Workflow", ".spec.requirements.prefer", "atomic", None),
        ("Schedule", ".spec.jobTemplate.spec.workflow.env", "map", ["name"]),
        ("Job", ".status.attempts", "atomic", None),
        ("Job", ".status.reasons", "atomic", None),
        ("Job", ".status.conditions", "map", ["type"]),
        ("Job", ".metadata.finalizers", "set", None),
        ("Job", ".metadata.ownerReferences", "map", ["uid"]),
        ("Job", ".metadata.managedFields", "atomic", None),
    ],
)
def test_a_list_says_how_its_items_are_owned(kind: str, path: str, type_: str, keys: list[str] | None) -> None:
    found = at(kind, path)
    assert found["x-kubernetes-list-type"] == type_ and found.get("x-kubernetes-list-map-keys") == keys


def test_the_lists_that_a_strategic_patch_merges_are_those_that_kubectl_is_told_of() -> None:
    said = {path: one for path, one in nodes(metadata_schema(), "metadata") if "x-kubernetes-patch-strategy" in one}
    merged = {".".join(path): key for path, key in MERGED.items() if path[0] == "metadata"}
    assert {path: one.get("x-kubernetes-patch-merge-key") for path, one in said.items()} == merged


def test_what_may_hold_anything_says_so() -> None:
    for kind, path in (("Job", ".spec.parameters"), ("Job", ".status"), ("Workflow", ".spec.parameters"),
                       ("Robot", ".status.agent"), ("Robot", ".metadata.managedFields[]")):  # fmt: skip
        assert at(kind, path)["x-kubernetes-preserve-unknown-fields"] is True
    assert "x-kubernetes-preserve-unknown-fields" not in at("Job", ".spec")
    assert at("Job", ".metadata.labels")["additionalProperties"] == {"type": "string"}


def test_bounds_defaults_and_what_has_no_effect_yet_are_told() -> None:
    priority = at("Workflow", ".spec.priority")
    assert (priority["minimum"], priority["maximum"], priority["default"]) == (0, 20, 10)
    assert priority["description"].endswith("Default: 10.")
    assert "default" not in at("Job", ".spec.priority")
    assert "does nothing with it yet" in at("Schedule", ".spec.pauseOnFailures")["description"]
    assert "does nothing with it yet" not in at("Robot", ".spec.taints")["description"]


def test_words_that_openapi_3_0_does_not_know_are_put_otherwise() -> None:
    class Odd(Model):
        above: int = Field(gt=0, lt=10)
        share: float = Field(gt=0)
        one: Literal["a"]

    found = model_schema(Odd)["properties"]
    assert (found["above"]["minimum"], found["above"]["maximum"]) == (1, 9)
    assert found["share"]["minimum"] == 0 and found["one"]["enum"] == ["a"]


def test_a_choice_between_types_is_no_structural_schema() -> None:
    class Torn(Model):
        either: int | str

    with pytest.raises(ValueError, match="no choice between types"):
        model_schema(Torn)


@pytest.mark.parametrize("text", ["0", "90s", "5m", "1h30m", "7d", "500ms", "1.5h", "1w2d3h4m5s6ms", "36500d"])
def test_the_pattern_of_a_duration_allows_what_is_one(text: str) -> None:
    durations.parse_duration(text)
    assert re.search(at("Robot", ".spec.drain.deadline")["pattern"], text)


@pytest.mark.parametrize("text", ["1x", "m", "1m1h", "-1s", "1 s", "1h "])
def test_the_pattern_of_a_duration_allows_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        durations.parse_duration(text)
    assert not re.search(at("Robot", ".spec.drain.deadline")["pattern"], text)


@EVERY
def test_a_schema_allows_what_people_and_the_server_write(kind: Kind) -> None:
    obj = whole(kind)
    jsonschema.Draft202012Validator(object_schema(kind)).validate(obj)
    jsonschema.Draft202012Validator(object_schema(kind)).validate(admit(kind, obj)[0])


@pytest.mark.parametrize("path", sorted(MANIFESTS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(MANIFESTS)))
def test_a_schema_allows_the_manifests(path: Path) -> None:
    for obj in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        kind = KINDS[obj["kind"]]
        jsonschema.Draft202012Validator(object_schema(kind)).validate(obj)
        assert is_admitted(kind, obj)


def places(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    yield path
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in below:
        yield from places(item, (*path, key))


def put(obj: dict[str, Any], path: tuple[str | int, ...], new: Any) -> dict[str, Any]:
    changed: Any = copy.deepcopy(obj)
    above = changed
    for key in path[:-1]:
        above = above[key]
    above[path[-1]] = new(above[path[-1]])
    return dict(changed)


def other_type(value: Any) -> Any:
    return 7 if isinstance(value, str | list | dict) else "seven"


@EVERY
def test_a_value_of_another_type_is_refused_by_the_schema_where_admission_refuses_it(kind: Kind) -> None:
    """Of what people write; what the server alone writes, admission does not look at."""
    obj = whole(kind)
    written = {key: obj[key] for key in obj if key not in ("apiVersion", "kind", "status")}
    for path in [place for place in places(written, ()) if place]:
        wrong = put(obj, path, other_type)
        assert is_fine(object_schema(kind), wrong) == is_admitted(kind, wrong), path


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Robot", ("spec", "maxConcurrentJobs"), 0),
        ("Robot", ("spec", "maxConcurrentJobs"), 101),
        ("Robot", ("spec", "desiredState"), "Sleepy"),
        ("Robot", ("spec", "environment"), "Prod!"),
        ("Robot", ("spec", "tags"), [""]),
        ("Robot", ("spec", "drain"), {"deadline": "soon"}),
        ("Robot", ("spec", "taints"), [{"value": "no"}]),
        ("ApiKey", ("spec", "hash"), "sha256:12"),
        ("Workflow", ("spec", "priority"), 21),
        ("Workflow", ("spec", "limits"), {"memory": "much"}),
        ("Workflow", ("spec", "env"), [{"name": "1A"}]),
        ("Job", ("spec", "workflowRef"), {"revision": "0123456789ab"}),
        ("Schedule", ("spec", "dst"), "Never"),
        ("Fire", ("spec",), {"scheduleName": "x"}),
    ],
)
def test_a_wrong_value_is_refused_by_the_schema_and_by_admission(kind: str, path: tuple[str, ...], value: Any) -> None:
    wrong = put(whole(KINDS[kind]), path, lambda _: value)
    assert not is_fine(object_schema(KINDS[kind]), wrong) and not is_admitted(KINDS[kind], wrong)
