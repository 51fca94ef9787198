"""How often may one caller ask, and from which address does he?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.decisions.access import ANONYMOUS, Identity
from casare_api.machinery.errors import ApiError
from casare_apiserver.addresses import UNKNOWN, Addresses
from casare_apiserver.auth import ADMIN
from casare_apiserver.limits import FREE, PER_TOKEN, Buckets, Limits, network_of

ANN = Identity("ann", "operator", "default", key_uid="u-ann")
BOT = Identity("bot", "robot", "default", "bot", "u-bot")


def scope(peer: str | None, forwarded: str = "") -> dict[str, Any]:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    return {"client": None if peer is None else (peer, 4711), "headers": headers}


def limits(rate: float = 1.0, burst: float = 2.0) -> Limits:
    return Limits(*(Buckets(rate, burst) for _ in range(3)))


# -- buckets ---------------------------------------------------------------------------------------------------------


def test_a_burst_is_served_and_then_so_many_a_second() -> None:
    bucket = Buckets(rate=10, burst=3)
    assert [bucket.take("ann", 100.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take("ann", 100.0) == pytest.approx(0.1)
    assert bucket.take("bob", 100.0) == 0
    assert bucket.take("ann", 100.1) == 0 and bucket.take("ann", 100.1) > 0
    assert [bucket.take("ann", 200.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take("ann", 200.0) > 0


def test_a_refusal_costs_nothing() -> None:
    bucket = Buckets(rate=1, burst=1)
    assert bucket.take("ann", 0) == 0
    assert all(bucket.take("ann", 0.5) == pytest.approx(0.5) for _ in range(1000))
    assert bucket.take("ann", 1.0) == 0


@given(st.lists(st.floats(0, 2), max_size=60), st.floats(0.5, 50), st.integers(1, 20))
def test_in_no_span_of_time_are_there_more_than_the_burst_and_the_rate(gaps: list[float], rate: float, burst: int) -> None:
    bucket, now, served = Buckets(rate, burst), 1000.0, []
    for gap in gaps:
        now += gap
        if not bucket.take("ann", now):
            served.append(now)
    for first in range(len(served)):
        for last in range(first, len(served)):
            assert last - first + 1 <= burst + rate * (served[last] - served[first]) + 1e-3


def test_a_rate_of_nothing_is_no_limit() -> None:
    bucket = Buckets(rate=0, burst=1)
    assert all(bucket.take("ann", 0) == 0 for _ in range(100)) and len(bucket) == 0


def test_memory_is_bounded_whoever_calls() -> None:
    bucket = Buckets(rate=1, burst=1, most=100)
    for number in range(10_000):
        bucket.take(f"caller-{number}", number / 1000)
        assert len(bucket) <= 100
    for number in range(80):
        bucket.take(f"quiet-{number}", 1e6)
    assert bucket.take("late", 2e6) == 0
    for number in range(200):
        bucket.take(f"other-{number}", 2e6)
    assert bucket.take("late", 2e6) >= 0


# -- who -------------------------------------------------------------------------------------------------------------


def test_one_loud_caller_is_told_to_wait_and_others_are_not() -> None:
    found = limits()
    found.check(ANN, "10.0.0.1", False)
    found.check(ANN, "10.0.0.1", False)
    with pytest.raises(ApiError, match='"ann" asks more than 1 times a second: try again in 1 s') as told:
        found.check(ANN, "10.0.0.2", False)
    assert (told.value.status, told.value.details) == (429, {"retryAfterSeconds": 1})
    found.check(BOT, "10.0.0.1", False)


def test_what_a_robot_reports_has_a_bucket_of_its_own() -> None:
    found = limits()
    for _ in range(2):
        found.check(BOT, "10.0.0.1", False)
    with pytest.raises(ApiError):
        found.check(BOT, "10.0.0.1", False)
    found.check(BOT, "10.0.0.1", True)


def test_a_large_body_counts_as_many_requests_of_its_sender_alone() -> None:
    """It was let in already: what is said next waits until it is paid for."""
    loud = limits(rate=10, burst=20)
    loud.check(ANN, "1.2.3.4", False)
    loud.spend(ANN, False, FREE)
    loud.check(ANN, "1.2.3.4", False)
    loud.spend(ANN, False, FREE + 30 * PER_TOKEN)
    with pytest.raises(ApiError, match='"ann" asks more than 10 times a second: try again in 2 s'):
        loud.check(ANN, "1.2.3.4", False)
    loud.check(ANN, "1.2.3.4", True)
    loud.check(BOT, "1.2.3.4", False)
    loud.check(ADMIN, "1.2.3.4", False)
    loud.spend(ADMIN, False, 10**9)
    loud.check(ADMIN, "1.2.3.4", False)


def test_strangers_are_known_by_their_address_and_the_admin_key_has_no_limit() -> None:
    found = limits()
    for _ in range(2):
        found.check(ANONYMOUS, "10.0.0.1", False)
    with pytest.raises(ApiError, match=r"10\.0\.0\.1 asks without a key that is good"):
        found.check_stranger("10.0.0.1")
    found.check_stranger("10.0.0.2")
    for _ in range(100):
        found.check(ADMIN, "10.0.0.1", False)
    found.check(ANN, "10.0.0.1", False)  # whose address it is means nothing for a key that is good


def test_a_key_that_turns_out_to_be_good_is_not_counted_as_a_stranger() -> None:
    found = limits()
    for _ in range(100):
        found.check_stranger("10.0.0.1", counts=False)
    for _ in range(2):
        found.check_stranger("10.0.0.1")
    with pytest.raises(ApiError):
        found.check_stranger("10.0.0.1", counts=False)


def test_a_network_of_version_6_is_one_caller() -> None:
    assert network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2::9") != network_of("2001:db8:1:3::4")
    assert network_of("fe80::1%eth0") == "fe80::/64" and network_of("::ffff:10.0.0.7") == "10.0.0.7"
    assert (network_of("10.0.0.1"), network_of("unknown"), network_of("x:y")) == ("10.0.0.1", "unknown", "x:y")


# -- addresses -------------------------------------------------------------------------------------------------------


def test_the_address_is_the_connections_unless_a_proxy_is_trusted() -> None:
    nobody, proxy = Addresses(), Addresses.parse("10.0.0.0/8, 192.0.2.1")
    assert nobody.of(scope("10.0.0.1", "203.0.113.9")) == "10.0.0.1"
    assert proxy.of(scope("203.0.113.5", "198.51.100.1")) == "203.0.113.5"
    assert proxy.of(scope("10.0.0.1", "198.51.100.1, 203.0.113.9")) == "203.0.113.9"
    assert proxy.of(scope("10.0.0.1", "203.0.113.9, 192.0.2.1, 10.1.1.1")) == "203.0.113.9"
    assert proxy.of(scope("::ffff:10.0.0.1", "203.0.113.9")) == "203.0.113.9"
    assert proxy.of(scope("10.0.0.1", "203.0.113.9:4711")) == "203.0.113.9"
    assert proxy.of(scope("10.0.0.1", "[2001:db8::1]:4711")) == "2001:db8::1"
    assert proxy.of(scope("10.0.0.1")) == "10.0.0.1" and proxy.of(scope(None)) == UNKNOWN


@given(st.text(max_size=40))
def test_whatever_a_header_says_the_address_is_one(said: str) -> None:
    found = Addresses.parse("10.0.0.1").of({"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", said.encode())]})
    assert network_of(found) and found.isprintable() and len(found) < 60


def test_a_wrong_network_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"'10\.0\.0\.0/33' is no address and no network, such as"):
        Addresses.parse("10.0.0.0/33")
