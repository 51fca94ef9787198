"""How late is a silent robot seen Offline, and is anybody else ever called so?

An apiserver, a controller, and a process of simulated agents (`crowd.py`) that beat as the server tells them. Some of
them fall silent at random moments. The bound is three intervals and a second after the last heartbeat that was answered
was sent; a watcher of all robots says when it heard of each.
"""

from __future__ import annotations

import argparse
import sys

import machine
import report
from measuring import percentile
from system import BenchmarkError, apiserver, child, controller, place

ROBOTS, SILENT = 1_000, 200
WITHIN = 20.0  # seconds in which they fall silent
WAIT = 30.0  # seconds for the last of them to be seen
TARGET = 2.0  # seconds beyond the bound, p99


def measure(robots: int, silent: int) -> tuple[list[float], int, int]:
    """Seconds beyond the bound of each silent robot, how many of them nobody saw, and who was called Offline wrongly."""
    with place() as where:
        url = where.database()
        report.machine(machine.facts(url))
        with apiserver(where, url) as server, controller(where, url), child("crowd", server) as crowd:
            ready = crowd.ask(robots=robots)["ready"]
            if ready != robots:
                raise BenchmarkError(f"only {ready} of {robots} agents got through")
            found = crowd.ask(silence=silent, within=WITHIN, wait=WAIT)
    late = [seen - (heard + 3 * interval + 1) for heard, interval, seen in found["silent"] if seen is not None]
    return late, silent - len(late), len(found["others"])


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--robots", type=int, default=ROBOTS)
    given.add_argument("--silent", type=int, default=SILENT)
    told = given.parse_args()
    try:
        late, unseen, wrong = measure(told.robots, told.silent)
        if not late:
            raise BenchmarkError("no silent robot was seen Offline")
    except (BenchmarkError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    figures = {"robots": told.robots, "silent": told.silent, "p50_s": percentile(late, 0.5),
               "p99_s": percentile(late, 0.99), "least_s": min(late), "most_s": max(late), "unseen": unseen,
               "wrong": wrong}  # fmt: skip
    report.title(f"Seconds from the bound (last heartbeat + 3 intervals + 1 s) to Offline at a watcher, {told.silent} robots")
    report.table(
        ("robots", "silent", "least", "p50", "p99", "most", "never seen", "wrongly offline"),
        [(told.robots, told.silent, min(late), percentile(late, 0.5), percentile(late, 0.99), max(late), unseen, wrong)],
    )
    targets = [
        report.at_most("p99 beyond the bound", figures["p99_s"], TARGET, "s"),
        report.at_least("earliest, against the bound", min(late), 0.0, "s"),
        report.at_most("silent robots that nobody saw Offline", unseen, 0, "robots"),
        report.at_most("robots wrongly Offline", wrong, 0, "robots"),
    ]
    return report.finish("presence", targets, report.rounded(figures))


if __name__ == "__main__":
    sys.exit(main())
