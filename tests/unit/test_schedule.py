"""Schedules: when they fire, across daylight saving, and what becomes of times nobody was there for."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.decisions.schedule import (
    MAX_RECORDS,
    ON_TIME,
    Plan,
    Verdict,
    admit_fire,
    check_cron,
    check_every,
    check_time_zone,
    fires_after,
    jitter_delay,
    next_fire,
    plan_fires,
)
from casare_api.kinds.schedule import SCHEDULE
from casare_api.machinery.admission import admit
from casare_api.machinery.errors import ApiError


def at(text: str, zone: str = "UTC", fold: int = 0) -> datetime:
    """`2026-03-29 02:30` on the wall of that zone, as a moment."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


def walls(cron: str, zone: str, dst: str, start: str, count: int) -> list[str]:
    """The next fires as the wall clock and its offset show them: `29 03:00 +0200`."""
    fires = fires_after({"cron": cron, "timeZone": zone, "dst": dst}, at(start, zone))
    return [fire.astimezone(ZoneInfo(zone)).strftime("%d %H:%M %z") for fire in islice(fires, count)]


TEN = at("2026-11-22 10:00")
HOUR = timedelta(hours=1)


# -- cron ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "after", "fire"),
    [
        ("30 2 1 * *", "2026-11-22 00:00", "2026-12-01 02:30"),
        ("* * * * *", "2026-11-22 00:00", "2026-11-22 00:01"),
        ("*/15 9-17 * * MON-FRI", "2026-11-20 17:50", "2026-11-23 09:00"),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("0 0 L * *", "2026-02-01 00:00", "2026-02-28 00:00"),
        ("0 12 * * 1#1", "2026-11-22 00:00", "2026-12-07 12:00"),
        ("@hourly", "2026-11-22 00:00", "2026-11-22 01:00"),
        ("@Daily", "2026-11-22 00:00", "2026-11-23 00:00"),
        ("@weekly", "2026-11-22 00:00", "2026-11-29 00:00"),
        ("@monthly", "2026-11-22 00:00", "2026-12-01 00:00"),
        ("@yearly", "2026-11-22 00:00", "2027-01-01 00:00"),
    ],
)
def test_cron_fires_next(cron: str, after: str, fire: str) -> None:
    assert check_cron(cron) is None
    assert next_fire({"cron": cron}, at(after)) == at(fire)


def test_a_fire_is_always_later_than_the_time_asked_about() -> None:
    noon = at("2026-11-22 12:00")
    assert next_fire({"cron": "0 12 * * *"}, noon) == noon + timedelta(days=1)
    assert next_fire({"cron": "0 12 * * *"}, noon - timedelta(microseconds=1)) == noon


@pytest.mark.parametrize(
    ("cron", "problem"),
    [
        ("", "must have five fields (minute hour day-of-month month day-of-week), not 0"),
        ("* * * *", "not 4"),
        ("0 * * * * *", "not 6; seconds are not supported"),
        ("61 * * * *", "minute '61' is not valid: it takes 0-59, lists, ranges and steps"),
        ("0 24 * * *", "hour '24' is not valid"),
        ("0 0 0 * *", "day-of-month '0' is not valid"),
        ("0 0 * FOO *", "month 'FOO' is not valid"),
        ("0 0 * * 8", "day-of-week '8' is not valid"),
        ("*/0 * * * *", "minute '*/0' is not valid"),
        ("5-1 * * * *", "minute '5-1' is not valid"),
        ("0 0 30 2 *", "never comes: the months it names have no such day"),
        ("@reboot", "must be one of @hourly"),
        ("*" * 300, "must be no more than 200 characters"),
    ],
)
def test_a_wrong_expression_gets_a_reason_in_words(cron: str, problem: str) -> None:
    assert problem in (check_cron(cron) or "")


@settings(deadline=None)
@given(st.text(alphabet="0123456789*/,-# LWMONFEB@\t", max_size=30))
def test_any_text_is_checked_without_an_exception(text: str) -> None:
    if check_cron(text) is None:
        assert next_fire({"cron": text}, at("2026-01-01 00:00")) is not None


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "", "../../etc/passwd", "/etc/passwd", "Europe", "localtime", "a\x00b"]
)
def test_unknown_time_zones_are_refused(name: str) -> None:
    assert "is not a time zone" in (check_time_zone(name) or "")


def test_known_time_zones_pass() -> None:
    assert check_time_zone("Europe/Berlin") is None and check_time_zone("UTC") is None


# -- daylight saving ------------------------------------------------------------------------------------------------

BERLIN, YORK, LORD_HOWE, APIA = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"


@pytest.mark.parametrize(
    ("zone", "start", "cron", "dst", "fires"),
    [
        # Berlin 2026-03-29: 02:00 becomes 03:00
        (BERLIN, "2026-03-28 12:00", "30 2 * * *", "Once", "29 03:00 +0200, 30 02:30 +0200"),
        (BERLIN, "2026-03-28 12:00", "30 2 * * *", "Skip", "30 02:30 +0200, 31 02:30 +0200"),
        (BERLIN, "2026-03-28 12:00", "30 2 * * *", "Twice", "29 03:00 +0200, 30 02:30 +0200"),
        # several times that do not exist fire together, once, also with one that does exist
        (BERLIN, "2026-03-28 12:00", "*/20 2,3 * * *", "Once", "29 03:00 +0200, 29 03:20 +0200, 29 03:40 +0200"),
        (BERLIN, "2026-03-28 12:00", "30 1-3 * * *", "Once", "29 01:30 +0100, 29 03:00 +0200, 29 03:30 +0200"),
        # Berlin 2026-10-25: 03:00 becomes 02:00
        (BERLIN, "2026-10-24 12:00", "30 2 * * *", "Once", "25 02:30 +0200, 26 02:30 +0100"),
        (BERLIN, "2026-10-24 12:00", "30 2 * * *", "Skip", "25 02:30 +0200, 26 02:30 +0100"),
        (BERLIN, "2026-10-24 12:00", "30 2 * * *", "Twice", "25 02:30 +0200, 25 02:30 +0100, 26 02:30 +0100"),
        (BERLIN, "2026-10-25 02:10", "*/30 2,3 * * *", "Twice", "25 02:30 +0200, 25 02:00 +0100, 25 02:30 +0100"),
        (BERLIN, "2026-10-25 02:10", "*/30 2,3 * * *", "Once", "25 02:30 +0200, 25 03:00 +0100, 25 03:30 +0100"),
        # New York 2026-03-08: 02:00 becomes 03:00; 2026-11-01: 02:00 becomes 01:00
        (YORK, "2026-03-07 12:00", "15 2 * * *", "Once", "08 03:00 -0400, 09 02:15 -0400"),
        (YORK, "2026-03-07 12:00", "15 2 * * *", "Skip", "09 02:15 -0400"),
        (YORK, "2026-10-31 12:00", "15 1 * * *", "Once", "01 01:15 -0400, 02 01:15 -0500"),
        (YORK, "2026-10-31 12:00", "15 1 * * *", "Twice", "01 01:15 -0400, 01 01:15 -0500, 02 01:15 -0500"),
        # Lord Howe moves by half an hour: 2026-10-04 02:00 becomes 02:30; 2026-04-05 02:00 becomes 01:30
        (LORD_HOWE, "2026-10-03 12:00", "15 2 * * *", "Once", "04 02:30 +1100, 05 02:15 +1100"),
        (LORD_HOWE, "2026-10-03 12:00", "15 2 * * *", "Skip", "05 02:15 +1100"),
        (LORD_HOWE, "2026-10-03 12:00", "30 2 * * *", "Once", "04 02:30 +1100, 05 02:30 +1100"),
        (LORD_HOWE, "2026-04-04 12:00", "45 1 * * *", "Once", "05 01:45 +1100, 06 01:45 +1030"),
        (LORD_HOWE, "2026-04-04 12:00", "45 1 * * *", "Twice", "05 01:45 +1100, 05 01:45 +1030, 06 01:45 +1030"),
        (LORD_HOWE, "2026-04-04 12:00", "15 1 * * *", "Twice", "05 01:15 +1100, 06 01:15 +1030"),
        # Apia left out the whole of 2011-12-30
        (APIA, "2011-12-29 12:00", "0 9 * * *", "Once", "31 00:00 +1400, 31 09:00 +1400"),
        (APIA, "2011-12-29 12:00", "0 9 * * *", "Skip", "31 09:00 +1400"),
    ],
)
def test_times_of_day_follow_the_dst_rule(zone: str, start: str, cron: str, dst: str, fires: str) -> None:
    expected = fires.split(", ")
    assert walls(cron, zone, dst, start, len(expected)) == expected


@pytest.mark.parametrize("dst", ["Once", "Skip", "Twice"])
def test_rhythms_follow_the_real_clock_whatever_the_rule(dst: str) -> None:
    spring = ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200"]
    assert walls("*/30 * * * *", BERLIN, dst, "2026-03-29 01:00", 3) == spring
    autumn = ["25 02:05 +0200", "25 02:05 +0100", "25 03:05 +0100"]
    assert walls("5 * * * *", BERLIN, dst, "2026-10-25 02:00", 3) == autumn


@pytest.mark.parametrize("dst", ["Once", "Skip", "Twice"])
@pytest.mark.parametrize("zone", [BERLIN, YORK, LORD_HOWE])
@pytest.mark.parametrize("cron", ["*/7 * * * *", "*/20 1-3 * * *", "30 2 * * *"])
def test_asking_anew_from_anywhere_gives_the_same_fires(dst: str, zone: str, cron: str) -> None:
    """What one walk finds, `next_fire` finds from every quarter of an hour, seconds and all."""
    spec = {"cron": cron, "timeZone": zone, "dst": dst}
    for start in (
        datetime(2026, 3, 7, tzinfo=UTC),
        datetime(2026, 10, 3, tzinfo=UTC),
        datetime(2026, 10, 24, tzinfo=UTC),
    ):
        fires = list(islice(fires_after(spec, start), 600))
        assert fires == sorted(set(fires))
        for step in range(4 * 24 * 2):
            after = start + timedelta(minutes=15 * step, seconds=step % 60)
            expected = next((fire for fire in fires if fire > after), None)
            assert expected is None or next_fire(spec, after) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([BERLIN, YORK, LORD_HOWE, "Africa/Casablanca", "Asia/Kathmandu"]),
    st.integers(0, 23),
    st.integers(0, 59),
    st.datetimes(datetime(2000, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC)),
)
def test_once_fires_a_daily_time_exactly_once_a_day(zone: str, hour: int, minute: int, start: datetime) -> None:
    spec = {"cron": f"{minute} {hour} * * *", "timeZone": zone, "dst": "Once"}
    days = [fire.astimezone(ZoneInfo(zone)).date() for fire in islice(fires_after(spec, start), 30)]
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))


def test_a_time_that_is_always_skipped_comes_to_an_end() -> None:
    last_sunday = {"cron": "30 2 * 3 0L", "timeZone": BERLIN, "dst": "Skip"}
    assert next_fire(last_sunday, at("2026-01-01 00:00")) is None


def test_the_end_of_the_calendar_is_an_end() -> None:
    end = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)
    assert next_fire({"cron": "0 0 1 1 *"}, end) is None
    assert next_fire({"every": "90d"}, end) is None


# -- every and at ---------------------------------------------------------------------------------------------------


def test_every_counts_from_its_anchor() -> None:
    anchor, spec = at("2026-11-22 10:03"), {"every": "1h30m"}
    assert next_fire(spec, anchor, anchor=anchor) == at("2026-11-22 11:33")
    assert next_fire(spec, at("2026-11-22 11:33"), anchor=anchor) == at("2026-11-22 13:03")
    assert next_fire(spec, at("2020-01-01 00:00"), anchor=anchor) == at("2026-11-22 11:33")
    assert next_fire({"every": "1h"}, at("2026-11-22 10:03")) == at("2026-11-22 11:00")


def test_times_are_whole_seconds_so_that_they_survive_being_written() -> None:
    moment = next_fire({"every": "2s"}, TEN, anchor=TEN + timedelta(milliseconds=300))
    assert moment == TEN + timedelta(seconds=2)
    assert next_fire({"at": "2026-11-22T19:00:00.7Z"}, TEN) == at("2026-11-22 19:00")


@pytest.mark.parametrize("text", ["0s", "500ms", "1.5s", "5", ""])
def test_intervals_are_checked(text: str) -> None:
    assert check_every(text)
    assert check_every("1s") is None and check_every("1h30m") is None


def test_at_fires_once() -> None:
    spec = {"at": "2026-11-22T20:00:00+01:00"}
    assert next_fire(spec, at("2026-11-22 18:59")) == at("2026-11-22 19:00")
    assert next_fire(spec, at("2026-11-22 19:00")) is None


@pytest.mark.parametrize(
    "spec", [{}, {"every": "0s"}, {"every": "10ms"}, {"cron": "x"}, {"at": "soon"}, {"cron": "@daily", "timeZone": "x"}]
)
def test_a_spec_that_admission_should_have_refused_is_a_value_error(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        next_fire(spec, at("2026-01-01 00:00"))


# -- plans ----------------------------------------------------------------------------------------------------------

HOURLY: dict[str, Any] = {"cron": "0 * * * *"}


def said(plan: Plan) -> list[tuple[int, str, str]]:
    return [(fire.time.hour, fire.outcome, fire.reason) for fire in plan.fires]


def test_a_new_schedule_fires_nothing_and_gets_its_next_time() -> None:
    assert plan_fires(HOURLY, None, TEN) == Plan((), TEN + HOUR, TEN + HOUR)


def test_nothing_is_due_before_its_time() -> None:
    assert plan_fires(HOURLY, TEN, TEN - timedelta(seconds=1)) == Plan((), TEN, TEN)


@pytest.mark.parametrize("policy", ["Skip", "FireOnce", "CatchUp"])
def test_on_time_it_fires_whatever_the_policy(policy: str) -> None:
    plan = plan_fires({**HOURLY, "misfirePolicy": policy}, TEN, TEN + ON_TIME)
    assert said(plan) == [(10, "Fired", "OnTime")] and plan.next == TEN + HOUR


def test_after_an_outage_skip_fires_nothing() -> None:
    plan = plan_fires({**HOURLY, "misfirePolicy": "Skip"}, TEN, TEN + 2.5 * HOUR)
    assert said(plan) == [(hour, "Missed", "Misfired") for hour in (10, 11, 12)]
    assert plan.fires[0].message == "150m late, and misfirePolicy Skip makes up for nothing"
    assert plan.next == TEN + 3 * HOUR


def test_after_an_outage_fire_once_fires_the_latest() -> None:
    plan = plan_fires({**HOURLY, "misfirePolicy": "FireOnce"}, TEN, TEN + 2.5 * HOUR)
    assert said(plan) == [(10, "Missed", "Superseded"), (11, "Missed", "Superseded"), (12, "Fired", "CaughtUp")]


def test_a_fire_on_time_stands_for_those_missed() -> None:
    plan = plan_fires({**HOURLY, "misfirePolicy": "FireOnce"}, TEN, TEN + 2 * HOUR)
    assert said(plan) == [(10, "Missed", "Superseded"), (11, "Missed", "Superseded"), (12, "Fired", "OnTime")]


def test_catch_up_fires_the_latest_of_those_missed_oldest_first() -> None:
    plan = plan_fires({**HOURLY, "misfirePolicy": "CatchUp", "catchUp": {"max": 2}}, TEN, TEN + 3.5 * HOUR)
    assert said(plan) == [
        (10, "Missed", "Superseded"),
        (11, "Missed", "Superseded"),
        (12, "Fired", "CaughtUp"),
        (13, "Fired", "CaughtUp"),
    ]


@pytest.mark.parametrize("policy", ["FireOnce", "CatchUp"])
def test_what_is_later_than_the_start_deadline_never_fires(policy: str) -> None:
    spec = {**HOURLY, "misfirePolicy": policy, "startDeadline": "45m"}
    plan = plan_fires(spec, TEN, TEN + 2.5 * HOUR)
    assert said(plan)[:2] == [(10, "Missed", "DeadlinePassed"), (11, "Missed", "DeadlinePassed")]
    assert said(plan)[2:] == [(12, "Fired", "CaughtUp")]
    assert plan.fires[0].message == "later than startDeadline 45m"
    assert said(plan_fires({**HOURLY, "startDeadline": "10s"}, TEN, TEN + timedelta(seconds=11))) == [
        (10, "Missed", "DeadlinePassed")
    ]


def test_while_suspended_everything_due_is_missed_and_nothing_is_made_up_for_later() -> None:
    plan = plan_fires({**HOURLY, "suspend": True}, TEN, TEN + 1.5 * HOUR)
    assert said(plan) == [(10, "Missed", "Suspended"), (11, "Missed", "Suspended")]
    assert said(plan_fires(HOURLY, plan.next, TEN + 2 * HOUR)) == [(12, "Fired", "OnTime")]


def test_at_fires_late_once_and_then_never_again() -> None:
    plan = plan_fires({"at": "2026-11-22T10:00:00Z"}, TEN, TEN + HOUR)
    assert said(plan) == [(10, "Fired", "CaughtUp")]
    assert plan.next is None and plan.wake is None
    assert plan_fires({"at": "2026-11-22T10:00:00Z"}, None, TEN + HOUR) == Plan((), None, None)


def test_jitter_is_the_same_whoever_asks_and_below_its_bound() -> None:
    spec = {**HOURLY, "jitter": "10m"}
    delays = [jitter_delay(spec, "uid-1", TEN + HOUR * hour) for hour in range(50)]
    assert delays == [jitter_delay(spec, "uid-1", TEN + HOUR * hour) for hour in range(50)]
    assert all(timedelta() <= delay < timedelta(minutes=10) for delay in delays)
    assert len(set(delays)) > 40 and delays[0] != jitter_delay(spec, "uid-2", TEN)
    assert jitter_delay(HOURLY, "uid-1", TEN) == timedelta()


def test_a_fire_waits_out_its_jitter_and_is_not_late_by_it() -> None:
    spec = {**HOURLY, "jitter": "50m", "startDeadline": "30s"}
    wake = TEN + jitter_delay(spec, "u", TEN)
    assert wake > TEN + ON_TIME  # or this test shows nothing
    assert plan_fires(spec, TEN, wake - timedelta(milliseconds=1), uid="u") == Plan((), TEN, wake)
    assert said(plan_fires(spec, TEN, wake, uid="u")) == [(10, "Fired", "OnTime")]


def test_every_keeps_to_its_anchor_over_an_outage() -> None:
    anchor = at("2026-11-22 09:07")
    plan = plan_fires({"every": "30m"}, at("2026-11-22 09:37"), at("2026-11-22 11:00"), anchor=anchor)
    assert [fire.time.minute for fire in plan.fires] == [37, 7, 37]
    assert plan.next == at("2026-11-22 11:07")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("rule", [{"cron": "* * * * *", "timeZone": BERLIN}, {"every": "1s"}, {"cron": "* * 1 1 *"}])
@pytest.mark.parametrize("policy", ["Skip", "FireOnce", "CatchUp"])
def test_however_long_the_outage_work_and_records_are_bounded(rule: dict[str, Any], policy: str) -> None:
    now = at("2026-01-01 00:30")
    plan = plan_fires({**rule, "misfirePolicy": policy, "startDeadline": "7d"}, at("1996-01-01 00:00"), now)
    outcomes = Counter(fire.outcome for fire in plan.fires)
    assert outcomes["Missed"] <= MAX_RECORDS and outcomes["Fired"] <= 10 + ON_TIME.seconds + 1
    assert plan.omitted > 5000
    assert plan.next is not None and plan.next > now
    times = [fire.time for fire in plan.fires]
    assert times == sorted(set(times)) and now - times[-1] <= ON_TIME
    if policy == "CatchUp":
        assert sum(fire.reason == "CaughtUp" for fire in plan.fires) == 10


def test_missed_times_without_a_record_are_counted_exactly_while_they_are_few() -> None:
    plan = plan_fires({"every": "1m"}, TEN, TEN + 10 * HOUR, anchor=TEN)
    assert len(plan.fires) + plan.omitted == 601
    assert sum(fire.outcome == "Missed" for fire in plan.fires) == MAX_RECORDS


@settings(deadline=None)
@given(
    st.sampled_from(["Skip", "FireOnce", "CatchUp"]),
    st.integers(1, 20),
    st.sampled_from([None, "30s", "10m", "5h"]),
    st.integers(0, 100_000),
    st.booleans(),
    st.sampled_from([None, "40s", "20m"]),
)
def test_each_due_time_gets_one_decision_and_the_walk_goes_on(
    policy: str, most: int, deadline: str | None, seconds: int, suspend: bool, jitter: str | None
) -> None:
    spec = {"every": "7m", "misfirePolicy": policy, "catchUp": {"max": most}, "suspend": suspend}
    spec |= {"startDeadline": deadline, "jitter": jitter}
    now = TEN + timedelta(seconds=seconds)
    plan = plan_fires(spec, TEN, now, anchor=TEN, uid="u")
    times = [fire.time for fire in plan.fires]
    assert plan.next is not None and plan.wake is not None and plan.wake > now
    walked = [TEN + timedelta(minutes=7) * step for step in range((plan.next - TEN) // timedelta(minutes=7))]
    assert times == walked[plan.omitted :] or len(times) + plan.omitted == len(walked)
    fired = [fire for fire in plan.fires if fire.outcome == "Fired"]
    assert not (suspend and fired)
    caught_up = [fire for fire in fired if fire.reason == "CaughtUp"]
    assert len(caught_up) <= {"Skip": 0, "FireOnce": 1, "CatchUp": most}[policy]
    assert plan_fires(spec, plan.next, now, anchor=TEN, uid="u").fires == ()


@pytest.mark.parametrize("rule", [{"at": "9999-12-31T23:59:59.5Z"}, {"every": "36500d"}, {"cron": "@yearly"}])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_at_the_end_of_the_calendar_jitter_and_deadline_have_no_effect(rule: dict[str, Any], zone: str) -> None:
    end = datetime.max.replace(microsecond=0, tzinfo=UTC)
    spec = {**rule, "timeZone": zone, "jitter": "36500d", "startDeadline": "36500d", "misfirePolicy": "CatchUp"}
    assert (plan_fires(spec, None, TEN, anchor=TEN, uid="u").wake or TEN) <= end
    for first in (end, end - timedelta(days=36600), datetime.min.replace(tzinfo=UTC)):
        for now in (TEN, end - timedelta(days=400), end):
            plan = plan_fires(spec, first, now, anchor=TEN, uid="u")
            assert plan.wake is None or plan.wake <= end


def test_looking_back_ends_where_the_calendar_begins() -> None:
    spec = {"cron": "* * 1-3 1 *", "misfirePolicy": "CatchUp", "catchUp": {"max": 100_000}}
    plan = plan_fires(spec, datetime.min.replace(tzinfo=UTC), datetime(12, 1, 1, tzinfo=UTC))
    assert plan.omitted == 10_000 and plan.next is not None


# -- what is admitted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "field", "problem"),
    [
        ({"labels": {"bad key!!": "x"}}, "labels", "bad key!!=x"),
        ({"labels": {"a": "-"}}, "labels", "must be empty or consist of letters"),
        ({"annotations": {"bad key!!": "x"}}, "annotations", "name part must consist of letters"),
        ({"annotations": {"a": "x" * 300_000}}, "annotations", "Too long"),
    ],
)
def test_a_templates_metadata_must_fit_a_job(metadata: dict[str, Any], field: str, problem: str) -> None:
    template = {"metadata": metadata, "spec": {"workflow": {"runner": "command", "args": ["true"]}}}
    with pytest.raises(ApiError) as caught:
        admit(SCHEDULE, {"metadata": {"name": "s"}, "spec": {"cron": "@daily", "jobTemplate": template}})
    (cause,) = caught.value.causes
    assert (caught.value.status, cause.field) == (422, f"spec.jobTemplate.metadata.{field}")
    assert problem in cause.message and cause.message.count("Invalid value") == 1


# -- concurrency ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "unfinished", "verdict"),
    [
        ("Allow", 7, Verdict("Fire")),
        ("Forbid", 0, Verdict("Fire")),
        ("Forbid", 1, Verdict("Skip", "1 earlier job is not finished")),
        ("Replace", 0, Verdict("Fire")),
        ("Replace", 2, Verdict("Replace", "2 earlier jobs are not finished")),
    ],
)
def test_the_concurrency_policy_has_its_say(policy: str, unfinished: int, verdict: Verdict) -> None:
    assert admit_fire(policy, unfinished) == verdict


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a concurrencyPolicy"):
        admit_fire("Maybe", 1)
