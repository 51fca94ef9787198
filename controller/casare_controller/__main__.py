"""`python -m casare_controller`: runs the duties until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version

import psycopg

from casare_controller.duties.audit import Audit, age_of
from casare_controller.duties.deletions import Deletions
from casare_controller.duties.draining import Draining
from casare_controller.duties.garbage import Garbage
from casare_controller.duties.keys import Keys
from casare_controller.duties.placement import Placement
from casare_controller.duties.presence import Presence
from casare_controller.duties.schedules import Schedules
from casare_controller.duties.timers import Timers
from casare_controller.manager import Duty, Manager
from casare_store import logs, loop, memory
from casare_store.events import Recorder
from casare_store.schema import WrongSchema
from casare_store.store import Store


def main() -> int:
    """Exit code 0 after a clean stop, 1 with one line that says what is wrong."""
    logs.configure("controller")
    url = os.environ.get("DATABASE_URL")
    if not url:
        print("error: DATABASE_URL is not set: name the database of the fleet", file=sys.stderr)
        return 1
    try:
        loop.runner()(_run(url, age_of(os.environ)))
    except (WrongSchema, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except psycopg.OperationalError as error:
        print(f"error: the database can't be used: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


def _version() -> str:
    """Of this release, as its agents say it, too."""
    try:
        return version("casare-fleet")
    except PackageNotFoundError:
        return "0"


async def _run(url: str, audit_age: timedelta | None) -> None:
    store = await Store.open_when_ready(url, pool_size=6)
    events = Recorder(store.writer, "controller")
    events.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    memory.settle()
    duties: list[Duty] = [
        Placement(store, events),
        Presence(store, events),
        Timers(store, events),
        Draining(store, events, _version()),
        Keys(store, events),
        Schedules(store, events),
        Deletions(store),
        Garbage(store),
        Audit(store, audit_age),
    ]
    try:
        await Manager(store, duties).run(stop)
    finally:
        await events.stop()
        await store.close()


if __name__ == "__main__":
    sys.exit(main())
