"""Do a new job's parameters fit, before it takes its turn at the writer?

Checking can take a while and must not hold anybody up: it is done beside the event loop and outside of the history
lock. The workflows it needs are kept; the writer checks again where the workflow has changed in between.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from casare_api.kinds import Object, dig
from casare_api.kinds.workflow import WORKFLOW
from casare_api.machinery.errors import ApiError
from casare_apiserver.watch import Hub
from casare_store import reads, settling
from casare_store.changes import Change
from casare_store.store import Store

KEPT = 1000  # workflows


@dataclass(slots=True)
class Fitting:
    """The check, and the workflows it knows."""

    store: Store
    hub: Hub
    _workflows: dict[tuple[str, str], Object] = field(default_factory=dict)

    def start(self) -> None:
        """Hears of workflows that change."""
        self.hub.listen(WORKFLOW, self._see)
        self.hub.begin_anew.append(self._forget)

    async def check(self, job: Object) -> str | None:
        """What `admission.create` is told: the revision whose schema fits. Raises ApiError 422."""
        name = dig(job, "spec", "workflowRef", "name")
        if not name:
            return await _fit(job, None, bool(dig(job, "spec", "workflow", "parameters")))
        key = _workflow_of(job)
        if key in self._workflows:
            with contextlib.suppress(ApiError):  # it may be the one before the newest
                return await self._fit(job, self._workflows[key])
        text = await reads.get(self.store.pool, WORKFLOW, *key)
        if text is None:
            return None  # the writer says so
        return await self._fit(job, self._keep(key, orjson.loads(text)))

    async def check_all(self, jobs: Sequence[Object]) -> list[str | ApiError | None]:
        """What `check` says of each of many jobs, a refusal included; those of one workflow are looked at together."""
        known = [self._workflows.get(_workflow_of(job)) for job in jobs]
        together = [(job, workflow) for job, workflow in zip(jobs, known, strict=True) if workflow is not None]
        if any(workflow["spec"].get("parameters") for _, workflow in together):
            found = iter(await asyncio.to_thread(_fits, together))
        else:
            found = iter(_fits(together))
        first = [next(found) if workflow is not None else _UNKNOWN for workflow in known]
        # What an older workflow refused, and what nothing is known of yet, is looked at one by one.
        return [await self._said(job) if fit is _UNKNOWN else fit for job, fit in zip(jobs, first, strict=True)]

    async def _said(self, job: Object) -> str | ApiError | None:
        try:
            return await self.check(job)
        except ApiError as error:
            return error

    async def _fit(self, job: Object, workflow: Object) -> str | None:
        return await _fit(job, workflow, bool(workflow["spec"].get("parameters")))

    def _keep(self, key: tuple[str, str], workflow: Object) -> Object:
        if len(self._workflows) >= KEPT:
            self._workflows.clear()
        self._workflows[key] = workflow
        return workflow

    def _see(self, change: Change) -> None:
        self._workflows.pop((change.namespace, change.name), None)

    async def _forget(self) -> None:
        self._workflows.clear()


_UNKNOWN = "?"  # no revision has this name


def _workflow_of(job: Object) -> tuple[str, str]:
    return job["metadata"].get("namespace") or "", dig(job, "spec", "workflowRef", "name") or ""


def _fits(jobs: Sequence[tuple[Object, Object]]) -> list[str | None]:
    return [_fits_or_not(job, workflow) for job, workflow in jobs]


def _fits_or_not(job: Object, workflow: Object) -> str | None:
    try:
        return settling.check_parameters(job, workflow)
    except ApiError:
        return _UNKNOWN


async def _fit(job: Object, workflow: Object | None, has_schema: bool) -> str | None:
    if not has_schema:
        return settling.check_parameters(job, workflow)
    return await asyncio.to_thread(settling.check_parameters, job, workflow)
