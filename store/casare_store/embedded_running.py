"""Does a server serve this cluster now, and where does it listen?

Believed is only what answers: a process id may belong to a zombie or to somebody else by now, and a socket may be
left over. What Postgres wrote into `postmaster.pid` says where to ask.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_PROTOCOL = 196608  # 3.0
_CANNOT_CONNECT_NOW = b"57P03"  # it starts up, recovers or shuts down


class Answer(StrEnum):
    """What a server says to somebody who wants to connect."""

    READY = "ready"
    BUSY = "busy"  # it is there, but starts up or shuts down
    SILENT = "silent"


@dataclass(frozen=True)
class Address:
    """Where a server listens: a directory with its socket, or a host (Windows)."""

    host: str
    port: int

    @property
    def is_socket(self) -> bool:
        return self.host.startswith(("/", "@"))

    def ask(self) -> Answer:
        """What pg_isready does: begin a connection and look at the first message."""
        try:
            with self._connect() as connection:
                connection.sendall(_startup_message())
                reply = connection.recv(1024)
        except OSError:
            return Answer.SILENT
        if not reply:
            return Answer.SILENT
        return Answer.BUSY if reply[:1] == b"E" and _CANNOT_CONNECT_NOW in reply else Answer.READY

    def _connect(self) -> socket.socket:
        if sys.platform != "win32" and self.is_socket:
            connection = socket.socket(socket.AF_UNIX)
            target: str | tuple[str, int] = f"{self.host}/.s.PGSQL.{self.port}"
        else:
            connection, target = socket.socket(), (self.host, self.port)
        connection.settimeout(2)
        try:
            connection.connect(target)
        except BaseException:
            connection.close()
            raise
        return connection


@dataclass(frozen=True)
class Running:
    """What `postmaster.pid` says."""

    pid: int
    address: Address
    ready: bool


def read(cluster: Path) -> Running | None:
    """None when there is no such file, or not all of it yet."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        pid, port, directory, host = int(lines[0]), int(lines[3]), lines[4], lines[5]
    except (OSError, IndexError, ValueError):
        return None
    status = lines[7].strip() if len(lines) > 7 else ""
    return Running(pid, Address(directory or host, port), status == "ready")


def serves(pid: int, cluster: Path) -> bool:
    """Is `pid` a living process that works in the cluster? (A zombie, or another program with that id, is not.)"""
    if sys.platform == "linux":
        try:
            return os.path.samefile(f"/proc/{pid}/cwd", cluster)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # not ours to look into: somebody else's server
    if sys.platform == "win32":
        running = read(cluster)  # os.kill(pid, 0) would end the process there
        return running is not None and running.address.ask() is not Answer.SILENT
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_another_program(pid: int) -> bool:
    """Whether `pid` is alive and certainly not Postgres."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() != "postgres"
    except OSError:
        return False


def _startup_message() -> bytes:
    body = struct.pack("!i", _PROTOCOL) + b"user\0casare\0database\0casare\0\0"
    return struct.pack("!i", len(body) + 4) + body
