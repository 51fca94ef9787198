"""Which robots are there? All of them as the log tells, so that no report asks the database whose it is.

A fleet that comes back to a server that has just started makes a thousand reports in a few seconds; each of them would
wait for one of a few connections before its heartbeat counted. They are kept as texts, a tenth of what they are parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from casare_api.decisions.granting import may_key
from casare_api.kinds import Object
from casare_api.kinds.robot import ROBOT
from casare_api.machinery.errors import ApiError
from casare_apiserver.watch import Hub
from casare_apiserver.wire import Request
from casare_store import columns, reads
from casare_store.changes import Change
from casare_store.store import Store

RobotOf = Callable[[str, str], Object | None]  # by namespace and name, as far as it is known here


@dataclass(slots=True)
class Robots:
    """The Robots by namespace and name, as of a moment ago."""

    store: Store
    hub: Hub
    _known: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)  # revision and text
    _early: list[Change] | None = None  # changes that came while all robots were being read

    async def start(self) -> None:
        """Reads all robots, and follows the log from there."""
        self.hub.listen(ROBOT, self._see)
        self.hub.begin_anew.append(self._read_all)
        await self._read_all()

    async def get(self, namespace: str, name: str) -> Object:
        """The Robot. One that the log has not told of yet is looked for in the store. Raises ApiError 404."""
        known = self._known.get((namespace, name))
        text = known[1] if known is not None else await reads.get(self.store.pool, ROBOT, namespace, name)
        if text is None:
            raise ApiError.not_found(ROBOT, name)
        robot: Object = orjson.loads(text)
        return robot

    def known(self, namespace: str, name: str) -> Object | None:
        """The Robot as the log has told of it."""
        found = self._known.get((namespace, name))
        return orjson.loads(found[1]) if found is not None else None

    def keep(self, robot: Object) -> None:
        """Knows what was just written before the log tells of it; one that is not known here may be deleted by now."""
        if _key(robot) in self._known:
            self._take(_key(robot), _revision(robot), columns.fitted(columns.dump(robot)))

    async def _read_all(self) -> None:
        self._early = []
        self._known.clear()
        page = await reads.read(self.store.pool, reads.Query(ROBOT))
        for chunk in page.chunks:
            for robot in orjson.loads(b"[" + chunk + b"]"):
                self._take(_key(robot), _revision(robot), columns.fitted(columns.dump(robot)))
        early, self._early = self._early, None
        for change in early or ():
            if change.rv > page.rv:
                self._see(change)

    def _see(self, change: Change) -> None:
        if self._early is not None:
            self._early.append(change)
        elif change.type == "DELETED":
            self._known.pop((change.namespace, change.name), None)
        else:
            self._take((change.namespace, change.name), change.rv, change.object)

    def _take(self, key: tuple[str, str], rv: int, text: bytes) -> None:
        if rv >= self._known.get(key, (0, ""))[0]:
            self._known[key] = rv, text


def _key(robot: Object) -> tuple[str, str]:
    return robot["metadata"]["namespace"], robot["metadata"]["name"]


def _revision(robot: Object) -> int:
    return int(robot["metadata"]["resourceVersion"])


def check_key(request: Request, old: Object | None, key: Object, robot_of: RobotOf) -> None:
    """Nobody gets the key of a Robot that serves namespaces where he may make none. Raises ApiError 403."""
    who, robot = request.identity, robot_of(key["metadata"]["namespace"], key["spec"].get("robotName") or "")
    if not may_key(who, old, key, robot, request.policy):
        why = f'can\'t have keys of robot "{key["spec"]["robotName"]}": its spec.serves names namespaces'
        raise ApiError(403, "Forbidden", f'"{who.name}" {why} where they can make no robots')
