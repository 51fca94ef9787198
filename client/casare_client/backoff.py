"""How long to wait before the next try? Exponential, capped, and spread against crowds.

A crowd that lost its server at one moment must not come back at one: each wait is drawn from nearly all of its span
("full jitter": M. Brooker, Exponential Backoff And Jitter, 2015), never so short that a single client hurries.
"""

from __future__ import annotations

import random
from collections.abc import Callable

LEAST = 0.1  # the share of its span that a wait has at least


class Backoff:
    """Delays in seconds: by chance from a tenth of a span to all of it; the span doubles from `first` to `limit`."""

    def __init__(self, first: float = 0.1, limit: float = 15.0, chance: Callable[[], float] = random.random) -> None:
        self._first, self._limit, self._chance = first, limit, chance
        self._tries = 0

    def next(self, limit: float | None = None) -> float:
        """The next delay; `limit` in place of the usual one."""
        most = self._limit if limit is None else limit
        span = min(most, self._first * 2.0 ** min(self._tries, 60))
        self._tries += 1
        return span * (LEAST + (1 - LEAST) * self._chance())

    def reset(self) -> None:
        """Starts over: something worked."""
        self._tries = 0
