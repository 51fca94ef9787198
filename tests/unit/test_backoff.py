"""How clients wait: spread, growing, bounded. Crowds of them are drawn here, in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_agent.outage import FIRST, LONGEST, longest, wait
from casare_client.backoff import LEAST, Backoff
from casare_client.requests import REPORT_TIMEOUT
from casare_store.heartbeats import FLUSH_EVERY, grace, interval

AGENTS = 1_000
CHANCE = st.floats(0, 1)


def test_spans_double_to_a_limit_and_waits_are_drawn_from_nearly_all_of_them() -> None:
    low, high = Backoff(1.0, 8.0, lambda: 0.0), Backoff(1.0, 8.0, lambda: 1.0)
    assert [low.next() for _ in range(5)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 0.8])
    assert [high.next() for _ in range(5)] == [1.0, 2.0, 4.0, 8.0, 8.0]
    high.reset()
    assert high.next() == 1.0


@given(st.floats(0.01, 10), st.floats(0.01, 100), st.lists(CHANCE, min_size=1, max_size=80))
def test_no_wait_is_longer_than_the_limit_or_shorter_than_its_share(
    first: float, limit: float, chances: list[float]
) -> None:
    drawn = iter(chances)
    backoff = Backoff(first, limit, lambda: next(drawn))
    for tries in range(len(chances)):
        span = min(limit, first * 2.0 ** min(tries, 60))
        assert span * LEAST * 0.999 <= backoff.next() <= span * 1.001


@given(CHANCE, st.floats(0, REPORT_TIMEOUT), st.integers(0, 100), st.integers(1, 20_000), st.integers(0, 10))
def test_a_robot_is_back_within_its_lease_however_unlucky(
    chance: float, took: float, asked: int, robots: int, failures: int
) -> None:
    """The server is back right after a try began that it does not answer; the next one is answered and written."""
    seconds = interval(robots)
    most = longest(seconds)
    backoff = Backoff(FIRST, LONGEST, lambda: chance)
    for _ in range(failures):
        backoff.next(most)
    again = took + wait(backoff.next(most), took, asked, most)
    assert again + FLUSH_EVERY < grace(seconds).total_seconds()


@given(st.floats(0.01, 6), st.floats(0, 60), st.floats(0, 60))
def test_a_try_that_took_long_is_followed_sooner_but_never_at_once(drawn: float, took: float, asked: float) -> None:
    waited = wait(drawn, took, asked, 6.0)
    assert drawn / 10 <= waited <= 6.0 + 1e-9
    assert took + waited >= drawn


def returns(seed: int, outage: float, seconds: int = 3) -> Iterator[float]:
    """When the reports and watches of a crowd of agents get through, in seconds after the server is back.

    All their watches break at the moment when the server goes. Their reports fail when they are due.
    """
    chance = Random(seed).random
    most = longest(seconds)
    for _ in range(AGENTS):
        for begun, backoff in ((0.0, Backoff(most / 2, chance=chance)), (seconds * chance(), Backoff(FIRST, chance=chance))):
            at = begun + backoff.next(most) if begun < outage else begun
            while at < outage:
                at += backoff.next(most)
            yield at - outage


@pytest.mark.parametrize("outage", [0.2, 1.0, 2.0, 10.0, 60.0])
def test_a_crowd_that_lost_its_server_at_one_moment_comes_back_spread(outage: float) -> None:
    """1,000 agents make 33 reports in 100 ms on any day; coming back, with their watches, they are not many more."""
    back = list(returns(1, outage))
    busiest = max(Counter(int(at * 10) for at in back).values())
    assert busiest <= 150
    assert max(back) <= longest(3)
