"""Does a live page ask as seldom as it should, and keep what it shows while the server is away?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from casare_api.machinery.errors import ApiError
from casare_client.errors import Unreachable
from casare_dashboard import snapshots
from casare_dashboard.snapshots import Snapshot


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Source:
    """A server's answers in their order; each takes `seconds`."""

    def __init__(self, clock: Clock, *answers: int | Exception, seconds: float = 0.0) -> None:
        self.clock, self.answers, self.seconds, self.asked = clock, list(answers), seconds, 0

    def __call__(self) -> int:
        self.clock.now += self.seconds
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_the_server_is_asked_again_only_after_a_while() -> None:
    clock = Clock()
    source = Source(clock, 1, 2)
    snapshot = Snapshot(source, clock)
    assert [snapshot.read().value for _ in range(3)] == [1, 1, 1]
    clock.now += snapshots.OFTEN
    assert snapshot.read().value == 2
    assert source.asked == 2


@pytest.mark.parametrize(("takes", "used_for"), [(0.01, 1.5), (0.5, 5.0), (20.0, 30.0)])
def test_an_answer_that_took_long_is_used_for_long(takes: float, used_for: float) -> None:
    clock = Clock()
    source = Source(clock, 1, seconds=takes)
    snapshot = Snapshot(source, clock)
    snapshot.read()
    clock.now += used_for - 0.001
    snapshot.read()
    assert source.asked == 1
    clock.now += 0.002
    snapshot.read()
    assert source.asked == 2


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Unreachable("cannot reach http://x: refused"), "cannot reach http://x: refused"),
        (ApiError(503, "ServiceUnavailable", "try again"), "try again"),
    ],
)
def test_what_was_known_stays_while_the_server_is_away_and_is_replaced_when_it_is_back(
    failure: Exception, said: str
) -> None:
    clock = Clock()
    snapshot = Snapshot(Source(clock, 1, failure, 3), clock)
    taken = snapshot.read().taken
    clock.now += 2
    away = snapshot.read()
    assert (away.value, away.taken, away.problem) == (1, taken, said)
    clock.now += 2
    back = snapshot.read()
    assert (back.value, back.problem) == (3, None)


def test_a_key_that_is_no_longer_accepted_is_not_hidden_behind_old_news() -> None:
    clock = Clock()
    snapshot = Snapshot(Source(clock, 1, ApiError(401, "Unauthorized", "no")), clock)
    snapshot.read()
    clock.now += 2
    with pytest.raises(ApiError, match="no"):
        snapshot.read()


@pytest.fixture
def peeked() -> Callable[[], Snapshot[int]]:
    return lambda: Snapshot(Source(Clock(), 1, 2), Clock())


def test_peeking_asks_nobody_and_hurrying_asks_at_once(peeked: Callable[[], Snapshot[int]]) -> None:
    snapshot = peeked()
    assert snapshot.peek().value is None
    assert snapshot.read().value == 1
    snapshot.hurry()
    assert snapshot.read().value == 2
