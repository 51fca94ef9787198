"""What is one change of one object, and how is it applied in an open batch?

An operation says which object it changes and how: `mutate(current, context) -> new`. It gets what is there under the
history lock; a conflict or an admission error is that operation's alone.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from casare_api.decisions.auditing import Caller
from casare_api.kinds import Kind, Object
from casare_api.machinery.errors import ApiError
from casare_api.machinery.patches import json_equal
from casare_store import columns, objects
from casare_store.auditing import CALLER
from casare_store.batch import Batch, Change
from casare_store.headroom import Room
from casare_store.known import Key
from casare_store.sealing import Sealer


@dataclass(slots=True)
class Context:
    """What a mutation may look at: the database's time, the objects it asked for, and a place for more statements.

    `checked`: see `admission.create`. `dry_run`: what is not there yet may come before it is done for real. `room`
    knows how many more jobs may queue; None: any number. `sealer` says why a sealed object could not be opened.
    """

    now: datetime
    reads: MutableMapping[Key, Object] = field(repr=False)
    also: Callable[[str, tuple[Any, ...]], None]
    checked: str | None = None
    dry_run: bool = False
    room: Room | None = None
    sealer: Sealer | None = None

    def of(self, checked: str | None, dry_run: bool) -> Context:
        """The same for one creation."""
        return Context(self.now, self.reads, self.also, checked, dry_run, self.room, self.sealer)


Answer = Object | ApiError | None  # the new object, None when it was deleted, or why not
Mutate = Callable[[Object | None, Context], Object | None]


@dataclass(slots=True)
class Operation:
    """One change of one object.

    `mutate` gets the current object (None: there is none) and returns the new one, the same one (nothing to do) or
    None (delete); it raises ApiError to refuse. `reads` are other objects it needs to see. What is found at `instead`
    stands in the place of what was to be made: nothing is changed then, and the result is a `Found`. `by` is who asks
    for it: what is made in a request is its caller's, without anybody having to say so.
    """

    kind: Kind
    namespace: str
    name: str
    mutate: Mutate
    reads: tuple[Key, ...] = ()
    dry_run: bool = False
    max_bytes: int | None = None  # of the object's text
    instead: Key | None = None
    by: Caller | None = field(default_factory=CALLER.get)
    key: Key = field(init=False)
    keys: tuple[Key, ...] = field(init=False)  # what no other operation of the same batch may touch

    def __post_init__(self) -> None:
        self.key = (self.kind.kind, self.namespace, self.name)
        self.keys = (self.key,) if self.instead is None else (self.key, self.instead)


class Found(dict[str, Any]):
    """The object that an operation found `instead`, as it is."""


def apply(batch: Batch, operation: Operation, context: Context) -> Object | None:
    """Runs one operation in an open batch; `context.reads`, read under its lock, is kept up to date.

    Returns the new state, or the last one after a deletion. Raises what the mutation raises; nothing is staged then.
    """
    mark = batch.mark()
    try:
        state = _apply(batch, operation, context)
    except Exception:
        batch.back_to(mark)
        raise
    if batch.rv == mark[0]:
        batch.back_to(mark)  # nothing was changed: what was to lie beside it isn't wanted either
    return state


def _apply(batch: Batch, operation: Operation, context: Context) -> Object | None:
    known, key = context.reads, operation.key
    if operation.instead is not None and (there := known.get(operation.instead)) is not None:
        return Found(there)
    old = known.get(key)
    new = operation.mutate(old, context)
    if new is old:
        return old
    if new is not None:
        new = objects.born(operation.kind, new, batch.now) if old is None else objects.changed(operation.kind, old, new)
        if new == old and json_equal(new, old):  # to Python, true is 1
            return old
    if operation.dry_run:
        return _unnumbered(new) if new is not None else old
    batch.by = operation.by
    state = batch.stage(operation.kind, old, new)
    _check_size(operation, old, batch.changes[-1])
    if state is None:
        known.pop(key, None)
        return new or batch.changes[-1].state
    known[key] = state
    return state


def _check_size(operation: Operation, old: Object | None, change: Change) -> None:
    """Nobody makes an object too large; one that the system let grow may still be changed. Raises ApiError 413."""
    limit = operation.max_bytes
    if limit is not None and change.size > limit and (old is None or change.size > len(columns.dump(old))):
        raise ApiError.too_large(limit)


def _unnumbered(obj: Object) -> Object:
    """What a dry run shows: an object that was not written has no resourceVersion of its own."""
    if obj["metadata"].get("resourceVersion"):
        return obj
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}}
