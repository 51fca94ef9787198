"""Templates fill in values and evaluate nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.machinery import templates
from casare_api.machinery.templates import MOST_FILTERS, MOST_WRITTEN, render, render_tree

VARIABLES: dict[str, Any] = {
    "parameters": {
        "month": "2026-10",
        "n": 3,
        "ratio": 0.5,
        "on": True,
        "off": None,
        "list": [1, "ä"],
        "deep": {"x": 1},
    },
    "scheduledTime": datetime(2026, 11, 1, 0, 30, tzinfo=ZoneInfo("Europe/Berlin")),
    "utc": datetime(2026, 1, 31, 23, 30, tzinfo=UTC),
    "text": "2026-01-31T23:30:00Z",
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", ""),
        ("plain } { }} text", "plain } { }} text"),
        ("--month={{ parameters.month }}!", "--month=2026-10!"),
        ("{{parameters.n}}{{ parameters.ratio }}{{ parameters.on }}{{ parameters.off }}", "30.5true"),
        ("{{ parameters.list }} {{ parameters.deep }}", '[1,"ä"] {"x":1}'),
        ("{{ parameters.month | json }}", '"2026-10"'),
        ("{{ scheduledTime }}", "2026-10-31T23:30:00Z"),
        ("{{ scheduledTime | month }}", "2026-11"),
        ("{{ scheduledTime | month:-1 }}", "2026-10"),
        ("{{ scheduledTime | month:+14 }}", "2028-01"),
        ("{{ utc | month:-1 }}", "2025-12"),
        ("{{ utc | day:1 }} {{ scheduledTime | day:-1 }}", "2026-02-01 2026-10-31"),
        ("{{ text | date:%Y/%m/%d %H:%M }} {{ text | date:100%% }}", "2026/01/31 23:30 100%"),
        ("{{ text | zone:Europe/Berlin | date:%d.%m. %H:%M%z }}", "01.02. 00:30+0100"),
        ("{{ parameters.none | default:now }} {{ parameters.n | default:9 }}", "now 3"),
        ("{{ parameters.none | upper | default:'a | b' | upper }}", "A | B"),
        ("{{ parameters.month | upper | lower }}", "2026-10"),
        ('docker ps --format {{ "{{" }}.Names{{ "}}" }}', "docker ps --format {{.Names}}"),
        ("{{ 'parameters.n' }}", "parameters.n"),
    ],
)
def test_places_are_filled_in(text: str, result: str) -> None:
    assert render(text, VARIABLES) == result


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "{{ parameters.mont }}",
            "'{{ parameters.mont }}': unknown name 'parameters.mont': parameters has deep, list, month, n,",
        ),
        ("{{ parmeters.month }}", "there is parameters, scheduledTime, text, utc"),
        ("{{ parameters.deep.y }}", "parameters.deep has x"),
        ("{{ parameters.n.real }}", "unknown name"),
        ("{{ parameters.__class__ }}", "unknown name"),
        ("{{ scheduledTime.year }}", "unknown name"),
        ("{{ }}", "unknown name ''"),
        ("{{ parameters.n + 1 }}", "unknown name"),
        ("{{ parameters.month", "is never closed"),
        ("{{ 'parameters.month }}", "is never closed"),
        (
            "{{ parameters.n | pad:3 }}",
            "unknown filter 'pad': there is date, day, default, json, lower, month, upper, zone",
        ),
        ("{{ nothing | pad | default:1 }}", "unknown filter 'pad'"),
        ("{{ parameters.n | month }}", "3 is not a time"),
        ("{{ text | month:x }}", "'x' is not a number of steps"),
        ("{{ text | month:-99999 }}", "before the year 1000"),
        ("{{ text | day:99999999 }}", "is not a number of steps"),
        ("{{ text | date:%Q }}", "date knows no %Q"),
        ("{{ text | date:% }}", "date knows no %"),
        ("{{ text | zone:Mars/Olympus }}", "'Mars/Olympus' is not a time zone"),
        ("{{ text | zone:../../etc/passwd }}", "is not a time zone"),
    ],
)
def test_a_place_that_can_t_be_filled_is_a_value_error_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        render(text, VARIABLES)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    assert render("{{ a }}", {"a": "{{ secret }}", "secret": "x"}) == "{{ secret }}"


def test_a_tree_is_rendered_in_its_texts_only() -> None:
    tree = {"{{ utc }}": ["{{ parameters.n }}", 1, None, {"x": ("{{ parameters.month }}",)}]}
    assert render_tree(tree, VARIABLES) == {"{{ utc }}": ["3", 1, None, {"x": ["2026-10"]}]}
    assert tree == {"{{ utc }}": ["{{ parameters.n }}", 1, None, {"x": ("{{ parameters.month }}",)}]}


@pytest.mark.timeout(60)  # quadratic work would take many minutes
def test_hostile_input_is_refused_in_linear_time() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    for text in (
        "{{" * 200_000,
        "{{ a" + "'x'" * 200_000,
        "{{ '" * 100_000,
        "{{" + "}" * 200_000,
        "{{ " + "a|" * 200_000 + "}}",
    ):
        with pytest.raises(ValueError):
            render(text, VARIABLES)
    with pytest.raises(ValueError, match="nested deeper"):
        render_tree(deep, VARIABLES)
    with pytest.raises(ValueError, match="grows beyond"):
        render_tree(["{{ big }}{{ big }}"] * 10, {"big": "x" * (MOST_WRITTEN // 8)})


def test_a_chain_of_filters_is_short_and_each_of_them_is_charged() -> None:
    assert render("{{ 'a'" + "| upper" * MOST_FILTERS + "}}", {}) == "A"
    with pytest.raises(ValueError, match="26 filters are too many: at most 8"):
        render("{{ '\"'" + "| json" * 26 + "}}", {})
    with pytest.raises(ValueError, match="grows beyond"):
        render("{{ big | json | json | month }}", {"big": "\\" * (MOST_WRITTEN // 4)})


@settings(deadline=None)
@given(st.text(alphabet="{}'\"| :%abm.\n-1", max_size=40))
def test_any_text_renders_or_is_a_value_error(text: str) -> None:
    try:
        assert isinstance(render(text, {"a": {"b": "x"}, "m": datetime(2026, 1, 1, tzinfo=UTC)}), str)
    except ValueError as problem:
        assert "\n" not in str(problem)


def test_the_patterns_are_ones_that_every_python_of_ours_gets_right() -> None:
    """Python 3.11.2 (Debian 12) does not match a possessive quantifier in a group: every template failed there."""
    for pattern in (templates._PLACE.pattern, templates._STEP.pattern):
        assert not any(mark in pattern for mark in ("*+", "++", "?+", "(?>"))
