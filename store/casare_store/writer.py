"""How do many small writes become few commits? The group-commit writer: one per process, results per item.

An operation says which object it changes and how: `mutate(current, context) -> new`. The writer takes what has
queued up (at most 500 objects, each object once), runs it in one `batch`, and answers each operation by itself: a
conflict or an admission error is that operation's alone. Data that Postgres refuses is found by halving the batch. A
commit whose connection broke is looked up in the log, never guessed and never blindly repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
import structlog

from casare_api.kinds import Kind, Object
from casare_api.machinery.errors import ApiError
from casare_api.machinery.patches import json_equal
from casare_store import batch as batches
from casare_store import columns, objects
from casare_store.batch import Batch, Change, Key
from casare_store.changes import Own
from casare_store.connection import connect_for_batches
from casare_store.headroom import Headroom, Room
from casare_store.pipeline import Connection
from casare_store.sealing import Sealer

MAX_BATCH = 500
SEND_EVERY = 125  # operations decided before what they change is sent, so that Postgres and this process work at once
STOP_WITHIN = 5.0  # seconds for the batch under way
MAX_TRIES = 100  # of an operation; a database that keeps ending connections needs many
MAX_WAITING = 20_000  # operations; beyond it clients are told to come back
# Passing troubles of a batch that was rolled back: it is tried again as it is.
_AGAIN = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled, psycopg.errors.TransactionRollback)
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Context:
    """What a mutation may look at: the database's time, the objects it asked for, and a place for more statements.

    `checked`: see `admission.create`. `dry_run`: what is not there yet may come before it is done for real. `room`
    knows how many more jobs may queue; None: any number.
    """

    now: datetime
    reads: MutableMapping[Key, Object] = field(repr=False)
    also: Callable[[str, tuple[Any, ...]], None]
    checked: str | None = None
    dry_run: bool = False
    room: Room | None = None

    def of(self, checked: str | None, dry_run: bool) -> Context:
        """The same for one creation."""
        return Context(self.now, self.reads, self.also, checked, dry_run, self.room)


Mutate = Callable[[Object | None, Context], Object | None]


@dataclass(slots=True)
class Operation:
    """One change of one object.

    `mutate` gets the current object (None: there is none) and returns the new one, the same one (nothing to do) or
    None (delete); it raises ApiError to refuse. `reads` are other objects it needs to see. What is found at `instead`
    stands in the place of what was to be made: nothing is changed then, and the result is a `Found`.
    """

    kind: Kind
    namespace: str
    name: str
    mutate: Mutate
    reads: tuple[Key, ...] = ()
    dry_run: bool = False
    max_bytes: int | None = None  # of the object's text
    instead: Key | None = None
    key: Key = field(init=False)
    keys: tuple[Key, ...] = field(init=False)  # what no other operation of the same batch may touch

    def __post_init__(self) -> None:
        self.key = (self.kind.kind, self.namespace, self.name)
        self.keys = (self.key,) if self.instead is None else (self.key, self.instead)


class Found(dict[str, Any]):
    """The object that an operation found `instead`, as it is."""


Answer = Object | ApiError | None  # the new object, None when it was deleted, or why not


class _Answers:
    """What becomes of operations that were submitted together: one future for all of them, and no task for each."""

    __slots__ = ("_left", "_open", "all", "of")

    def __init__(self, count: int) -> None:
        self.all: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self.of: list[Answer] = [None] * count
        self._open, self._left = [True] * count, count

    def is_open(self, number: int) -> bool:
        return self._open[number] and not self.all.done()

    def give(self, number: int, answer: Answer) -> None:
        """The answer to one of them; the first one counts."""
        if self._open[number]:
            self._open[number], self.of[number] = False, answer
            self._left -= 1
            if not self._left and not self.all.done():
                self.all.set_result(self.of)


@dataclass(slots=True)
class _Item:
    operation: Operation
    answers: _Answers = field(repr=False)
    number: int = 0  # of its answer
    tries: int = 0  # that ended with a broken connection, or that passing troubles undid

    @property
    def is_open(self) -> bool:
        """Whether it has no answer yet, and somebody waits for it."""
        return self.answers.is_open(self.number)

    def give(self, answer: Answer) -> None:
        self.answers.give(self.number, answer)


Outcome = tuple[_Item, Object | None]


@dataclass(slots=True)
class Writer:
    """The group-commit writer of this process."""

    url: str
    sealer: Sealer | None = None
    connection: Connection | None = None
    own: Own = field(default_factory=Own)  # what was committed here, for the reader of this process
    _headroom: Headroom = field(default_factory=Headroom)
    _waiting: deque[_Item] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None
    _stopping: bool = False

    async def start(self) -> None:
        """Connects and begins to work. Raises psycopg.OperationalError when there is no database."""
        await self._connect()
        self._task = asyncio.create_task(self._run(), name="writer")

    async def _connect(self) -> None:
        self.connection = await connect_for_batches(self.url, "writer")
        self.own.backend = self.connection.info.backend_pid

    async def stop(self) -> None:
        """Ends after the batch under way; what still waits is told that the server stops."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            done, _ = await asyncio.wait([self._task], timeout=STOP_WITHIN)
            if not done:
                self._task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._task
        for item in self._waiting:
            item.give(ApiError(503, "ServiceUnavailable", "the server is stopping: try again"))
        self._waiting.clear()
        if self.connection is not None:
            await self.connection.close()

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[list[Answer]]:
        """Queues operations, each for itself; the future gives their answers, in order.

        What is more than may wait is answered 429 at once, and the others are written.
        """
        answers = _Answers(len(operations))
        if not operations:
            answers.all.set_result(answers.of)
        room = max(MAX_WAITING - len(self._waiting), 0)
        self._waiting += [_Item(operation, answers, number) for number, operation in enumerate(operations[:room])]
        for number in range(room, len(operations)):
            answers.give(number, _too_many())
        self._wake.set()
        return answers.all

    async def write(self, operation: Operation) -> Object | None:
        """Writes one; the new object, or None when it was deleted. Raises ApiError for a refusal."""
        (answer,) = await self.submit([operation])
        if isinstance(answer, ApiError):
            raise answer
        return answer

    async def _run(self) -> None:
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting and not self._stopping:
                await self._answer(self._take())

    async def _answer(self, items: list[_Item]) -> None:
        """Writes a batch; what nobody foresaw is the answer to its items and never the end of the writer."""
        try:
            await self._flush(items)
        except Exception:
            log.exception("a batch got no answer", items=len(items))
            for item in items:
                item.give(ApiError.internal("the server can't tell whether this was written; it is in its log"))

    def _take(self) -> list[_Item]:
        """The next batch: in order of arrival, each object once; a second write of an object waits its turn.

        What waits keeps its keys to itself, so that nothing behind it overtakes it.
        """
        taken: list[_Item] = []
        later: list[_Item] = []
        keys: set[Key] = set()
        while self._waiting and len(taken) < MAX_BATCH and len(later) < MAX_BATCH:
            item = self._waiting.popleft()
            if not item.is_open:  # nobody waits for it any more
                continue
            is_later = not keys.isdisjoint(item.operation.keys)
            keys.update(item.operation.keys)
            (later if is_later else taken).append(item)
        self._waiting.extendleft(reversed(later))
        return taken

    async def _flush(self, items: list[_Item]) -> None:
        """Writes a batch and answers every item of it, whatever happens."""
        try:
            await self._write(items)
        except _AGAIN as error:
            log.warning("a batch has to wait", why=_first_line(error))
            self._put_back(items)
        except psycopg.Error as error:
            if self.connection is not None and not self.connection.closed:
                await self._bisect(items, error)
            else:
                await self._reconnect(error)
                self._put_back(items)
        except asyncio.CancelledError:
            self._put_back(items)
            raise
        except Exception as error:
            log.exception("a batch failed", items=len(items))
            await self._bisect(items, error)

    async def _write(self, items: Sequence[_Item]) -> None:
        assert self.connection is not None
        outcomes: list[Outcome] = []
        keys = {key for item in items for key in (*item.operation.keys, *item.operation.reads)}
        async with batches.begin(self.connection, keys, self.sealer) as batch:
            room = await self._headroom.look(batch, batch.known, len(items))
            context = Context(batch.now, batch.known, batch.also, room=room)
            for number, item in enumerate(items, 1):
                try:
                    outcomes.append((item, apply(batch, item.operation, context)))
                except Exception as error:
                    item.give(_refused(item.operation, error))
                if number % SEND_EVERY == 0:
                    await batch.send()
            if batch.changes:
                await batch.send()
                known = [change.logged for change in batch.changes] if self.own.is_read else []  # while Postgres writes
                try:
                    await batch.commit()
                except batches.OutcomeUnknown as unknown:
                    await self._look_up(items, outcomes, unknown)
                    return
                self.own.add(known)
        _tell(outcomes)

    async def _bisect(self, items: list[_Item], error: Exception) -> None:
        """Halves a batch that can't be written until the culprit stands alone: it is refused, the others written."""
        if len(items) == 1:
            items[0].give(_refusal(items[0].operation, error))
            return
        items = [item for item in items if item.is_open]
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            if half:
                await self._flush(half)

    async def _look_up(self, items: Sequence[_Item], outcomes: list[Outcome], unknown: batches.OutcomeUnknown) -> None:
        """After a commit that broke: was it written? Then its items have their answers, else they get another try."""
        error: Exception = unknown
        while not self._stopping:
            await self._reconnect(error)
            assert self.connection is not None
            try:
                if await batches.committed(self.connection, unknown):
                    self.own.wake.set()  # its reader finds them in the log
                    _tell(outcomes)
                else:
                    self._put_back(list(items))
                return
            except psycopg.Error as another:
                error = another
        self._put_back(list(items))

    def _put_back(self, items: list[_Item]) -> None:
        """For another try; what has been in the way too often is refused, so that it can't stop all others for ever."""
        for item in items:
            item.tries += 1
            if item.tries >= MAX_TRIES:
                item.give(ApiError.unavailable("this could not be written in several tries: try again in a moment"))
        self._waiting.extendleft(reversed([item for item in items if item.is_open]))
        self._wake.set()

    async def _reconnect(self, error: Exception) -> None:
        """Connects again, however long the database is away."""
        log.warning("the writer lost the database; it keeps trying", why=_first_line(error))
        wait = 0.05
        while not self._stopping:
            if self.connection is not None:
                await self.connection.close()
            try:
                await self._connect()
                return
            except psycopg.OperationalError:
                await asyncio.sleep(wait)
                wait = min(wait * 2, 1.0)


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
    last = new
    if old is not None and new is not None and objects.is_gone(new):
        new = None
    state = batch.stage(operation.kind, old, new)
    _check_size(operation, old, batch.changes[-1])
    if state is None:
        known.pop(key, None)
        return last or batch.changes[-1].state
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


def _refused(operation: Operation, error: Exception) -> ApiError:
    """An error in one operation is that operation's answer, never its neighbours'."""
    if isinstance(error, ApiError):
        return error
    log.error("a mutation failed", kind=operation.kind.kind, name=operation.name, exc_info=error)
    return ApiError.internal("the server failed to apply this change; it is in its log")


def _tell(outcomes: list[Outcome]) -> None:
    for item, outcome in outcomes:
        item.give(outcome)


def _too_many() -> ApiError:
    why = "too many writes are waiting: try again in a second"
    return ApiError(429, "TooManyRequests", why, {"retryAfterSeconds": 1})


_TAKEN = {
    "robots_robot_id": "another robot of this namespace has this spec.robotId",
    "jobs_idempotency": "another job of this namespace has this spec.idempotencyKey",
    "apikeys_hash": "another key has this spec.hash: make one for each with `casare keys create`",
}


def _refusal(operation: Operation, error: Exception) -> ApiError:
    """What Postgres refused, for people: a value that is taken is a conflict, anything else is invalid."""
    what = f'{operation.kind.kind} "{operation.name}"'
    if not isinstance(error, psycopg.Error):
        return ApiError.internal(f"{what} can't be stored: {type(error).__name__}; it is in the server's log")
    if isinstance(error, psycopg.errors.UniqueViolation):
        why = _TAKEN.get(error.diag.constraint_name or "") or error.diag.message_detail or _first_line(error)
        return ApiError(409, "Conflict", f"{what} can't be stored: {why}")
    return ApiError(422, "Invalid", f"{what} can't be stored: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
