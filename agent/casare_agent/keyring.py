"""Which key does this robot call with? The one that it was given, or the one that it got in that one's place.

Always holds: `key.json` in the robot's directory is whole, and for nobody but the agent's user to read; the key in it
counts as long as the secret that was configured is the one that it replaced. Whoever configures another one means that.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
from pathlib import Path

FILE = "key.json"


def load(directory: Path, configured: str) -> str:
    """The key to call with. Raises OSError where a file is there that can't be read."""
    return kept(directory, configured) or configured


def kept(directory: Path, configured: str) -> str | None:
    """The key that was kept in place of what was configured, None where there is none. Raises OSError as `load`."""
    try:
        said = json.loads((directory / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # what is no JSON was not written here
        return None
    if not isinstance(said, dict) or not isinstance(said.get("key"), str):
        return None
    is_same = hmac.compare_digest(str(said.get("replaces")), _digest(configured))
    return said["key"] if is_same and said["key"] else None


def save(directory: Path, configured: str, key: str) -> None:
    """Keeps a key in place of the configured one, and of the one kept before. Raises OSError; then nothing is changed.

    When it returns, the key survives a crash of the computer.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path, beside = directory / FILE, directory / f"{FILE}.new"
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()  # of an agent that was killed; its mode would stay
    number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        json.dump({"key": key, "replaces": _digest(configured)}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    _sync(directory)


def _digest(secret: str) -> str:
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def _sync(directory: Path) -> None:
    """Makes the new name last, where the system lets a directory be opened."""
    if os.name == "nt":
        return
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
