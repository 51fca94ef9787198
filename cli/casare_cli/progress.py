"""What does a person see while it takes time? A spinner or a bar on a terminal; a bar's plain lines anywhere else."""

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


@contextlib.contextmanager
def bar(doing: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Shows how much of something is done; the function it gives takes how much that is, and a few words on it.

    Without a terminal there is a line for each tenth that is done.
    """
    if not sys.stderr.isatty():
        yield _lines(doing, total)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    look = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*look, TextColumn("{task.fields[words]}"), console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(escape(doing), total=total, words="")
        yield lambda done, words: shown.update(task, completed=done, words=escape(words))


def _lines(doing: str, total: int) -> Callable[[int, str], None]:
    tenths = 0

    def tell(done: int, words: str) -> None:
        nonlocal tenths
        reached = done * 10 // max(total, 1)
        if reached > tenths:
            tenths = reached
            print(f"{doing}: {done} of {total} ({words})", file=sys.stderr, flush=True)

    return tell
