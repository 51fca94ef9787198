"""In which event loop does a server process run? In uvloop's, where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


def runner() -> Callable[..., Any]:
    """What `asyncio.run` does."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    found: Callable[..., Any] = uvloop.run
    return found
