"""How does what a job prints get to the server, without loss, without memory and without holding the job up?

The output goes to a file first; a thread sends it on in numbered chunks and repeats each until the server has it. So
the server may be away for hours: what waits is on disk, at most `limit` bytes of it, and in memory is one chunk.
Always holds: the chunks of an attempt, in the order of their numbers, are its output as text (bytes that are not
UTF-8 replaced), cut at the limit with a last line that says so.
"""

from __future__ import annotations

import codecs
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from casare_api.machinery.durations import parse_quantity
from casare_api.machinery.errors import ApiError
from casare_client import Unreachable
from casare_client.backoff import Backoff

CHUNK = 64 * 1024  # bytes
DEFAULT_LIMIT = "10Mi"
HOLD = 0.5  # seconds that output may wait for more of it
_TAIL = 2048  # bytes looked at for the last line
_REFUSED_KEY = frozenset({401, 403})
_log = logging.getLogger("casare.agent")

Send = Callable[[int, str], None]


class JobLog:
    """The output of one attempt, on disk. `write` from any thread, `chunk` from one."""

    def __init__(self, path: Path) -> None:
        self.limit_to(parse_quantity(DEFAULT_LIMIT), DEFAULT_LIMIT)
        self._writer = path.open("wb", buffering=0)
        self._reader = path.open("rb", buffering=0)
        self._changed = threading.Condition()
        self._written = self._read = 0
        self._cut = self._closed = False
        self._tail = b""

    def limit_to(self, size: int, text: str) -> None:
        """Keeps at most `size` bytes, before anything is written; `text` is how people write that."""
        self._limit = size
        self._last_words = f"\n[the log is cut here: it has reached its limit of {text}]\n".encode()

    def write(self, data: bytes) -> None:
        """Adds output; what is beyond the limit is dropped. Never raises for a full disk: a job outlives its log."""
        with self._changed:
            if self._closed or not data:
                return
            self._tail = (self._tail + data)[-_TAIL:]
            if not self._cut:
                self._append(data)

    def say(self, text: str) -> None:
        """A line of the agent's own."""
        self.write(f"[agent] {text}\n".encode())

    def close(self) -> None:
        """Nothing more will be written."""
        with self._changed:
            if not self._closed:
                self._closed = True
                self._changed.notify_all()
                self._writer.close()

    def last_line(self) -> str:
        """The last line that is not blank, at most 300 characters."""
        with self._changed:
            lines = self._tail.decode("utf-8", "replace").replace("\0", "").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")

    def chunk(self) -> bytes | None:
        """The next output, when there is a chunk full of it or some has waited long enough; None when all was had."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._written > self._read)
            self._changed.wait_for(lambda: self._closed or self._written - self._read >= CHUNK, HOLD)
        piece = self._reader.read(CHUNK)
        if not piece:
            self._reader.close()
            return None
        self._read += len(piece)
        return piece

    def _append(self, data: bytes) -> None:
        room = self._limit - self._written
        if len(data) > room:
            self._cut = True
            data = data[:room] + self._last_words
        try:
            self._written += self._writer.write(data) or 0
        except OSError:
            self._cut = True
        self._changed.notify_all()


class LogShipper:
    """Sends a log to the server, from a thread of its own, until all of it is there or the server refuses it.

    Where it can't be read back or sent for another reason, the rest is given up: a job outlives its log.
    """

    def __init__(self, log: JobLog, send: Send, name: str, closed: threading.Event) -> None:
        """`send(number, text)` raises Unreachable or ApiError; numbers count from 0. `closed`: give up."""
        self._log, self._send, self._closed = log, send, closed
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log-{name}", daemon=True)
        self._thread.start()

    def finished(self, seconds: float | None = None) -> bool:
        """Waits until nothing is left to send, at most `seconds`; whether that is so."""
        return self._done.wait(seconds)

    def _run(self) -> None:
        try:
            self._ship()
        except Exception:
            _log.exception("%s: the rest of this log does not get to the server", self._thread.name)
        finally:
            self._done.set()

    def _ship(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        number, wanted = 0, True
        while (piece := self._log.chunk()) is not None:
            text = decoder.decode(piece)
            if wanted and text:
                wanted = self._deliver(number, text)
                number += 1
        rest = decoder.decode(b"", final=True)
        if wanted and rest:
            self._deliver(number, rest)

    def _deliver(self, number: int, text: str) -> bool:
        """Repeats until the server has the chunk; False when it wants no more of this log."""
        backoff = Backoff(first=0.5)
        clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # no database takes NUL in a text
        while not self._closed.is_set():
            try:
                self._send(number, clean)
                return True
            except (ApiError, Unreachable) as error:
                if isinstance(error, ApiError) and not _may_pass(error):
                    return False
            self._closed.wait(backoff.next())
        return False


def _may_pass(error: ApiError) -> bool:
    return error.status >= 500 or error.status == 429 or error.status in _REFUSED_KEY
