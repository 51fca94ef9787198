"""How long after a PUT is sent does its event arrive at every watcher, and what does a watcher cost?

An apiserver, a process that holds the watchers (`watchers.py`) and this one, which PUTs at a gentle fixed pace over
plain HTTP. All take the time from the clock that processes of one computer share. Every event at every watcher counts;
one that did not come is lost, never left out silently.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import samples
from measuring import median, memory, percentile
from sockets import Connection
from system import Apiserver, Place, apiserver, child
from watchers import DIGITS, SEQUENCE

EVENTS = 100
PACE = 20.0  # PUTs a second
WARM_UP = 20  # PUTs before anybody watches
ROBOTS = 10
ARRIVE_WITHIN = 3.0  # seconds after the last PUT; what has not come by then is lost
SPACE = "default"


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds by event at the median and at the slowest watcher; faults; bytes a watcher costs each side."""

    watchers: int
    middle: list[float]
    slowest: list[float]
    lost: int
    twice: int
    disordered: int
    server_bytes: float
    holder_bytes: float

    def row(self) -> tuple[int, float, float, float, float, int, int]:
        """watchers, p50 and p99 at the median watcher, at the slowest one, lost, twice or out of order."""
        return (
            self.watchers, percentile(self.middle, 0.5), percentile(self.middle, 0.99),
            percentile(self.slowest, 0.5), percentile(self.slowest, 0.99), self.lost, self.twice + self.disordered,
        )  # fmt: skip


def measure(place: Place, url: str, watchers: int) -> Latency:
    """EVENTS events at that many watchers of all robots, with an apiserver of its own.

    Raises BenchmarkError, OSError.
    """
    with apiserver(place, url) as server, child("watchers", server) as holder, server.connect() as connection:
        robots = _robots(connection, watchers)
        for _ in _puts(connection, robots, WARM_UP, numbered=False):
            pass
        before = memory(server.pid), memory(holder.pid)
        holder.ask(watchers=watchers, path=_watch_path(server))
        sent = list(_puts(connection, robots, EVENTS, numbered=True))
        time.sleep(0.2)  # so that memory is that of a server that has sent everything
        growth = memory(server.pid) - before[0], memory(holder.pid) - before[1]
        heard = holder.ask(events=EVENTS, within=ARRIVE_WITHIN)
    return _judge(watchers, sent, heard, growth)


def _robots(connection: Connection, watchers: int) -> list[dict[str, Any]]:
    """A few robots that only this measurement writes."""
    names = [f"watched-{watchers:06d}-{number}" for number in range(ROBOTS)]
    path = samples.path(SPACE, "robots")
    return [connection.expect(201, "POST", path, samples.robot(SPACE, name)).json() for name in names]


def _watch_path(server: Apiserver) -> str:
    with server.connect() as connection:
        rv = connection.expect(200, "GET", f"{samples.GROUP}/robots?limit=1").json()["metadata"]["resourceVersion"]
    return f"{samples.GROUP}/robots?watch=true&resourceVersion={rv}"


def _puts(connection: Connection, robots: list[dict[str, Any]], count: int, *, numbered: bool) -> Iterator[int]:
    """PUTs robots in turn at the fixed pace; gives the clock (nanoseconds) at which each one was sent."""
    begun = time.monotonic()
    for number in range(count):
        robot = robots[number % ROBOTS]
        note = f"{number:0{DIGITS}d}"
        robot["metadata"]["annotations"][SEQUENCE if numbered else "bench.casare.net/warm-up"] = note
        time.sleep(max(begun + number / PACE - time.monotonic(), 0))
        name = robot["metadata"]["name"]
        answer = connection.expect(200, "PUT", samples.path(SPACE, "robots", name), robot)
        robots[number % ROBOTS] = answer.json()
        yield answer.sent


def _judge(watchers: int, sent: list[int], heard: dict[str, Any], growth: tuple[int, int]) -> Latency:
    arrivals: list[list[int]] = heard["arrivals"]
    by_event = [[(seen[event] - at) / 1e6 for seen in arrivals if seen[event]] for event, at in enumerate(sent)]
    came = [taken for taken in by_event if taken]
    return Latency(
        watchers, [median(taken) for taken in came], [max(taken) for taken in came],
        lost=sum(watchers - len(taken) for taken in by_event), twice=heard["twice"],
        disordered=sum(1 for seen in arrivals for one, after in pairwise(filter(None, seen)) if one > after),
        server_bytes=growth[0] / watchers, holder_bytes=growth[1] / watchers,
    )  # fmt: skip
