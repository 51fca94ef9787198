"""How do a job's files get onto this computer? Each whole, with the sha256 it had on its robot, or not at all.

A file is written beside its place under another name and then put there in one step. Names come from the server and
are believed to be nothing but names: none leads out of the folder, and none goes through a link that lies there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from casare_api.kinds import Object
from casare_api.machinery import durations, times
from casare_cli.failures import Failure
from casare_cli.table import Value

HEADERS = ("Name", "Size", "Attempt", "SHA256", "Age")
_UNITS = ("B", "Ki", "Mi", "Gi", "Ti")


def row(item: Object, now: datetime) -> list[Value]:
    """A file as a line of the list: name, size, attempt, the beginning of its sha256, age."""
    made = item.get("createdTime")
    age = durations.human(now - times.from_text(str(made))) if made else None
    return [item["name"], size(int(item["size"])), item.get("attempt"), str(item["sha256"])[:12], age]


def size(count: int) -> str:
    """Bytes for people: 812B, 1.4Mi."""
    value, unit = float(count), 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count}B" if not unit else f"{value:.1f}{_UNITS[unit]}"


def chosen(items: Sequence[Object], names: Sequence[str], job: str) -> list[Object]:
    """The files with these names, or all of them. Raises Failure for a name that no file has."""
    by_name = {str(item["name"]): item for item in items}
    missing = [name for name in names if name not in by_name]
    if missing:
        listed = ", ".join(by_name) or "none"
        raise Failure(f'job/{job} left no file "{missing[0]}"; there are: {listed}')
    return [by_name[name] for name in dict.fromkeys(names)] if names else list(items)


def place(folder: Path, name: str) -> Path:
    """Where a file of this name goes. Raises Failure for a name that is more than a name."""
    is_plain = PurePosixPath(name).name == PureWindowsPath(name).name == name and name not in ("", ".", "..")
    if not is_plain or not name.isprintable() or ":" in name or name != name.rstrip(". "):
        raise Failure(f"{name!a} is no name for a file here: it is left on the server")
    path = folder / name
    if path.is_dir() and not path.is_symlink():
        raise Failure(f"{path} is a folder: give another one with -d")
    return path


def save(chunks: Iterable[bytes], item: Object, path: Path) -> None:
    """Writes a file. Raises Failure where what came is not what the server said it has, or it can't be written."""
    digest = hashlib.sha256()
    try:
        with _beside(path) as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            if digest.hexdigest() != item["sha256"]:
                raise Failure(f"{item['name']} arrived damaged (its sha256 is another one): try again")
    except OSError as error:
        raise Failure(f"cannot write {path}: {(error.strerror or type(error).__name__).lower()}") from None


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    """A new file in the same folder, which takes the place once all went well and is gone otherwise."""
    descriptor, name = tempfile.mkstemp(prefix=".casare-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _umask() -> int:
    """What the person takes away from everybody's rights; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
