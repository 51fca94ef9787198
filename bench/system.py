"""What does a benchmark run on? An embedded Postgres and processes of its own, in a directory that goes away again.

Always holds: nothing of the caller's settings or data is used or touched, and everything that was started here is
stopped when the block is left, also by an error or Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psycopg

from casare_migrations import runner
from casare_store import embedded
from sockets import Connection

HERE = Path(__file__).parent
START_WITHIN = 20.0  # seconds
STOP_WITHIN = 15.0
_OURS = ("CASARE_", "ORCHESTRATOR_", "API_SECRET", "DATABASE_URL", "PG")


class BenchmarkError(Exception):
    """It can't be measured; the message is one line for people."""


@dataclass(frozen=True, slots=True)
class Place:
    """The directory and the Postgres of one benchmark."""

    directory: Path
    postgres: embedded.Server

    def database(self) -> str:
        """A fresh, migrated database; its URL."""
        name = f"bench_{secrets.token_hex(4)}"
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = psycopg.conninfo.make_conninfo(self.postgres.url, dbname=name)
        runner.migrate(url)
        return url


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """A Postgres that lives as long as the block."""
    directory = Path(tempfile.mkdtemp(prefix="casare-bench-"))
    directory.chmod(0o755)  # where root runs this, Postgres runs as another user and must get in
    try:
        server = embedded.Server.start(directory / "data")
        try:
            yield Place(directory, server)
        finally:
            server.stop()
    except embedded.EmbeddedError as error:
        raise BenchmarkError(str(error)) from None
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@dataclass(slots=True)
class Apiserver:
    """One apiserver process on loopback, plain HTTP."""

    port: int
    process: subprocess.Popen[bytes]
    key: str = field(repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    def connect(self) -> Connection:
        return Connection(self.port, self.key)


@contextlib.contextmanager
def apiserver(where: Place, database_url: str, again: Apiserver | None = None) -> Iterator[Apiserver]:
    """An apiserver that answers, as long as the block lasts; in the place of one that has ended where it is given.

    Raises BenchmarkError when it does not get ready.
    """
    port = again.port if again is not None else _free_port()
    key = again.key if again is not None else secrets.token_urlsafe(32)
    log = where.directory / f"apiserver-{secrets.token_hex(3)}.log"
    env = {
        **_clean_environment(), "DATABASE_URL": database_url, "ORCHESTRATOR_ADMIN_API_KEY": key,
        "CASARE_PORT": str(port), "CASARE_TLS_PORT": "0",
    }  # fmt: skip
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "casare_apiserver"], env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    found = Apiserver(port, process, key)
    try:
        _wait_until_ready(found, log)
        yield found
    finally:
        _end(process)


def _wait_until_ready(server: Apiserver, log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(OSError), server.connect() as connection:
            if connection.request("GET", "/readyz").status == 200:
                return
        time.sleep(0.05)
    said = (log.read_text(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
    raise BenchmarkError(f"the apiserver does not get ready: {said}")


@contextlib.contextmanager
def controller(where: Place, database_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A controller process, as long as the block lasts."""
    env = {**_clean_environment(), "DATABASE_URL": database_url}
    with (where.directory / f"controller-{secrets.token_hex(3)}.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "casare_controller"], env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        _end(process)


@dataclass(slots=True)
class Child:
    """A process of a benchmark's own that is told what to do, and answers, one JSON line each."""

    name: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, **what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(orjson.dumps(what) + b"\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Its next answer. Raises BenchmarkError when it ended instead; each child bounds its own time."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise BenchmarkError(f"{self.name}.py ended without an answer")
        found: dict[str, Any] = orjson.loads(line)
        return found

    def ask(self, **what: Any) -> dict[str, Any]:
        self.tell(**what)
        return self.hear()


@contextlib.contextmanager
def child(module: str, server: Apiserver) -> Iterator[Child]:
    """A module of this folder as a process, with the server's port and key in its environment."""
    env = {**_clean_environment(), "BENCH_PORT": str(server.port), "BENCH_KEY": server.key}
    argv = [sys.executable, str(HERE / f"{module}.py")]
    process = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Child(module, process)
    finally:
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
