"""How does a data directory come by a running Postgres of its own?

`Server.start` makes the cluster if need be, adopts the server that already serves it, or starts one as a direct child
that the kernel shuts down cleanly when this process dies. It listens on a Unix socket in a directory that nobody else
can enter (on Windows on 127.0.0.1), with a password. Nothing outside the data directory is changed, but for a short
socket directory where the data directory's own path is too long for one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import quote

from casare_store import (
    embedded_account,
    embedded_binaries,
    embedded_child,
    embedded_cluster,
    embedded_running,
    embedded_socket,
    embedded_windows,
)
from casare_store.embedded_account import EmbeddedError
from casare_store.embedded_cluster import Cluster
from casare_store.embedded_running import Address, Answer

__all__ = ["EmbeddedError", "Server", "make_data_dir"]

READY_TIMEOUT = 120.0  # seconds; recovery after a crash replays up to max_wal_size
STOP_TIMEOUT = 30.0
LEAVING_TIMEOUT = 10.0  # a killed server's children notice and leave within moments
_OTHERS_ARE_LEAVING = ("still in use", "lock file")
_LOG_SIZE = 16 << 20  # bytes; a longer log is put aside at the next start


class Server:
    """A running server of one data directory."""

    def __init__(self, cluster: Cluster, pid: int, address: Address, process: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self._cluster = cluster
        self._address = address
        self._process = process

    @classmethod
    def start(cls, data_dir: Path) -> Self:
        """The server of `data_dir`, ready for connections: adopted where one serves it, else started.

        Call it on the main thread: the kernel ties the child's life to the thread that started it. Raises
        EmbeddedError, with one line for people.
        """
        embedded_child.require_main_thread()
        cluster = Cluster(data_dir.expanduser().resolve())
        try:
            _make_data_dir(cluster)
            with _locked(cluster.data_dir / "postgres.lock"):
                return cls._adopt(cluster) or cls._launch(cluster)
        except OSError as error:
            raise _in_words(error, cluster) from None

    @property
    def adopted(self) -> bool:
        """Whether somebody else started it: it then does not end with this process."""
        return self._process is None

    @property
    def url(self) -> str:
        """A libpq URI that names the password file and holds no password."""
        host, file = quote(self._address.host, safe=""), quote(str(self._cluster.password_file), safe="")
        names = f"{embedded_cluster.ROLE}@/{embedded_cluster.DATABASE}"
        return f"postgresql://{names}?host={host}&port={self._address.port}&passfile={file}"

    def alive(self) -> bool:
        """Whether the server's process is there. Reaps it when it is not."""
        if self._process is not None:
            return self._process.poll() is None
        return embedded_running.serves(self.pid, self._cluster.path)

    def ready(self) -> bool:
        """Whether it takes connections now."""
        return self.alive() and self._address.ask() is Answer.READY

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Fast shutdown: sessions are ended, everything is on disk. Waits, at most about `timeout` seconds."""
        if sys.platform == "win32":
            return _pg_ctl(self._cluster, "stop", "-m", "fast") if self.alive() else None
        for request, patience in ((signal.SIGINT, timeout), (signal.SIGQUIT, 5.0)):
            if self.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, request)
            if _wait(lambda: not self.alive(), patience):
                return None
        raise EmbeddedError(f"Postgres (pid {self.pid}) does not stop; see {self._cluster.log}")

    def __repr__(self) -> str:
        return f"Server(pid={self.pid}, data_dir={str(self._cluster.data_dir)!r})"

    @classmethod
    def _adopt(cls, cluster: Cluster) -> Self | None:
        """The server that serves the cluster now; waits for one that is starting or stopping."""
        deadline = time.monotonic() + READY_TIMEOUT
        while running := embedded_running.read(cluster.path):
            answer = running.address.ask()
            if answer is Answer.READY:
                return cls(cluster, running.pid, running.address, None)
            if answer is Answer.SILENT and not embedded_running.serves(running.pid, cluster.path):
                return None
            if time.monotonic() > deadline:
                raise EmbeddedError(f"Postgres (pid {running.pid}) of {cluster.data_dir} does not get ready: stop it")
            time.sleep(0.02)
        return None

    @classmethod
    def _launch(cls, cluster: Cluster) -> Self:
        account = embedded_account.server_account(cluster.path)
        binaries = embedded_binaries.find(cluster.data_dir, account, cluster.major())
        embedded_cluster.prepare(cluster, binaries, account)
        embedded_child.raise_open_files()
        if sys.platform == "win32":
            return cls._launch_on_windows(cluster)
        directory = embedded_socket.socket_directory(cluster.data_dir, account)
        address = Address(str(directory), embedded_socket.PORT)
        argv = [binaries.program("postgres"), "-D", str(cluster.path), *_options(address)]
        give_up = time.monotonic() + LEAVING_TIMEOUT
        while True:
            _clear_leftovers(cluster, directory)
            log_start = cluster.log.stat().st_size if cluster.log.exists() else 0
            with cluster.log.open("ab") as log:
                process = embedded_child.spawn(
                    argv, env=embedded_binaries.environment(), log=log, account=account, death_signal=signal.SIGINT
                )
            if _comes_up(process, cluster, address):
                return cls(cluster, process.pid, address, process)
            reason = embedded_child.explain(_text_from(cluster.log, log_start))
            if time.monotonic() > give_up or not any(hint in reason for hint in _OTHERS_ARE_LEAVING):
                raise EmbeddedError(f"Postgres does not start: {reason or 'it says no reason'}; see {cluster.log}")
            time.sleep(0.1)

    @classmethod
    def _launch_on_windows(cls, cluster: Cluster) -> Self:
        embedded_windows.join_job()
        address = Address("127.0.0.1", embedded_windows.free_port())
        _pg_ctl(cluster, "start", "-w", "-l", str(cluster.log), "-o", subprocess.list2cmdline(_options(address)))
        running = embedded_running.read(cluster.path)
        if running is None:
            raise EmbeddedError(f"Postgres does not start; see {cluster.log}")
        return cls(cluster, running.pid, address, None)


def make_data_dir(data_dir: Path) -> None:
    """Make the directory so that the server's account can enter it; what stands against that is an EmbeddedError."""
    cluster = Cluster(data_dir.expanduser().resolve())
    try:
        _make_data_dir(cluster)
    except OSError as error:
        raise _in_words(error, cluster) from None


def _in_words(error: OSError, cluster: Cluster) -> EmbeddedError:
    where = error.filename or cluster.data_dir
    return EmbeddedError(f"{where}: {error.strerror or error}: take another --data-dir")


def _make_data_dir(cluster: Cluster) -> None:
    """The log is handed to the server open, so that nobody but us needs a way into its directory."""
    account = embedded_account.server_account(cluster.path)
    if account:
        embedded_account.let_in(account, cluster.data_dir)
    try:
        cluster.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        cluster.log.parent.mkdir(mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise EmbeddedError(f"{cluster.data_dir} is not a directory: take another --data-dir") from None
    if account:
        embedded_account.let_in(account, cluster.data_dir)
    if not os.access(cluster.data_dir, os.W_OK | os.X_OK):
        raise EmbeddedError(f"no permission to write in {cluster.data_dir}: take another --data-dir")
    if cluster.log.exists() and cluster.log.stat().st_size > _LOG_SIZE:
        cluster.log.replace(cluster.log.with_name("postgres.log.1"))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two processes that start the same data directory at once do it one after the other: the second one adopts."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _options(address: Address) -> list[str]:
    settings = embedded_cluster.SETTINGS | {"port": str(address.port)}
    if address.is_socket:
        settings |= {"listen_addresses": "", "unix_socket_directories": address.host, "unix_socket_permissions": "0700"}
    else:
        settings |= {"listen_addresses": address.host}
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _clear_leftovers(cluster: Cluster, directory: Path) -> None:
    """Remove what a killed server left, if its id is somebody else's by now: Postgres would believe in that id."""
    for socket_file in directory.glob(f".s.PGSQL.{embedded_socket.PORT}*"):
        socket_file.unlink(missing_ok=True)
    running = embedded_running.read(cluster.path)
    if running and embedded_running.is_another_program(running.pid):
        (cluster.path / "postmaster.pid").unlink(missing_ok=True)


def _comes_up(process: subprocess.Popen[bytes], cluster: Cluster, address: Address) -> bool:
    """Wait until the child takes connections; False when it has ended."""
    deadline = time.monotonic() + READY_TIMEOUT
    try:
        while process.poll() is None:
            running = embedded_running.read(cluster.path)
            if running and running.pid == process.pid and running.ready and address.ask() is Answer.READY:
                return True
            if time.monotonic() > deadline:
                raise EmbeddedError(f"Postgres is not ready after {READY_TIMEOUT:.0f} s; see {cluster.log}")
            time.sleep(0.01)
    except BaseException:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    return False


def _pg_ctl(cluster: Cluster, *arguments: str) -> None:
    binaries = embedded_binaries.find(cluster.data_dir, None, cluster.major())
    argv = [binaries.program("pg_ctl"), *arguments, "-D", str(cluster.path)]
    embedded_child.run(argv, env=embedded_binaries.environment())


def _text_from(path: Path, start: int) -> str:
    with path.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def _wait(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
