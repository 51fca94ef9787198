"""What do the resource routes do? create, get, list, watch, update, patch, delete and /status, the same for every kind.

Handlers turn a request into an operation or a query of the store and its result into bytes; no rule of a kind is here.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from casare_api.decisions.access import PEOPLE_DECIDE, may_serve, robot_may_write
from casare_api.kinds import Kind, Object, dig
from casare_api.kinds.job import JOB
from casare_api.kinds.robot import ROBOT
from casare_api.kinds.workflow import WORKFLOW
from casare_api.machinery import admission as rules
from casare_api.machinery import names, patches
from casare_api.machinery.errors import ApiError, Cause
from casare_api.machinery.selectors import FieldSelector, FieldTerm, LabelSelector
from casare_apiserver import bodies, options, wire
from casare_apiserver.fitting import Fitting
from casare_apiserver.streaming import Stream
from casare_apiserver.watch import Hub, Watcher
from casare_apiserver.wire import Request
from casare_store import admission, beside, reads, settling
from casare_store.store import Store
from casare_store.writer import MAX_BATCH, Context, Operation

NAME_TRIES = 8  # for generated names that are taken
MAX_LIMIT = 10_000
MAX_WATCH = 3600  # seconds


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: a kind, and as far as given a namespace, an object and a subresource of it."""

    kind: Kind
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None

    @property
    def key_namespace(self) -> str:
        return (self.namespace or "") if self.kind.namespaced else ""


@dataclass(frozen=True, slots=True)
class Resources:
    """The handlers; one instance serves all kinds."""

    store: Store
    hub: Hub
    fitting: Fitting

    async def get(self, request: Request, target: Target) -> None:
        assert target.name is not None
        text = await reads.get(self.store.pool, target.kind, target.key_namespace, target.name)
        if text is None:
            raise ApiError.not_found(target.kind, target.name)
        await request.answer(200, text + b"\n")

    async def list(self, request: Request, target: Target) -> None:
        query, first_rv = list_query(request, target)
        if wire.is_set(request.query, "sendInitialEvents"):
            raise options.wrong("sendInitialEvents", "Forbidden: only a watch has initial events")
        page = await reads.read(self.store.pool, query)
        options.check_list_version(request.query, page.rv)
        rv = first_rv or page.rv
        meta = {"resourceVersion": str(rv)}
        if page.after is not None:
            meta["continue"] = reads.encode_continue(rv, page.after)
        head = (
            f'{{"kind":"{target.kind.kind}List","apiVersion":"{target.kind.api_version}",'
            f'"metadata":{orjson.dumps(meta).decode()},"items":['
        ).encode()
        await request.answer(200, head + b",".join(page.chunks) + b"]}\n")

    async def watch(self, request: Request, target: Target) -> None:
        """Streams events until the client goes, the time is up, or the watch is cut off."""
        query = dataclasses.replace(list_query(request, target)[0], limit=0, after=None)  # a watch has no pages
        for option in ("sendInitialEvents", "resourceVersionMatch"):
            if option in request.query:  # ignored, it would leave the client waiting for ever
                raise options.wrong(option, "Forbidden: a watch has no initial events here: list, then watch")
        rv, timeout = options.whole_number(request.query, "resourceVersion"), options.timeout(request)
        watcher = Watcher(
            target.kind, query.namespace, query.labels, query.fields, rv,
            wire.is_set(request.query, "allowWatchBookmarks"), request.identity.key_uid,
        )
        try:
            first = await self._open(watcher, query)
            if not request.is_welcome():  # the key went bad before the watch could be ended with it
                raise ApiError.unauthorized()
            timer = asyncio.get_running_loop().call_later(timeout, self._time_is_up, watcher)
            try:
                await Stream(request, watcher).run(first)
            finally:
                timer.cancel()
        finally:
            self.hub.remove(watcher)

    def _time_is_up(self, watcher: Watcher) -> None:
        watcher.bookmark(self.hub.rv)
        watcher.end()

    async def _open(self, watcher: Watcher, query: reads.Query) -> Sequence[bytes]:
        """Files the watcher: from its revision, or (0) behind a list of what there is now, which is returned."""
        if watcher.since:
            if watcher.since > self.hub.rv and watcher.since > (await self.store.head()).rv:
                raise ApiError.expired(f"too large resource version: {watcher.since} ({self.hub.rv})")
            self.hub.add(watcher)
            return []
        watcher.since = self.hub.rv
        self.hub.add(watcher)
        page = await reads.read(self.store.pool, query)
        # What arrived while the list was read and is part of it must not be told twice.
        live = list(watcher.pending)
        watcher.drop()
        for line in live:
            if int(orjson.loads(line)["object"]["metadata"].get("resourceVersion", page.rv + 1)) > page.rv:
                watcher.requeue(line)
        watcher.since = max(watcher.since, page.rv)
        return page.chunks

    async def create(self, request: Request, target: Target) -> None:
        mode, dry_run = options.mode(request), options.dry_run(request)
        obj = await bodies.read_object(request)
        kind = target.kind
        _check_place(target, obj)
        obj, request.warnings = rules.admit(kind, _without_status(kind, obj), mode)
        await self._check_beside(kind, obj)
        checked = None
        if kind is JOB:
            await self._check_declared(obj)
            checked = await self.fitting.check(obj)
        _check_reach(request, kind, None, obj)
        meta = obj["metadata"]
        generated = meta.get("generateName") if not meta.get("name") else None
        if not generated and not meta.get("name"):
            raise ApiError.invalid(kind, "", [
                Cause("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")])
        for attempt in range(NAME_TRIES):
            named = {**meta, "name": names.generate(generated)} if generated else meta
            try:
                made = await self.store.writer.write(
                    admission.create(kind, {**obj, "metadata": named}, dry_run, checked)
                )
                break
            except ApiError as error:
                if error.reason != "AlreadyExists" or not generated or attempt == NAME_TRIES - 1:
                    raise
        await request.object(201, made)

    async def _check_beside(self, kind: Kind, obj: Object) -> None:
        """What must lie beside the rows: the files that a workflow names, be it one of its own or a job's."""
        if kind is WORKFLOW:
            await beside.check_files(self.store.pool, obj)
        elif kind is JOB and obj["spec"].get("workflow"):
            meta = {"name": "", **obj["metadata"]}
            await beside.check_files(self.store.pool, {"metadata": meta, "spec": obj["spec"]["workflow"]})

    async def _check_declared(self, obj: Object) -> None:
        """A declared job must not have run already. Raises ApiError 409."""
        meta = obj["metadata"]
        named, content = (meta["namespace"], meta.get("name") or ""), dig(meta, "annotations", settling.DECLARED)
        if not content or not await beside.was_declared(self.store.pool, *named, content):
            return
        if await reads.get(self.store.pool, JOB, *named) is None:
            why = "was declared with this content before and has run; give it another name to run it again"
            raise ApiError(409, "AlreadyDeclared", f'job "{named[1]}" {why}')

    async def replace(self, request: Request, target: Target) -> None:
        mode = options.mode(request)
        obj: Object = await bodies.read_object(request)
        _check_place(target, obj)
        rules.check_type(target.kind, obj)
        _check_name(target, obj)
        if not obj["metadata"].get("resourceVersion"):
            raise ApiError.invalid(target.kind, target.name or "", [
                Cause("metadata.resourceVersion", "FieldValueInvalid",
                      "Invalid value: 0: must be specified for an update")])
        if target.subresource is None:
            obj, request.warnings = rules.admit(target.kind, _without_status(target.kind, obj), mode)
            if target.kind is WORKFLOW:
                await self._check_beside(target.kind, obj)

        def change(current: Object, context: Context) -> Object:
            if target.subresource is None:
                _check_reach(request, target.kind, current, obj)
                return obj
            admitted: Object
            admitted, request.warnings = rules.admit(target.kind, _with_status(current, obj), mode)
            return admitted

        await self._change(request, target, change)

    async def patch(self, request: Request, target: Target) -> None:
        apply = bodies.patch(request.header(b"content-type"), await request.body())
        mode = options.mode(request)

        def change(current: Object, context: Context) -> Object:
            patched = apply(current)
            if patches.json_equal(patched, current):
                return current
            _check_place(target, patched)
            rules.check_type(target.kind, patched)
            _check_name(target, patched)
            if target.subresource == "status":
                new, request.warnings = rules.admit_status(target.kind, _with_status(current, patched), mode)
                return new
            new, request.warnings = rules.admit(target.kind, _without_status(target.kind, patched), mode)
            _check_reach(request, target.kind, current, new)
            return new

        if target.kind is WORKFLOW and target.subresource is None:
            await self._check_patched_files(target, change)
        await self._change(request, target, change)

    async def _check_patched_files(self, target: Target, change: Callable[[Object, Any], Object]) -> None:
        """A patched workflow must not name files that nobody sent; what it would become is tried on what it is now."""
        text = await reads.get(self.store.pool, target.kind, target.key_namespace, target.name or "")
        if text is not None:
            await beside.check_files(self.store.pool, change(orjson.loads(text), None))

    async def _change(self, request: Request, target: Target, change: Callable[[Object, Context], Object]) -> None:
        operation = admission.update(
            target.kind, target.key_namespace, target.name or "", change,
            status=target.subresource == "status", dry_run=options.dry_run(request),
        )
        await request.object(200, await self.store.writer.write(operation))

    async def delete(self, request: Request, target: Target) -> None:
        said = options.delete_options(request, await request.body())
        kind, name = target.kind, target.name or ""
        wanted = said.get("preconditions") or {}
        dry = options.dry_run(request) or said.get("dryRun") == ["All"]
        held = await self.store.writer.write(
            admission.remove(kind, target.key_namespace, name, uid=wanted.get("uid"),
                             rv=wanted.get("resourceVersion"), dry_run=dry)
        )
        if held is not None and held["metadata"].get("finalizers"):
            await request.object(200, held)
            return
        details: dict[str, Any] = {"name": name, "kind": kind.plural}
        details |= {"group": kind.group} if kind.group else {}
        details |= {"uid": held["metadata"]["uid"]} if held is not None else {}
        await request.object(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                                   "details": details})

    async def delete_collection(self, request: Request, target: Target) -> None:
        query, _ = list_query(request, target)
        said = options.delete_options(request, await request.body())
        dry = options.dry_run(request) or said.get("dryRun") == ["All"]
        page = await reads.read(self.store.pool, query)
        objects = orjson.loads(b"[" + b",".join(page.chunks) + b"]")
        operations = [
            admission.remove(target.kind, obj["metadata"].get("namespace") or "", obj["metadata"]["name"],
                             uid=obj["metadata"]["uid"], dry_run=dry)
            for obj in objects
        ]
        for start in range(0, len(operations), MAX_BATCH):
            await self._all(operations[start:start + MAX_BATCH])
        await request.object(200, {
            "kind": f"{target.kind.kind}List", "apiVersion": target.kind.api_version,
            "metadata": {"resourceVersion": str(page.rv)}, "items": objects,
        })

    async def _all(self, operations: Sequence[Operation]) -> None:
        """Runs operations; those whose object is gone or new by now are no error."""
        done = await asyncio.gather(*map(self.store.writer.submit, operations), return_exceptions=True)
        for outcome in done:
            if isinstance(outcome, BaseException) and getattr(outcome, "status", 0) not in (404, 409):
                raise outcome


def list_query(request: Request, target: Target) -> tuple[reads.Query, int]:
    """The store's query of a list request, and the first page's resourceVersion when it continues one."""
    given = request.query
    labels = LabelSelector.parse(given["labelSelector"]) if given.get("labelSelector") else None
    fields = FieldSelector.parse(given["fieldSelector"], target.kind.selectable) if given.get("fieldSelector") else None
    limit = options.whole_number(given, "limit")
    first_rv, after = reads.decode_continue(given["continue"]) if given.get("continue") else (0, None)
    if target.name is not None:
        named = FieldTerm("metadata.name", "=", target.name)
        fields = FieldSelector((named, *(fields.terms if fields else ())))
    return reads.Query(target.kind, target.namespace, labels, fields, min(limit, MAX_LIMIT), after), first_rv


def _check_place(target: Target, obj: Any) -> None:
    """The namespace in the body must be the one in the path; a missing one is filled in."""
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict) or not target.kind.namespaced:
        return
    if not obj["metadata"].get("namespace"):
        obj["metadata"]["namespace"] = target.namespace
    if obj["metadata"]["namespace"] != target.namespace:
        why = "the namespace of the provided object does not match the namespace sent on the request"
        raise ApiError.bad_request(f"{why}: {str(obj['metadata']['namespace'])[:63]} is not {target.namespace}")


def _check_name(target: Target, obj: Object) -> None:
    said = obj["metadata"].get("name")
    if said != target.name:
        raise ApiError.bad_request(
            f"the name of the object ({str(said)[:253]}) does not match the name on the URL ({target.name})"
        )


def _without_status(kind: Kind, obj: Any) -> Any:
    """What the main endpoint looks at: a status that came along is somebody's copy of what was true once."""
    if not kind.has_status or not isinstance(obj, dict):
        return obj
    return {key: value for key, value in obj.items() if key != "status"}


def _with_status(current: Object, said: Object) -> Object:
    """What /status looks at: the object as it is with the status that was said; and who is meant, to be checked."""
    meant = {key: said["metadata"].get(key) for key in ("uid", "resourceVersion") if said["metadata"].get(key)}
    return {**current, "metadata": {**current["metadata"], **meant}, "status": said.get("status")}


def _check_reach(request: Request, kind: Kind, old: Object | None, new: Object) -> None:
    """A robot's key writes its own Robot and not what people decide about it; nobody's robots reach beyond his key."""
    who = request.identity
    if kind is ROBOT and not may_serve(who, old, new):
        raise ApiError(403, "Forbidden", f'the key "{who.name}" reaches the namespace "{who.namespace}" alone: '
                                         "spec.serves can name no other")
    if who.role == "robot" and not robot_may_write(who, old, new):
        raise ApiError(403, "Forbidden", f'the key of robot "{who.robot_name}" can write only that robot, and not '
                                         f"{', '.join(sorted(PEOPLE_DECIDE))}")
