"""Maintenance windows: where the clocks change, where windows overlap, and what always holds of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from casare_api.decisions import maintenance
from casare_api.decisions.cron import cron_times
from casare_api.decisions.draining import judge
from casare_api.decisions.maintenance import Stretch, window_at
from casare_api.kinds.robot import MaintenanceWindow, RobotSpec
from casare_api.machinery import times

BERLIN = "Europe/Berlin"


def window(cron: str, duration: str, name: str = "w", zone: str | None = None) -> dict[str, Any]:
    return {"name": name, "cron": cron, "duration": duration} | ({"timeZone": zone} if zone else {})


def at(text: str) -> datetime:
    return times.from_text(text)


def span(found: Stretch | None) -> tuple[str, str, str] | None:
    if found is None or found.start is None or found.end is None:
        return None
    return found.name, times.to_text(found.start), times.to_text(found.end)


def test_a_window_begins_with_its_first_moment_and_is_over_at_its_end() -> None:
    nightly = [window("0 2 * * *", "2h")]
    held = ("w", "2026-11-22T02:00:00Z", "2026-11-22T04:00:00Z")
    following = ("w", "2026-11-23T02:00:00Z", "2026-11-23T04:00:00Z")
    for moment, current, upcoming in (
        ("2026-11-22T01:59:59.999999Z", None, held),
        ("2026-11-22T02:00:00Z", held, following),
        ("2026-11-22T03:59:59.999999Z", held, following),
        ("2026-11-22T04:00:00Z", None, following),
    ):
        found = window_at(nightly, at(moment))
        assert (span(found.current), span(found.next)) == (current, upcoming), moment
    assert window_at([], at("2026-11-22T02:00:00Z")).current is None


@pytest.mark.parametrize(
    ("moment", "current"),
    [  # Berlin puts the clock forward on 2026-03-29 at 01:00 UTC, back on 2026-10-25 at 01:00 UTC
        ("2026-03-29T00:30:00Z", ("w", "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z")),
        ("2026-03-29T02:59:00Z", ("w", "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z")),
        ("2026-10-25T02:30:00Z", ("w", "2026-10-24T23:00:00Z", "2026-10-25T02:00:00Z")),
    ],
)
def test_a_window_lasts_as_long_as_it_says_when_the_clocks_change(
    moment: str, current: tuple[str, str, str] | None
) -> None:
    found = window_at([window("0 1 * * *", "3h", zone=BERLIN)], at(moment))
    if moment.startswith("2026-10"):
        assert found.current is None, "three hours are over, though the wall has shown two of them"
    else:
        assert span(found.current) == current


def test_a_begin_that_the_wall_never_shows_is_when_the_clock_was_put_forward_and_one_shown_twice_is_the_first() -> None:
    rule = [window("30 2 * * *", "1h", zone=BERLIN)]
    assert span(window_at(rule, at("2026-03-29T01:10:00Z")).current) == (
        "w", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z")  # fmt: skip
    assert span(window_at(rule, at("2026-10-25T00:40:00Z")).current) == (
        "w", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z")  # fmt: skip
    assert window_at(rule, at("2026-10-25T01:40:00Z")).current is None


def test_windows_that_overlap_or_touch_are_one_and_the_name_is_that_of_the_longest_there() -> None:
    rules = [window("0 2 * * *", "2h", "a"), window("0 3 * * *", "2h", "b"), window("0 5 * * *", "30m", "c")]
    whole = ("2026-11-22T02:00:00Z", "2026-11-22T05:30:00Z")
    for moment, name in (("02:10", "a"), ("03:10", "b"), ("04:30", "b"), ("05:10", "c")):
        found = window_at(rules, at(f"2026-11-22T{moment}:00Z"))
        assert span(found.current) == (name, *whole)
        assert found.next == Stretch("a", at("2026-11-23T02:00:00Z"), at("2026-11-23T04:00:00Z"))


def test_windows_without_a_gap_have_no_end_and_a_rule_that_never_comes_again_no_next() -> None:
    found = window_at([window("0 * * * *", "2h")], at("2026-11-22T02:10:00Z"))
    assert found.current == Stretch("w", None, None) and found.next is None
    assert found.again == at("2026-11-22T02:15:00Z"), "the windows may yet end"
    assert window_at([window("0 0 1 1 *", "1s")], at("9998-12-31T23:59:59Z")).next is not None
    assert window_at([window("0 0 1 1 *", "1s")], at("9999-12-31T23:59:59Z")).next is None


RULES = st.builds(
    lambda minute, hour, day, length, zone, name: window(f"{minute} {hour} * * {day}", f"{length}m", name, zone),
    st.integers(0, 59), st.one_of(st.integers(0, 23), st.just("*/6")), st.sampled_from(["*", "0", "1-5"]),
    st.integers(1, 60 * 30), st.sampled_from(["UTC", BERLIN, "America/St_Johns", "Australia/Lord_Howe"]),
    st.sampled_from("abc"),
)  # fmt: skip
MOMENTS = st.datetimes(datetime(2026, 3, 1), datetime(2026, 11, 30)).map(lambda moment: moment.replace(tzinfo=UTC))


def holds(rules: list[dict[str, Any]], moment: datetime) -> bool:
    """The definition: some begin is no longer ago than its window lasts."""
    for one in rules:
        long = timedelta(minutes=int(one["duration"][:-1]))
        begin = next(cron_times(one["cron"], one["timeZone"], "Once", moment - long), None)
        if begin is not None and begin <= moment:
            return True
    return False


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(RULES, min_size=1, max_size=3), MOMENTS)
def test_a_stretch_is_maintenance_from_its_first_moment_to_its_last_and_there_is_none_beside_it(
    rules: list[dict[str, Any]], moment: datetime
) -> None:
    found, tick = window_at(rules, moment), timedelta(microseconds=1)
    assert (found.current is not None) == holds(rules, moment)
    if found.current is not None and found.current.start is not None and found.current.end is not None:
        start, end = found.current.start, found.current.end
        assert start <= moment < end
        assert holds(rules, start) and not holds(rules, start - tick)
        assert holds(rules, end - tick) and not holds(rules, end)
        inside = window_at(rules, start + (end - start) / 3).current
        assert inside is not None, "and what is not in sight from there is not said"
        assert inside.start in (start, None) and inside.end in (end, None)
    if found.next is not None:
        after = found.current.end if found.current is not None else moment
        assert found.next.start is not None and after is not None and found.next.start > after
        assert holds(rules, found.next.start) and not holds(rules, found.next.start - tick)
        assert not holds(rules, after + (found.next.start - after) / 2)


TANGLES = ("* * * * *", "*/2 * 1 * *", "* 0 1 * *", "* * 24 10 *", "0 0 29 2 1", "0 0 * 2 1#5", "* * 1-15 * *", "*/7 */5 */3 * *")


@pytest.mark.parametrize("many", [10, 100])
@pytest.mark.parametrize("duration", ["1h", "31d", "36500d"])
def test_however_tangled_windows_are_only_so_much_is_looked_at(
    duration: str, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of this is done while nobody else can write."""
    taken = 0

    def counted(*said: Any) -> Any:
        nonlocal taken
        for moment in cron_times(*said):
            taken += 1
            yield moment

    monkeypatch.setattr(maintenance, "cron_times", counted)
    for zone in ("UTC", BERLIN):
        for rules in ([rule] * many for rule in TANGLES):
            taken = 0
            window_at([window(rule, duration, f"w{n}", zone) for n, rule in enumerate(rules)], at("2026-11-21T10:00:30Z"))
            assert taken <= 2 * many + 240, (rules[0], zone, taken)


def test_a_rule_is_followed_for_a_year_and_then_looked_at_again() -> None:
    leap, now = window("0 0 29 2 *", "2h"), at("2026-11-22T00:00:00Z")
    found = window_at([leap], now)
    assert (found.current, found.next, found.again) == (None, None, now + timedelta(days=366))
    assert judge({"spec": {"maintenanceWindows": [leap]}}, now).changes_at(now) == found.again
    assert found.again is not None and span(window_at([leap], found.again).next) == (
        "w", "2028-02-29T00:00:00Z", "2028-02-29T02:00:00Z")  # fmt: skip
    assert window_at([leap], at("2028-02-29T01:00:00Z")).current == Stretch(
        "w", at("2028-02-29T00:00:00Z"), at("2028-02-29T02:00:00Z"))  # fmt: skip


def test_windows_of_a_whole_week_are_told_of_to_the_minute() -> None:
    days = [window(f"0 22 * * {day}", "3h", f"d{day}", BERLIN) for day in range(7)]
    extra = [window("0 1 * * 0", "90m", "long", BERLIN), window("*/20 12-13 * * 1-5", "30m", "noon", BERLIN)]
    for moment, name, start, end in (
        ("2026-11-21T23:10:00Z", "d6", "2026-11-21T21:00:00Z", "2026-11-22T01:30:00Z"),
        ("2026-11-23T11:20:00Z", "noon", "2026-11-23T11:00:00Z", "2026-11-23T13:10:00Z"),
    ):
        assert span(window_at([*days, *extra], at(moment)).current) == (name, start, end)


def test_what_is_written_has_ten_windows_at_most_of_a_month_each_and_what_was_stored_is_cut() -> None:
    RobotSpec.model_validate({"maintenanceWindows": [window("0 2 * * *", "31d", f"w{n}") for n in range(10)]})
    with pytest.raises(ValidationError, match="at most 10"):
        RobotSpec.model_validate({"maintenanceWindows": [window("0 2 * * *", "1h", f"w{n}") for n in range(11)]})
    with pytest.raises(ValidationError, match="must be no longer than 31d"):
        MaintenanceWindow.model_validate(window("0 2 * * *", "31d1s"))
    stored = [window("0 0 1 1 *", "90d")]
    assert span(window_at(stored, at("2026-01-10T00:00:00Z")).current) == ("w", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
    assert window_at(stored, at("2026-02-10T00:00:00Z")).current is None
