"""How is a job queue library put to work and its work measured? A process for each submitter and worker, told by `peers.py`.

Always holds: only the standard library is needed, for one of the peers needs a Python of its own. The program reads
requests from its standard input and answers each, one JSON line a piece; it ends when the input does, and after LIFETIME
whatever happens. A job whose note is not empty tells when it started: {"note", "at": the clock in nanoseconds}.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

LIFETIME = 60.0  # seconds

Answer = dict[str, Any]


class Library(Protocol):
    """What a peer must be able to do. Database parameters by libpq's names are in BENCH_DATABASE, as JSON."""

    package: str
    unfinished: str  # SQL: how many jobs are not yet recorded as done

    async def install(self) -> None:
        """Makes its tables."""

    async def open(self, connections: int) -> None:
        """Gets ready to submit, at most so many at once."""

    async def submit(self, note: str) -> None:
        """Submits one job; it is durable when this returns."""

    async def submit_many(self, count: int) -> None:
        """Submits that many jobs without a note by the library's call for many."""

    async def work(self, **options: int) -> None:
        """Runs jobs, as the library recommends, until it is cancelled."""


def database() -> dict[str, str]:
    """Connection parameters by libpq's names: host, port, user, dbname, passfile."""
    found: dict[str, str] = json.loads(os.environ["BENCH_DATABASE"])
    return found


def started(note: str) -> None:
    """What every job does: nothing, or tell that it started."""
    if note:
        _tell({"note": note, "at": time.monotonic_ns()})


def serve(library: Library) -> None:
    """Carries out requests until the standard input ends."""
    try:
        from uvloop import run  # as PgQueuer's and Oban's own commands do; it harms nobody
    except ImportError:
        from asyncio import run  # type: ignore[assignment]
    run(_serve(library))


async def _serve(library: Library) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(LIFETIME, os._exit, 3)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _tell({"version": importlib.metadata.version(library.package), "unfinished": library.unfinished})
    while line := await reader.readline():
        request = json.loads(line)
        try:
            _tell(await _REQUESTS[request.pop("do")](library, **request))
        except Exception as error:  # whatever a library raises is the reason in its row
            traceback.print_exc()
            _tell({"error": f"{type(error).__name__}: {error}"})
    os._exit(0)  # a worker's own way to stop takes seconds, and the database goes away anyhow


async def _install(library: Library) -> Answer:
    await library.install()
    return {}


async def _open(library: Library, connections: int) -> Answer:
    await library.open(connections)
    return {}


async def _one(library: Library) -> Answer:
    """One job with a note, which is the clock when submitting began."""
    note = str(time.monotonic_ns())
    await library.submit(note)
    return {"note": note}


async def _singles(library: Library, submitters: int, seconds: float) -> Answer:
    """That many tasks submit one job after the other."""
    return await _for(seconds, submitters, 1, lambda: library.submit(""))


async def _bulk(library: Library, size: int, seconds: float, most: int) -> Answer:
    """One task submits batch after batch, at most so many jobs."""
    return await _for(seconds, 1, size, lambda: library.submit_many(size), most)


async def _for(
    seconds: float, tasks: int, each: int, submit: Callable[[], Awaitable[None]], most: int = sys.maxsize
) -> Answer:
    begun = time.monotonic()
    done = 0

    async def go_on() -> None:
        nonlocal done
        while time.monotonic() - begun < seconds and done < most:
            await submit()
            done += each

    await asyncio.gather(*(go_on() for _ in range(tasks)))
    return {"done": done, "seconds": time.monotonic() - begun}


async def _work(library: Library, **options: int) -> Answer:
    """Starts to run jobs; a worker that stops by itself has failed and says why."""
    task = asyncio.create_task(library.work(**options))
    task.add_done_callback(_failed)
    _TASKS.add(task)
    return {}


_TASKS: set[asyncio.Task[None]] = set()


def _failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        traceback.print_exception(error)
    os._exit(1)


def _tell(what: Answer) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")  # short enough to arrive whole where several share a pipe


_REQUESTS: dict[str, Callable[..., Awaitable[Answer]]] = {
    "install": _install, "open": _open, "one": _one, "singles": _singles, "bulk": _bulk, "work": _work,
}  # fmt: skip
