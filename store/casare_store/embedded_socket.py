"""In which directory does the server's Unix socket lie?

One that nobody but the server's account (and root) can enter. A socket's path may have 107 bytes: where the data
directory lies too deep for that, a short directory under the system's temporary one stands in and is recorded.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from casare_store import embedded_account
from casare_store.embedded_account import Account, EmbeddedError

PORT = 5432  # only names the socket's file; the directory makes it unique
LONGEST_PATH = 107 if sys.platform == "linux" else 103  # bytes, without the final NUL


def socket_directory(data_dir: Path, account: Account | None) -> Path:
    """`run` in the data directory where its path is short enough, else the short one that `run.path` records."""
    own = data_dir / "run"
    if _fits(own):
        embedded_account.own_directory(own, account)
        return own
    record = data_dir / "run.path"
    recorded = Path(record.read_text()) if record.exists() else None
    if recorded and _is_still_ours(recorded, account):
        return recorded
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  mkdtemp makes it private; TMPDIR may be deep, too
        made = Path(tempfile.mkdtemp(prefix="casare-", dir=parent))
        if _fits(made):
            embedded_account.own_directory(made, account)
            record.write_text(str(made))
            return made
        made.rmdir()
    raise EmbeddedError(f"{data_dir} is too deep for a Unix socket ({LONGEST_PATH} bytes): take a shorter --data-dir")


def _fits(directory: Path) -> bool:
    path = f"{directory}/.s.PGSQL.{PORT}"
    return len(os.fsencode(path)) <= LONGEST_PATH and not any(mark in path for mark in ',"')  # a list, to Postgres


def _is_still_ours(directory: Path, account: Account | None) -> bool:
    """The system may have cleared its temporary directory, and somebody else may have taken the name since."""
    try:
        info = directory.lstat()
    except OSError:
        return False
    owner = account.uid if account else os.getuid()
    return directory.is_dir() and not directory.is_symlink() and info.st_uid == owner and info.st_mode & 0o777 == 0o700
