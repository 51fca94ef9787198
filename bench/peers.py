"""How fast are other job queues on the same Postgres? PgQueuer, Procrastinate and Oban with jobs that do nothing.

A database of its own for each, the server's default, durable settings, worker and submitter processes of their own, and
the numbers of worker processes and of tasks in each that were the best of those tried on 2 cores (`python bench/peers.py
1 2 4` tries every peer with each). In turn: idle submit-to-start, one job at a time with the workers waiting; one by one
and in bulk, with no worker running; then the workers drain what was submitted. `lifecycles_per_s` is thus of pre-queued
jobs, from the first look that finds some recorded as done to the last: the cost of submitting is not in it, which
favours the peers, as does VACUUM ANALYZE before it.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import psycopg
from psycopg import conninfo

import machine
import report
from measuring import percentile
from peers_crew import Crew, crew
from peers_python import python_for
from system import BenchmarkError, Place, place

SUBMITTERS = 16  # tasks on as many connections
SINGLES_FOR = 1.5  # seconds
BULK = 1_000  # jobs in one call
BULK_FOR = 1.5  # seconds
BULK_MOST = 20_000  # jobs
DRAIN_FOR = 4.0  # seconds
LOOK_EVERY = 0.05  # seconds between two counts of what is left
STARTS = 200  # jobs, one at a time
STARTS_FOR = 6.0  # seconds
PAUSE = (0.01, 0.03)  # seconds between two of them, from and to
WARM_UP = 10
START_WITHIN = 6.0  # seconds; one that polls does so every 5


@dataclass(frozen=True, slots=True)
class Peer:
    """What one peer did: jobs a second, milliseconds; None where `problem` says why there is no figure."""

    name: str
    version: str
    how: str
    submit_single_per_s: float | None = None
    submit_bulk_per_s: float | None = None
    lifecycles_per_s: float | None = None
    start_p50_ms: float | None = None
    start_p99_ms: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is measured: bench/`program`.py with so many worker processes, each with these options."""

    name: str
    package: str
    program: str
    workers: int
    how: str  # a worker
    options: Mapping[str, int] = field(default_factory=dict)


SUBJECTS = (
    Subject("PgQueuer, batch 10", "pgqueuer", "peers_pgqueuer", 4, "batch 10, asyncpg", {"batch": 10}),
    Subject("PgQueuer, batch 100", "pgqueuer", "peers_pgqueuer", 2, "batch 100, asyncpg", {"batch": 100}),
    Subject(
        "Procrastinate", "procrastinate", "peers_procrastinate", 2, "concurrency 4, psycopg",
        {"concurrency": 4, "connections": 5},
    ),
    Subject("Oban", "oban", "peers_oban", 4, "limit 100, psycopg", {"limit": 100}),
)  # fmt: skip


def measure(where: Place, subjects: tuple[Subject, ...] = SUBJECTS) -> list[Peer]:
    """One after the other, at most about 20 s each. A peer that can't be measured is there with the reason."""
    return [_measured(where, subject) for subject in subjects]


def _measured(where: Place, subject: Subject) -> Peer:
    how = f"{subject.workers} x {subject.how}"
    try:
        python = python_for(subject.package)
        with _database(where) as database:
            return _Run(where, subject, python, database).all(how)
    except (BenchmarkError, OSError, psycopg.Error) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        return Peer(subject.name, "-", how, problem=lines[0])


@contextlib.contextmanager
def _database(where: Place) -> Iterator[dict[str, str]]:
    """A fresh, empty database; its connection parameters by libpq's names."""
    name = f"peer_{secrets.token_hex(4)}"
    with psycopg.connect(where.postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            found = conninfo.conninfo_to_dict(conninfo.make_conninfo(where.postgres.url, dbname=name))
            yield {key: str(value) for key, value in found.items()}
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass(frozen=True, slots=True)
class _Run:
    """One peer in its database."""

    where: Place
    subject: Subject
    python: str
    database: Mapping[str, str]

    def all(self, how: str) -> Peer:
        with self._crew(1) as submitter:
            about = submitter.hear_all()
            submitter.ask("install")
            submitter.ask("open", connections=SUBMITTERS)
            with self._workers() as workers:
                starts = _starts(submitter, workers)
            singles = _rate(submitter.ask("singles", submitters=SUBMITTERS, seconds=SINGLES_FOR))
            bulk = _rate(submitter.ask("bulk", size=BULK, seconds=BULK_FOR, most=BULK_MOST))
            drained = self._drained(about["unfinished"])
        return Peer(
            self.subject.name, about["version"], how, singles, bulk, drained,
            percentile(starts, 0.5), percentile(starts, 0.99),
        )  # fmt: skip

    def _crew(self, number: int) -> contextlib.AbstractContextManager[Crew]:
        return crew(self.subject.program, self.python, number, self.database, self.where.directory)

    @contextlib.contextmanager
    def _workers(self) -> Iterator[Crew]:
        """Worker processes that have just been told to work."""
        with self._crew(self.subject.workers) as workers:
            workers.hear_all()
            workers.ask("work", **self.subject.options)
            yield workers

    def _drained(self, unfinished: str) -> float:
        """Jobs done a second, from the first look that finds some done to the last, or after DRAIN_FOR."""
        with psycopg.connect(conninfo.make_conninfo(**self.database), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")  # as a server that has run for a while
            with self._workers():
                looks = list(_looks(connection, unfinished))
        first = next((look for look in looks if look[1] < looks[0][1]), None)
        if first is None or looks[-1][1] == first[1]:
            raise BenchmarkError(f"its workers did not work off {looks[0][1]} jobs")
        return (first[1] - looks[-1][1]) / (looks[-1][0] - first[0])


def _looks(connection: psycopg.Connection, unfinished: str) -> Iterator[tuple[float, int]]:
    """(clock in seconds, jobs left) until none is left or DRAIN_FOR has passed."""
    begun = time.monotonic()
    left, now = 1, begun
    while left and now - begun < DRAIN_FOR:
        (left,) = connection.execute(unfinished).fetchone() or (0,)
        now = time.monotonic()
        yield now, left
        time.sleep(LOOK_EVERY)


def _starts(submitter: Crew, workers: Crew) -> list[float]:
    """Milliseconds from before a job is submitted until it runs, with nothing else going on."""
    for _ in range(WARM_UP):
        _start(submitter, workers)
    pauses, deadline = random.Random(4), time.monotonic() + STARTS_FOR
    taken: list[float] = []
    while len(taken) < STARTS and time.monotonic() < deadline:
        time.sleep(pauses.uniform(*PAUSE))
        taken.append(_start(submitter, workers))
    return taken


def _start(submitter: Crew, workers: Crew) -> float:
    note = submitter.ask("one")["note"]
    found = workers.hear(START_WITHIN)
    if found["note"] != note:
        raise BenchmarkError("a job ran twice, or not in its turn")
    return (int(found["at"]) - int(note)) / 1e6


def _rate(answer: Mapping[str, float]) -> float:
    return answer["done"] / answer["seconds"]


def show(peers: list[Peer]) -> None:
    """The table of them."""
    report.title(
        f"Other job queues on this server, jobs that do nothing: {SUBMITTERS} submitters one by one, in bulk of "
        f"{BULK:,}; lifecycles of jobs queued before; idle submit-to-start, one job at a time"
    )
    rows = [
        (one.name, one.version, one.how, one.submit_single_per_s, one.submit_bulk_per_s, one.lifecycles_per_s,
         one.start_p50_ms, one.start_p99_ms)
        for one in peers
    ]  # fmt: skip
    report.table(("peer", "version", "workers", "single/s", "bulk/s", "lifecycles/s", "start p50 ms", "p99 ms"), rows)
    for one in peers:
        if one.problem:
            print(f"  {one.name}: {one.problem}")


def _asked() -> tuple[Subject, ...]:
    """Everybody with each number of workers that the command line names, else as they stand above."""
    numbers = [int(text) for text in sys.argv[1:] if text in ("1", "2", "4", "8")]
    return tuple(replace(one, workers=number) for one in SUBJECTS for number in numbers) or SUBJECTS


def main() -> int:
    """Exit code 0 when all were measured, 1 when one was not, 2 when there is no server to measure on."""
    try:
        with place() as found:
            report.machine(machine.facts(found.postgres.url))
            peers = measure(found, _asked())
            show(peers)
            return 1 if any(one.problem for one in peers) else 0
    except (BenchmarkError, OSError, psycopg.Error) as error:
        print(f"error: {str(error).splitlines()[0] if str(error) else type(error).__name__}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
