"""How does a server process keep its memory? Settled once at start, for one that runs long and writes in batches."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEEP = 16 * 1024 * 1024  # bytes


def settle() -> None:
    """What was imported stays; the collector runs seldom; batch buffers are used again.

    glibc gives every buffer beyond 128 kB back to the kernel and asks for it anew: with batches of hundreds of
    objects that is a page fault for every 4 kB written, and cost a sixth of the writer's throughput when measured.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(_MMAP_THRESHOLD, _KEEP)
            libc.mallopt(_TRIM_THRESHOLD, _KEEP)
