"""What is said twice in a set or under one key is refused, with its place; lists that may repeat themselves may."""

from __future__ import annotations

from typing import Any

import pytest

from casare_api.kinds import KINDS
from casare_api.machinery.admission import admit
from casare_api.machinery.errors import ApiError


def causes(kind: str, **spec: Any) -> list[tuple[str, str, str]]:
    obj = {"metadata": {"name": "x", "namespace": "default"}, "spec": spec}
    try:
        admit(KINDS[kind], obj)
    except ApiError as error:
        return [(one.field, one.reason, one.message) for one in error.causes]
    return []


@pytest.mark.parametrize("field", ["tags", "capabilities", "serves"])
def test_a_word_of_a_set_stands_there_once(field: str) -> None:
    said = causes("Robot", **{field: ["a", "b", "a", "b"]})
    assert said == [
        (f"spec.{field}[2]", "FieldValueDuplicate", 'Duplicate value: "a"'),
        (f"spec.{field}[3]", "FieldValueDuplicate", 'Duplicate value: "b"'),
    ]
    assert causes("Robot", **{field: ["a", "b"]}) == []


def test_an_item_of_a_keyed_list_has_its_key_alone() -> None:
    twice = [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}, {"name": "A", "value": "2"}]
    said = causes("Workflow", runner="command", args=["true"], env=twice)
    assert said == [("spec.env[2]", "FieldValueDuplicate", 'Duplicate value: {"name": "A"}')]


def test_what_a_job_brings_along_is_looked_at_too() -> None:
    inline = {"runner": "command", "args": ["true"], "requirements": {"tags": ["a", "a"]}}
    assert [one[0] for one in causes("Job", workflow=inline)] == ["spec.workflow.requirements.tags[1]"]


def test_words_of_a_command_may_repeat_themselves() -> None:
    assert causes("Workflow", runner="command", args=["echo", "a", "a"]) == []
