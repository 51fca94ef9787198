"""How is a job retried? By another job that does the same: the one that ended never changes.

The new job goes the way of every new job: its parameters are checked against the workflow as it is now, and what it
leaves out is filled in from there. Only here does a job get its `spec.retryOf`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from casare_api.decisions import retrying
from casare_api.kinds import Object, dig
from casare_api.kinds.job import JOB
from casare_api.machinery import admission as rules
from casare_api.machinery import names
from casare_api.machinery.errors import ApiError
from casare_apiserver import bodies, options
from casare_apiserver.fitting import Fitting
from casare_apiserver.presenting import View
from casare_apiserver.targets import Target
from casare_apiserver.wire import Request
from casare_apiserver.writing import JOB_LETTERS, NAME_TRIES
from casare_store import admission, beside, reads
from casare_store.store import Store
from casare_store.writer import Context, Operation


@dataclass(frozen=True, slots=True)
class Retrying:
    """The handler; `opened` opens a sealed object."""

    store: Store
    fitting: Fitting
    opened: Callable[[Object], Object]

    async def retry(self, request: Request, target: Target) -> None:
        """POST .../jobs/NAME/retry: 201 with the new job. Raises ApiError 404, 409 for a job that has not ended."""
        view, dry_run = View.of(request, JOB, self.opened), options.dry_run(request)
        _check_empty(await request.body(bodies.MAX_OPTIONS))
        ended = await self._ended(target)
        wish = retrying.again(ended, await self._content(ended))
        job, request.warnings = rules.admit(JOB, wish)
        await self._check_files(job)
        checked = await self.fitting.check(job)
        made = await self._make(job, retrying.retry_of(ended), checked, dry_run)
        await view.one(request, 201, made, is_open=True)

    async def _ended(self, target: Target) -> Object:
        text = await reads.get(self.store.pool, JOB, target.key_namespace, target.name or "")
        if text is None:
            raise ApiError.not_found(JOB, target.name or "")
        found: Object = orjson.loads(text)
        return found

    async def _content(self, job: Object) -> Object | None:
        """What the job's workflow was when it ran; None where that is gone."""
        if job["spec"].get("workflow"):
            own: Object = job["spec"]["workflow"]
            return own
        revision = dig(job, "spec", "workflowRef", "revision")
        if not revision:
            return None
        text = await beside.revision(self.store.pool, job["metadata"]["namespace"], revision)
        return None if text is None else orjson.loads(text)

    async def _check_files(self, job: Object) -> None:
        if job["spec"].get("workflow"):
            meta = {"name": "", **job["metadata"]}
            await beside.check_files(self.store.pool, {"metadata": meta, "spec": job["spec"]["workflow"]})

    async def _make(self, job: Object, of: Object, checked: str | None, dry_run: bool) -> Object:
        prefix = job["metadata"]["generateName"]
        for attempt in range(NAME_TRIES):
            named = {**job["metadata"], "name": names.generate(prefix, letters=JOB_LETTERS)}
            operation = _as_retry(admission.create(JOB, {**job, "metadata": named}, dry_run, checked), of)
            try:
                made = await self.store.writer.write(operation)
            except ApiError as error:
                if error.reason != "AlreadyExists" or attempt == NAME_TRIES - 1:
                    raise
            else:
                assert made is not None
                return made
        raise AssertionError("unreachable")


def _as_retry(creation: Operation, of: Object) -> Operation:
    """The creation of a job that says which one it retries: nobody else may say so, so it comes after all checks."""

    def mutate(current: Object | None, context: Context) -> Object | None:
        made = creation.mutate(current, context)
        assert made is not None
        return {**made, "spec": {**made["spec"], "retryOf": of}}

    return replace(creation, mutate=mutate)


def _check_empty(body: bytes) -> None:
    """Nothing can be asked for yet: silence about a wish would be a lie. Raises ApiError 400."""
    if body.strip() and bodies.parse_json(body) not in ({}, None):
        raise ApiError.bad_request("a retry takes no body: it does what the job before it did; leave the body out")
