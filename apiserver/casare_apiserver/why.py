"""Why does this job wait, or why would it? `GET .../jobs/NAME/why`, and the same of a job that is only tried.

Whoever may read the job may ask; a job that is not there is asked about with POST .../jobs?dryRun=All&why=true, by
whoever could create it. What is read is one snapshot; what is decided takes its time beside the event loop.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field

from casare_api.decisions import explaining, lifecycle
from casare_api.decisions.access import Attempted, allowed
from casare_api.decisions.explaining import Around, Contest
from casare_api.kinds import Object, dig
from casare_api.kinds.job import JOB
from casare_api.machinery.errors import ApiError, Cause
from casare_apiserver import options
from casare_apiserver.targets import Target
from casare_apiserver.wire import Request
from casare_apiserver.writing import Writing
from casare_store import columns, waiting
from casare_store.connection import snapshot
from casare_store.store import Store

AT_ONCE = 2  # questions: each looks at the whole fleet, and others want to read, too
_LAST_UID = str(uuid.UUID(int=2**128 - 1))  # of a job that is not there yet: behind all of its rank


@dataclass(slots=True)
class Why:
    """The handlers; `writing` says what a job that is tried would become. It keeps robots, which saves parsing."""

    store: Store
    writing: Writing
    _fleet: waiting.Fleet = field(default_factory=waiting.Fleet)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def of_job(self, request: Request, target: Target) -> None:
        """Of a job that is there. Raises ApiError 404."""
        async with self.store.pool.connection() as connection:
            job = await waiting.job(connection, target.namespace or "", target.name or "")
        if job is None:
            raise ApiError.not_found(JOB, target.name or "")
        await request.object(200, await self._explained(job, request))

    async def of_new(self, request: Request, target: Target) -> None:
        """Of the body's job, were it submitted now. Raises ApiError as its creation does."""
        if not options.dry_run(request):
            why = "Invalid value: true: only with dryRun=All: it says what would become of the job, and submits nothing"
            raise options.wrong("CreateOptions", "why", why)
        job = await self.writing.tried(request, target)
        if dig(job, "spec", "workflowRef") and not dig(job, "spec", "workflowRef", "revision"):
            why = f'there is no workflow "{job["spec"]["workflowRef"]["name"]}" in namespace {target.namespace}'
            cause = Cause("spec.workflowRef.name", "FieldValueNotFound", f"Not found: {why}")
            raise ApiError.invalid(JOB, job["metadata"].get("name") or "", [cause])
        await request.object(200, await self._explained(job, request))

    async def _explained(self, job: Object, request: Request) -> Object:
        if explaining.is_settled(job):
            return explaining.explain_settled(job)
        async with self._turns:
            around = await self._around(job, allowed(request.identity, Attempted("list", JOB.plural), request.policy))
            return await asyncio.to_thread(explaining.explain, job, around)

    async def _around(self, job: Object, sees_all: bool) -> Around:
        namespace = job["metadata"]["namespace"]
        known = {**job, "metadata": {"uid": _LAST_UID, **job["metadata"]}}
        async with self.store.pool.connection() as connection, snapshot(connection, with_log=True):
            robots = await self._fleet.read(connection)
            await waiting.in_order(connection)
            mine, queues = (namespace, columns.requirements(job)), await waiting.asked(connection)
            contest = await asyncio.to_thread(Contest.of, mine, robots, queues)
            rank, are_all = lifecycle.rank(job), len(queues) < waiting.MOST_QUEUES
            return Around(
                contest=contest,
                holders=await waiting.holders(connection, job),
                shares=await waiting.shares(connection, {namespace, *(one for one, _ in contest.queues)}),
                ends=await waiting.ends(connection, contest.full(), await waiting.now(connection)),
                place=await waiting.place(connection, known, rank, contest.queues, are_all),
                sees_all=sees_all,
                unattended=await waiting.unattended(connection),
            )
