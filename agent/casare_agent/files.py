"""How do files get to where a job finds them, whole and only inside its own directory?"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

_OUTSIDE = re.compile(r"[\x00:]")


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that whoever looks sees the old or the new content, never a half."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(data)
    os.replace(beside, path)


def inside(directory: Path, name: str) -> Path:
    """The path of `name` under `directory`, its folders made. ValueError for a name that leads out of it."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
    if not parts or absolute or ".." in parts or _OUTSIDE.search(name) or name.startswith("\\"):
        raise ValueError(f'"{name[:100]}" is not a relative path inside the work directory')
    path = directory.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
