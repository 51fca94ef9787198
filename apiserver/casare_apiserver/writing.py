"""How are resources written: create, replace, patch and delete, the same for every kind?

Handlers turn a request into an operation of the store and its result into an answer; no rule of a kind is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from casare_api.decisions.access import PEOPLE_DECIDE, may_serve, robot_may_write
from casare_api.decisions.granting import check_grant
from casare_api.kinds import Kind, Object, dig
from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.job import JOB
from casare_api.kinds.robot import ROBOT
from casare_api.kinds.workflow import WORKFLOW
from casare_api.machinery import admission as rules
from casare_api.machinery import names, patches
from casare_api.machinery.alike import Alike
from casare_api.machinery.errors import ApiError, Cause
from casare_apiserver import bodies, bulk, facing, options
from casare_apiserver.applying import Applied
from casare_apiserver.budget import Budget
from casare_apiserver.fitting import Fitting
from casare_apiserver.owning import owner
from casare_apiserver.presenting import View
from casare_apiserver.robots import RobotOf, check_key
from casare_apiserver.targets import Target, check_name, check_place, list_query, with_status, without_status
from casare_apiserver.wire import MAX_BODY, Request
from casare_store import admission, beside, objects, reads, settling
from casare_store.operations import Context, Found, Operation
from casare_store.store import Store
from casare_store.writer import MAX_BATCH

NAME_TRIES = 8  # for generated names that are taken
JOB_LETTERS = 10  # of a generated name: 2e14 names, so that one in a million jobs does not meet another


@dataclass(frozen=True, slots=True)
class Writing:
    """The handlers; one instance serves all kinds. `opened` opens a sealed object; `budget` is for large answers."""

    store: Store
    fitting: Fitting
    opened: Callable[[Object], Object]
    budget: Budget
    robot: RobotOf  # as far as is known here, by namespace and name

    def _view(self, request: Request, kind: Kind) -> View:
        return View.of(request, kind, self.opened)

    async def create(self, request: Request, target: Target) -> None:
        kind = target.kind
        body = await bodies.read_object(request, kind, bulk.MAX_BYTES if kind is JOB else MAX_BODY)
        if kind is JOB and bulk.is_bulk(body):
            await request.object(200, await self._create_many(request, target, bulk.items(body)))
            return
        view = self._view(request, kind)
        made = await self._made(request, target, body)
        await view.one(request, 200 if isinstance(made, Found) else 201, made, is_open=True)

    async def tried(self, request: Request, target: Target) -> Object:
        """The job that the body would become; nothing is kept of a request with dryRun. Raises ApiError."""
        body = await bodies.read_object(request, JOB)
        if bulk.is_bulk(body):
            raise ApiError.bad_request(f"one Job can be asked about at a time, not a {bulk.LIST}")
        return await self._made(request, target, body)

    async def _made(self, request: Request, target: Target, body: Any) -> Object:
        obj = self._admitted(request, target, body)
        if target.kind is JOB and (found := await beside.with_keys(self.store.pool, [obj])):
            return next(iter(found.values()))  # as it is, whatever the workflow has come to ask for since
        checked = await self._check_job(obj) if target.kind is JOB else None
        await self._check_beside(target.kind, obj)
        return await self._make(request, target, obj, checked)

    def _admitted(self, request: Request, target: Target, body: Any, alike: Alike | None = None) -> Object:
        """A new object that may be made as far as it alone can tell. Raises ApiError."""
        kind = target.kind
        check_place(target, body)
        said = without_status(kind, body)
        obj, request.warnings = alike.admit(said) if alike else rules.admit(kind, said, options.mode(request))
        _check_reach(request, kind, None, obj, self.robot)
        meta = obj["metadata"]
        if not meta.get("generateName") and not meta.get("name"):
            raise ApiError.invalid(kind, "", [Cause.required("metadata.name", "name or generateName is required")])
        if meta.get("resourceVersion"):
            raise ApiError.bad_request("resourceVersion should not be set on objects to be created")
        return obj

    async def _make(self, request: Request, target: Target, obj: Object, checked: str | None) -> Object:
        """Creates it, under another name where one that was generated is taken. Raises ApiError."""
        own, dry_run = owner(request, target), options.dry_run(request)
        for attempt in range(NAME_TRIES):
            named = _named(obj)
            if named is not obj:  # a key's name may be bound already
                check_grant(request.identity, request.policy, target.kind, None, named)
            operation = admission.create(target.kind, named, dry_run, checked, own)
            try:
                made = await facing.write(self.store.writer, operation)
                assert made is not None
                return made
            except ApiError as error:
                is_last = obj["metadata"].get("name") or attempt == NAME_TRIES - 1
                if error.reason != "AlreadyExists" or is_last:
                    raise
        raise AssertionError("unreachable")

    async def _create_many(self, request: Request, target: Target, items: list[Any]) -> Object:
        """Jobs of a JobList, each with its own answer."""
        own, dry_run = owner(request, target), options.dry_run(request)
        alike = Alike(JOB, options.mode(request))

        async def submit(part: Sequence[Any]) -> bulk.Part:
            admitted = [self._one_of_many(request, target, body, alike) for body in part]
            there = await beside.with_keys(self.store.pool, [one for one in admitted if not isinstance(one, ApiError)])
            looked_at = [await self._of_many_beside(one, there) for one in admitted]
            good = [one for one in looked_at if not isinstance(one, (ApiError, Found))]
            checked = iter(await self.fitting.check_all(good))
            steps = [one if isinstance(one, (ApiError, Found)) else begun(one, next(checked)) for one in looked_at]
            written = self.store.writer.submit([step for step in steps if isinstance(step, Operation)])
            return bulk.Part(part, steps, written)

        def begun(job: Object, checked: str | ApiError | None) -> bulk.Step:
            if isinstance(checked, ApiError):
                return checked
            return admission.create(JOB, _named(job), dry_run, checked, own)

        return await bulk.Submission(submit).run(items)

    def _one_of_many(self, request: Request, target: Target, body: Any, alike: Alike) -> Object | ApiError:
        try:
            return self._admitted(request, target, body, alike)
        except ApiError as error:
            return error

    async def _of_many_beside(self, job: Object | ApiError, there: Mapping[str, Found]) -> Object | ApiError:
        """The job, the one that has its idempotencyKey, or what is wrong with what it needs beside the rows."""
        if isinstance(job, ApiError):
            return job
        if (found := there.get(job["spec"].get("idempotencyKey") or "")) is not None:
            return found
        try:
            await self._check_declared(job)
            await self._check_beside(JOB, job)
        except ApiError as error:
            return error
        return job

    async def _check_job(self, obj: Object) -> str | None:
        await self._check_declared(obj)
        return await self.fitting.check(obj)

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
        obj: Object = await bodies.read_object(request, target.kind)
        check_place(target, obj)
        rules.check_type(target.kind, obj)
        check_name(target, obj)
        named = bool(obj["metadata"].get("resourceVersion"))
        if target.subresource is None:
            obj, request.warnings = rules.admit(target.kind, without_status(target.kind, obj), mode)
            if target.kind is WORKFLOW:
                await self._check_beside(target.kind, obj)

        def change(current: Object, context: Context) -> Object:
            if not named and not _may_overwrite(target.kind):
                raise ApiError.invalid(target.kind, target.name or "", [
                    Cause.invalid("metadata.resourceVersion", 0, "must be specified for an update")])
            if target.subresource is None:
                _check_reach(request, target.kind, current, obj, self.robot)
                return obj
            admitted: Object
            admitted, request.warnings = rules.admit(target.kind, with_status(current, obj), mode)
            return objects.owned_as(obj, admitted) if "managedFields" in obj["metadata"] else admitted

        await self._change(request, target, change)

    async def patch(self, request: Request, target: Target) -> None:
        patch = await bodies.read_patch(request, target.kind)
        if patch.config is not None:
            await self._apply(request, target, patch.config)
            return
        options.force(request, False)
        mode = options.mode(request)

        def change(current: Object, context: Context) -> Object:
            patched = patch.change(current)
            if patches.json_equal(patched, current):
                return current
            check_place(target, patched)
            rules.check_type(target.kind, patched)
            check_name(target, patched, is_patched=True)
            if target.subresource == "status":
                new, request.warnings = rules.admit_status(target.kind, with_status(current, patched), mode)
                return objects.owned_as(patched, new)
            new, request.warnings = rules.admit(target.kind, without_status(target.kind, patched), mode)
            _check_reach(request, target.kind, current, new, self.robot)
            return new

        if target.kind is WORKFLOW and target.subresource is None:
            await self._check_patched_files(target, change)
        await self._change(request, target, change)

    async def _check_patched_files(self, target: Target, change: Callable[[Object, Any], Object]) -> None:
        """A patched workflow must not name files that nobody sent; what it would become is tried on what it is now."""
        text = await reads.get(self.store.pool, target.kind, target.key_namespace, target.name or "")
        if text is not None:
            await beside.check_files(self.store.pool, change(orjson.loads(text), None))

    async def _apply(self, request: Request, target: Target, config: Object) -> None:
        """Server-side apply: 201 where it makes the object, else 200."""
        view, kind = self._view(request, target.kind), target.kind
        wish = Applied.of(request, target, config)
        checked = None
        if kind in (WORKFLOW, JOB) and target.subresource is None:
            checked = await self._check_applied(wish)

        def change(current: Object | None, context: Context) -> Object:
            new = wish.to(current, context)
            if target.subresource is None:
                _check_reach(request, kind, current, new, self.robot)
            return new

        operation = admission.apply(
            kind, wish.config, change, status=target.subresource == "status", dry_run=options.dry_run(request),
            checked=checked,
        )
        made = await facing.write(self.store.writer, operation)
        request.warnings = list(wish.warnings)
        assert made is not None
        await view.one(request, 200 if wish.existed else 201, made, is_open=True)

    async def _check_applied(self, wish: Applied) -> str | None:
        """What takes long is looked at before, on what would come of it now; see `admission.create`."""
        kind, target = wish.target.kind, wish.target
        text = await reads.get(self.store.pool, kind, target.key_namespace, target.name or "")
        current = orjson.loads(text) if text is not None else None
        obj = wish.to(current, None)
        await self._check_beside(kind, obj)
        if kind is not JOB or current is not None:
            return None
        await self._check_declared(obj)
        return await self.fitting.check(obj)

    async def _change(self, request: Request, target: Target, change: Callable[[Object, Context], Object]) -> None:
        view = self._view(request, target.kind)
        operation = admission.update(
            target.kind, target.key_namespace, target.name or "", change,
            status=target.subresource == "status", dry_run=options.dry_run(request), own=owner(request, target),
        )
        made = await facing.write(self.store.writer, operation)
        assert made is not None
        await view.one(request, 200, made, is_open=True)

    async def delete(self, request: Request, target: Target) -> None:
        view, said = self._view(request, target.kind), options.delete_options(request, await request.body())
        kind, name = target.kind, target.name or ""
        wanted = said.get("preconditions") or {}
        operation = admission.remove(
            kind, target.key_namespace, name, uid=wanted.get("uid"), rv=wanted.get("resourceVersion"),
            dry_run=said["dryRun"], propagation=said["propagationPolicy"], at_once=said["gracePeriodSeconds"] == 0,
        )
        held = await facing.write(self.store.writer, operation)
        if held is not None and objects.is_held(held):
            await view.one(request, 200, held, is_open=True)
            return
        details: dict[str, Any] = {"name": name}
        details |= {"group": kind.group} if kind.group else {}
        details |= {"kind": kind.plural}
        details |= {"uid": held["metadata"]["uid"]} if held is not None else {}
        await request.object(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                                   "details": details})

    async def delete_collection(self, request: Request, target: Target) -> None:
        view, (query, _) = self._view(request, target.kind), list_query(request, target)
        said = options.delete_options(request, await request.body())
        page = await reads.read(self.store.pool, query)
        operations = [
            facing.on_stored(admission.remove(
                target.kind, meta.get("namespace") or "", meta["name"], uid=meta["uid"], dry_run=said["dryRun"],
                propagation=said["propagationPolicy"], at_once=said["gracePeriodSeconds"] == 0,
            ))
            for chunk in page.chunks
            for meta in (obj["metadata"] for obj in orjson.loads(b"[" + chunk + b"]"))
        ]
        with self.budget.share(sum(map(len, page.chunks))) as request.share:
            for start in range(0, len(operations), MAX_BATCH):
                await self._all(operations[start:start + MAX_BATCH])
            await view.all(request, page.chunks, {"resourceVersion": str(page.rv)})

    async def _all(self, operations: Sequence[Operation]) -> None:
        """Runs operations; those whose object is gone or new by now are no error."""
        for answer in await self.store.writer.submit(operations):
            if isinstance(answer, ApiError) and answer.status not in (404, 409):
                raise answer


def _named(obj: Object) -> Object:
    """With a name, where it leaves that to the server: jobs come by the million and have longer ones."""
    meta = obj["metadata"]
    if meta.get("name"):
        return obj
    letters = JOB_LETTERS if obj["kind"] == JOB.kind else names.RANDOM_LETTERS
    return {**obj, "metadata": {**meta, "name": names.generate(meta["generateName"], letters=letters)}}


def _may_overwrite(kind: Kind) -> bool:
    """Whether a PUT may leave out which version it replaces: the real server lets it for these kinds."""
    return kind.stored.group == ""


def _check_reach(request: Request, kind: Kind, old: Object | None, new: Object, robot_of: RobotOf) -> None:
    """Nobody gives away more than he holds; a robot's key writes its own Robot and not what people decide about it."""
    who = request.identity
    check_grant(who, request.policy, kind, old, new)
    if kind is APIKEY:
        check_key(request, old, new, robot_of)
    if kind is ROBOT and not may_serve(who, old, new, request.policy):
        raise ApiError(403, "Forbidden", f'"{who.name}" can\'t make robots in all of these namespaces: '
                                         "spec.serves can name no other")
    if who.role == "robot" and not robot_may_write(who, old, new):
        raise ApiError(403, "Forbidden", f'the key of robot "{who.robot_name}" can write only that robot, and not '
                                         f"{', '.join(sorted(PEOPLE_DECIDE))}, nor what its enrolment decided")
