"""How much may all large answers hold together? A budget for a process, so that many cost others no memory.

An answer holds its bytes from the moment they were read until they are with its client, however slowly that one reads.
What does not fit any more is refused before anything of it was sent; a client that waits a second may get it then.
"""

from __future__ import annotations

from types import TracebackType

from casare_api.machinery.errors import ApiError

LARGE = 256 * 1024  # bytes; what is smaller goes to the connection in one piece and is not counted
# Bytes of all large answers on their way: thirty lists of a fleet with 10,000 jobs (8 MB), a quarter of a small server.
MOST = 256 * 1024 * 1024


class Budget:
    """What large answers hold, in bytes, and may hold at most."""

    __slots__ = ("held", "most")

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.held = 0

    def share(self, size: int) -> Share:
        """The share of an answer of so many bytes, for a `with`. Raises ApiError 429 where they do not fit."""
        share = Share(self)
        share.hold(size)
        return share


class Share:
    """What one answer holds; given back at the end of its `with`."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def __enter__(self) -> Share:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.hold(0)

    def hold(self, size: int) -> None:
        """Holds so many bytes from now on. Raises ApiError 429 where more of them do not fit.

        An answer larger than the budget has to be alone: refused always, nobody could ever get it.
        """
        if size <= LARGE:
            size = 0
        if size == self._size:
            return
        others = self._budget.held - self._size
        if size > self._size and others and others + size > self._budget.most:
            raise ApiError.too_many_requests("too many large answers are on their way: try again in a second, or ask "
                                             "for less (limit, a selector)")
        self._budget.held, self._size = others + size, size

    def sent(self, size: int) -> None:
        """Gives so many bytes back."""
        self.hold(max(self._size - size, 0))
