"""How is this computer doing, and what runs on it? Cheap enough for every heartbeat."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import sys
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from casare_agent.result import now_text
from casare_api.decisions import skew
from casare_api.kinds import Object


def measure(directory: Path, running: int) -> Object:
    """Percentages since the last call (processor), now (memory), and of the disk that `directory` is on."""
    return {
        "cpuPercent": psutil.cpu_percent(None),
        "memoryPercent": psutil.virtual_memory().percent,
        "diskPercent": psutil.disk_usage(str(directory)).percent,
        "running": running,
    }


def about(
    capabilities: list[str], restarted_for: str | None = None, instance: str = "", directory: Path | None = None
) -> Object:
    """This agent and its computer; `restarted_for` is the wish to restart that was handled last.

    With a directory it also says which of the agents that have its key it is.
    """
    which = {} if directory is None else {"instance": instance, "place": place(directory)}
    return {
        **which,
        "version": agent_version(),
        "protocol": skew.SPOKEN,
        **({"restartedFor": restarted_for} if restarted_for else {}),
        "hostname": socket.gethostname(),
        "os": _system(),
        "pid": os.getpid(),
        "startedTime": now_text(),
        "capabilities": capabilities,
    }


def place(directory: Path) -> str:
    """The same for all processes that use this directory on this computer, since it was started; not for a copy."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = str(round(psutil.boot_time() / 60))
    there = directory.stat()
    what = (socket.gethostname(), uuid.getnode(), boot, directory.absolute(), there.st_dev, there.st_ino)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def agent_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("casare-fleet")
    except PackageNotFoundError:
        return "0"


def _system() -> str:
    """As people name it: `Windows 11`, `macOS 15.1`, `Debian GNU/Linux 12 (bookworm)`."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    if sys.platform == "linux":
        try:
            return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        except OSError:
            return f"Linux {platform.release()}"
    return f"{platform.system()} {platform.release()}".strip()
