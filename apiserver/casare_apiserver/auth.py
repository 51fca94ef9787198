"""Who is calling? Keys from ApiKey resources, held by their SHA-256, and the admin key; no database trip on the way.

The cache is fed by the change log. A key that it does not know is looked for once more after the cache has caught up
with the log, so that a key works as soon as its creation was answered. A cache that has not heard of the log for some
seconds is not trusted any more. A key that is revoked, runs out, is deleted or means something else from now on ends
what is open under it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from casare_api.decisions.access import ANONYMOUS, Identity
from casare_api.kinds import Object
from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.robot import ROBOT
from casare_api.machinery import times
from casare_api.machinery.errors import ApiError, Cause
from casare_apiserver.watch import Hub
from casare_apiserver.wire import Scope, header
from casare_store import reads
from casare_store.changes import Change
from casare_store.store import Store

ADMIN = Identity("admin", "admin")
MOST_NOTED = 10_000  # robots that were deleted, and keys of theirs
LOOK_AGAIN = 60.0  # seconds after which a key's expiry is looked at again: clocks are set now and then


@dataclass(frozen=True, slots=True)
class _Known:
    identity: Identity
    expires: datetime | None


def digest(key: str) -> str:
    """How a key is kept: `sha256:` and the hex of its SHA-256."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


@dataclass(slots=True)
class Keys:
    """The keys that are good now. `on_cut` is called with the uid of every key that stops being good."""

    store: Store
    hub: Hub
    admin_hash: str
    on_cut: Callable[[str], None]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _by_hash: dict[str, _Known] = field(default_factory=dict)
    _hash_of: dict[str, str] = field(default_factory=dict)  # key's uid -> hash
    _behind: timedelta = timedelta()  # how far this machine's clock is behind the database's
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)  # key's uid -> what ends it at its expiry
    _early: list[Change] | None = None  # changes that came while all keys were being read
    _gone: dict[str, Object] = field(default_factory=dict)  # hash of a deleted key that was one robot's own -> the key
    _deleted: dict[str, None] = field(default_factory=dict)  # uids of deleted robots
    _looking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))

    async def start(self) -> None:
        """Reads all keys, and follows the log from there."""
        self.hub.listen(APIKEY, self._see)
        self.hub.listen(ROBOT, self._see_robot)
        self.hub.begin_anew.append(self._read_all)
        await self._read_all()

    async def _read_all(self) -> None:
        self._behind = (await self.store.head()).now - self.now()
        self._early = []
        page = await reads.read(self.store.pool, reads.Query(APIKEY))
        self._by_hash.clear()
        self._hash_of.clear()
        for uid in list(self._timers):
            self._stop_timer(uid)
        for obj in orjson.loads(b"[" + b",".join(page.chunks) + b"]"):
            self._learn(obj)
        early, self._early = self._early, None
        for change in early:
            if change.rv > page.rv:
                self._see(change)

    async def identify(self, scope: Scope) -> Identity:
        """The caller of a request; somebody nameless where no key was presented. Raises ApiError 401 for a bad one."""
        key = presented(scope)
        if not key:
            return ANONYMOUS
        found = self._find(digest(key))
        if found is None:
            await self._catch_up()
            found = self._find(digest(key))
        if found is None:
            raise self._refusal(digest(key))
        return found

    def holds(self, identity: Identity) -> bool:
        """Whether what was identified is still good: for answers that go on for long."""
        if identity.key_uid is None:
            return True
        known = self._by_hash.get(self._hash_of.get(identity.key_uid, ""))
        return known is not None and known.identity == identity and not self._is_over(known)

    def _find(self, hashed: str) -> Identity | None:
        if hmac.compare_digest(hashed, self.admin_hash):
            return ADMIN
        if not self.hub.is_fresh():
            raise ApiError.unavailable("the server has lost its change log: try again in a moment")
        known = self._by_hash.get(hashed)
        return None if known is None or self._is_over(known) else known.identity

    def _is_over(self, known: _Known) -> bool:
        return known.expires is not None and known.expires <= self.now() + self._behind

    async def _catch_up(self) -> None:
        async with self._looking:
            head = await self.store.head()
            if head.rv > self.hub.rv:
                try:
                    await self.hub.reached(head.rv)
                except TimeoutError:
                    raise ApiError.unavailable("the server is behind its change log: try again in a moment") from None

    def _see(self, change: Change) -> None:
        if self._early is not None:
            self._early.append(change)
        elif change.type == "DELETED":
            self._forget(change.uid)
            self._remember(orjson.loads(change.object))
        else:
            self._learn(orjson.loads(change.object))

    def _learn(self, key: Object) -> None:
        spec, meta = key["spec"], key["metadata"]
        uid, hashed, expires = meta["uid"], spec.get("hash"), spec.get("expiresAt")
        identity = Identity(
            meta["name"], spec["role"], meta["namespace"], spec.get("robotName"), uid, _robot_of(key),
        )
        known = _Known(identity, times.from_text(expires) if expires else None)
        before = self._by_hash.get(self._hash_of.get(uid, ""))
        phase = (key.get("status") or {}).get("phase")
        is_taken_back = spec.get("revoked") or meta.get("deletionTimestamp") or phase in ("Expired", "Revoked")
        is_taken_back = is_taken_back or self._is_over(known)
        is_good = bool(hashed) and not is_taken_back
        if not is_good or self._hash_of.get(uid) != hashed or (before is not None and before.identity != identity):
            self._forget(uid)
        if is_good and self._by_hash.setdefault(hashed, known).identity.key_uid == uid:
            self._by_hash[hashed] = known
            self._hash_of[uid] = hashed
            self._start_timer(uid, known)

    def _see_robot(self, change: Change) -> None:
        if change.type == "DELETED":
            _note(self._deleted, change.uid, None)

    def _remember(self, key: Object) -> None:
        """Notes the key of one robot, which may have gone with it: its agent is told if it comes."""
        if key["spec"].get("hash") and _robot_of(key) is not None:
            _note(self._gone, key["spec"]["hash"], key)

    def _refusal(self, hashed: str) -> ApiError:
        """401; for a key that went with its robot it says why: its agent can't tell that from a key that is wrong."""
        key = self._gone.get(hashed)
        if key is None or _robot_of(key) not in self._deleted:
            return ApiError.unauthorized()
        why = f'robot "{key["spec"].get("robotName")}" was deleted, and its key with it'
        return ApiError(401, "Unauthorized", why, {"causes": [Cause("", "RobotDeleted", why).body()]})

    def _start_timer(self, uid: str, known: _Known) -> None:
        """Ends the key when it runs out, whether or not the controller is there to say so."""
        self._stop_timer(uid)
        if known.expires is not None:
            left = (known.expires - self.now() - self._behind).total_seconds()
            delay = min(max(left, 0.01), LOOK_AGAIN)
            self._timers[uid] = asyncio.get_running_loop().call_later(delay, self._time_is_up, uid, known)

    def _stop_timer(self, uid: str) -> None:
        timer = self._timers.pop(uid, None)
        if timer is not None:
            timer.cancel()

    def _time_is_up(self, uid: str, known: _Known) -> None:
        if self._is_over(known):
            self._forget(uid)
        else:
            self._start_timer(uid, known)

    def _forget(self, uid: str) -> None:
        self._stop_timer(uid)
        hashed = self._hash_of.pop(uid, None)
        if hashed is not None:
            self._by_hash.pop(hashed, None)
            self.on_cut(uid)


def _robot_of(key: Object) -> str | None:
    """The uid of the one robot that the key was made for."""
    owners = key["metadata"].get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner["kind"] == "Robot"), None)


def _note(known: dict[str, Any], key: str, value: Any) -> None:
    """Keeps what was noted last."""
    while len(known) >= MOST_NOTED:
        known.pop(next(iter(known)))
    known[key] = value


def presented(scope: Scope) -> str:
    """The key of a request: a Bearer token, else X-Api-Key; "" where there is none."""
    bearer = header(scope, b"authorization")
    if bearer[:7].lower() == "bearer ":
        return bearer[7:].strip()
    return header(scope, b"x-api-key").strip()
