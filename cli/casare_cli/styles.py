"""When is text coloured, and how? On a terminal that wants it, and words that say how something stands alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

_GREEN, _YELLOW, _RED, _CYAN, _DIM = "32", "33", "31", "36", "2"
_WORDS = {
    **dict.fromkeys(("Succeeded", "Idle", "Active", "Fired", "True"), _GREEN),
    **dict.fromkeys(("Running", "Busy", "Assigned"), _CYAN),
    **dict.fromkeys(("Queued", "Pending", "Paused", "Drained", "Draining", "Maintenance", "Restarting"), _YELLOW),
    **dict.fromkeys(("Terminating", "Skipped"), _YELLOW),
    **dict.fromkeys(("Failed", "Expired", "Lost", "Missed", "Revoked", "Warning", "Offline", "Refused"), _RED),
    "Cancelled": _DIM,
}


def coloured(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether colours go to this stream: only to a terminal, and not against NO_COLOR (https://no-color.org)."""
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb" or not stream.isatty():
        return False
    if os.name == "nt":
        os.system("")  # noqa: S605  the known way to switch Windows' console to escape sequences
    return True


def paint(word: str) -> str:
    """The word in its colour where it is one that says how something stands (`Idle,Paused` by its first)."""
    code = _WORDS.get(word.partition(",")[0])
    return f"\x1b[{code}m{word}\x1b[0m" if code else word


def plain(text: str) -> str:
    """One line without control characters: what a job printed must not move the reader's cursor."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)
