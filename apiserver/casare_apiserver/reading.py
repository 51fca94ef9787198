"""How are resources read: get, list and watch, the same for every kind?

What the store has is sent as it is wherever that is what was asked for; a view reshapes it for all others.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from casare_api.kinds import Kind, Object
from casare_api.machinery.errors import ApiError
from casare_apiserver import options, wire
from casare_apiserver.budget import Budget
from casare_apiserver.presenting import View
from casare_apiserver.streaming import Stream
from casare_apiserver.targets import Target, list_query
from casare_apiserver.watch import Hub, Watcher
from casare_apiserver.wire import Request
from casare_store import reads, sealing
from casare_store.store import Store

Opened = tuple[list[bytes], int]  # what a watch begins with, and the moment that is true at


@dataclass(frozen=True, slots=True)
class Reading:
    """The handlers; one instance serves all kinds. `opened` opens a sealed object; `budget` is for large answers."""

    store: Store
    hub: Hub
    opened: Callable[[Object], Object]
    budget: Budget

    def _view(self, request: Request, kind: Kind) -> View:
        return View.of(request, kind, self.opened)

    async def get(self, request: Request, target: Target) -> None:
        assert target.name is not None
        view = self._view(request, target.kind)
        text = await reads.get(self.store.pool, target.kind, target.key_namespace, target.name)
        if text is None:
            raise ApiError.not_found(target.kind, target.name)
        with self.budget.share(len(text)) as request.share:
            if view.is_plain:
                await request.answer(200, text + b"\n")
            else:
                await view.one(request, 200, self._readable(view, orjson.loads(text)), is_open=True)

    def _readable(self, view: View, obj: Object) -> Object:
        """An object that was asked for by its name is shown opened, or not at all. Raises ApiError 503, 500."""
        if view.opened is not None:
            obj = view.opened(obj)
            sealing.check_open(self.store.sealer, obj)
        return obj

    async def list(self, request: Request, target: Target) -> None:
        query, token = list_query(request, target)
        view = self._view(request, target.kind)
        if wire.is_set(request.query, "sendInitialEvents"):
            raise options.wrong("ListOptions", "sendInitialEvents", "Forbidden: is forbidden for list")
        page = await reads.read(self.store.pool, query, options.list_moment(request.query, token))
        options.check_list_version(request.query, page.rv)
        meta: dict[str, Any] = {"resourceVersion": str(page.rv)}
        if page.after is not None:
            meta["continue"] = reads.encode_continue(page.rv, page.after)
            if page.remaining is not None:
                meta["remainingItemCount"] = page.remaining
        with self.budget.share(sum(map(len, page.chunks))) as request.share:
            await view.all(request, page.chunks, meta)

    async def watch(self, request: Request, target: Target) -> None:
        """Streams events until the client goes, the time is up, or the watch is cut off."""
        query = dataclasses.replace(list_query(request, target)[0], limit=0, after=None)  # a watch has no pages
        view, wanted = self._view(request, target.kind), options.initial_events(request.query)
        rv = options.whole_number(request.query, "resourceVersion")
        timeout = min(options.timeout(request), request.lifetime)
        watcher = Watcher(
            query.kind, query.namespace, query.labels, query.fields, 0 if wanted else rv,
            wire.is_set(request.query, "allowWatchBookmarks"), request.is_welcome,
        )
        request.end = watcher.cut
        try:
            first, at = await (self._open(watcher, query) if wanted is not False or rv else self._from_now(watcher))
            if wanted and rv > at:
                raise ApiError.future_version(rv, at)
            if not request.is_welcome():  # the key went bad before the watch could be ended with it
                raise ApiError.unauthorized()
            with self.budget.share(sum(map(len, first))) as request.share:
                timer = asyncio.get_running_loop().call_later(timeout, self._time_is_up, watcher)
                try:
                    await Stream(request, watcher, view).run(first, at if wanted else None)
                finally:
                    timer.cancel()
        finally:
            self.hub.remove(watcher)

    def _time_is_up(self, watcher: Watcher) -> None:
        watcher.bookmark(self.hub.rv)
        watcher.end()

    async def _from_now(self, watcher: Watcher) -> Opened:
        """Files a watcher that wants to hear what happens from now on, and nothing of what is there already."""
        watcher.since = (await self.store.head()).rv  # the hub may be behind what its caller has seen
        self.hub.add(watcher)
        return [], watcher.since

    def _resume(self, watcher: Watcher) -> None:
        """Files a watcher from its revision. One that begins too early is told so within the watch, as usual."""
        try:
            self.hub.add(watcher)
        except ApiError as error:
            if error.reason != "Expired":
                raise
            watcher.end(error)

    async def _open(self, watcher: Watcher, query: reads.Query) -> Opened:
        """Files the watcher: from its revision, or (0) behind a list of what there is now, which is returned."""
        if watcher.since:
            if watcher.since > self.hub.rv and watcher.since > (await self.store.head()).rv:
                raise ApiError.expired(f"too large resource version: {watcher.since} ({self.hub.rv})")
            self._resume(watcher)
            return [], watcher.since
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
        return page.chunks, page.rv
