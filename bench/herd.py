"""What happens when a thousand agents lose their server at one moment, and it comes back?

An apiserver is killed with kill -9 under a process of simulated agents (`crowd.py`), stays away for some seconds and is
started again. Counted is what the agents ask for from then on, in steps of 100 ms; beside it one agent after another is
asked how long the server takes for an answer that costs nothing, which is how long its event loop was busy with others.
Nobody may be called Offline.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Event, Thread

import psycopg

import machine
import report
from measuring import percentile
from sockets import Connection
from system import Apiserver, BenchmarkError, Child, Place, apiserver, child, controller, place

ROBOTS = 1_000
AWAY = (0.0, 5.0, 30.0)  # seconds between the end of one server and the start of the next one
BACK_WITHIN = 40.0  # seconds until all must be back
PROBE_EVERY = 0.02  # seconds
STEP = 0.1  # seconds
MOST = 150  # requests in a step
_OFFLINE = "SELECT count(*) FROM changes WHERE kind = 'Robot' AND object::json #>> '{status,phase}' = 'Offline'"


@dataclass(frozen=True, slots=True)
class Return:
    """One outage: seconds, requests, milliseconds."""

    away: float
    busiest: int
    usual: float
    asked: Counter[str]
    last: float
    missing: int
    longest_ms: float
    p99_ms: float
    offline: int

    def row(self) -> tuple[float, int, float, int, int, int, float, float, float, int]:
        asked = [self.asked[what] for what in ("report", "watch", "list")]
        return (self.away, self.busiest, self.usual, *asked, self.last, self.longest_ms, self.p99_ms, self.offline)  # type: ignore[return-value]


class Probe(Thread):
    """Asks the server for what costs it nothing; the milliseconds each answer took."""

    def __init__(self, server: Apiserver) -> None:
        super().__init__(daemon=True)
        self.server, self.over = server, Event()
        self.taken: list[float] = []

    def run(self) -> None:
        with self.server.connect() as connection:
            while not self.over.wait(PROBE_EVERY):
                self.taken.append(_milliseconds(connection))

    def end(self) -> list[float]:
        self.over.set()
        self.join()
        return self.taken


def _milliseconds(connection: Connection) -> float:
    return connection.request("GET", "/livez").seconds * 1e3


def one(where: Place, url: str, server: Apiserver, crowd: Child, stack: ExitStack, away: float) -> tuple[Return, Apiserver]:
    """Kills the server, starts another one in its place, and says how the agents came back."""
    since = crowd.ask(mark=True)["at"]
    time.sleep(3.0)
    server.process.kill()
    server.process.wait()
    killed = time.monotonic()
    time.sleep(max(away, 0.1))  # what is sent now has not noticed yet
    started = time.monotonic()
    server = stack.enter_context(apiserver(where, url, server))
    probe = Probe(server)
    probe.start()
    found = crowd.ask(since=killed, back=BACK_WITHIN)
    taken = probe.end()
    first = min((at for at, _ in found["noted"] if at > started), default=started)
    steps = Counter(int((at - first) / STEP) for at, _ in found["noted"] if at >= first)
    before = sum(1 for at, _ in found["noted"] if at < killed) / (killed - since) * STEP
    asked = Counter(what for at, what in found["noted"] if at >= first)
    with psycopg.connect(url) as connection:
        offline = connection.execute(_OFFLINE).fetchone()
    assert offline is not None
    return Return(
        first - killed, max(steps.values(), default=0), before, asked, found["last"] - first,
        found["away"], max(taken), percentile(taken, 0.99), int(offline[0]),
    ), server  # fmt: skip


def measure(robots: int) -> list[Return]:
    """One after another, with the same agents. Raises BenchmarkError, OSError."""
    with place() as where, ExitStack() as stack:
        url = where.database()
        report.machine(machine.facts(url))
        server = stack.enter_context(apiserver(where, url))
        stack.enter_context(controller(where, url))
        crowd = stack.enter_context(child("crowd", server))
        ready = crowd.ask(robots=robots)["ready"]
        if ready != robots:
            raise BenchmarkError(f"only {ready} of {robots} agents got through")
        returns = []
        for away in AWAY:
            found, server = one(where, url, server, crowd, stack, away)
            returns.append(found)
        return returns


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--robots", type=int, default=ROBOTS)
    robots = given.parse_args().robots
    try:
        returns = measure(robots)
    except (BenchmarkError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report.title(f"{robots} agents come back: requests in the busiest 100 ms, what they asked for, how long it took")
    report.table(
        ("away s", "busiest", "usual", "reports", "watches", "lists", "all back s", "longest ms", "p99 ms", "offline"),
        [one.row() for one in returns],
    )
    figures = {
        f"{one.away:.0f}s": {
            "busiest_100ms": one.busiest, "usual_100ms": one.usual, **one.asked, "all_back_s": one.last,
            "missing": one.missing, "longest_ms": one.longest_ms, "p99_ms": one.p99_ms, "offline": one.offline,
        }
        for one in returns
    }  # fmt: skip
    targets = [
        report.at_most("requests in the busiest 100 ms", max(one.busiest for one in returns), MOST, ""),
        report.at_most("agents that were not back", sum(one.missing for one in returns), 0, ""),
        report.at_most("robots called Offline", max(one.offline for one in returns), 0, ""),
        report.at_most("lists of jobs instead of resumed watches", sum(one.asked["list"] for one in returns), 0, ""),
    ]
    return report.finish("herd", targets, report.rounded(figures))


if __name__ == "__main__":
    sys.exit(main())
