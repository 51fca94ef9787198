"""Parameters against a JSON Schema: what fits, what is filled in, and that nobody can make it take for ever."""

from __future__ import annotations

from typing import Any

import pytest

from casare_store import parameters
from casare_store.parameters import Unusable


def told(schema: dict[str, Any], given: dict[str, Any]) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in parameters.causes(schema, given)]


def test_what_fits_and_what_does_not() -> None:
    schema = {
        "properties": {"month": {"type": "string", "pattern": "^\\d{4}-\\d{2}$"}, "n": {"type": "integer"}},
        "patternProperties": {"^x-": {"type": "string"}},
        "additionalProperties": False,
        "required": ["month"],
    }
    assert told(schema, {"month": "2026-10", "n": 1, "x-note": "a"}) == []
    assert told(schema, {"month": "May"}) == [
        "spec.parameters.month: Invalid value: 'May' does not match '^\\\\d{4}-\\\\d{2}$'"
    ]
    assert told(schema, {"month": "2026-10", "x-note": 5}) == [
        "spec.parameters.x-note: Invalid value: 5 is not of type 'string'"
    ]
    assert "('more' not in the schema)" in told(schema, {"month": "2026-10", "more": 1})[0]
    assert "'month' is a required property" in told(schema, {})[0]


def test_additional_properties_by_schema() -> None:
    schema = {"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}
    assert told(schema, {"a": "x", "b": 1}) == []
    assert told(schema, {"b": "x"}) == ["spec.parameters.b: Invalid value: 'x' is not of type 'integer'"]


def test_a_recursive_schema_serves_what_it_is_made_for() -> None:
    tree = {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "value": {"type": "integer"}}}
    assert told(tree, {"left": {"left": {"value": 1}}, "right": {"value": 2}}) == []
    assert told(tree, {"left": {"left": {"value": "x"}}}) == [
        "spec.parameters.left.left.value: Invalid value: 'x' is not of type 'integer'"
    ]


def doubling(levels: int) -> dict[str, Any]:
    """A schema of which each level asks for the next one twice."""
    both = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": {**both, f"d{levels}": {"type": "object"}}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    ("schema", "given"),
    [
        pytest.param(doubling(30), {}, id="a schema that doubles"),
        pytest.param({"properties": {"a": {"pattern": "^(a|aa)+$"}}}, {"a": "a" * 40 + "!"}, id="pattern"),
        pytest.param({"patternProperties": {"^(a|aa)+$": {}}}, {"a" * 40 + "!": 1}, id="patternProperties"),
        pytest.param(
            {"patternProperties": {"^(a|aa)+$": {}}, "additionalProperties": False}, {"a" * 40 + "!": 1}, id="additional"
        ),
        pytest.param({"properties": {"a": {"uniqueItems": True}}}, {"a": [{"n": n} for n in range(5000)]}, id="unique"),
        pytest.param(
            {"properties": {"a": {"items": {"enum": list(range(2000))}}}}, {"a": [1999] * 5000}, id="a long enum"
        ),
        pytest.param({"$ref": "#"}, {}, id="a circle"),
        pytest.param({"$ref": "#/nowhere"}, {}, id="a reference to nowhere"),
        pytest.param({"properties": {"a": {"pattern": "("}}}, {"a": "x"}, id="no regular expression"),
    ],
)
def test_what_would_take_for_ever_is_refused(schema: dict[str, Any], given: dict[str, Any]) -> None:
    with pytest.raises(Unusable):
        parameters.causes(schema, given)


def test_the_bound_leaves_room_for_real_lists() -> None:
    schema = {"properties": {"ids": {"items": {"type": "integer", "minimum": 0}, "uniqueItems": True}}}
    assert told(schema, {"ids": list(range(10_000))}) == []


def test_each_check_has_its_own_bound() -> None:
    schema = {"properties": {"ids": {"items": {"type": "integer"}}}}
    for _ in range(10):
        assert told(schema, {"ids": list(range(15_000))}) == []


def test_defaults_are_filled_in_where_nothing_was_said() -> None:
    schema = {"properties": {"a": {"default": 1}, "b": {"default": None}, "c": True, "d": {}}}
    assert parameters.with_defaults(schema, {"a": 5}) == {"a": 5, "b": None}
    assert parameters.with_defaults({"properties": []}, {"x": 1}) == {"x": 1}
    given = {"a": 1, "b": 2}
    assert parameters.with_defaults(schema, given) is given


@pytest.mark.parametrize(
    ("schema", "path", "why"),
    [
        ({"type": "strin"}, "type", "not a JSON Schema"),
        ({"properties": {"a": {"$ref": "http://localhost/x"}}}, "", "may refer only to itself"),
        ({"unevaluatedProperties": False, "allOf": [{"patternProperties": {"a": {}}}]}, "", "can't be used together"),
    ],
)
def test_schemas_that_are_none_of_ours(schema: dict[str, Any], path: str, why: str) -> None:
    found = parameters.problem_of(schema)
    assert found is not None and found[0] == path and why in found[1]


def test_a_schema_is_fine() -> None:
    assert parameters.problem_of({"properties": {"a": {"type": "string"}}, "unevaluatedProperties": False}) is None
