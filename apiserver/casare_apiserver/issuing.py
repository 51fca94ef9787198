"""How does an ApiKey get its secret, and a new one? Each is shown once, in the answer to the request that made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from casare_api.decisions import keys
from casare_api.decisions.access import Identity
from casare_api.decisions.granting import check_grant
from casare_api.kinds import Object
from casare_api.kinds.apikey import APIKEY
from casare_api.machinery import credentials
from casare_api.machinery.durations import parse_duration
from casare_api.machinery.errors import ApiError
from casare_apiserver.bodies import parse_json
from casare_apiserver.robots import RobotOf, check_key
from casare_apiserver.targets import Target
from casare_apiserver.wire import Request
from casare_store import admission
from casare_store.operations import Context
from casare_store.store import Store

MAX_BODY = 4096  # bytes
Change = Callable[[Object, keys.Fresh, datetime], Object]


@dataclass(frozen=True, slots=True)
class Issuing:
    """The handlers of `apikeys/NAME/token` and `apikeys/NAME/rotate`."""

    store: Store
    robot: RobotOf

    async def token(self, request: Request, target: Target) -> None:
        """Makes the first secret of a key. Raises ApiError 409 when it has one already."""
        await self._show(request, target, keys.issued)

    async def rotate(self, request: Request, target: Target) -> None:
        """Makes another secret; the one before is good until an overlap ends: `{"overlap": "1h"}` in the body.

        A robot does it with its own key and no other, when that is due. Raises ApiError 400, 403, 409.
        """
        overlap = _asked_overlap(await request.body(MAX_BODY))
        who = request.identity
        if who.role != "robot":
            await self._show(request, target, lambda key, fresh, now: keys.rotated(key, fresh, now, overlap))
            return
        if overlap is not None:
            raise ApiError.bad_request("overlap: how long a robot's old key is good is for its ApiKey to say")
        await self._show(request, target, lambda key, fresh, now: _itself(who, key, fresh, now), who)

    async def _show(self, request: Request, target: Target, change: Change, own: Identity | None = None) -> None:
        """Writes the key with a new secret, and shows that. A robot hears the same of all keys but its own."""
        secret = credentials.new()
        fresh = keys.Fresh(credentials.digest(secret), credentials.hint(secret))

        def mutate(current: Object, context: Context) -> Object:
            if own is None:  # who sees a key may use it
                check_grant(request.identity, request.policy, APIKEY, None, current)
                check_key(request, None, current, self.robot)
            return change(current, fresh, context.now)

        meta = {"namespace": target.namespace, "name": target.name}
        written = await self.store.writer.write(admission.system(APIKEY, {"metadata": meta}, mutate))
        if written is None:
            raise ApiError.not_found(APIKEY, target.name or "") if own is None else _not_its_own(own)
        until = written["status"].get("previousUntil")
        answer = {"kind": "KeyToken", "apiVersion": APIKEY.api_version, "key": secret}
        await request.object(201, answer | ({"previousUntil": until} if until else {}))


def _itself(who: Identity, key: Object, fresh: keys.Fresh, now: datetime) -> Object:
    if key["metadata"]["uid"] != who.key_uid or who.key_hash not in [one.hash for one in keys.good(key)]:
        raise _not_its_own(who)
    return keys.rotated_itself(key, fresh, now, who.key_hash)


def _not_its_own(who: Identity) -> ApiError:
    return ApiError(403, "Forbidden", f'apikeys is forbidden: robot "{who.robot_name}" can rotate only its own key')


def _asked_overlap(body: bytes) -> timedelta | None:
    """The overlap of a request's body; None where it says nothing. Raises ApiError 400."""
    said = parse_json(body) if body.strip() else {}
    if not isinstance(said, dict) or said.keys() - {"overlap"}:
        raise ApiError.bad_request('the body of a rotation says nothing, or {"overlap": "24h"}')
    text = said.get("overlap")
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as problem:
        raise ApiError.bad_request(f"overlap: {problem}") from None
