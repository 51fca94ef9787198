"""Which access is bound to whom, right now? The policy of this process, fed by the change log.

A request asks it as it was worked out last and waits for nothing. Where it would be refused, and before anything is
written that gives access away, the log is caught up with first: what was answered to anybody before counts. Whatever
changes here ends the watches that live by what was taken away. It is as fresh as the keys are: see `auth.Keys`, which
lets nobody in but the server's admin when the log can't be read.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import orjson
import structlog

from casare_api.decisions import policy, roles
from casare_api.decisions.access import Attempted, Identity, allowed
from casare_api.decisions.policy import NOTHING_BOUND, Policy
from casare_api.decisions.rules import Rules
from casare_api.kinds import Object
from casare_api.kinds.rbac import CLUSTERROLE
from casare_api.machinery.errors import ApiError
from casare_apiserver.watch import Hub
from casare_store import admission, reads
from casare_store.changes import Change
from casare_store.operations import Context, Operation
from casare_store.store import Store

QUICK = 2000  # of `policy.is_light`: what weighs more is not worked out on the event loop; it takes 10 ms or longer
AT_ONCE = 100  # watches that are looked at before others get their turn
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Policies:
    """`current` is what is bound now."""

    store: Store
    hub: Hub
    _objects: dict[str, Object] = field(default_factory=dict)  # roles and bindings by uid
    _compiled: dict[tuple[str, str], Rules] = field(default_factory=dict)
    _policy: Policy = NOTHING_BOUND
    _is_due: bool = False
    _working: asyncio.Task[None] | None = None
    _early: list[Change] | None = None  # changes that came while all were being read
    _looking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))

    async def start(self) -> None:
        """Writes down the built-in roles, reads all that is bound, and follows the log from there."""
        for kind in policy.KINDS:
            self.hub.listen(kind, self._see)
        self.hub.begin_anew.append(self._read_all)
        await self._write_built_in()
        await self._read_all()

    @property
    def current(self) -> Policy:
        """As it was worked out last: some milliseconds ago where something changed just now."""
        return self._policy

    def may(self, who: Identity, what: Attempted) -> bool:
        """Whether the caller may do it as far as this process has heard."""
        return allowed(who, what, self.current)

    async def may_after_all(self, who: Identity, what: Attempted) -> bool:
        """Whether a caller who was refused may do it by what was bound just now. Raises ApiError 503."""
        if not who.subjects:
            return False
        await self.catch_up()
        return self.may(who, what)

    async def catch_up(self) -> None:
        """Waits until all that was answered to anybody before is known here. Raises ApiError 503."""
        async with self._looking:
            head = await self.store.head()
            if head.rv > self.hub.rv:
                try:
                    await self.hub.reached(head.rv)
                except TimeoutError:
                    raise ApiError.unavailable("the server is behind its change log: try again in a moment") from None
        if self._working is not None and not self._working.done():
            await asyncio.shield(self._working)

    async def _write_built_in(self) -> None:
        """The built-in roles as this release has them, for people to read: decisions never look at these."""
        for role in roles.built_in():
            await self.store.writer.write(_as_it_is(role))

    async def _read_all(self) -> None:
        self._early = []
        found: dict[str, Object] = {}
        since: dict[str, int] = {}
        for kind in policy.KINDS:
            page = await reads.read(self.store.pool, reads.Query(kind))
            since[kind.kind] = page.rv
            for obj in orjson.loads(b"[" + b",".join(page.chunks) + b"]"):
                found[obj["metadata"]["uid"]] = obj
        self._objects = found
        early, self._early = self._early, None
        for change in early:
            if change.rv > since[change.kind]:
                self._learn(change)
        self._changed()
        if self._working is not None:
            await asyncio.shield(self._working)

    def _see(self, change: Change) -> None:
        if self._early is not None:
            self._early.append(change)
        else:
            self._learn(change)
            self._changed()

    def _learn(self, change: Change) -> None:
        if change.type == "DELETED":
            self._objects.pop(change.uid, None)
        else:
            self._objects[change.uid] = orjson.loads(change.object)

    def _changed(self) -> None:
        """Changes come in batches: what they come to is worked out once, and again for what came meanwhile."""
        self._is_due = True
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work_out(), name="policy")

    async def _work_out(self) -> None:
        while self._is_due:
            self._is_due = False
            objects = list(self._objects.values())
            try:
                is_quick = policy.is_light(objects, QUICK)
                self._policy = self._made_of(objects) if is_quick else await asyncio.to_thread(self._made_of, objects)
            except Exception:
                log.exception("what is bound can't be worked out: until it can, nobody has anything of it")
                self._policy = NOTHING_BOUND
            await self._end_unwelcome()

    def _made_of(self, objects: list[Object]) -> Policy:
        alive = {(obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]) for obj in objects}
        self._compiled = {key: rules for key, rules in self._compiled.items() if key in alive}
        made = Policy.of(objects, self._compiled)
        for (kind, name), where in made.left_out - self._policy.left_out:
            log.warning("more rules are bound than count: the newest bindings give nothing", most=policy.MOST_HELD,
                        subject=f"{kind} {name}", namespace=where)  # fmt: skip
        return made

    async def _end_unwelcome(self) -> None:
        """Ends the watches that live by what is not bound any more; others are served between some of them."""
        for number, watcher in enumerate([*self.hub.watchers()], 1):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            if not watcher.is_welcome():
                watcher.drop()
                watcher.end()


def _as_it_is(role: Object) -> Operation:
    """Makes a built-in role what this release says; nothing where it says so."""

    def mutate(current: Object | None, context: Context) -> Object:
        if current is None:
            return role
        said = role["metadata"]["annotations"]
        annotations = {**(current["metadata"].get("annotations") or {}), **said}
        meta = {**current["metadata"], "annotations": annotations}
        is_same = current.get("rules") == role["rules"] and annotations == current["metadata"].get("annotations")
        return current if is_same else {**current, "metadata": meta, "rules": role["rules"]}

    return Operation(CLUSTERROLE, "", role["metadata"]["name"], mutate, (), False, admission.MAX_OBJECT)
