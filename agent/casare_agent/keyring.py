"""Which key does this robot call with? The one that it got in place of the configured secret, else that secret itself.

`key.json` in the robot's directory holds a key and the SHA-256 of the secret that it replaces: when somebody configures
another secret, that one counts from then on. Always holds: nobody else can read the file, and whoever looks sees the
old or the new one, never a half, also after the power failed.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
from pathlib import Path

from casare_api.machinery.credentials import digest

FILE = "key.json"


def load(directory: Path, configured: str, name: str = FILE) -> str:
    """The key to call with. Raises OSError where a file is there that can't be read."""
    return kept(directory, configured, name) or configured


def kept(directory: Path, configured: str, name: str = FILE) -> str | None:
    """The key that was kept in place of what was configured, None where there is none. Raises OSError as `load`."""
    try:
        said = json.loads((directory / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # what is no JSON was not written here
        return None
    if not isinstance(said, dict) or not isinstance(said.get("key"), str):
        return None
    is_same = hmac.compare_digest(str(said.get("replaces")).encode(), digest(configured).encode())
    return said["key"] if is_same and said["key"] else None


def save(directory: Path, configured: str, key: str, name: str = FILE) -> None:
    """Keeps a key in place of the configured one, and of one kept before. Raises OSError; then nothing is changed."""
    write_private(directory / name, json.dumps({"key": key, "replaces": digest(configured)}) + "\n")


def forget(directory: Path) -> None:
    """From now on the configured secret counts again. Raises OSError."""
    (directory / FILE).unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Writes a file that nobody else can read, whole or not at all; it survives a crash of the computer.

    Raises OSError; then nothing is changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()  # of an agent that was killed; its mode would stay
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """Makes the new name last, where the system lets a directory be opened."""
    if os.name == "nt":
        return
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
