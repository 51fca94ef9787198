"""Where do a job's files come from? From the server's blobs, by their SHA-256, each fetched once.

What is in the cache under a digest has that digest: it is checked when it arrives and whenever it is used, so that a
damaged disk costs a download and never gives a job the wrong file. Jobs get copies.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from casare_agent.files import write_whole

KEPT = 30 * 24 * 3600.0  # seconds a file stays that no job has used
_DIGEST = re.compile(r"[0-9a-f]{64}")

Fetch = Callable[[str, str], bytes]


class WrongDigest(Exception):
    """The server gave other bytes than asked for."""


class BlobCache:
    """Files by their digest, in a directory. `fetch(namespace, sha256)` gets what is not there."""

    def __init__(self, directory: Path, fetch: Fetch) -> None:
        self._directory, self._fetch = directory, fetch
        self._lock = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True)

    def read(self, namespace: str, sha256: str) -> bytes:
        """The bytes with this digest. Raises WrongDigest, and what `fetch` raises."""
        if not _DIGEST.fullmatch(sha256):
            raise WrongDigest(f'"{sha256[:80]}" is not a SHA-256 in hex')
        path = self._directory / sha256
        with contextlib.suppress(FileNotFoundError):
            data = path.read_bytes()
            if _digest(data) == sha256:
                os.utime(path)
                return data
        data = self._fetch(namespace, sha256)
        if _digest(data) != sha256:
            raise WrongDigest(f"the server gave a file with SHA-256 {_digest(data)} for {sha256}")
        with self._lock:
            write_whole(path, data)
        return data

    def prune(self, older_than: float = KEPT) -> int:
        """Removes what was not used for so many seconds; how many files."""
        before = time.time() - older_than
        old = [path for path in self._directory.iterdir() if path.stat().st_mtime < before]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
