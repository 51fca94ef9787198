"""What do the resource routes do? create, get, list, watch, update, patch, delete and /status, the same for every kind.

Handlers turn a request into an operation or a query of the store and its result into bytes; no rule of a kind is here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import orjson
import yaml

from casare_api.decisions.access import PEOPLE_DECIDE, robot_may_write
from casare_api.kinds import Kind, Object, dig
from casare_api.machinery import admission as rules
from casare_api.machinery import names, patches
from casare_api.machinery.errors import ApiError, Cause
from casare_api.machinery.selectors import FieldSelector, LabelSelector
from casare_apiserver.watch import Hub, Watcher
from casare_apiserver.wire import Request
from casare_store import admission, beside, reads
from casare_store.store import Store
from casare_store.writer import Context, Operation

NAME_TRIES = 8  # for generated names that are taken
MAX_LIMIT = 10_000


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

    async def get(self, request: Request, target: Target) -> None:
        assert target.name is not None
        text = await reads.get(self.store.pool, target.kind, target.key_namespace, target.name)
        if text is None:
            raise ApiError.not_found(target.kind, target.name)
        await request.answer(200, text + b"\n")

    async def list(self, request: Request, target: Target) -> None:
        query, first_rv = list_query(request, target)
        page = await reads.read(self.store.pool, query)
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
        query, _ = list_query(request, target)
        rv = _revision(request.query.get("resourceVersion", ""))
        watcher = Watcher(
            target.kind, query.namespace, query.labels, query.fields, rv,
            request.query.get("allowWatchBookmarks") in ("true", "1"), request.identity.key_uid,
        )
        try:
            await self._open(watcher, query)
            await _stream(request, watcher, _timeout(request))
        finally:
            self.hub.remove(watcher)

    async def _open(self, watcher: Watcher, query: reads.Query) -> None:
        """Files the watcher: from its revision, or (0) behind a list of what there is now."""
        if watcher.since:
            if watcher.since > self.hub.rv and watcher.since > (await self.store.head()).rv:
                raise ApiError(410, "Expired", f"too large resource version: {watcher.since} ({self.hub.rv})")
            self.hub.add(watcher)
            return
        watcher.since = self.hub.rv
        self.hub.add(watcher)
        page = await reads.read(self.store.pool, query)
        # What arrived while the list was read and is part of it must not be told twice.
        live, watcher.pending, watcher.size = watcher.pending, [], 0
        for obj in orjson.loads(b"[" + b",".join(page.chunks) + b"]"):
            watcher.offer(b'{"type":"ADDED","object":%s}\n' % orjson.dumps(obj))
        for line in live:
            if int(orjson.loads(line)["object"]["metadata"].get("resourceVersion", page.rv + 1)) > page.rv:
                watcher.offer(line)
        watcher.since = max(watcher.since, page.rv)

    async def create(self, request: Request, target: Target) -> None:
        obj = await read_object(request)
        kind = target.kind
        _check_place(target, obj)
        obj, request.warnings = rules.admit(kind, obj, _mode(request))
        await self._check_beside(kind, obj)
        _check_own(request, None, obj)
        meta = obj["metadata"]
        generated = meta.get("generateName") if not meta.get("name") else None
        if not generated and not meta.get("name"):
            raise ApiError.invalid(kind, "", [
                Cause("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")])
        for attempt in range(NAME_TRIES):
            named = {**meta, "name": names.generate(generated)} if generated else meta
            try:
                made = await self.store.writer.write(
                    admission.create(kind, {**obj, "metadata": named}, _dry_run(request))
                )
                break
            except ApiError as error:
                if error.reason != "AlreadyExists" or not generated or attempt == NAME_TRIES - 1:
                    raise
        await request.object(201, made)

    async def _check_beside(self, kind: Kind, obj: Object) -> None:
        """What must lie beside the rows: a workflow's files; and a declared job must not have run already."""
        if kind.kind == "Workflow":
            await beside.check_files(self.store.pool, obj)
        declared = dig(obj, "metadata", "annotations", admission.DECLARED) if kind.kind == "Job" else None
        meta = obj["metadata"]
        if declared and await beside.was_declared(self.store.pool, meta["namespace"], meta.get("name", ""), declared):
            if await reads.get(self.store.pool, kind, meta["namespace"], meta["name"]) is None:
                raise ApiError(409, "AlreadyDeclared", f'job "{meta["name"]}" was declared with this content before and '
                                                       "has run; give it another name to run it again")

    async def replace(self, request: Request, target: Target) -> None:
        obj = await read_object(request)
        _check_place(target, obj)
        obj, request.warnings = rules.admit(target.kind, obj, _mode(request))
        if obj["metadata"].get("name") != target.name:
            raise ApiError.bad_request(
                f"the name of the object ({obj['metadata'].get('name')}) does not match the name on the URL "
                f"({target.name})"
            )
        if not obj["metadata"].get("resourceVersion"):
            raise ApiError.invalid(target.kind, target.name or "", [
                Cause("metadata.resourceVersion", "FieldValueInvalid",
                      "Invalid value: 0: must be specified for an update")])
        if target.subresource is None:
            await self._check_beside(target.kind, obj)
        await self._change(request, target, lambda current, context: obj)

    async def patch(self, request: Request, target: Target) -> None:
        apply = _patch(request.header(b"content-type"), await request.body())
        mode = _mode(request)

        def change(current: Object, context: Context) -> Object:
            patched = apply(current)
            if patched == current:
                return current
            _check_place(target, patched)
            new, warnings = rules.admit(target.kind, patched, mode)
            request.warnings = warnings
            _check_own(request, current, new)
            return new

        if target.kind.kind == "Workflow" and target.subresource is None:
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
            status=target.subresource == "status", dry_run=_dry_run(request),
        )
        await request.object(200, await self.store.writer.write(operation))

    async def delete(self, request: Request, target: Target) -> None:
        options = _delete_options(await request.body())
        kind, name = target.kind, target.name or ""
        wanted = options.get("preconditions") or {}
        dry = _dry_run(request) or options.get("dryRun") == ["All"]
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
        _delete_options(await request.body())
        page = await reads.read(self.store.pool, query)
        objects = orjson.loads(b"[" + b",".join(page.chunks) + b"]")
        operations = [
            admission.remove(target.kind, obj["metadata"].get("namespace") or "", obj["metadata"]["name"],
                             uid=obj["metadata"]["uid"], dry_run=_dry_run(request))
            for obj in objects
        ]
        await self._all(operations)
        await request.object(200, {
            "kind": f"{target.kind.kind}List", "apiVersion": target.kind.api_version,
            "metadata": {"resourceVersion": str(page.rv)}, "items": objects,
        })

    async def _all(self, operations: list[Operation]) -> None:
        """Runs operations; those whose object is gone or new by now are no error."""
        done = await asyncio.gather(*map(self.store.writer.submit, operations), return_exceptions=True)
        for outcome in done:
            if isinstance(outcome, BaseException) and getattr(outcome, "status", 0) not in (404, 409):
                raise outcome


async def _stream(request: Request, watcher: Watcher, timeout: float) -> None:
    """Sends what the watcher has until it ends or the client goes away."""
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache, private")]
    await request.send({"type": "http.response.start", "status": 200, "headers": headers})
    await request.send({"type": "http.response.body", "body": b"", "more_body": True})
    loop = asyncio.get_running_loop()
    timer = loop.call_later(timeout, watcher.end)
    gone = asyncio.create_task(_until_gone(request, watcher))
    try:
        while True:
            if watcher.pending:
                await request.send({"type": "http.response.body", "body": watcher.take(), "more_body": True})
            elif watcher.ended:
                break
            else:
                await watcher.wake.wait()
                if not watcher.pending:
                    watcher.wake.clear()
        await request.send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        timer.cancel()
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gone


async def _until_gone(request: Request, watcher: Watcher) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    watcher.pending.clear()
    watcher.end()


def list_query(request: Request, target: Target) -> tuple[reads.Query, int]:
    """The store's query of a list request, and the first page's resourceVersion when it continues one."""
    given = request.query
    labels = LabelSelector.parse(given["labelSelector"]) if given.get("labelSelector") else None
    fields = FieldSelector.parse(given["fieldSelector"], target.kind.selectable) if given.get("fieldSelector") else None
    limit = given.get("limit") or "0"
    if not limit.isascii() or not limit.isdigit():
        raise ApiError.bad_request(f'limit: Invalid value: "{limit[:40]}": must be a whole number')
    first_rv, after = reads.decode_continue(given["continue"]) if given.get("continue") else (0, None)
    if target.name is not None:
        fields = FieldSelector.parse(f"metadata.name={target.name}", target.kind.selectable)
    return reads.Query(target.kind, target.namespace, labels, fields, min(int(limit), MAX_LIMIT), after), first_rv


async def read_object(request: Request) -> Any:
    """The body as an object; JSON, or YAML when it says so. Raises ApiError 400, 413, 415."""
    body = await request.body()
    content_type = request.header(b"content-type").split(";")[0].strip().lower()
    if content_type in ("application/yaml", "application/x-yaml", "text/yaml"):
        return _yaml(body)
    if content_type not in ("", "application/json", "text/json"):
        raise ApiError(415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media "
                                                    "types include: application/json, application/yaml")
    return parse_json(body)


def parse_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError.bad_request(f"the body is not JSON: {error}") from error


def _yaml(body: bytes) -> Any:
    """YAML as JSON would say it: aliases are refused, since a few bytes of them can mean gigabytes."""
    try:
        text = body.decode()
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken):
                raise ApiError.bad_request("the body is YAML with aliases (*name): write it without")
        return orjson.loads(orjson.dumps(yaml.load(text, Loader=_JsonLoader)))
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError, RecursionError) as error:
        raise ApiError.bad_request(f"the body is not YAML: {' '.join(str(error).split())[:200]}") from error


class _JsonLoader(yaml.SafeLoader):
    """YAML without timestamps: a date stays the text that was written."""


_JsonLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _patch(content_type: str, body: bytes) -> Callable[[Object], Object]:
    kind = content_type.split(";")[0].strip().lower()
    if kind not in ("application/merge-patch+json", "application/json-patch+json"):
        raise ApiError(415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media "
                       "types include: application/json-patch+json, application/merge-patch+json")
    patch = parse_json(body)
    rules.check_storable(patch)
    if kind == "application/json-patch+json":
        return lambda current: cast(Object, patches.json_patch(current, patch))
    if not isinstance(patch, dict):
        raise ApiError.bad_request("a merge patch must be a JSON object")
    return lambda current: cast(Object, patches.merge_patch(current, patch))


def _check_place(target: Target, obj: Any) -> None:
    """The namespace in the body must be the one in the path; a missing one is filled in."""
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict) or not target.kind.namespaced:
        return
    said = obj["metadata"].setdefault("namespace", target.namespace)
    if said != target.namespace:
        raise ApiError.bad_request("the namespace of the provided object does not match the namespace sent on the request")


def _check_own(request: Request, old: Object | None, new: Object) -> None:
    """A robot's key writes its own Robot, and not what people decide about it."""
    who = request.identity
    if who.role == "robot" and not robot_may_write(who, old, new):
        raise ApiError(403, "Forbidden", f'the key of robot "{who.robot_name}" can write only that robot, and not '
                                         f"{', '.join(sorted(PEOPLE_DECIDE))}")


def _mode(request: Request) -> rules.FieldValidation:
    said = request.query.get("fieldValidation") or "Warn"
    if said not in ("Strict", "Warn", "Ignore"):
        raise ApiError(422, "Invalid", f'fieldValidation: Unsupported value: "{said[:40]}": supported values: '
                                       '"Ignore", "Strict", "Warn"')
    return cast(rules.FieldValidation, said)


def _dry_run(request: Request) -> bool:
    said = request.query.get("dryRun")
    if said not in (None, "All"):
        raise ApiError(422, "Invalid", f'dryRun: Unsupported value: "{said[:40]}": supported values: "All"')
    return said == "All"


def _delete_options(body: bytes) -> Object:
    options = parse_json(body) if body else {}
    if not isinstance(options, dict) or not isinstance(options.get("preconditions") or {}, dict):
        raise ApiError.bad_request("the body of a DELETE must be DeleteOptions")
    return options


def _revision(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ApiError.bad_request(f'resourceVersion: Invalid value: "{text[:40]}": must be a whole number')
    return int(text)


def _timeout(request: Request) -> float:
    """How long a watch stays open: what was asked for, at most an hour."""
    text = request.query.get("timeoutSeconds") or "3600"
    if not (text.isascii() and text.isdigit()):
        raise ApiError.bad_request(f'timeoutSeconds: Invalid value: "{text[:40]}": must be a whole number')
    return min(float(text), 3600.0)
