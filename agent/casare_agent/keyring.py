"""Which key does this robot use? The one that it got in place of the configured secret, else that secret itself.

`key.json` in the robot's directory holds a key and the SHA-256 of the secret that it replaces: when somebody configures
another secret, that one counts from then on. Always holds: nobody else can read the file, and whoever looks sees the
old or the new one, never a half, also after the power failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from pathlib import Path

FILE = "key.json"
PREFIX = "crpa_"


def new_key() -> str:
    """A key that nobody has: 256 bits of chance."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """How the server knows a secret: `sha256:` and the hex of its SHA-256."""
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def load(directory: Path, configured: str, name: str = FILE) -> str:
    """The key to use: the kept one where it replaces this secret, else the secret. Raises OSError."""
    try:
        said = json.loads((directory / name).read_text(encoding="utf-8"))
        key, replaces = said["key"], said["replaces"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return configured
    return key if isinstance(key, str) and key and replaces == digest(configured) else configured


def save(directory: Path, configured: str, key: str, name: str = FILE) -> None:
    """Keeps the key in place of the configured secret. Raises OSError."""
    write_private(directory / name, json.dumps({"key": key, "replaces": digest(configured)}) + "\n")


def forget(directory: Path) -> None:
    """From now on the configured secret counts again. Raises OSError."""
    (directory / FILE).unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Writes a file that nobody else can read, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
