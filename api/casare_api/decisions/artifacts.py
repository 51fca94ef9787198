"""Which files may a job leave behind? Their names, how many of them, and how large all of them together.

Always holds: what is refused here is refused in words that follow the file's name. Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from casare_api.machinery.durations import parse_quantity

DEFAULT_SIZE = "500Mi"  # of all files of a job, where its workflow says nothing
MAX_FILES = 1000
MAX_NAME = 253  # bytes in UTF-8


def check_name(name: str) -> str | None:
    """The problem with a file's name, or None. A good one is a name in any folder of any system, and hides nowhere."""
    if not name:
        return "must not be empty"
    if len(name.encode("utf-8", "replace")) > MAX_NAME:
        return f"its name must be no more than {MAX_NAME} bytes"
    if name.startswith("."):
        return "its name must not start with a dot"
    if "/" in name or "\\" in name:
        return "its name must hold no slash"
    if not name.isprintable():
        return "its name must hold no control characters"
    return None


def limit(workflow: Mapping[str, Any]) -> tuple[int, str]:
    """How large all files of a job may be together, by its workflow's spec: in bytes, and as people write it."""
    text = str((workflow.get("limits") or {}).get("artifactSize") or DEFAULT_SIZE)
    return parse_quantity(text), text


def problem(size: int, room: tuple[int, int], text: str) -> str | None:
    """Why a file of this size is not kept where there is room for so many bytes and files; None where it is."""
    most, files = room
    if files < 1:
        return f"a job may leave no more than {MAX_FILES} files behind"
    if size > most:
        return f"the files of this job may have {text} in all (spec.limits.artifactSize of its workflow)"
    return None


def fitting(files: Iterable[tuple[str, int]], most: int, text: str) -> dict[str, str | None]:
    """Of files by name and size, in this order: why one is not kept, None for those that are.

    A file that does not fit does not keep smaller ones behind it from fitting.
    """
    found: dict[str, str | None] = {}
    left, count = most, MAX_FILES
    for name, size in files:
        found[name] = check_name(name) or problem(size, (left, count), text)
        if found[name] is None:
            left, count = left - size, count - 1
    return found
