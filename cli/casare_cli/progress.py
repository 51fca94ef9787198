"""What does a person see while nothing happens yet? A spinner with a line, on a terminal alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def waiting(said: str) -> Iterator[Callable[[str], None]]:
    """Shows that something is waited for, until the block is left; the function it gives changes the line."""
    if not sys.stderr.isatty():
        yield lambda line: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(said)) as status:
        yield lambda line: status.update(escape(line))
