"""How are thousands of jobs submitted in one request? A JobList; each job has its own answer.

An item goes the way of a single create, with the same rules; what is wrong with one of them is its own answer and
holds up no other. They are admitted a few at a time, so that others get their turn, and written while more of them are
admitted. A client that goes away leaves the jobs that were written by then: idempotencyKey makes it safe to try again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from casare_api.kinds import Object
from casare_api.kinds.job import JOB
from casare_api.machinery import admission as rules
from casare_api.machinery.errors import ApiError
from casare_store.operations import Answer, Found, Operation

LIST = "JobList"
MAX_ITEMS = 10_000
MAX_BYTES = 8 * 1024 * 1024  # of a request
PER_TURN = 50  # jobs admitted before others get their turn: about 3 ms
MAX_WRITING = 500  # jobs that are with the writer at a time: what robots report does not wait long behind them

Step = Operation | Found | ApiError


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the items on their way: the next step of each, and the writer's answers to those that it has to make."""

    items: Sequence[Any]
    steps: list[Step]
    written: asyncio.Future[list[Answer]]


Submit = Callable[[Sequence[Any]], Awaitable[Part]]


def is_bulk(body: Any) -> bool:
    """Whether a body that was sent to a namespace's jobs is many of them."""
    return isinstance(body, dict) and body.get("kind") == LIST


def items(body: Object) -> list[Any]:
    """The jobs of a JobList. Raises ApiError 400, 413, 422."""
    found = body.get("items")
    if body.get("apiVersion") not in (None, JOB.api_version):
        why = f"does not match the expected API version ({JOB.api_version})"
        raise ApiError.bad_request(f"the API version in the data ({str(body['apiVersion'])[:80]}) {why}")
    if not isinstance(found, list) or not found:
        raise ApiError(422, "Invalid", f"items: Required value: a {LIST} holds 1 to {MAX_ITEMS} jobs")
    if len(found) > MAX_ITEMS:
        raise ApiError(413, "RequestEntityTooLarge", f"items: {len(found)} jobs; send at most {MAX_ITEMS} at once")
    return found


@dataclass(slots=True)
class Submission:
    """One request's jobs on their way; `submit` admits some of them and hands them to the writer."""

    submit: Submit
    results: list[Object] = field(default_factory=list)

    async def run(self, jobs: list[Any]) -> Object:
        """Submits all; the answer: counts, and per item its name, uid and code, in order."""
        waiting: deque[Part] = deque()
        for start in range(0, len(jobs), PER_TURN):
            waiting.append(await self.submit(jobs[start : start + PER_TURN]))
            if len(waiting) * PER_TURN >= MAX_WRITING:
                await self._settle(waiting.popleft())
            await asyncio.sleep(0)
        while waiting:
            await self._settle(waiting.popleft())
        return self._answer()

    async def _settle(self, part: Part) -> None:
        written = iter(await part.written)
        for item, step in zip(part.items, part.steps, strict=True):
            answer = next(written) if isinstance(step, Operation) else step
            self.results.append(refused(item, answer) if isinstance(answer, ApiError) else _made(answer))

    def _answer(self) -> Object:
        codes = [one["code"] for one in self.results]
        created, existing = codes.count(201), codes.count(200)
        counts = {"created": created, "existing": existing, "failed": len(codes) - created - existing}
        return {"apiVersion": JOB.api_version, "kind": "JobSubmission", **counts, "items": self.results}


def _made(job: Object | None) -> Object:
    assert job is not None
    meta = job["metadata"]
    return {"name": meta["name"], "uid": meta["uid"], "code": 200 if isinstance(job, Found) else 201}


def refused(job: Any, error: ApiError) -> Object:
    """What an item is told that was not taken."""
    name = rules.name_of(job)[:253] if isinstance(job, dict) else ""
    return {"name": name, "code": error.status, "reason": error.reason, "message": error.message}
