"""How do logs stay small while their programs keep them open?"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

LARGEST = 32 << 20  # bytes


def trim(log: Path) -> None:
    """Moves what a too long log holds to NAME.log.1. Programs append, so they go on at its new end."""
    with contextlib.suppress(OSError):  # a full disk must not end the system: the next look may succeed
        if log.stat().st_size > LARGEST:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)
