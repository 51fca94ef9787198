"""`./dev bench jobs`: how fast do jobs go through, beside other job queues on the same Postgres?

Everything goes through the HTTP API of one apiserver, with one controller, simulated robots that speak the agents'
protocol (`robots.py`) and default, durable settings: submission one by one and in bulk, whole lifecycles (submitted,
placed, started, succeeded, each of them a change that a watcher sees), and how soon a robot has a job when nothing else
happens. Placement is measured by itself (`placing.py`), the peers by `peers.py`. Takes about ten minutes; parts of it
are run by name (`./dev bench jobs lifecycles placement`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg

import machine
import peers
import placing
import report
import samples
from measuring import CpuClock, Round, median, over_rounds, percentile
from system import Apiserver, BenchmarkError, Child, Place, apiserver, child, controller, place

PARTS = ("submit", "lifecycles", "placement", "peers")
CONNECTIONS = 50
SINGLE_SECONDS = 2.0
BULK = 1_000  # jobs in a list
BULK_JOBS = 10_000  # in a round
ROUNDS = 5
JOBS = 15_000  # lifecycles in a round
SUBMITTERS = 3  # lists under way at a time
ROBOTS, SLOTS = 50, 60
WITHIN = 60.0  # seconds for a round
IDLE, PAUSE = 300, 0.02  # jobs one at a time, seconds between them
REST = 2.0
NAMESPACE = "payroll"
FLEET = {"capabilities": ["browser"], "tags": ["invoices"]}


@dataclass(slots=True)
class Figures:
    """What was measured, for the tables and the last line."""

    values: dict[str, Any] = field(default_factory=dict)
    targets: list[report.Target] = field(default_factory=list)


def main() -> int:
    """Exit code 0 when all targets are met, 1 when not, 2 when it could not be measured."""
    wanted = sys.argv[1:] or list(PARTS)
    if unknown := sorted(set(wanted) - set(PARTS)):
        print(f"error: there is no part {unknown[0]}: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    try:
        with place() as found:
            return run(found, wanted)
    except (BenchmarkError, OSError, TimeoutError, psycopg.Error) as error:
        print(f"error: {str(error).splitlines()[0] if str(error) else type(error).__name__}", file=sys.stderr)
        return 2


def run(found: Place, wanted: list[str]) -> int:
    figures = Figures({**machine.facts(found.database()), "fsync_ms": machine.fsync_ms(found.directory)})
    report.machine(figures.values)
    parts = {"submit": submit, "lifecycles": lifecycles, "placement": placement, "peers": beside}
    for name in PARTS:
        if name in wanted:
            parts[name](found, figures)
            figures.values[f"loop_ms_after_{name}"] = machine.loop_ms(1)
    return report.finish("jobs", figures.targets, report.rounded(figures.values))


# -- submission ------------------------------------------------------------------------------------------------------


def submit(found: Place, figures: Figures) -> None:
    """One by one over many connections, and in lists; nothing is placed meanwhile."""
    with server(found) as (api, _), child("load", api) as load:
        singles = [_single(load, number) for number in range(ROUNDS)]
        bulk = [_bulk(api, number) for number in range(ROUNDS)]
    rate, p50, p99 = over_rounds(singles)
    figures.values |= {"submit_single_per_s": rate, "submit_single_p50_ms": p50, "submit_bulk_per_s": median(bulk)}
    report.title(f"Submission, nothing placed meanwhile, median of {ROUNDS} rounds")
    report.table(("how", "bytes", "jobs/s", "p50 ms", "p99 ms"), [
        (f"one by one, {CONNECTIONS} connections", samples.SIZE, rate, p50, p99),
        (f"lists of {BULK:,}, one connection", samples.SMALL, median(bulk), None, None),
    ])  # fmt: skip
    figures.targets.append(report.at_least("bulk submit", median(bulk), 10_000, "jobs/s"))


def _single(load: Child, number: int) -> Round:
    told = load.ask(phase="jobs", namespace=NAMESPACE, connections=CONNECTIONS, first=number * 1_000_000,
                    seconds=SINGLE_SECONDS, count=0)  # fmt: skip
    if told["failed"]:
        raise BenchmarkError(f"{told['failed']} submissions failed: {told['first_failure']}")
    return Round(told["done"], told["seconds"], told["p50"], told["p99"])


def _bulk(api: Apiserver, number: int) -> float:
    """Jobs a second, from the first byte of the first list to the last answer."""
    lists = [
        {"kind": "JobList", "items": [samples.small_job(NAMESPACE, f"b{number}-{n:06d}") for n in range(at, at + BULK)]}
        for at in range(0, BULK_JOBS, BULK)
    ]
    with api.connect() as connection:
        answers = [connection.expect(200, "POST", samples.path(NAMESPACE, "jobs"), body) for body in lists]
    if any(one.json()["failed"] for one in answers):
        raise BenchmarkError("jobs of a list were refused")
    return BULK_JOBS / ((answers[-1].ended - answers[0].sent) / 1e9)


# -- lifecycles ------------------------------------------------------------------------------------------------------


def lifecycles(found: Place, figures: Figures) -> None:
    """Rounds of whole lives, then one job at a time on the idle system."""
    with server(found) as (api, url), controller(found, url) as duties, child("robots", api) as fleet:
        fleet.ask(namespace=NAMESPACE, robots=ROBOTS, slots=SLOTS, spec=FLEET)
        time.sleep(REST)
        clock = CpuClock({
            "apiserver": api.pid, "controller": duties.pid, "postgres": found.postgres.pid, "robots": fleet.pid
        })  # fmt: skip
        rounds = [_round(fleet, clock, f"r{number}") for number in range(ROUNDS)]
        time.sleep(REST)
        idle = fleet.ask(phase="idle", namespace=NAMESPACE, prefix="idle", count=IDLE, pause=PAUSE)
        _check(idle)
        size = _stored_bytes(api, "r0-0000000")
    _show_lifecycles(rounds, idle["milliseconds"], size, figures)


@dataclass(frozen=True, slots=True)
class Lives:
    """One round: jobs a second, reports, CPU seconds by process."""

    rate: float
    reports: int
    refused: int
    cpu: dict[str, float]


def _round(fleet: Child, clock: CpuClock, prefix: str) -> Lives:
    clock.lap()
    told = fleet.ask(phase="lifecycles", namespace=NAMESPACE, prefix=prefix, count=JOBS, batch=BULK, submitters=SUBMITTERS,
                     within=WITHIN)  # fmt: skip
    used = clock.lap()
    _check(told)
    seen = {name: told["phases"].get(name, 0) for name in ("Queued", "Assigned", "Running", "Succeeded")}
    if set(seen.values()) != {JOBS}:
        raise BenchmarkError(f"the watcher saw {seen} of {JOBS} jobs")
    return Lives(JOBS / told["seconds"], told["reports"], told["refused"], used)


def _check(told: dict[str, Any]) -> None:
    if told["failures"]:
        raise BenchmarkError(f"robots were refused: {told['failures'][0]}")


def _stored_bytes(api: Apiserver, name: str) -> int:
    with api.connect() as connection:
        return len(connection.expect(200, "GET", samples.path(NAMESPACE, "jobs", name)).body)


def _show_lifecycles(rounds: list[Lives], idle: list[float], size: int, figures: Figures) -> None:
    rate, reports = median([one.rate for one in rounds]), median([JOBS * 2 / one.reports for one in rounds])
    cpu = {name: median([one.cpu[name] / JOBS * 1e6 for one in rounds]) for name in rounds[0].cpu}
    p50, p99 = percentile(idle, 0.5), percentile(idle, 0.99)
    figures.values |= {
        "lifecycles_per_s": rate, "lifecycles_each": [one.rate for one in rounds], "transitions_a_report": reports,
        "job_bytes_sent": samples.SMALL, "job_bytes_at_the_end": size, "start_p50_ms": p50, "start_p99_ms": p99,
        "robots_share_of_cpu": cpu["robots"] / sum(cpu.values()),
    } | {f"{name}_us_a_job": used for name, used in cpu.items()}  # fmt: skip
    report.title(
        f"Lifecycles: {JOBS:,} jobs of {samples.SMALL} bytes a round ({size} at the end) in lists of {BULK:,}, "
        f"{SUBMITTERS} at a time, {ROBOTS} robots of {SLOTS} slots, a watcher of everything; median of {ROUNDS} rounds"
    )
    report.table(("", "per second", "transitions a report", *(f"{name} us a job" for name in cpu)),
                 [("submitted, placed, started, succeeded", rate, reports, *cpu.values())])  # fmt: skip
    print("  rounds: " + ", ".join(f"{one.rate:,.0f}" for one in rounds)
          + f"; reports that had to be said again (503): {sum(one.refused for one in rounds)}")  # fmt: skip
    report.title(f"One job at a time on the idle system, submit to its robot has it, {IDLE} jobs")
    print(f"  p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {max(idle):.1f} ms; "
          f"one fsync of 8 kB here: {figures.values['fsync_ms']:.2f} ms")  # fmt: skip
    figures.targets += [
        report.at_least("complete lifecycles", rate, 3_000, "jobs/s"),
        report.at_most("submit to robot has it, p50", p50, 10, "ms"),
        report.at_most("submit to robot has it, p99", p99, 30, "ms"),
    ]


# -- placement, and others -------------------------------------------------------------------------------------------


def placement(found: Place, figures: Figures) -> None:
    cases = placing.measure(found)
    placing.show(cases)
    figures.values["placement"] = [asdict(one) | {"per_s": one.rate, "tick_ms": one.tick_ms} for one in cases]
    rates = {one.queued: one.rate for one in cases if one.robots == 10_000}
    apart = (max(rates.values()) - min(rates.values())) / max(rates.values()) * 100
    figures.targets += [
        report.at_least("placement, 10,000 robots, 100,000 queued", rates[100_000], 12_000, "jobs/s"),
        report.at_most("placement at 1,000 and at 1,000,000 queued: apart", apart, 20, "%"),
    ]


def beside(found: Place, figures: Figures) -> None:
    """The peers' own lifecycles, without the cost of their submission; ratios where both were measured."""
    others = peers.measure(found)
    peers.show(others)
    figures.values["peers"] = [asdict(one) for one in others]
    ours = figures.values.get("lifecycles_per_s")
    if ours:
        rows = [(one.name, ours / one.lifecycles_per_s) for one in others if one.lifecycles_per_s]
        report.title("Lifecycles here, with placement, leases and a history, to theirs (pre-queued, submission not in it)")
        report.table(("peer", "times as many"), rows)
        figures.values["ratios"] = dict(rows)


@contextmanager
def server(found: Place) -> Iterator[tuple[Apiserver, str]]:
    """An apiserver on a database of its own, with a namespace and a workflow."""
    url = found.database()
    with apiserver(found, url) as api:
        with api.connect() as connection:
            connection.expect(201, "POST", "/api/v1/namespaces", samples.namespace(NAMESPACE))
            connection.expect(201, "POST", samples.path(NAMESPACE, "workflows"), samples.workflow(NAMESPACE))
        yield api, url


if __name__ == "__main__":
    sys.exit(main())
