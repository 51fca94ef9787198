"""How does a computer become a robot by a join token? `POST /apis/fleet.casare.net/v1/enroll`, the token as Bearer.

One transaction counts the use, makes the Robot and makes its own key: all of it or nothing. What is decided there is
`casare_api.decisions.enrolment`. Here no other key is needed, so nothing is done for whoever shows no token: its hash
is looked up before the body is read, a few at a time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from pydantic import ValidationError

from casare_api.decisions import approval, enrolment
from casare_api.decisions.access import Identity
from casare_api.decisions.enrolment import Applicant
from casare_api.kinds import GROUP, KINDS, Object
from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.jointoken import JOINTOKEN, TokenPhase
from casare_api.kinds.robot import ROBOT
from casare_api.machinery import admission as rules
from casare_api.machinery import names, times
from casare_api.machinery.credentials import JOIN_TOKEN, digest, hint, new
from casare_api.machinery.errors import ApiError
from casare_api.machinery.openapi_bodies import Enrolment
from casare_apiserver.auth import presented
from casare_apiserver.bodies import parse_json
from casare_apiserver.targets import Target
from casare_apiserver.wire import Request
from casare_store import admission, joining, objects, operations, settling
from casare_store.batch import Batch, OutcomeUnknown
from casare_store.events import Recorder
from casare_store.joining import Place
from casare_store.known import Key
from casare_store.operations import Context
from casare_store.store import Store

SOMEBODY = Identity("system:join-token", "anonymous")  # who shows a join token, in the audit log
PATH = f"/apis/{GROUP}/v1/enroll"
LONGEST_TOKEN = 200  # characters
MAX_BODY = 64 * 1024  # bytes
AT_ONCE = 4  # requests that the database is asked for


@dataclass(frozen=True, slots=True)
class _Wish:
    """An applicant, what its agent says of itself, and what it showed."""

    asked: Applicant
    agent: Object | None
    token_hash: str
    token: Place
    key: Place | None  # of the ApiKey that has the hash it named

    @property
    def keys(self) -> dict[str, Key]:
        """What must be looked at under the history lock."""
        namespace, name = self.token
        found: dict[str, Key] = {
            "namespace": (KINDS["Namespace"].kind, "", namespace),
            "token": (JOINTOKEN.kind, namespace, name),
            "robot": (ROBOT.kind, namespace, self.asked.name),
            "named": (APIKEY.kind, namespace, self.asked.name),
        }
        return found | ({"key": (APIKEY.kind, *self.key)} if self.key is not None else {})


@dataclass(frozen=True, slots=True)
class Enrolling:
    """The handlers."""

    store: Store
    events: Recorder
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def enrol(self, request: Request) -> None:
        """201 with the robot and its key, 200 for one that asks again. Raises ApiError 401, 403, 405, 409, 422."""
        if request.method != "POST":
            raise ApiError(405, "MethodNotAllowed", f"robots join by POST {PATH}")
        token = presented(request.scope)
        if not token.startswith(JOIN_TOKEN) or len(token) > LONGEST_TOKEN:
            raise enrolment.unknown()
        async with self._turns:
            await self._known(digest(token))  # nobody else's body is read
        asked, agent = _applicant(parse_json(await request.body(MAX_BODY)))
        async with self._turns:
            places = await joining.find(self.store.pool, digest(token), asked.key_hash)
            if places is None:
                raise enrolment.unknown()
            status, answer = await self._join(_Wish(asked, agent, digest(token), *places))
        await request.object(status, answer)

    async def _known(self, hashed: str) -> None:
        if await joining.find(self.store.pool, hashed, None) is None:
            raise enrolment.unknown()

    async def _join(self, wish: _Wish) -> tuple[int, Object]:
        try:
            return await self._write(wish)
        except psycopg.errors.UniqueViolation as error:
            if error.diag.constraint_name == "apikeys_hash":
                raise enrolment.shared() from None
            raise enrolment.taken(wish.asked.name) from None  # its robotId is another Robot's
        except OutcomeUnknown:
            raise ApiError.unavailable("the server can't tell whether this was written: try again") from None

    async def _write(self, wish: _Wish) -> tuple[int, Object]:
        async with self.store.batch(wish.keys.values()) as batch:
            there = {part: batch.known.get(key) for part, key in wish.keys.items()}
            token, robot = there["token"], there["robot"]
            if token is None:
                raise enrolment.unknown()
            own = there.get("key"), there["named"]  # the second: of a try that was written after this one had looked
            if enrolment.is_repeated(wish.asked, robot, own, token) and robot is not None:
                return 200, _answer(robot, None)
            enrolment.check(token, wish.token_hash, wish.asked.name, batch.now)
            if robot is not None:
                raise enrolment.taken(wish.asked.name)
            others = await joining.keys_of(batch, wish.token[0], wish.asked.name)
            if wish.asked.key_hash is not None and await joining.is_previous(batch, wish.asked.key_hash):
                raise enrolment.shared()
            made, key = _stage(batch, wish, token, is_named=there["named"] is None)
            enrolment.check_alone(made, others, batch.now)
            await batch.commit()
        self.events.tell(made, "Enrolled", f"it joined by the join token {token['metadata']['name']}")
        return 201, _answer(made, key)

    async def token(self, request: Request, target: Target) -> None:
        """Makes the secret of a JoinToken and shows it this once. Raises ApiError 409 when it has one already."""
        token = new(JOIN_TOKEN)

        def change(current: Object, context: Context) -> Object:
            if current["spec"].get("hash"):
                raise ApiError(409, "Conflict", f'jointoken "{target.name}" has a token already, which nobody can see '
                                                "again: make another JoinToken, and delete this one")
            settled = enrolment.settled(current, _made(current), context.now)
            if settled["status"]["phase"] != TokenPhase.ACTIVE:
                why = f'jointoken "{target.name}" is {settled["status"]["phase"]}: make another one'
                raise ApiError(409, "Conflict", why)
            status = {**settled["status"], "hint": hint(token)}
            return {**settled, "spec": {**current["spec"], "hash": digest(token)}, "status": status}

        meta = {"namespace": target.namespace, "name": target.name}
        if await self.store.writer.write(admission.system(JOINTOKEN, {"metadata": meta}, change)) is None:
            raise ApiError.not_found(JOINTOKEN, target.name or "")
        await request.object(201, {"kind": "KeyToken", "apiVersion": JOINTOKEN.api_version, "key": token})


def _stage(batch: Batch, wish: _Wish, token: Object, is_named: bool) -> tuple[Object, str | None]:
    """Robot, key and the token's use in one batch; the robot, and its key where the server made it."""
    key = new() if wish.asked.key_hash is None else None
    context = Context(batch.now, batch.known, batch.also)
    robot, _ = rules.admit(ROBOT, enrolment.robot_of(token, wish.asked))
    robot = settling.settle(ROBOT, None, robot, context)
    if wish.agent is not None:
        robot = {**robot, "status": {**(robot.get("status") or {}), "agent": wish.agent}}
    robot = objects.born(ROBOT, robot, batch.now)
    name = wish.asked.name if is_named else names.generate(f"{wish.asked.name}-")
    said, _ = rules.admit(APIKEY, enrolment.key_of(robot, wish.asked.key_hash or digest(key or ""), name))
    create = admission.create(APIKEY, said)
    bound = replace(create, mutate=lambda old, context: enrolment.bound(create.mutate(old, context) or {}, robot))
    operations.apply(batch, bound, context)
    batch.stage(ROBOT, None, robot)
    batch.stage(JOINTOKEN, token, objects.changed(JOINTOKEN, token, enrolment.spent(token, robot, batch.now)))
    return robot, key


def _made(token: Object) -> Any:
    return times.from_text(token["metadata"]["creationTimestamp"])


def _answer(robot: Object, key: str | None) -> Object:
    meta = robot["metadata"]
    answer = {
        "kind": "EnrolmentAnswer", "apiVersion": ROBOT.api_version, "robotName": meta["name"],
        "namespace": meta["namespace"], "robotUID": meta["uid"], "approved": approval.is_approved(robot),
    }  # fmt: skip
    return answer if key is None else {**answer, "key": key}


def _applicant(said: Any) -> tuple[Applicant, Object | None]:
    """Raises ApiError 422 with the first field that is wrong."""
    rules.check_storable(said)
    try:
        body = Enrolment.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ApiError(422, "Invalid", f"the enrolment is wrong at {path or 'its top'}: {first['msg']}") from None
    asked = Applicant(
        body.robot_id, body.display_name, body.environment, tuple(body.capabilities or ()), tuple(body.tags or ()),
        body.slots, body.key_hash,
    )  # fmt: skip
    return asked, body.agent
