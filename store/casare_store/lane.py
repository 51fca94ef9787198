"""How does one connection write a batch of operations, whatever happens to it?

Each operation gets its answer: a conflict or an admission error is its own; data that Postgres refuses is found by
halving the batch; a commit whose connection broke is looked up in the log, never guessed and never blindly repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg
import structlog

from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_store import batch as batches
from casare_store.changes import Own
from casare_store.connection import connect_for_batches
from casare_store.headroom import Headroom
from casare_store.operations import Answer, Context, Operation, apply
from casare_store.pipeline import Connection
from casare_store.sealing import Sealer, writer_name

SEND_EVERY = 125  # operations decided before what they change is sent, so that Postgres and this process work at once
# Passing troubles of a batch that was rolled back: it is tried again as it is.
_AGAIN = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
log = structlog.get_logger(__name__)


class Answers:
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
class Item:
    operation: Operation
    answers: Answers = field(repr=False)
    number: int = 0  # of its answer
    tries: int = 0  # that ended with a broken connection, or that passing troubles undid

    @property
    def is_open(self) -> bool:
        """Whether it has no answer yet, and somebody waits for it."""
        return self.answers.is_open(self.number)

    def give(self, answer: Answer) -> None:
        self.answers.give(self.number, answer)


Outcome = tuple[Item, Object | None]


@dataclass(slots=True)
class Lane:
    """A connection and the batch that is under way on it. `put_back` takes what needs another try."""

    url: str
    sealer: Sealer | None
    own: Own  # what was committed here, for the reader of this process
    headroom: Headroom
    put_back: Callable[[list[Item]], None]
    connection: Connection | None = None
    is_stopping: bool = False
    _is_asked: bool = False  # whether the batch under way may be committed by now
    _backend: int = 0  # the process that serves the connection

    async def connect(self) -> None:
        """Raises psycopg.OperationalError when there is no database."""
        self.connection = await connect_for_batches(self.url, writer_name(self.sealer))
        self.own.backends.discard(self._backend)
        self._backend = self.connection.info.backend_pid
        self.own.backends.add(self._backend)

    async def close(self) -> None:
        if self.connection is not None:
            await self.connection.close()

    async def answer(self, items: list[Item], is_sent: Callable[[], None]) -> None:
        """Writes a batch; what nobody foresaw is the answer to its items and never the end of the writer.

        `is_sent` is called when nothing is left to decide: while Postgres commits, another lane may begin.
        """
        try:
            await self._flush(items, is_sent)
        except Exception:
            log.exception("a batch got no answer", items=len(items))
            _tell_unknown(items)

    async def _flush(self, items: list[Item], is_sent: Callable[[], None] = lambda: None) -> None:
        """Writes a batch and answers every item of it, whatever happens."""
        try:
            await self._write(items, is_sent)
        except _AGAIN as error:
            log.warning("a batch has to wait", why=_first_line(error))
            self.put_back(items)
        except psycopg.Error as error:
            if self.connection is not None and not self.connection.closed:
                await self._bisect(items, error)
            else:
                await self._reconnect(error)
                self.put_back(items)
        except asyncio.CancelledError:
            if self._is_asked:  # to try it again could do it twice
                _tell_unknown(items)
            self.put_back(items)
            raise
        except Exception as error:
            log.exception("a batch failed", items=len(items))
            await self._bisect(items, error)

    async def _write(self, items: Sequence[Item], is_sent: Callable[[], None]) -> None:
        assert self.connection is not None
        self._is_asked = False
        outcomes: list[Outcome] = []
        keys = {key for item in items for key in (*item.operation.keys, *item.operation.reads)}
        async with batches.begin(self.connection, keys, self.sealer) as batch:
            room = await self.headroom.look(batch, batch.known, len(items))
            context = Context(batch.now, batch.known, batch.also, room=room, sealer=self.sealer)
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
                is_sent()
                self._is_asked = True
                try:
                    await batch.commit()
                except batches.OutcomeUnknown as unknown:
                    await self._look_up(items, outcomes, unknown)
                    return
                self.own.add(known)
        _tell(outcomes)

    async def _bisect(self, items: list[Item], error: Exception) -> None:
        """Halves a batch that can't be written until the culprit stands alone: it is refused, the others written."""
        if len(items) == 1:
            items[0].give(_refusal(items[0].operation, error))
            return
        items = [item for item in items if item.is_open]
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            if half:
                await self._flush(half)

    async def _look_up(self, items: Sequence[Item], outcomes: list[Outcome], unknown: batches.OutcomeUnknown) -> None:
        """After a commit that broke: was it written? Then its items have their answers, else they get another try."""
        error: Exception = unknown
        while not self.is_stopping:
            await self._reconnect(error)
            assert self.connection is not None
            try:
                if await batches.committed(self.connection, unknown):
                    self.own.wake.set()  # its reader finds them in the log
                    _tell(outcomes)
                else:
                    self.put_back(list(items))
                return
            except psycopg.Error as another:
                error = another
        _tell_unknown(items)  # the server stops before it could find out

    async def _reconnect(self, error: Exception) -> None:
        """Connects again, however long the database is away."""
        log.warning("the writer lost the database; it keeps trying", why=_first_line(error))
        wait = 0.05
        while not self.is_stopping:
            if self.connection is not None:
                await self.connection.close()
            try:
                await self.connect()
                return
            except psycopg.OperationalError:
                await asyncio.sleep(wait)
                wait = min(wait * 2, 1.0)


def _refused(operation: Operation, error: Exception) -> ApiError:
    """An error in one operation is that operation's answer, never its neighbours'."""
    if isinstance(error, ApiError):
        return error
    log.error("a mutation failed", kind=operation.kind.kind, name=operation.name, exc_info=error)
    return ApiError.internal("the server failed to apply this change; it is in its log")


def _tell_unknown(items: Sequence[Item]) -> None:
    for item in items:
        item.give(ApiError.internal("the server can't tell whether this was written: look before you try again"))


def _tell(outcomes: list[Outcome]) -> None:
    for item, outcome in outcomes:
        item.give(outcome)


_TAKEN = {
    "robots_robot_id": "another robot of this namespace has this spec.robotId",
    "jobs_idempotency": "another job of this namespace has this spec.idempotencyKey",
    "jointokens_hash": "another join token has this spec.hash: make one for each with `casare keys hash`",
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
