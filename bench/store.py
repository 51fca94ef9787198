"""`./dev bench store`: how fast is history made, and how soon does everybody know?

Writes a second one by one and with group commit, an fsync probe beside them, and the time from a PUT to its event at
1, 100 and 1,000 watchers. Takes about 75 s; needs nothing that runs, leaves nothing behind.
"""

from __future__ import annotations

import sys
from typing import Any

import psycopg

import latency
import machine
import report
import writes
from casare_store import loop
from casare_store.memory import settle
from latency import Latency
from measuring import Round, median, over_rounds
from system import BenchmarkError, Place, place

ROUNDS = 5
SECONDS = 0.8  # a round
WATCHERS = (1, 100, 1000)


def main() -> int:
    """Exit code 0 when all targets are met, 1 when not, 2 when it could not be measured."""
    try:
        with place() as found:
            return run(found)
    except (BenchmarkError, OSError, TimeoutError, psycopg.Error) as error:
        print(f"error: {str(error).splitlines()[0] if str(error) else type(error).__name__}", file=sys.stderr)
        return 2


def run(found: Place) -> int:
    url = found.database()
    facts = machine.facts(url)
    report.machine(facts)
    by_way, probes, in_log = write_rounds(found, url)
    show_writes(by_way, probes)
    found_latencies = show_latencies(found)
    figures = {
        **facts, "fsync_ms": median(probes), "writes_confirmed": in_log[0], "writes_in_log": in_log[1],
        **figures_of_writes(by_way), **figures_of_events(found_latencies),
    }  # fmt: skip
    return report.finish("store", targets(figures), report.rounded(figures))


def write_rounds(found: Place, url: str) -> tuple[dict[str, dict[int, list[Round]]], list[float], tuple[int, int]]:
    """Rounds by way and clients; the fsync probes before each; writes confirmed and writes in the log."""
    settle()  # as the apiserver does, in whose process the writer lives
    probes: list[float] = []
    by_way, confirmed = loop.runner()(
        writes.measure(url, ROUNDS, SECONDS, lambda: probes.append(machine.fsync_ms(found.directory)))
    )
    with psycopg.connect(url) as connection:
        head = connection.execute("SELECT rv FROM heads").fetchone()
    return by_way, probes, (confirmed, head[0] if head else 0)


def show_writes(by_way: dict[str, dict[int, list[Round]]], probes: list[float]) -> None:
    report.title(
        f"Writes a second: Robots of 700 B, half created and half updated, median of {ROUNDS} rounds of {SECONDS} s; "
        f"one by one on at most {writes.CONNECTIONS} connections"
    )
    alone, together = by_way["one by one"], by_way["group commit"]
    rows = [(clients, *over_rounds(alone[clients]), *over_rounds(together[clients])) for clients in writes.CLIENTS]
    report.table(("clients", "one by one/s", "p50 ms", "p99 ms", "group commit/s", "p50 ms", "p99 ms"), rows)
    print(
        f"  fsync probe beside them (8 kB appended): median {median(probes):.2f} ms, "
        f"{min(probes):.2f} to {max(probes):.2f} ms"
    )


def show_latencies(found: Place) -> list[Latency]:
    url = found.database()
    measured = [latency.measure(found, url, watchers) for watchers in WATCHERS]
    report.title(
        f"From sending a PUT to its event at watchers of everything, ms; {latency.EVENTS} events, "
        f"{latency.PACE:.0f} a second, an apiserver for each row"
    )
    rows = [
        (*one.row(), *(size / 1e3 if one.watchers > 1 else None for size in (one.server_bytes, one.holder_bytes)))
        for one in measured
    ]
    report.table(
        ("watchers", "median's p50", "p99", "slowest's p50", "p99", "lost", "twice/disordered", "server kB each",
         "holder kB each"), rows,
    )  # fmt: skip
    return measured


def figures_of_writes(by_way: dict[str, dict[int, list[Round]]]) -> dict[str, Any]:
    return {
        f"{way.replace(' ', '_')}_per_s": {clients: over_rounds(rounds)[0] for clients, rounds in of_way.items()}
        for way, of_way in by_way.items()
    } | {"group_commit_p50_ms": {clients: over_rounds(rounds)[1] for clients, rounds in by_way["group commit"].items()}}


def figures_of_events(measured: list[Latency]) -> dict[str, Any]:
    return {
        "event_p50_ms": {one.watchers: one.row()[1] for one in measured},
        "event_p99_ms": {one.watchers: one.row()[2] for one in measured},
        "event_slowest_p50_ms": {one.watchers: one.row()[3] for one in measured},
        "event_slowest_p99_ms": {one.watchers: one.row()[4] for one in measured},
        "events_lost": sum(one.lost for one in measured),
        "events_twice_or_disordered": sum(one.twice + one.disordered for one in measured),
        "kb_per_watcher": measured[-1].server_bytes / 1e3,
    }


def targets(figures: dict[str, Any]) -> list[report.Target]:
    unaccounted = abs(figures["writes_confirmed"] - figures["writes_in_log"])
    return [
        report.at_least("group commit, 256 clients", figures["group_commit_per_s"][256], 10_000, "writes/s"),
        report.at_most("confirmed writes that the log has not, or has twice", unaccounted, 0, ""),
        report.at_most("event p50, 1 watcher", figures["event_p50_ms"][1], 6, "ms"),
        report.at_most("event p50, 1,000 watchers", figures["event_p50_ms"][1000], 25, "ms"),
        report.at_most("events lost", figures["events_lost"], 0, ""),
        report.at_most("memory a watcher", figures["kb_per_watcher"], 30, "kB"),
    ]


if __name__ == "__main__":
    sys.exit(main())
