"""A server whose Postgres is its own, so that it can be killed as well."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from casare_migrations import runner
from casare_store import embedded

from ..conftest import Server, until


class Killable(Server):
    """`place` is where its Postgres keeps its data."""

    place: Path
    postgres: embedded.Server

    def restart_postgres(self) -> None:
        """kill -9, and a new one on the same data."""
        os.kill(self.postgres.pid, signal.SIGKILL)
        until(lambda: not self.postgres.alive(), "Postgres is dead")
        self.postgres = embedded.Server.start(self.place / "data")


Kind = TypeVar("Kind", bound=Killable)


@contextmanager
def started(kind: type[Kind], directory: Path) -> Iterator[Kind]:
    """One of these with a fresh database, until the block is left."""
    place = Path(tempfile.mkdtemp(prefix="casare-faults-"))
    place.chmod(0o755)  # where root runs the tests, Postgres is somebody else and must get in
    own = embedded.Server.start(place / "data")
    runner.migrate(own.url)
    found = kind(own.url, directory)
    found.place, found.postgres = place, own
    try:
        found.start()
        yield found
    finally:
        found.stop()
        found.postgres.stop()
        shutil.rmtree(place)
