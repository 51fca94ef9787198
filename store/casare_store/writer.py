"""How do many small writes become few commits? The group-commit writer: one per process, results per item.

It takes what has queued up (at most 500 objects, each object once), has it written in one batch, and answers each
operation by itself. Two connections take turns: while one waits for its commit, the next batch waits for the history
lock already, and gets it the moment it is free.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_store.changes import Own
from casare_store.headroom import Headroom
from casare_store.known import Key
from casare_store.lane import Answers, Item, Lane
from casare_store.operations import Answer, Operation
from casare_store.sealing import Sealer

LANES = 2
MAX_BATCH = 500
STOP_WITHIN = 5.0  # seconds for the batches under way
MAX_TRIES = 100  # of an operation; a database that keeps ending connections needs many
MAX_WAITING = 20_000  # operations; beyond it clients are told to come back
MAX_OF_ONE = 50  # of one caller that change the same object: each takes a batch of its own
MAX_LATER = 5_000  # that are passed over in a look at what is next, so that it takes some milliseconds at most


class _Turn:
    """The right to take the next batch and to decide it; one lane at a time has it."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock, self._is_over = lock, False

    def over(self) -> None:
        """Hands it on; said again, it means nothing."""
        if not self._is_over:
            self._is_over = True
            self._lock.release()


@dataclass(slots=True)
class Writer:
    """The group-commit writer of this process."""

    url: str
    sealer: Sealer | None = None
    own: Own = field(default_factory=Own)  # what was committed here, for the reader of this process
    lanes: list[Lane] = field(default_factory=list)
    _waiting: deque[Item] = field(default_factory=deque)
    _of_one: Counter[tuple[str, Key]] = field(default_factory=Counter)  # how many wait, by caller and object
    _under_way: set[Key] = field(default_factory=set)  # the keys of the batches that have no answer yet
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _turns: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _stopping: bool = False

    async def start(self) -> None:
        """Connects and begins to work. Raises psycopg.OperationalError when there is no database."""
        headroom = Headroom()
        self.lanes = [Lane(self.url, self.sealer, self.own, headroom, self._put_back) for _ in range(LANES)]
        for lane in self.lanes:
            await lane.connect()
        self._tasks = [asyncio.create_task(self._run(lane), name=f"writer-{n}") for n, lane in enumerate(self.lanes)]

    async def stop(self) -> None:
        """Ends after the batches under way; what still waits is told that the server stops."""
        self._stopping = True
        for lane in self.lanes:
            lane.is_stopping = True
        self._wake.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_WITHIN)
            for task in late:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        for item in self._waiting:
            item.give(_stopping())
        self._waiting.clear()
        for lane in self.lanes:
            await lane.close()

    def submit(self, operations: Sequence[Operation]) -> asyncio.Future[list[Answer]]:
        """Queues operations, each for itself; the future gives their answers, in order.

        What is more than may wait, in all or of one caller and object, is answered 429 at once, and the others are
        written: nobody is refused for what another does to the same object.
        """
        answers = Answers(len(operations))
        if not operations:
            answers.all.set_result(answers.of)
        if self._stopping:
            for number in range(len(operations)):
                answers.give(number, _stopping())
            return answers.all
        for number, operation in enumerate(operations):
            if len(self._waiting) >= MAX_WAITING:
                answers.give(number, _too_many("writes"))
            elif self._of_one[_about(operation)] >= MAX_OF_ONE:
                answers.give(number, _too_many(f'writes of {operation.kind.kind} "{operation.name}"'))
            else:
                self._waiting.append(Item(operation, answers, number))
                self._of_one[_about(operation)] += 1
        self._wake.set()
        return answers.all

    async def write(self, operation: Operation) -> Object | None:
        """Writes one; the new object, or None when it was deleted. Raises ApiError for a refusal."""
        (answer,) = await self.submit([operation])
        if isinstance(answer, ApiError):
            raise answer
        return answer

    async def _run(self, lane: Lane) -> None:
        while not self._stopping:
            await self._turns.acquire()
            turn = _Turn(self._turns)
            try:
                items = await self._next()
                if not items:
                    return  # the writer stops
                await lane.answer(items, turn.over)
            finally:
                turn.over()
            self._under_way.difference_update(*(item.operation.keys for item in items))
            self._wake.set()

    async def _next(self) -> list[Item]:
        """The next batch, as soon as there is one; none when the writer stops."""
        while not self._stopping:
            self._wake.clear()
            if items := self._take():
                return items
            await self._wake.wait()
        return []

    def _take(self) -> list[Item]:
        """What comes next: in order of arrival, each object once; a second write of an object waits its turn.

        What waits keeps its keys to itself, so that nothing behind it overtakes it; so does a batch under way, for it
        may have to be tried again.
        """
        taken: list[Item] = []
        later: list[Item] = []
        keys = set(self._under_way)
        while self._waiting and len(taken) < MAX_BATCH and len(later) < MAX_LATER:
            item = self._waiting.popleft()
            if not item.is_open:  # nobody waits for it any more
                self._forget(item)
                continue
            is_later = not keys.isdisjoint(item.operation.keys)
            keys.update(item.operation.keys)
            (later if is_later else taken).append(item)
        for item in taken:
            self._forget(item)
        self._waiting.extendleft(reversed(later))
        self._under_way.update(*(item.operation.keys for item in taken))
        return taken

    def _forget(self, item: Item) -> None:
        """It does not wait any more."""
        about = _about(item.operation)
        self._of_one[about] -= 1
        if not self._of_one[about]:
            del self._of_one[about]

    def _put_back(self, items: list[Item]) -> None:
        """For another try; what has been in the way too often is refused, so that it can't stop all others for ever."""
        for item in items:
            item.tries += 1
            if item.tries >= MAX_TRIES:
                item.give(ApiError.unavailable("this could not be written in several tries: try again in a moment"))
        again = [item for item in items if item.is_open]
        self._waiting.extendleft(reversed(again))
        for item in again:
            self._of_one[_about(item.operation)] += 1
        self._wake.set()


def _about(operation: Operation) -> tuple[str, Key]:
    """Who changes what."""
    by = operation.by
    return (by.key_uid or by.actor) if by is not None else "", operation.key


def _stopping() -> ApiError:
    return ApiError(503, "ServiceUnavailable", "the server is stopping: try again")


def _too_many(what: str) -> ApiError:
    why = f"too many {what} are waiting: try again in a second"
    return ApiError(429, "TooManyRequests", why, {"retryAfterSeconds": 1})
