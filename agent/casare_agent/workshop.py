"""What does every attempt of this robot share? Its directory, the caches in it, and the way to the server.

Layout: `lock`, `attempts/UID-NUMBER/` (result.json, process.json, output.log, work/, artifacts/), `cache/blobs`,
`cache/venvs`.
One agent at a time uses a directory; the lock goes with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from io import BufferedRandom
from pathlib import Path

from casare_agent.artifacts import Send as SendFile
from casare_agent.assignment import Assignment
from casare_agent.blobs import BlobCache
from casare_agent.fence import Contact
from casare_agent.logs import Send
from casare_agent.venvs import VenvCache
from casare_api.kinds import Object
from casare_client import Client, Unreachable
from casare_client.requests import Artifact

_REVISIONS_KEPT = 256


class InUse(Exception):
    """Another agent uses the directory."""


class Workshop:
    """A robot's directory, and what attempts need of the server."""

    def __init__(self, directory: Path, client: Client) -> None:
        """Raises OSError where the directory can't be made."""
        self.directory = directory
        self.attempts = directory / "attempts"
        self.attempts.mkdir(parents=True, exist_ok=True)
        self.blobs = BlobCache(directory / "cache" / "blobs", client.get_blob)
        self.venvs = VenvCache(directory / "cache" / "venvs")
        self.closed = threading.Event()
        self.contact = Contact()
        self._client = client
        self._revisions: dict[tuple[str, str, str], Object] = {}
        self._lock = threading.Lock()

    def attempt(self, uid: str, number: int) -> Path:
        """The directory of an attempt; it may not be there yet."""
        return self.attempts / f"{uid}-{number}"

    def workflow(self, assignment: Assignment) -> Object:
        """The workflow's spec that the job was submitted with. Raises ApiError, Unreachable."""
        spec = assignment.spec or {}
        if spec.get("workflow"):
            return dict(spec["workflow"])
        reference = spec.get("workflowRef") or {}
        key = (assignment.namespace, str(reference.get("name")), str(reference.get("revision")))
        with self._lock:
            known = self._revisions.get(key)
        return known if known is not None else self._remember(key, self._client.revision(*key)["spec"])

    def log_of(self, assignment: Assignment) -> Send:
        """Sends a numbered piece of the attempt's log."""
        namespace, name, uid, attempt = assignment.namespace, assignment.name, assignment.uid, assignment.attempt

        def send(number: int, text: str) -> None:
            with self._until_closed():
                self._client.send_log(namespace, name, uid, attempt, number, text)

        return send

    def artifacts_of(self, assignment: Assignment) -> SendFile:
        """Sends a file that the attempt left behind."""
        about = assignment

        def send(name: str, size: int, sha256: str, pieces: Iterable[bytes]) -> None:
            file = Artifact(about.uid, about.attempt, name, size, sha256)
            with self._until_closed():
                self._client.put_artifact(about.namespace, about.name, file, pieces)

        return send

    def close(self) -> None:
        """Tells what still sends logs that the agent ends."""
        self.closed.set()

    def prune(self) -> None:
        """Removes files and environments that no job has used for long."""
        self.blobs.prune()
        self.venvs.prune()

    @contextlib.contextmanager
    def _until_closed(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what httpx2 says of a client that was closed
            if not self.closed.is_set():
                raise
            raise Unreachable("this agent has ended") from error

    def _remember(self, key: tuple[str, str, str], spec: Object) -> Object:
        with self._lock:
            while len(self._revisions) >= _REVISIONS_KEPT:
                self._revisions.pop(next(iter(self._revisions)))
            self._revisions[key] = spec
        return spec


def remove(directory: Path) -> None:
    """Removes an attempt's directory, as far as the system lets us."""
    shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds a robot's directory for this process. Raises InUse, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "lock"
    with path.open("a+b") as file:
        if not _take(file):
            file.seek(0)
            owner = file.read(20).decode("ascii", "replace").strip()
            raise InUse(f"another agent (pid {owner or 'unknown'}) runs this robot on this computer: {directory}")
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


if sys.platform == "win32":
    import msvcrt

    def _take(file: BufferedRandom) -> bool:
        file.seek(1 << 20)  # a byte beyond what is written, so that the pid can be read while it is locked
        with contextlib.suppress(OSError):
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return True
        return False
else:
    import fcntl

    def _take(file: BufferedRandom) -> bool:
        with contextlib.suppress(OSError):
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False
