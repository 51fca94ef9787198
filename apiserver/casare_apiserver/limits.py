"""How many requests a second may one caller make? A token bucket each, in this process, so that nobody starves others.

What robots report has a bucket of its own beside the robot's other requests. Whoever shows no key, or one that is not
good, is known by his address. A large body counts as many requests, a watch as one however long it lasts. A request
costs a look-up and some arithmetic; memory is bounded, whoever calls from wherever.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from math import ceil
from time import monotonic

from casare_api.decisions.access import Identity
from casare_api.machinery.errors import ApiError
from casare_apiserver.settings import Settings

BURST_SECONDS = 4.0  # that a caller who was quiet may use up at once
FREE = 64 * 1024  # bytes of a body that cost nothing beside the request itself
PER_TOKEN = 8 * 1024  # bytes of the rest that count as much as a request
MOST_CALLERS = 20_000  # whose buckets are remembered; of those who have been quiet there is nothing to remember


@dataclass(slots=True)
class Buckets:
    """A bucket a caller that fills with `rate` tokens a second, up to `burst`; a rate of 0 means no limit.

    Kept is one number a caller: when the bucket will be full again (the "theoretical arrival time" of GCRA).
    """

    rate: float
    burst: float
    most: int = MOST_CALLERS
    _full_at: dict[str, float] = field(default_factory=dict)

    def take(self, caller: str, now: float, counts: bool = True) -> float:
        """Takes a token: 0, or the seconds until there is one. With `counts` False, only says whether there is one."""
        if not self.rate:
            return 0.0
        full_at = self._full_at.get(caller, now)
        after = (full_at if full_at > now else now) + 1 / self.rate
        wait = after - now - self.burst / self.rate
        if wait > 1e-9:
            return wait
        if not counts:
            return 0.0
        if len(self._full_at) >= self.most and caller not in self._full_at:
            self._forget(now)
        self._full_at[caller] = after
        return 0.0

    def spend(self, caller: str, now: float, tokens: float) -> None:
        """Takes so many more, for what was let in already: the caller's next request waits until they are there."""
        if self.rate and caller in self._full_at:
            self._full_at[caller] = max(self._full_at[caller], now) + tokens / self.rate

    def _forget(self, now: float) -> None:
        """Makes room: those whose buckets are full again, and a quarter of the others where that is not enough.

        The longest known go first. They get a full bucket, which costs less than to remember everybody.
        """
        self._full_at = {caller: full_at for caller, full_at in self._full_at.items() if full_at > now}
        if len(self._full_at) > self.most * 3 // 4:
            for caller in list(self._full_at)[: self.most // 4]:
                del self._full_at[caller]

    def __len__(self) -> int:
        return len(self._full_at)


@dataclass(slots=True)
class Limits:
    """The buckets of this process."""

    requests: Buckets
    reports: Buckets
    strangers: Buckets

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        rates = settings.limit_per_second, settings.limit_reports_per_second, settings.limit_strangers_per_second
        return cls(*(Buckets(rate, max(rate * BURST_SECONDS, 1.0)) for rate in rates))

    def check(self, who: Identity, address: str, is_report: bool) -> None:
        """Counts a request of somebody who is known. Raises ApiError 429.

        The admin key of the whole server has no limit: who runs a server must be able to reach it.
        """
        if who.role == "anonymous":
            self.check_stranger(address)
            return
        if _has_no_limit(who):
            return
        buckets = self.reports if is_report else self.requests
        wait = buckets.take(who.key_uid or who.name, monotonic())
        if wait:
            raise _too_many(f'"{who.name}" asks', buckets, wait)

    def spend(self, who: Identity, is_report: bool, size: int) -> None:
        """Counts a body of so many bytes, which has come: what is large takes long to look at, right or wrong."""
        if size > FREE and not _has_no_limit(who):
            buckets = self.reports if is_report else self.requests
            buckets.spend(who.key_uid or who.name, monotonic(), (size - FREE) / PER_TOKEN)

    def check_stranger(self, address: str, counts: bool = True) -> None:
        """Counts a request of somebody who is known by his address alone. Raises ApiError 429.

        What may turn out to be a good key that is new here is not counted, but has to wait where others were not good.
        """
        wait = self.strangers.take(network_of(address), monotonic(), counts)
        if wait:
            raise _too_many(f"{address} asks without a key that is good", self.strangers, wait)


def _has_no_limit(who: Identity) -> bool:
    return who.key_uid is None and who.role == "admin"


def network_of(address: str) -> str:
    """What stands for one caller among addresses: of version 6 everybody has a whole network (/64)."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


def _too_many(who: str, buckets: Buckets, wait: float) -> ApiError:
    after = max(1, ceil(wait))
    why = f"{who} more than {buckets.rate:g} times a second: try again in {after} s"
    return ApiError.too_many_requests(why, after)
