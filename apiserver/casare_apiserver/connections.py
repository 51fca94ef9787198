"""How many connections may one address hold? Not all that this process can have, so that others still get in."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from casare_apiserver.limits import network_of

SHARE = 3 / 4  # of the connections that the process can have


@dataclass(slots=True)
class Connections:
    """The open connections by address, of all listeners; whoever `is_trusted` (a proxy) stands for many."""

    most: int
    is_trusted: Callable[[str], bool] = lambda address: False
    _counts: Counter[str] = field(default_factory=Counter)

    def enter(self, address: str) -> bool:
        """Whether one more may be held; it must `leave` when it ends."""
        network = network_of(address)
        if self._counts[network] >= self.most and not self.is_trusted(address):
            return False
        self._counts[network] += 1
        return True

    def leave(self, address: str) -> None:
        network = network_of(address)
        self._counts[network] -= 1
        if self._counts[network] <= 0:
            del self._counts[network]

    def __len__(self) -> int:
        return len(self._counts)


def most_of(setting: int) -> int:
    """The setting, or where it is 0 what leaves room for others; never below a handful."""
    return setting or max(16, int(_open_files() * SHARE))


def _open_files() -> int:
    """How many files and connections the system lets this process have; as many as it may be given."""
    if sys.platform == "win32":
        return 16_384
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 1_000_000
