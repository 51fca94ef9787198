"""How long to wait before the next try? Exponential, capped, and jittered against crowds."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Delays in seconds: from `first`, twice as long each time up to `limit`, each between half of it and all."""

    def __init__(self, first: float = 0.1, limit: float = 15.0, chance: Callable[[], float] = random.random) -> None:
        self._first, self._limit, self._chance = first, limit, chance
        self._tries = 0

    def next(self) -> float:
        """The next delay."""
        delay = min(self._limit, self._first * 2.0 ** min(self._tries, 60))
        self._tries += 1
        return delay * (0.5 + self._chance() / 2)

    def reset(self) -> None:
        """Starts over: something worked."""
        self._tries = 0
