"""Where does each file of a data directory lie, and who uses the directory now?

Files appear whole (written beside their place, then renamed) and those with secrets are readable by their owner
alone. Whoever runs the system holds a lock on `up.lock`, in which its process id stands: the kernel lets go of it
when that process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from casare_cli.failures import Failure

CLAIM_TIMEOUT = 0.5  # seconds; `status` and `down` hold the lock for a moment when they look


@dataclass(frozen=True, slots=True)
class DataDir:
    """The directory and the files in it."""

    path: Path

    @property
    def admin_key(self) -> Path:
        return self.path / "admin.key"

    @property
    def secret_key(self) -> Path:
        return self.path / "secret.key"

    @property
    def old_secret_key(self) -> Path:
        return self.path / "secret.key.old"

    @property
    def ca(self) -> Path:
        return self.path / "ca.crt"

    @property
    def pki(self) -> Path:
        return self.path / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.path / "kubeconfig"

    @property
    def record(self) -> Path:
        return self.path / "up.json"

    @property
    def lock(self) -> Path:
        return self.path / "up.lock"

    def log(self, name: str) -> Path:
        return self.path / "log" / f"{name}.log"

    def agent(self, name: str) -> Path:
        return self.path / "agents" / f"{name}.yaml"

    def make(self) -> None:
        """The directory and its private folders. Raises Failure."""
        try:
            for folder in (self.path, self.pki, *(self.path / name for name in ("log", "agents", "agent"))):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(f"{error.filename}: {error.strerror}; choose another directory with --data-dir") from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise Failure(f"no permission to write in {self.path}; choose another directory with --data-dir")


def default() -> Path:
    """Where `casare up` keeps its data unless told otherwise; as in casare_client.connection.

    Said here again, since importing the client takes longer than starting Postgres.
    """
    if os.environ.get("CASARE_DATA_DIR"):
        return Path(os.environ["CASARE_DATA_DIR"]).expanduser()
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/casare")
    return Path.home() / ".casare"


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Puts a file in its place whole, or leaves what was there."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.replace(path)


@contextlib.contextmanager
def claimed(data: DataDir) -> Iterator[None]:
    """Holds the directory while the block runs. Raises Failure where somebody else does."""
    with open(os.open(data.lock, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        if not _lock(file, CLAIM_TIMEOUT):
            pid = data.lock.read_text().strip()
            raise Failure(f"{data.path} is in use: it is up already (pid {pid}); 'casare down' stops it")
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def holder(data: DataDir) -> int | None:
    """The process id of whoever runs the system in this directory; None where nobody does."""
    try:
        with data.lock.open("r+") as file:
            if _lock(file, 0):
                return None
            pid = int(file.read().strip() or 0)
        if pid <= 0:  # to ask process 0 to end would mean ourselves
            raise Failure(f"{data.path} is being started this very moment: try again")
        return pid
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise Failure(f"no permission to look into {data.path}: run this as the user who started it") from None
    except (OSError, ValueError) as error:
        raise Failure(f"cannot tell whether {data.path} is up: {error}") from None


def _lock(file: IO[str], seconds: float) -> bool:
    """Tries for some time to lock an open file, which then stays locked until it is closed."""
    until = time.monotonic() + seconds
    while not _lock_now(file):
        if time.monotonic() >= until:
            return False
        time.sleep(0.02)
    return True


def _lock_now(file: IO[str]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 20)  # far behind the text, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if sys.platform == "win32":
            file.seek(0)
        return False
    return True
