"""How far does a job say it is? What it wrote to its progress file, as far as that makes sense."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import orjson

_MOST_BYTES = 16 * 1024
_MOST_CHARS = 500


def read_progress(path: Path) -> dict[str, Any] | None:
    """`{percent, message}`, each only where it is valid; None where nothing is. A half-written file is nothing."""
    found: object = None
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        found = orjson.loads(file.read(_MOST_BYTES))
    if not isinstance(found, dict):
        return None
    percent, message = found.get("percent"), found.get("message")
    progress: dict[str, Any] = {}
    if isinstance(percent, int | float) and not isinstance(percent, bool) and 0 <= percent <= 100:
        progress["percent"] = percent
    if isinstance(message, str) and message:
        progress["message"] = message[:_MOST_CHARS].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return progress or None
