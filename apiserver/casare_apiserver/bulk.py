"""How are thousands of jobs submitted in one request? A JobList; each job has its own answer.

An item goes the way of a single create, with the same rules; what is wrong with one of them is its own answer and
holds up no other. They are admitted a few at a time, so that others get their turn, and written while more of them are
admitted. A client that goes away leaves the jobs that were written by then: idempotencyKey makes it safe to try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from casare_api.kinds import Object
from casare_api.kinds.job import JOB
from casare_api.machinery import admission as rules
from casare_api.machinery.errors import ApiError
from casare_store.writer import Found

LIST = "JobList"
MAX_ITEMS = 10_000
MAX_BYTES = 8 * 1024 * 1024  # of a request
PER_TURN = 50  # jobs admitted before others get their turn: about 3 ms
MAX_WRITING = 500  # jobs that are with the writer at a time: what robots report does not wait long behind them

Outcome = asyncio.Future[Object | None] | Found | ApiError
Submit = Callable[[Sequence[Any]], Awaitable[list[Outcome]]]


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
        waiting: list[tuple[Any, Outcome]] = []
        for part in _parts(jobs, PER_TURN):
            waiting += zip(part, await self.submit(part), strict=True)
            if len(waiting) >= MAX_WRITING:
                await self._settle(waiting[: MAX_WRITING // 2])
                del waiting[: MAX_WRITING // 2]
            await asyncio.sleep(0)
        await self._settle(waiting)
        return self._answer()

    async def _settle(self, waiting: Sequence[tuple[Any, Outcome]]) -> None:
        for job, outcome in waiting:
            try:
                if isinstance(outcome, ApiError):
                    raise outcome
                self.results.append(_made(outcome if isinstance(outcome, Found) else await outcome))
            except ApiError as error:
                self.results.append(refused(job, error))

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


def _parts(jobs: list[Any], size: int) -> Iterator[list[Any]]:
    return (jobs[start : start + size] for start in range(0, len(jobs), size))
