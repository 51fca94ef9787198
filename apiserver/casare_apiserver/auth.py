"""Who is calling? Keys from ApiKey resources, held by their SHA-256, and the admin key; no database trip on the way.

The cache is fed by the change log. A key that it does not know is looked for once more after the cache has caught up
with the log, so that a key works as soon as its creation was answered. A cache that has not heard of the log for some
seconds is not trusted any more: nobody is let in by it, and what was let in does not go on. A key that is revoked, runs
out, is deleted, was replaced or means something else from now on ends what is open under it, and under it alone: an
ApiKey whose key was replaced has two that are good for a while. A key that was made for one robot ends with it,
whatever becomes of its ApiKey.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from casare_api.decisions import keys as rules
from casare_api.decisions.access import ANONYMOUS, Identity
from casare_api.kinds import Object
from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.robot import ROBOT
from casare_api.machinery.credentials import digest
from casare_api.machinery.errors import ApiError, Cause
from casare_apiserver.claims import Claims, Known
from casare_apiserver.cutting import Open
from casare_apiserver.oidc import SignIns, is_token
from casare_apiserver.uses import Uses
from casare_apiserver.watch import Hub
from casare_apiserver.wire import Scope, header
from casare_store import joining, reads
from casare_store.changes import Change
from casare_store.store import Store

ADMIN = Identity("admin", "admin")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
MOST_NOTED = 10_000  # robots that were deleted, and keys of theirs
LOOK_AGAIN = 60.0  # seconds after which a key's expiry is looked at again: clocks are set now and then


@dataclass(slots=True)
class Keys:
    """The keys that are good now. What is `open` under one that stops being good is cut.

    `on_unknown` is called before the log is asked about a key that nobody knows, or a token is verified, and may refuse
    to; then, with True, when nobody knows it still or it is not good.
    """

    store: Store
    hub: Hub
    admin_hash: str
    uses: Uses
    on_unknown: Callable[[Scope, bool], None] = lambda scope, is_bad: None
    open: Open = field(default_factory=Open)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sign_ins: SignIns | None = None  # of those who have no key
    _claims: Claims = field(default_factory=Claims)
    _behind: timedelta = timedelta()  # how far this machine's clock is behind the database's
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)  # by hash: what ends a key at its expiry
    _early: list[Change] | None = None  # changes that came while all keys were being read
    _gone: dict[str, tuple[str, str]] = field(default_factory=dict)  # hash of an old key -> its robot's uid and name
    _deleted: dict[str, None] = field(default_factory=dict)  # uids of deleted robots
    _looking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))

    async def start(self) -> None:
        """Reads all keys, and follows the log from there."""
        self.hub.listen(APIKEY, self._see)
        self.hub.listen(ROBOT, self._see_robot)
        self.hub.begin_anew.append(self._read_all)
        await self._read_all()

    async def _read_all(self) -> None:
        self._behind = await self._measured()
        self._early = []
        page = await reads.read(self.store.pool, reads.Query(APIKEY))
        self._claims.clear()
        for hashed in list(self._timers):
            self._stop_timer(hashed)
        found = orjson.loads(b"[" + b",".join(page.chunks) + b"]")
        for robot in await joining.gone(self.store.pool, {uid for key in found if (uid := rules.robot_of(key))}):
            _note(self._deleted, robot, None)
        for obj in found:
            self._learn(obj)
        early, self._early = self._early, None
        for change in early:
            if change.rv > page.rv:
                self._see(change)
        for hashed in self.open.hashes():
            if self._claims.meant(hashed) is None:
                self.open.cut(hashed)

    async def _measured(self) -> timedelta:
        """How far this machine's clock is behind the database's: from the middle of the quickest round trip."""
        found = []
        for _ in range(3):
            asked, there, answered = self.now(), (await self.store.head()).now, self.now()
            found.append((answered - asked, there - asked - (answered - asked) / 2))
        return min(found)[1]

    async def identify(self, scope: Scope) -> Identity:
        """The caller of a request; somebody nameless where no key was presented. Raises ApiError 401 for a bad one."""
        key = presented(scope)
        if not key:
            return ANONYMOUS
        found = self._find(digest(key))
        if found is None and self.sign_ins is not None and is_token(key):
            return await self._signed_in(self.sign_ins, scope, key)
        if found is None:
            self.on_unknown(scope, False)
            await self._catch_up()
            found = self._find(digest(key))
        if found is None:
            self.on_unknown(scope, True)
            raise self._refusal(digest(key))
        if found.key_uid is not None:
            self.uses.note(found.key_uid, scope)
        return found

    async def _signed_in(self, sign_ins: SignIns, scope: Scope, token: str) -> Identity:
        """The holder of a token; one that was not verified before waits where others were not good."""
        known = sign_ins.known(digest(token))
        if known is not None:
            return known
        self.on_unknown(scope, False)
        try:
            return await sign_ins.identify(token, digest(token))
        except ApiError as refused:
            if refused.status == 401:
                self.on_unknown(scope, True)
            raise

    def holds(self, identity: Identity) -> bool:
        """Whether what was identified is still good: for answers that go on for long.

        What is bound to whom is known from the log, too: without it nothing goes on but the admin key's.
        """
        if identity.is_of_all:
            return True
        if identity.key_hash is None:
            return self.hub.is_fresh() and (identity.expires is None or identity.expires > self.clock())
        known = self._claims.meant(identity.key_hash)
        is_same = known is not None and known.identity == identity and not self._is_over(known)
        return is_same and self.hub.is_fresh()

    def due(self, identity: Identity) -> str | None:
        """The name of a robot's own key, where the robot should rotate it now."""
        known = self._claims.meant(identity.key_hash or "")
        is_due = known is not None and known.due is not None and known.due <= self.now() + self._behind
        return identity.key_name if is_due and identity.role == "robot" else None

    def _find(self, hashed: str) -> Identity | None:
        if hmac.compare_digest(hashed, self.admin_hash):
            return ADMIN
        if not self.hub.is_fresh():
            raise ApiError.unavailable("the server has lost its change log: try again in a moment")
        known = self._claims.meant(hashed)
        return None if known is None or self._is_over(known) else known.identity

    def _is_over(self, known: Known) -> bool:
        return known.expires is not None and known.expires <= self.clock()

    def clock(self) -> datetime:
        """What the database's clock says."""
        return self.now() + self._behind

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
            self._keep(change.uid, {})
            self._remember(orjson.loads(change.object))
        else:
            self._learn(orjson.loads(change.object))

    def _learn(self, key: Object) -> None:
        spec, meta = key["spec"], key["metadata"]
        uid, robot_uid = meta["uid"], rules.robot_of(key)
        if robot_uid in self._deleted:
            self._remember(key)
            self._keep(uid, {})
            return
        identity = Identity(
            meta["name"], spec["role"], meta["namespace"], spec.get("robotName"), uid, robot_uid=robot_uid,
            key_name=meta["name"],
        )  # fmt: skip
        found = {
            one.hash: Known(replace(identity, key_hash=one.hash), one.until, _due(key, one), one.is_previous)
            for one in rules.good(key)
        }
        self._keep(uid, {hashed: known for hashed, known in found.items() if not self._is_over(known)})

    def _keep(self, uid: str, good: dict[str, Known]) -> None:
        """An ApiKey has these keys, by their hash, and no others."""
        for hashed in self._claims.hashes_of(uid) | good.keys():
            self._claim(uid, hashed, good.get(hashed))

    def _claim(self, uid: str, hashed: str, known: Known | None) -> None:
        """What an ApiKey makes of a hash now (None: nothing any more); who is no longer meant by it is cut."""
        before = self._claims.meant(hashed)
        self._claims.put(uid, hashed, known)
        if not self._claims.hashes_of(uid):
            self.uses.forget(uid)
        meant = self._claims.meant(hashed)
        if meant is not None:
            self._start_timer(hashed, meant)
        else:
            self._stop_timer(hashed)
        if before is not None and (meant is None or meant.identity != before.identity):
            self.open.cut(hashed)

    def _see_robot(self, change: Change) -> None:
        """A robot's own keys open nothing once it is gone, and end what is open under them."""
        if change.type != "DELETED":
            return
        _note(self._deleted, change.uid, None)
        for who in [known.identity for known in self._claims.of_robot(change.uid)]:
            if who.key_uid is not None and who.key_hash is not None:
                _note(self._gone, who.key_hash, (change.uid, who.robot_name))
                self._claim(who.key_uid, who.key_hash, None)

    def _remember(self, key: Object) -> None:
        """Notes the key of one robot, which may have gone with it: its agent is told if it comes."""
        robot = rules.robot_of(key)
        if robot is not None:
            for hashed in filter(None, (key["spec"].get("hash"), (key.get("status") or {}).get("previousHash"))):
                _note(self._gone, hashed, (robot, key["spec"].get("robotName")))

    def _refusal(self, hashed: str) -> ApiError:
        """401; for a key that went with its robot it says why: its agent can't tell that from a key that is wrong."""
        robot, name = self._gone.get(hashed, ("", ""))
        if robot not in self._deleted:
            return ApiError.unauthorized()
        why = f'robot "{name}" was deleted, and its key with it'
        return ApiError(401, "Unauthorized", why, {"causes": [Cause("", "RobotDeleted", why).body()]})

    def _start_timer(self, hashed: str, known: Known) -> None:
        """Ends the key when it runs out, whether or not the controller is there to say so."""
        self._stop_timer(hashed)
        if known.expires is not None:
            left = (known.expires - self.now() - self._behind).total_seconds()
            delay = min(max(left, 0.01), LOOK_AGAIN)
            self._timers[hashed] = asyncio.get_running_loop().call_later(delay, self._time_is_up, hashed, known)

    def _stop_timer(self, hashed: str) -> None:
        timer = self._timers.pop(hashed, None)
        if timer is not None:
            timer.cancel()

    def _time_is_up(self, hashed: str, known: Known) -> None:
        if self._is_over(known) and known.identity.key_uid is not None:
            self._claim(known.identity.key_uid, hashed, None)
        else:
            self._start_timer(hashed, known)


def _due(key: Object, secret: rules.Good) -> datetime | None:
    """When a robot that uses this secret should rotate its key; the beginning of time where a newer one got lost."""
    if secret.is_previous:
        return _LONG_AGO if rules.is_due(key, _LONG_AGO, secret.hash) else None
    return rules.due_at(key)


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
