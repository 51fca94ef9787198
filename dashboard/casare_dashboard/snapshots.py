"""How does a page stay live without wearing the server out, and what does it show while the server is away?

A snapshot is the last answer to one question. Asking costs at most a tenth of the time, however large the fleet: an
answer that took half a second is used for five. An answer that fails to come leaves the last one in place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from casare_api.machinery.errors import ApiError
from casare_client.errors import Unreachable

T = TypeVar("T")
OFTEN = 1.5  # seconds between two questions at the most often; pages look every 2
SELDOM = 30.0  # ... and at the least often
SHARE = 10  # an answer is used this many times as long as it took


@dataclass(frozen=True, slots=True)
class View(Generic[T]):
    """What is known: the last answer (None before the first), when it came, and why there is no newer one."""

    value: T | None
    taken: datetime | None
    problem: str | None = None


class Snapshot(Generic[T]):
    """The last answer of `fetch`, asked again by `read` when it is old enough. For one thread at a time."""

    def __init__(self, fetch: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._next = float("-inf")
        self._view: View[T] = View(None, None)

    def read(self) -> View[T]:
        """The present view. Raises ApiError 401 alone: the key is no longer good for anything."""
        started = self._clock()
        if started < self._next:
            return self._view
        try:
            self._view = View(self._fetch(), datetime.now(UTC))
        except Unreachable as error:
            self._view = View(self._view.value, self._view.taken, str(error))
        except ApiError as error:
            if error.status == 401:
                raise
            self._view = View(self._view.value, self._view.taken, error.message)
        finished = self._clock()
        self._next = finished + min(SELDOM, max(OFTEN, SHARE * (finished - started)))
        return self._view

    def peek(self) -> View[T]:
        """The last view, without asking."""
        return self._view

    def hurry(self) -> None:
        """The next `read` asks, however recent the answer is: something was changed here."""
        self._next = float("-inf")
