"""What the tests share: one real Postgres, a migrated database cloned for each test, and real servers on it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from casare_api.machinery.errors import ApiError
from casare_client import Client, Config, Unreachable
from casare_migrations import runner
from casare_store import embedded, logs

logs.configure("tests")  # tracebacks without local variables, as in the servers
# No test fails on time: how fast examples are made says how busy the machine is.
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
TEMPLATE = "casare_template"
SECRET_KEY = "what the secrets of the tests are sealed with"
Found = TypeVar("Found")


def until(
    condition: Callable[[], Found], what: str | Callable[[], str] = "the condition", seconds: float = 30.0
) -> Found:
    """Waits for a condition and returns what it found; fails with its words where that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.02)
    return found


@pytest.fixture(name="until")
def _until() -> Callable[..., object]:
    return until


def free_port() -> int:
    """A port that nobody listens on, of those that are never given to outgoing connections.

    One of the others could become somebody's connection, of another worker's tests say, before its server takes it.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


# What takes long per test comes first, what takes nothing last.
FOLDERS = ("faults", "processes", "browser", "docs", "agent", "controller", "store", "api", "access", "wire", "unit")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps each folder's tests together, whose modules and tests stay in the (random) order they have.

    Several workers share the suite, and who has nothing left takes of the end of another's share: so the last ones
    are small, and the server that a folder has runs in few of them, and only as long as it is needed.
    """
    root = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(root).parts[0]
        return FOLDERS.index(folder) if folder in FOLDERS else 0

    items.sort(key=place)


@pytest.fixture(scope="session")
def postgres() -> Iterator[embedded.Server]:
    """The embedded Postgres of this run, with a migrated template database."""
    place = Path(tempfile.mkdtemp(prefix="casare-tests-"))
    place.chmod(0o755)  # Postgres runs as another user where root runs the tests
    server = embedded.Server.start(place / "data")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    runner.migrate(database_url(server.url, TEMPLATE))
    yield server
    server.stop()
    shutil.rmtree(place)


def database_url(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return psycopg.conninfo.make_conninfo(url, dbname=name)


def new_database(postgres: embedded.Server) -> str:
    """A fresh, migrated database; its URL."""
    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY WAL_LOG")
    return database_url(postgres.url, name)


def drop_database(postgres: embedded.Server, url: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(postgres: embedded.Server) -> Iterator[str]:
    """The URL of a database of this test's own."""
    url = new_database(postgres)
    yield url
    drop_database(postgres, url)


@dataclass
class Server:
    """Real processes on one database: an apiserver, a controller, and agents as asked for."""

    database: str
    directory: Path
    admin_key: str = field(default_factory=lambda: "crpa_" + secrets.token_urlsafe(32), repr=False)
    port: int = field(default_factory=free_port)
    tls_port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ, "DATABASE_URL": self.database, "ORCHESTRATOR_ADMIN_API_KEY": self.admin_key,
            "CASARE_PORT": str(self.port), "CASARE_TLS_PORT": str(self.tls_port),
            "CASARE_PKI_DIR": str(self.directory / "pki"), "CASARE_SECRET_KEY": SECRET_KEY,
            "CASARE_LIMIT_STRANGERS_PER_SECOND": "0",  # all tests have one address
        }  # fmt: skip

    def run(self, name: str, *argv: str, **env: str) -> subprocess.Popen[bytes]:
        """Starts a process under a name; its output goes to NAME.log."""
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *argv], env={**self.env, **env}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.processes[name] = process
        return process

    def start(self) -> None:
        self.run("apiserver", "-m", "casare_apiserver")
        self.run("controller", "-m", "casare_controller")
        until(self.is_ready, f"the apiserver is ready; {self.log('apiserver')}")

    def start_agent(self, name: str, **env: str) -> subprocess.Popen[bytes]:
        """A robot of this name with a key of its own and its agent."""
        with self.client() as client, contextlib.suppress(ApiError):
            client.create(
                {
                    "apiVersion": "fleet.casare.net/v1",
                    "kind": "ApiKey",
                    "metadata": {"name": name},
                    "spec": {"role": "robot", "robotName": name},
                }
            )
            (self.directory / f"{name}.key").write_text(client.issue_key(name))
        key = (self.directory / f"{name}.key").read_text()
        return self.run(
            name,
            "-m",
            "casare_agent",
            CASARE_ORCHESTRATOR_API_KEY=key,
            CASARE_ROBOT_ID=name,
            CASARE_AGENT_DIR=str(self.directory / name),
            **{"CASARE_ORCHESTRATOR_URL": self.url, **env},
        )

    def log(self, name: str) -> str:
        path = self.directory / f"{name}.log"
        return path.read_text()[-3000:] if path.exists() else ""

    def is_ready(self) -> bool:
        with contextlib.suppress(ApiError, Unreachable), self.client() as client:
            return client.request("GET", "/readyz").status_code == 200
        return False

    def client(self, key: str | None = None) -> Client:
        return Client(Config(self.url, key or self.admin_key))

    def kill(self, name: str) -> None:
        """kill -9."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait(timeout=30)

    def stop(self) -> None:
        for name in reversed(list(self.processes)):
            process = self.processes.pop(name)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            if process.poll() is None:
                process.kill()
                process.wait(timeout=20)


@contextlib.contextmanager
def running(postgres: embedded.Server, directory: Path, tls_port: int = 0) -> Iterator[Server]:
    """A server with its controller, on a database of its own; with TLS where a port for it is given."""
    url = new_database(postgres)
    server = Server(url, directory, tls_port=tls_port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        drop_database(postgres, url)


@pytest.fixture(scope="module")
def server(postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for a module's tests; they use names of their own."""
    with running(postgres, tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client with the admin key."""
    with server.client() as found:
        yield found
