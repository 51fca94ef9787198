"""A kind is one value that everything derives from; what people call it finds it."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from casare_api.kinds import KINDS, Kind, dig, find
from casare_api.kinds.job import JOB, JobPhase, JobStatus
from casare_api.kinds.robot import TRANSITIONS, RobotPhase
from casare_api.machinery.admission import admit
from casare_api.machinery.errors import ApiError

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def models(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """A model and all that its fields hold."""
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            for part in parts(field.annotation):
                models(part, seen)
    return seen


def parts(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in parts(part)]


@EVERY
def test_every_word_for_a_kind_finds_it(kind: Kind) -> None:
    for word in (kind.kind, kind.kind.lower(), kind.kind.upper(), kind.plural, kind.singular, *kind.short_names):
        assert find(word) is kind
    assert find(f"{kind.plural}.{kind.group}") is kind


def test_no_word_means_two_kinds() -> None:
    words = [word for kind in KINDS.values() for word in (kind.plural, *kind.short_names)]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("word", ["jbo", "pods", "", "job s", "."])
def test_another_word_is_answered_with_all_there_are(word: str) -> None:
    with pytest.raises(ApiError) as caught:
        find(word)
    assert caught.value.status == 404 and all(kind.plural in caught.value.message for kind in KINDS.values())
    assert "\n" not in caught.value.message
    assert ('did you mean "job' in caught.value.message) is word.startswith("j")


@EVERY
def test_paths_follow_kubernetes(kind: Kind) -> None:
    root = f"/apis/{kind.group}/v1" if kind.group else "/api/v1"
    assert kind.path() == f"{root}/{kind.plural}"
    inside = f"{root}/namespaces/a/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    assert kind.path("a") == inside
    assert kind.path("a", "x", "status") == f"{inside}/x/status"
    assert kind.api_version == (f"{kind.group}/v1" if kind.group else "v1")


@EVERY
def test_columns_bear_whatever_is_missing_or_odd(kind: Kind) -> None:
    assert kind.columns[0].name == "Name" or kind.kind == "Event"
    empty = {"metadata": {"name": "x"}}
    odd = {"metadata": {"name": "x"}, "spec": {}, "status": {}, "involvedObject": {}}
    for obj in (empty, odd):
        for column in kind.columns:
            assert isinstance(column.cell(obj, NOW), str | int | None)


@EVERY
def test_selectable_fields_are_fields_of_the_model(kind: Kind) -> None:
    assert kind.selectable[:2] == ("metadata.name", "metadata.namespace")
    for path in kind.fields.values():
        model: Any = kind.model
        for key in path:
            named = {field.alias or name: field for name, field in model.model_fields.items()}
            assert key in named, path
            model = next(iter(parts(named[key].annotation)), model)


@EVERY
def test_models_take_what_is_written_and_only_that(kind: Kind) -> None:
    """No coercion anywhere, camelCase on the wire, and whoever reads an error never sees the value of a secret."""
    for model in models(kind.model, set()):
        config = model.model_config
        assert config.get("strict") and config.get("frozen") and config.get("hide_input_in_errors"), model
        assert config.get("extra") in ("forbid", "allow")
        for name, field in model.model_fields.items():
            assert "_" not in (field.alias or name), (model, name)


def test_the_phases_of_a_robot_lead_to_each_other() -> None:
    assert set(TRANSITIONS) == set(RobotPhase)
    assert all(RobotPhase.PENDING not in following for following in TRANSITIONS.values()), "what was seen was seen"


def test_a_jobs_status_knows_all_phases_and_what_each_needs() -> None:
    time, uid = "2026-11-22T20:00:00Z", "00000000-0000-4000-8000-000000000000"
    full = {"queuedTime": time, "assignedTime": time, "startedTime": time, "finishedTime": time, "robotUID": uid}
    for phase in JobPhase:
        assert JobStatus.model_validate({"phase": phase.value, **full}).phase == phase
        with pytest.raises(ValueError, match="required: a job that is"):
            JobStatus.model_validate({"phase": phase.value})


def test_a_jobs_cells_say_what_people_look_for() -> None:
    job = {
        "metadata": {"name": "j", "creationTimestamp": "2026-11-22T19:00:00Z"},
        "spec": {"workflowRef": {"name": "w"}, "priority": 3, "requirements": {"tags": ["sap"], "environment": "dev"}},
        "status": {"phase": "Queued", "attempt": 1, "startedTime": "2026-11-22T19:57:00Z",
                   "reasons": [{"message": "2 of 3 robots lack sap"}]},
    }  # fmt: skip
    cells = {column.name: column.cell(job, NOW) for column in JOB.columns}
    assert cells["Status"] == "Queued" and cells["Priority"] == 3 and cells["Workflow"] == "w"
    assert cells["Duration"] == "3m" and cells["Age"] == "60m" and cells["Reason"] == "2 of 3 robots lack sap"
    assert cells["Requirements"] == "sap,environment=dev"


def test_dig_finds_what_is_there_and_nothing_otherwise() -> None:
    obj: dict[str, Any] = {"a": {"b": 0}, "c": [1]}
    assert dig(obj, "a", "b") == 0
    assert dig(obj, "a", "x") is dig(obj, "a", "b", "c") is dig(obj, "c", "0") is dig({}, "a") is None


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"source": {"file": "a", "inline": "b"}}, "exactly one of file, inline, module, git"),
        ({"source": {}}, "exactly one of file, inline, module, git"),
        ({"source": {"module": "a b"}}, "spec.source.module"),
        ({"env": [{"name": "1A", "value": "x"}]}, "spec.env[0].name"),
        ({"files": [{"name": "C:x", "path": "x"}]}, "spec.files[0].name"),
        ({"files": [{"name": "a/../../b", "path": "x"}]}, "spec.files[0].name"),
        ({"files": [{"name": "\\\\x", "path": "x"}]}, "spec.files[0].name"),
        ({"concurrency": {"key": "a", "limit": 0}}, "spec.concurrency.limit"),
        ({"limits": {"memory": "-1"}}, "spec.limits.memory"),
        ({"retry": {"backoff": {"factor": 0.5}}}, "spec.retry.backoff.factor"),
        ({"requirements": {"robotSelector": [{"key": "a", "operator": "Exists", "values": ["x"]}]}}, "takes no values"),
        (
            {"requirements": {"robotSelector": [{"key": "a b", "operator": "Exists"}]}},
            "spec.requirements.robotSelector",
        ),
        ({"priority": 10.0}, "spec.priority"),
        ({"ttlAfterFinished": "1 day"}, "spec.ttlAfterFinished"),
    ],
)
def test_a_workflow_that_can_not_work_is_refused(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(ApiError) as caught:
        admit(KINDS["Workflow"], {"metadata": {"name": "w"}, "spec": {"runner": "plugin", **spec}})
    assert problem in caught.value.message
