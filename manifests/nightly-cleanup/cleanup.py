"""Which files in a scratch folder are older than so many days? They are removed and named.

Only regular files inside the folder are touched: links are neither followed nor removed, and emptied folders go too.
`--fill` puts some files of different ages there first, so that this example has something to do anywhere and can
harm nothing. By hand: `python cleanup.py scratch --days 30 --fill --keep-all`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

DAY = 86_400
EXAMPLES = {  # name: (age in days, size in bytes)
    "exports/statement-2026-08.csv": (84, 18_204),
    "exports/statement-2026-10.csv": (21, 17_990),
    "screenshots/login-failed.png": (45, 240_118),
    "screenshots/today.png": (0, 198_377),
    "session.tmp": (31, 512),
}


def fill(folder: Path, now: float) -> None:
    """Write the example files with the ages they claim."""
    for name, (days, size) in EXAMPLES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\0" * size)
        os.utime(file, (now - days * DAY, now - days * DAY))


def old_files(folder: Path, days: float, now: float) -> list[Path]:
    """Regular files that were last changed longer ago than this, oldest name first."""
    found = []
    for root, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            file = Path(root, name)
            if not file.is_symlink() and file.is_file() and now - file.stat().st_mtime > days * DAY:
                found.append(file)
    return found


def remove(files: list[Path], folder: Path) -> None:
    """Remove the files, then the folders below `folder` that they leave empty."""
    for file in files:
        file.unlink()
    for parent in sorted({file.parent for file in files}, key=lambda path: -len(path.parts)):
        if parent != folder and not any(parent.iterdir()):
            parent.rmdir()


def main() -> int:
    parser = argparse.ArgumentParser(description="Remove files that have not changed for some days.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--fill", action="store_true", help="first put example files there")
    parser.add_argument("--keep-all", action="store_true", help="only say what would go")
    options = parser.parse_args()
    now = time.time()
    if options.fill:
        fill(options.folder, now)
    if not options.folder.is_dir():
        print(f"cleanup: {options.folder} is no folder", file=sys.stderr)
        return 1
    files = old_files(options.folder, options.days, now)
    freed = sum(file.stat().st_size for file in files)
    word = "would remove" if options.keep_all else "removed"
    ages = [(now - file.stat().st_mtime) / DAY for file in files]
    if not options.keep_all:
        remove(files, options.folder)
    for file, age in zip(files, ages, strict=True):
        print(f"{word} {file.relative_to(options.folder).as_posix()} ({age:.0f} days old)")
    print(f"{word} {len(files)} files, {freed / 1000:.0f} kB; kept what changed in the last {options.days:g} days")
    return 0


if __name__ == "__main__":
    sys.exit(main())
