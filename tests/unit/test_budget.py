"""All large answers together hold no more than a budget, and give back what they held."""

from __future__ import annotations

import pytest

from casare_api.machinery.errors import ApiError
from casare_apiserver.budget import LARGE, Budget

MIB = 1024 * 1024


def is_refused(budget: Budget, size: int) -> bool:
    held = budget.held
    with pytest.raises(ApiError) as refused:
        budget.share(size)
    assert (refused.value.status, refused.value.reason) == (429, "TooManyRequests")
    return refused.value.retry_after == 1 and budget.held == held


def test_what_does_not_fit_is_refused_until_something_was_given_back() -> None:
    budget = Budget(10 * MIB)
    with budget.share(6 * MIB) as first, budget.share(4 * MIB):
        assert is_refused(budget, MIB)
        first.sent(MIB)
        with budget.share(MIB):
            assert budget.held == 10 * MIB
    assert budget.held == 0


def test_small_answers_are_not_counted() -> None:
    budget = Budget(MIB)
    with budget.share(MIB), budget.share(LARGE):
        assert budget.held == MIB


def test_an_answer_beyond_the_budget_is_let_through_alone() -> None:
    budget = Budget(MIB)
    with budget.share(5 * MIB):
        assert is_refused(budget, MIB)
    with budget.share(MIB):
        assert is_refused(budget, 5 * MIB)


def test_an_answer_that_grows_asks_again() -> None:
    budget = Budget(4 * MIB)
    with budget.share(MIB) as growing, budget.share(MIB):
        growing.hold(3 * MIB)
        with pytest.raises(ApiError, match="too many large answers"):
            growing.hold(4 * MIB)
        growing.hold(LARGE)
        assert budget.held == MIB


def test_a_failure_gives_everything_back() -> None:
    budget = Budget(MIB)
    with pytest.raises(ZeroDivisionError), budget.share(MIB):
        _ = 1 / 0
    assert budget.held == 0
