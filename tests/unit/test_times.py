"""Times are RFC 3339 in UTC on the way out, and any RFC 3339 on the way in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.machinery import times

MOMENT = datetime(2026, 11, 22, 20, 0, 5, 123456, UTC)


def test_seconds_by_default_and_microseconds_when_asked() -> None:
    assert times.to_text(MOMENT) == "2026-11-22T20:00:05Z"
    assert times.to_text(MOMENT, micro=True) == "2026-11-22T20:00:05.123456Z"
    assert times.to_text(MOMENT.replace(microsecond=0), micro=True) == "2026-11-22T20:00:05.000000Z"


def test_other_zones_are_written_in_utc() -> None:
    berlin = timezone(timedelta(hours=1))
    assert times.to_text(datetime(2026, 11, 22, 21, tzinfo=berlin)) == "2026-11-22T20:00:00Z"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        times.to_text(datetime(2026, 1, 1))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T20:00:05Z", MOMENT.replace(microsecond=0)),
        ("2026-11-22t20:00:05z", MOMENT.replace(microsecond=0)),
        ("2026-11-22T21:00:05.123456+01:00", MOMENT),
        ("2026-11-22 14:30:05.123456789-05:30", MOMENT),
        ("2026-11-22T20:00:05.1Z", MOMENT.replace(microsecond=100_000)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_any_offset_and_fraction_is_read(text: str, moment: datetime) -> None:
    read = times.from_text(text)
    assert read == moment
    assert read.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-22",
        "2026-11-22T20:00:05",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T20:00:00+25:00",
        "2026-11-22T20:00:00+01:60",
        "0001-01-01T00:00:00+01:00",
        "2026-11-22T20:00:00Z\n",
        "٢٠٢٦-11-22T20:00:00Z",
        "x" * 10_000,
    ],
)
def test_anything_else_is_a_value_error_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time") as caught:
        times.from_text(text)
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_what_is_no_text_is_refused_too() -> None:
    with pytest.raises(ValueError, match="is not a time"):
        times.from_text(20261122)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.datetimes(timezones=st.just(UTC)))
def test_round_trip(moment: datetime) -> None:
    assert times.from_text(times.to_text(moment, micro=True)) == moment
    assert times.from_text(times.to_text(moment)) == moment.replace(microsecond=0)
