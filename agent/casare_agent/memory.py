"""What does an agent know of its robot from before? `robot.json` in its directory: which one it was, by which key.

A robot that was deleted does not come back because its agent's service is started again. It does when a person wants
that: by a new key, by `casare agent --enlist-again`, or by making the Robot.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from casare_agent import keyring

FILE = "robot.json"


@dataclass(frozen=True, slots=True)
class Memory:
    """A robot by its uid, in its namespace; `key` is the uid of the ApiKey by which it was there."""

    uid: str
    namespace: str
    key: str | None = None


def load(directory: Path) -> Memory | None:
    """What was kept; None where nothing was. Raises OSError."""
    try:
        said = json.loads((directory / FILE).read_text(encoding="utf-8"))
        return Memory(str(said["uid"]), str(said["namespace"]), said.get("key"))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def save(directory: Path, memory: Memory) -> None:
    """Keeps it. Raises OSError."""
    if load(directory) != memory:
        keyring.write_private(directory / FILE, json.dumps(asdict(memory)) + "\n")


def forget(directory: Path) -> None:
    """The next robot is a new one. Raises OSError."""
    (directory / FILE).unlink(missing_ok=True)


def was_deleted(memory: Memory | None, key: str | None) -> bool:
    """Whether a robot that is not there was, by this very key: it stays deleted then."""
    return memory is not None and memory.key == key
