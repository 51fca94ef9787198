"""Durations and quantities are written as people say them, and read back exactly."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.machinery import durations
from casare_api.machinery.durations import format_duration, format_quantity, human, parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("1h30m", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("500ms", timedelta(milliseconds=500)),
        ("1m500ms", timedelta(seconds=60.5)),
        ("1.5h", timedelta(minutes=90)),
        ("0s", timedelta()),
        ("0", timedelta()),
        ("36500d", durations.LONGEST),
    ],
)
def test_durations_are_read(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "m",
        "5 m",
        "-5m",
        "5m1h",
        "5m5m",
        "1h 30m",
        "5x",
        "1e3s",
        "5M",
        "\u0665m",
        "36501d",
        "9" * 400 + "s",
        "1.s",
    ],
)
def test_anything_else_is_a_value_error_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|is too long") as caught:
        parse_duration(text)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("value", [None, 5, timedelta(1)])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(hours=24), "1d"),
        (timedelta(days=7), "7d"),
        (timedelta(hours=1, minutes=30), "1h30m"),
        (timedelta(milliseconds=500), "500ms"),
        (timedelta(microseconds=1500), "1.5ms"),
    ],
)
def test_durations_are_written_in_their_greatest_units(span: timedelta, text: str) -> None:
    assert format_duration(span) == text


def test_negative_durations_are_not_written() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_duration(timedelta(seconds=-1))


@settings(deadline=None)
@given(st.timedeltas(min_value=timedelta(), max_value=durations.LONGEST))
def test_what_is_written_is_read_back(span: timedelta) -> None:
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [  # the cases of duration_test.go in k8s.io/apimachinery, and the borders between the steps
        (-2, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (1, "1s"),
        (70, "70s"),
        (119, "119s"),
        (120, "2m"),
        (190, "3m10s"),
        (599, "9m59s"),
        (70 * 60, "70m"),
        (179 * 60 + 59, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 600, "3h10m"),
        (47 * 3600, "47h"),
        (49 * 3600, "2d1h"),
        (47 * 3600 * 24, "47d"),
        (8 * 24 * 3600 - 1, "7d23h"),
        (8 * 24 * 3600, "8d"),
        (365 * 24 * 3600, "365d"),
        (2 * 365 * 24 * 3600, "2y"),
        (700 * 24 * 3600, "700d"),
        (1000 * 24 * 3600, "2y270d"),
        (9 * 365 * 24 * 3600, "9y"),
    ],
)
def test_ages_follow_kubectl(seconds: float, text: str) -> None:
    assert human(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("500Mi", 500 * 2**20),
        ("2Gi", 2**31),
        ("1k", 1000),
        ("1Ki", 1024),
        ("1.5Gi", 3 * 2**29),
        ("0.1k", 100),
        ("1024", 1024),
        (1024, 1024),
        ("0", 0),
        ("0.0001k", 1),
    ],
)
def test_quantities_are_read(text: str | int, amount: int) -> None:
    assert parse_quantity(text) == amount


@pytest.mark.parametrize("text", ["", "Mi", "5 Mi", "-1", -1, "1K", "1m", "1e3", "1MB", "8Ei", True, None, "9" * 30])
def test_other_quantities_are_a_value_error(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not an amount|is too much"):
        parse_quantity(text)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=durations.MOST_BYTES))
def test_quantities_round_trip(amount: int) -> None:
    assert parse_quantity(format_quantity(amount)) == amount


def test_quantities_are_written_in_their_greatest_unit() -> None:
    assert [format_quantity(each) for each in (0, 1000, 1024, 500 * 2**20, 2**40)] == [
        "0",
        "1000",
        "1Ki",
        "500Mi",
        "1Ti",
    ]
    with pytest.raises(ValueError, match="negative"):
        format_quantity(-1)
