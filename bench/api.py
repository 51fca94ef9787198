"""`./dev bench api`: what does one apiserver process carry over plain HTTP?

Creates, status patches and job creates a second with 50 connections, lists of 10,000 objects, and memory. The load
comes from a process of its own (`load.py`). Takes about 60 s; needs nothing that runs, leaves nothing behind.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

import psycopg

import machine
import report
import samples
from measuring import CpuClock, Round, median, memory, over_rounds
from system import Apiserver, BenchmarkError, Child, Place, apiserver, child, place

CONNECTIONS = 50
ROUNDS = 5
SECONDS = 2.0  # a round
LISTED = 10_000  # objects in the list
LISTS = 15
REST = 2.0  # seconds without a request before memory is read
FILL_WITHIN = 30.0
WHAT = {"robots": "Robot creates", "status": "Robot status patches", "jobs": "Job creates"}
PLACES = {"robots": "written", "status": "listed", "jobs": "written"}  # namespace by phase


@dataclass(slots=True)
class Bench:
    """The server under load, the load, and what was measured so far."""

    server: Apiserver
    load: Child
    clock: CpuClock
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    cpu: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    done: int = 0
    next: int = 0  # objects are numbered throughout: a robot's id is unique in the whole fleet

    def phase(self, phase: str, namespace: str, seconds: float = SECONDS, count: int = 0) -> Round:
        """One round of a phase. Raises BenchmarkError when a request was not answered as it should be."""
        self.clock.lap()
        told = self.load.ask(
            phase=phase, namespace=namespace, connections=CONNECTIONS, first=self.next, seconds=seconds, count=count
        )
        self.cpu.setdefault(phase, []).append(self.clock.lap())
        if told["failed"]:
            raise BenchmarkError(f"{told['failed']} of {told['done']} requests failed: {told['first_failure']}")
        self.next = told["next"]
        self.done += told["done"]
        return Round(told["done"], told["seconds"], told["p50"], told["p99"])

    def measure(self) -> None:
        """All rounds, phases in turn, so that a noisy moment hits all of them."""
        for _ in range(ROUNDS):
            for phase in WHAT:
                self.rounds.setdefault(phase, []).append(self.phase(phase, PLACES[phase]))

    def lists(self) -> tuple[list[float], int]:
        """Seconds to the last byte of each list, and its bytes."""
        path = samples.path("listed", "robots")
        self.clock.lap()
        with self.server.connect() as connection:
            answers = [connection.expect(200, "GET", path) for _ in range(LISTS + 1)]
        self.cpu["list"] = [self.clock.lap()]
        if (found := len(answers[0].json()["items"])) != LISTED:
            raise BenchmarkError(f"the list has {found} objects instead of {LISTED}")
        return [answer.seconds for answer in answers[1:]], len(answers[0].body)


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
    facts = {**machine.facts(url), "fsync_ms": machine.fsync_ms(found.directory)}
    report.machine(facts)
    with apiserver(found, url) as server, child("load", server) as load:
        time.sleep(REST)
        rest = memory(server.pid)
        bench = Bench(server, load, CpuClock({
            "apiserver": server.pid, "postgres": found.postgres.pid, "load": load.pid
        }))  # fmt: skip
        before = set_up(bench, url)
        bench.measure()
        unaccounted = abs(_head(url) - before - bench.done)
        lists, size = bench.lists()
        time.sleep(REST)
        figures = {
            **facts, **figures_of(bench.rounds), "list_ms": median(lists) * 1e3, "list_mb": size / 1e6,
            "list_slowest_ms": max(lists) * 1e3, "rss_start_mb": rest / 1e6, "rss_end_mb": memory(server.pid) / 1e6,
            "unaccounted": unaccounted,
        }  # fmt: skip
    show(bench, figures)
    return report.finish("api", targets(figures), report.rounded(figures))


def set_up(bench: Bench, url: str) -> int:
    """Namespaces, the workflow, the robots that are listed (a warm-up, too); the head before these robots."""
    with bench.server.connect() as connection:
        for name in ("listed", "written"):
            connection.expect(201, "POST", "/api/v1/namespaces", samples.namespace(name))
        connection.expect(201, "POST", samples.path("written", "workflows"), samples.workflow("written"))
    before = _head(url)
    if bench.phase("robots", "listed", FILL_WITHIN, LISTED).done != LISTED:
        raise BenchmarkError(f"{LISTED} robots could not be created within {FILL_WITHIN:.0f} s")
    bench.cpu.clear()
    return before


def _head(url: str) -> int:
    """How many changes the store's history has."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT rv FROM heads").fetchone()
    return int(row[0]) if row else 0


def show(bench: Bench, figures: dict[str, Any]) -> None:
    report.title(
        f"Requests a second: {samples.SIZE} B objects, plain HTTP, {CONNECTIONS} connections, one apiserver process, "
        f"median of {ROUNDS} rounds of {SECONDS:.0f} s"
    )
    rows = [(WHAT[phase], *over_rounds(rounds)) for phase, rounds in bench.rounds.items()]
    report.table(("requests", "per second", "p50 ms", "p99 ms"), rows)
    report.title("CPU seconds by phase, all rounds")
    report.table(("phase", "requests", "apiserver", "postgres", "load", "apiserver us each", "postgres us each"),
                 [_cpu_row(bench, phase) for phase in (*WHAT, "list")])  # fmt: skip
    report.title(f"List of {LISTED:,} robots ({figures['list_mb']:.1f} MB), {LISTS} times, to the last byte")
    print(f"  median {figures['list_ms']:.0f} ms, slowest {figures['list_slowest_ms']:.0f} ms")
    report.title("Memory of the apiserver at rest")
    print(f"  {figures['rss_start_mb']:.0f} MB after the start, {figures['rss_end_mb']:.0f} MB after all of this")


def _cpu_row(bench: Bench, phase: str) -> list[report.Cell]:
    used = {name: sum(one[name] for one in bench.cpu[phase]) for name in ("apiserver", "postgres", "load")}
    done = sum(one.done for one in bench.rounds[phase]) if phase in bench.rounds else LISTS + 1
    each = [used[name] / done * 1e6 for name in ("apiserver", "postgres")]
    return [WHAT.get(phase, "Lists"), done, *used.values(), *each]


def figures_of(rounds: dict[str, list[Round]]) -> dict[str, Any]:
    rates = {phase: over_rounds(of_phase) for phase, of_phase in rounds.items()}
    names = {"robots": "creates", "status": "status_patches", "jobs": "job_creates"}
    return {f"{names[phase]}_per_s": found[0] for phase, found in rates.items()} | {
        f"{names[phase]}_p50_ms": found[1] for phase, found in rates.items()
    }


def targets(figures: dict[str, Any]) -> list[report.Target]:
    return [
        report.at_least("Robot creates", figures["creates_per_s"], 2_000, "a second"),
        report.at_least("Robot status patches", figures["status_patches_per_s"], 1_800, "a second"),
        report.at_most("answered writes that the log has not, or has twice", figures["unaccounted"], 0, ""),
        report.at_most("list of 10,000", figures["list_ms"], 150, "ms"),
        report.at_most("apiserver at rest, after the start", figures["rss_start_mb"], 150, "MB"),
        report.at_most("apiserver at rest, after the load", figures["rss_end_mb"], 150, "MB"),
    ]


if __name__ == "__main__":
    sys.exit(main())
