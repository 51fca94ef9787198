"""How do the rows of the audit log hang together, and does a log still hold together?

Each row's hash is the SHA-256 of the hash before it and of its own text, and the text holds the row's number. So a row
that was changed, removed, added or moved breaks the chain at that row; rows that were cut off at the end are missed by
whoever kept a later hash. Pure: the store makes the chain, and whoever reads the log can check it by himself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

Object = dict[str, Any]
NOTHING = "0" * 64  # the hash before the first row


@dataclass(frozen=True, slots=True)
class Link:
    """A row's number and hash: all that is needed to go on from there."""

    seq: int = 0
    hash: str = NOTHING

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it is kept: the text that is hashed, and what the log is searched by, which follows from the text."""

    seq: int
    hash: str
    entry: str
    actor: str
    object: str


class Broken(Exception):
    """The log does not hold together; one line for people."""


def hashed(before: str, entry: bytes) -> str:
    """The hash of a row behind another one."""
    return hashlib.sha256(before.encode() + entry).hexdigest()


def place(entry: Object) -> str:
    """What a row is found by: `Kind/NAMESPACE/NAME`, with `*` in the place of several names."""
    name = "*" if "names" in entry else entry.get("name", "")
    return f"{entry.get('kind') or entry.get('resource', '')}/{entry.get('namespace', '')}/{name}"


@dataclass(slots=True)
class Check:
    """A walk along the chain, from the row after `start`; `expected` are hashes that must be met on the way."""

    start: Link
    expected: Iterable[str] = ()
    last: Link = field(init=False)
    count: int = 0
    dropped: Link | None = None  # what the newest row that tells of dropped rows says
    _missing: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.start
        self._missing = {one for one in self.expected if one != self.start.hash}

    def skip_to(self, start: Link) -> None:
        """Goes on behind rows that were dropped, by their age, while the log was being read."""
        if start.seq > self.last.seq:
            self.last = start

    def add(self, row: Row) -> None:
        """The next row. Raises Broken."""
        at = self.last
        if row.seq != at.seq + 1:
            is_gap = row.seq > at.seq
            raise Broken(_missing(at.seq + 1, row.seq - 1) if is_gap else f"row {row.seq} is there twice")
        if hashed(at.hash, row.entry.encode()) != row.hash:
            raise Broken(f"row {row.seq} was changed, or is not the one that was written behind row {at.seq}")
        entry = orjson.loads(row.entry)
        if (entry["seq"], entry["actor"], place(entry)) != (row.seq, row.actor, row.object):
            raise Broken(f"row {row.seq} was changed: it is filed under something else than it says")
        if entry["effect"] == "dropped":
            self.dropped = Link(entry["through"], entry["hash"])
        self.last, self.count = Link(row.seq, row.hash), self.count + 1
        self._missing.discard(row.hash)

    def finish(self, head: Link) -> None:
        """The end of the log; `head` is what the store keeps beside it. Raises Broken."""
        if self.last.seq < head.seq:
            raise Broken(f"{_missing(self.last.seq + 1, head.seq)} at the end")
        if self.last != head:
            raise Broken(f"the log ends with {self.last}, and the store says that it ends with {head}")
        if self.start.seq and self.dropped != self.start and not (self.dropped and self.dropped.seq > self.start.seq):
            why = "and no row says that they were dropped by their age"
            raise Broken(f"{_missing(1, self.start.seq)}, {why}")
        if self._missing:
            said = f"no row has the hash {min(self._missing)[:16]}..."
            raise Broken(f"{said}: rows were cut off at the end, or rewritten from some row on")


def _missing(first: int, last: int) -> str:
    return f"row {first} is missing" if first == last else f"rows {first} to {last} are missing"
