"""Which part of a log is shown? Its end, as far as a browser takes it with ease."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

MOST = 200_000  # characters
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a log; `cut` says that something came before."""

    text: str = ""
    cut: bool = False


def tail(chunks: Iterable[str], most: int = MOST) -> Tail:
    """The last whole lines of the chunks, at most so many characters, without terminal control sequences."""
    kept: deque[str] = deque()
    size, dropped = 0, False
    for chunk in chunks:
        kept.append(chunk)
        size += len(chunk)
        while size - len(kept[0]) >= most:
            gone = kept.popleft()  # with `most` characters behind it; an empty one is no loss
            size -= len(gone)
            dropped = dropped or bool(gone)
    text = "".join(kept)
    if len(text) > most:
        text, dropped = text[-most:], True
    if dropped:
        text = text[text.find("\n") + 1 :]
    return Tail(printable(text), dropped)


def printable(text: str) -> str:
    """The text as a terminal would leave it: no colours and cursor moves, of an overwritten line its last state."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(_CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in lines)
