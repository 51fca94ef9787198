"""How is a job retried? By another job that does the same: the one that ended never changes.

The new job goes the way of every new job: its parameters are checked against the workflow as it is now, and what it
leaves out is filled in from there. Only here does a job get its `spec.retryOf`.

A job has one retry at a time: the name of a retry follows from the job and a number, so of several who ask at once one
makes it, and the others are told which it is. `?force=true` makes another one all the same.
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
from casare_api.machinery.selectors import LabelSelector
from casare_apiserver import bodies, options, wire
from casare_apiserver.fitting import Fitting
from casare_apiserver.presenting import View
from casare_apiserver.targets import Target
from casare_apiserver.wire import Request
from casare_apiserver.writing import JOB_LETTERS, NAME_TRIES
from casare_store import admission, beside, reads
from casare_store.operations import Context, Operation
from casare_store.store import Store


@dataclass(frozen=True, slots=True)
class Retrying:
    """The handler; `opened` opens a sealed object."""

    store: Store
    fitting: Fitting
    opened: Callable[[Object], Object]

    async def retry(self, request: Request, target: Target) -> None:
        """POST .../jobs/NAME/retry: 201 with the new job.

        Raises ApiError 404, 409 for a job that has not ended, or whose retry has not and `force` is not set.
        """
        view, dry_run = View.of(request, JOB, self.opened), options.dry_run(request)
        is_forced = wire.is_set(request.query, "force")
        _check_empty(await request.body(bodies.MAX_OPTIONS))
        ended = await self._ended(target)
        wish = retrying.again(ended, await self._content(ended))
        job, request.warnings = rules.admit(JOB, wish)
        await self._check_files(job)
        checked = await self.fitting.check(job)
        made = await self._make(job, retrying.retry_of(ended), checked, dry_run, is_forced)
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

    async def _make(self, job: Object, of: Object, checked: str | None, dry_run: bool, is_forced: bool) -> Object:
        refused: set[str] = set()
        for _ in range(NAME_TRIES):
            name = await self._name(job, of, refused, is_forced)
            named = {**job, "metadata": {**job["metadata"], "name": name}}
            operation = _as_retry(admission.create(JOB, named, dry_run, checked), of)
            try:
                made = await self.store.writer.write(operation)
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                refused.add(name)  # by another retry, which is seen now, or by a job that is none
            else:
                assert made is not None
                return made
        raise ApiError.conflict(JOB, of["name"], "others retry it at the same time: look at its retries, and try again")

    async def _name(self, job: Object, of: Object, refused: set[str], is_forced: bool) -> str:
        """The name of the next retry; whoever asks at the same time gets the same. Raises ApiError 409."""
        prefix = job["metadata"]["generateName"]
        if is_forced:
            return names.generate(prefix, letters=JOB_LETTERS)
        there = await self._retries(job["metadata"]["namespace"], of)
        retrying.check_no_other(of, there)
        taken = refused | {one["metadata"]["name"] for one in there}
        return next(name for name in retrying.names_of(prefix, of["uid"], JOB_LETTERS) if name not in taken)

    async def _retries(self, namespace: str, of: Object) -> list[Object]:
        labels = LabelSelector.parse(f"{retrying.RETRY_OF}={of['uid']}")
        page = await reads.read(self.store.pool, reads.Query(JOB, namespace, labels))
        found: list[Object] = [job for chunk in page.chunks for job in orjson.loads(b"[" + chunk + b"]")]
        return [job for job in found if dig(job, "spec", "retryOf", "uid") == of["uid"]]


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
