"""What do robots say? Their report (a sign of life and what became of attempts, in one) and their jobs' output.

A report is only believed for the robot whose key sent it, and each transition only for the current attempt of a job on
that robot; the rules are in `casare_api.decisions.lifecycle`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
import structlog
from pydantic import Field, TypeAdapter, ValidationError

from casare_api.decisions import approval, instances, lifecycle, skew
from casare_api.decisions.access import Identity
from casare_api.kinds import Object, dig
from casare_api.kinds.job import JOB
from casare_api.kinds.kind import Model, Timestamp
from casare_api.kinds.robot import ROBOT
from casare_api.machinery.admission import check_storable
from casare_api.machinery.errors import ApiError
from casare_apiserver import auditing, options, wire
from casare_apiserver.bodies import parse_json
from casare_apiserver.robots import Robots
from casare_apiserver.sharing import Shares
from casare_apiserver.targets import Target
from casare_apiserver.watch import Hub
from casare_apiserver.wire import ClientStalled, Request
from casare_store import admission, beside, reads
from casare_store.events import Recorder
from casare_store.heartbeats import Heartbeats
from casare_store.operations import Answer, Context, Operation
from casare_store.store import Store

MAX_REPORT = 3 * 1024 * 1024  # bytes
MAX_SELF = 16 * 1024  # bytes that an agent says about itself, and of progress
MAX_TELEMETRY = 4 * 1024  # bytes, in every list of robots
AT_ONCE = 500  # transitions of a report that wait to be written
MAX_OF_ONE = 8  # transitions of one job in a report
MAX_OUTPUTS = 256 * 1024  # bytes
LOG_POLL = 0.3  # seconds between looks at a job's log that is followed
MAX_INT4 = 2**31 - 1
log = structlog.get_logger(__name__)


class Transition(Model):
    """What became of one attempt."""

    namespace: str
    name: str
    uid: str
    attempt: int
    phase: str
    reason: Annotated[str, Field(max_length=100)] | None = None
    started_time: Timestamp | None = None
    finished_time: Timestamp | None = None
    exit_code: int | None = None
    message: Annotated[str, Field(max_length=8192)] | None = None
    outputs: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None


class Report(Model):
    """A report; its transitions are looked at one by one, so that one bad one does not hold up the others."""

    agent: dict[str, Any] | None = None
    telemetry: dict[str, Any] | None = None
    leaving: bool = False
    jobs: list[dict[str, Any]] = Field(default_factory=list, max_length=10_000)


_REPORT = TypeAdapter(Report)
_TRANSITION = TypeAdapter(Transition)


# What most transitions have, and of what type: one that has nothing else needs no closer look.
_PLAIN = {"namespace": str, "name": str, "uid": str, "attempt": int, "phase": str, "exitCode": int}
_NEEDED = frozenset(("namespace", "name", "uid", "attempt", "phase"))
Moved = dict[int, tuple[Object, Object]]  # by the number of a transition: the job before and after it


def _is_plain(said: Object) -> bool:
    return said.keys() >= _NEEDED and all(_PLAIN.get(key) is value.__class__ for key, value in said.items())


def _operation(robot_uid: str, said: Object, number: int, moved: Moved) -> Operation:
    """Records one transition; it fails with ApiError 404, 409, 422."""
    report = {key: value for key, value in said.items() if value is not None} if None in said.values() else said

    def mutate(current: Object | None, context: Context) -> Object:
        if current is None or current["metadata"]["uid"] != said["uid"]:
            raise ApiError.not_found(JOB, said["name"])
        after = lifecycle.report(current, robot_uid, report, context.now)
        moved[number] = current, after
        return after

    return Operation(JOB, said["namespace"], said["name"], mutate)


@dataclass(slots=True)
class Agents:
    """The routes of robots."""

    store: Store
    hub: Hub
    heartbeats: Heartbeats
    events: Recorder
    key_due: Callable[[Identity], str | None] = lambda identity: None  # see `auth.Keys.due`
    robots: Robots = field(init=False)
    _shares: Shares = field(default_factory=Shares)

    def __post_init__(self) -> None:
        self.robots = Robots(self.store, self.hub)

    async def start(self) -> None:
        await self.robots.start()

    async def report(self, request: Request, target: Target) -> None:
        body = _parse(await request.body(MAX_REPORT))
        is_own = request.identity.role == "robot"
        robot = await (self.own(request.identity) if is_own else self.robot(target.namespace or "", target.name or ""))
        uid, is_approved = robot["metadata"]["uid"], approval.is_approved(robot)
        instance = request.query.get("instance")
        if instance is not None and not (
            instances.is_holder(robot, instance) and instances.is_told(robot, body.agent)
        ):
            await self._claim(robot, instance, body.agent)
        await self._check_protocol(robot, body.agent)
        telemetry = orjson.dumps(body.telemetry).decode() if body.telemetry is not None else None
        vouched, interval = True, self.heartbeats.interval  # what its lease is measured by, even if that changes now
        if body.leaving:
            self.heartbeats.leave(uid)
        elif is_approved:
            vouched = self.heartbeats.beat(uid, telemetry)
        if instance is None:
            await self._note_agent(robot, body.agent)
        results = await self._record(robot, body.jobs) if body.jobs else []
        if not vouched and not body.jobs:
            raise ApiError.unavailable("heartbeats can't be written right now: try again in a second")
        spec = robot.get("spec") or {}
        answer = {"intervalSeconds": interval, "desiredState": spec.get("desiredState", "Active"),
                  "robotUID": uid, "jobs": results, "protocol": {"min": skew.OLDEST, "max": skew.NEWEST}}
        if not is_approved:
            answer["approved"] = False
        answer |= {key: spec[key] for key in ("drain", "restartRequestedAt") if key in spec}
        if (due := self.key_due(request.identity)) is not None:
            answer["rotateKey"] = due
        await request.object(200, answer)

    async def own(self, who: Identity) -> Object:
        """The Robot that a robot's key is for. Raises ApiError 404 where it is not there: not another of its name."""
        robot = await self.robot(who.namespace or "", who.robot_name or "")
        if who.robot_uid not in (None, robot["metadata"]["uid"]):
            raise ApiError.not_found(ROBOT, who.robot_name or "")
        return robot

    async def robot(self, namespace: str, name: str) -> Object:
        """The Robot, as of a moment ago. Raises ApiError 404 when it was deleted."""
        return await self.robots.get(namespace, name)

    async def _check_protocol(self, robot: Object, agent: Object | None) -> None:
        """Raises ApiError 426 for an agent that this release does not understand; the robot says why it has no jobs."""
        refused = skew.refusal(dig(robot, "status", "agent") if agent is None else agent)
        if refused is not None:
            await self._note_agent(robot, agent)
            raise ApiError(426, "UpgradeRequired", refused)

    async def _claim(self, robot: Object, instance: str, agent: Object | None) -> None:
        """Another process than before reports for the robot. Raises ApiError 409 where it is not its turn."""
        meta = robot["metadata"]
        if agent is None or agent.get("instance") != instance:
            text = await reads.get(self.store.pool, ROBOT, meta["namespace"], meta["name"])
            if text is None or not instances.is_holder(orjson.loads(text), instance):
                raise instances.unknown()
            return  # another apiserver let it in a moment ago
        is_alive = not instances.is_near(robot, agent) and await self.heartbeats.is_alive(meta["uid"])

        def mutate(current: Object, context: Context) -> Object:
            return instances.claimed(current, agent, is_alive, context.now)

        made = await self._write(robot, mutate)
        if made is not None and made["metadata"]["uid"] == meta["uid"]:
            self.robots.keep(made)

    async def _note_agent(self, robot: Object, agent: Object | None) -> None:
        if agent is None or dig(robot, "status", "agent") == agent:
            return

        def mutate(current: Object, context: Context) -> Object:
            status = current.get("status") or {}
            return current if status.get("agent") == agent else {**current, "status": {**status, "agent": agent}}

        await self._write(robot, mutate)

    async def _write(self, robot: Object, mutate: Callable[[Object, Context], Object]) -> Object | None:
        """Changes the Robot. Raises ApiError, 429 where it has too much waiting."""
        with self._share(robot):
            return await self.store.writer.write(admission.system(ROBOT, robot, mutate))

    def _share(self, robot: Object) -> contextlib.AbstractContextManager[str]:
        return self._shares.one(robot["metadata"]["uid"], robot["metadata"]["name"])

    async def _record(self, robot: Object, jobs: list[Object]) -> list[Object]:
        """Hands all transitions to the writer at once; what became of each, as the agent reads it.

        Raises ApiError 429 where the robot has too much waiting.
        """
        answers = [_problem(said) for said in jobs]
        _refuse_floods(jobs, answers)
        moved: Moved = {}
        good = [number for number, problem in enumerate(answers) if problem is None]
        written: list[Answer] = []
        with self._share(robot) as uid:
            for start in range(0, len(good), AT_ONCE):  # no robot fills the writer's queue, where others wait
                some = [_operation(uid, jobs[n], n, moved) for n in good[start : start + AT_ONCE]]
                written += await self.store.writer.submit(some)
        for number, answer in zip(good, written, strict=True):
            answers[number] = answer if isinstance(answer, ApiError) else None
            if answers[number] is None:
                self._tell(*moved[number])
        return [_answered(said, answer) for said, answer in zip(jobs, answers, strict=True)]

    def _tell(self, old: Object, new: Object) -> None:
        before, after = old["status"]["phase"], new["status"]["phase"]
        reason = {"Running": "Started", "Queued": "Requeued"}.get(after, after)
        type_ = "Warning" if after in ("Failed", "Queued") else "Normal"
        if before == after or not self.events.takes(new["metadata"]["uid"], reason, type_):
            return
        robot, attempt = old["status"].get("robotName"), old["status"].get("attempt")
        words = {"Running": f"attempt {attempt} started on {robot}",
                 "Queued": f"attempt {attempt} on {robot} ended; waiting for another"}
        message = words.get(after) or str(dig(new, "status", "message") or "")
        self.events.tell(new, reason, message or f"attempt {attempt} on {robot}", type_)

    # -- logs ------------------------------------------------------------------------------------------------

    async def add_log(self, request: Request, target: Target) -> None:
        uid, attempt, seq = _chunk_address(request)
        data = await request.body(beside.MAX_LOG_CHUNK)
        job = await self.job(target)
        if job["metadata"]["uid"] != uid:
            raise ApiError.not_found(JOB, target.name or "")
        if request.identity.role == "robot" and not await self._has_attempt(request, job, attempt):
            raise ApiError.conflict(JOB, target.name or "", f"attempt {attempt} is not this robot's")
        ended = dig(job, "status", "finishedTime") if lifecycle.is_final(job) else None
        if not await beside.add_log(self.store.pool, uid, attempt, seq, data.decode("utf-8", "replace"), ended):
            minutes = beside.LAST_WORDS.total_seconds() / 60
            why = f"it ended more than {minutes:g} minutes ago: its log is closed"
            raise ApiError.conflict(JOB, target.name or "", why)
        await auditing.tell_beside(self.store, job)
        await request.answer(204, b"")

    async def _has_attempt(self, request: Request, job: Object, attempt: int) -> bool:
        """Whether the caller's robot runs or ran this attempt."""
        who = request.identity
        robot = await self.own(who)
        uid, status = robot["metadata"]["uid"], job.get("status") or {}
        if status.get("robotUID") == uid and status.get("attempt") == attempt:
            return True
        past = status.get("attempts") or []
        return any(one.get("number") == attempt and one.get("robotUID") == uid for one in past)

    async def read_log(self, request: Request, target: Target) -> None:
        """A job's output as text; with follow=true until the job ends."""
        job = await self.job(target)
        wanted = min(options.whole_number(request.query, "attempt"), MAX_INT4) or None
        is_followed = request.method == "GET" and wire.is_set(request.query, "follow")
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-cache, private")]
        await request.send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.create_task(_gone(request))
        try:
            async for text in self._log(job, target, wanted, is_followed):
                if gone.done() or self.hub.stopped or not request.is_welcome():
                    break
                await request.chunk(text.encode())
            await request.chunk(b"", more=False)
        except ClientStalled:
            log.warning("a log was cut: its client does not read", job=target.name)
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _log(self, job: Object, target: Target, wanted: int | None, follow: bool) -> AsyncIterator[str]:
        """Chunks in order; following, from attempt to attempt until the job is final and nothing more came.

        Without `wanted`, following goes on with the next attempt; otherwise the last attempt is shown.
        """
        uid = job["metadata"]["uid"]
        number = wanted or max(1, int(dig(job, "status", "attempt") or 1))
        after, quiet = -1, 0
        while True:
            chunks = await beside.read_log(self.store.pool, uid, number, after)
            for seq, text in chunks:
                after = seq
                yield text
            if chunks:
                quiet = 0
                continue
            if not follow:
                return
            try:
                job = await self.job(target)
            except ApiError:
                return
            if job["metadata"]["uid"] != uid:  # another job of the same name
                return
            is_over = lifecycle.is_final(job) or (wanted is not None and dig(job, "status", "attempt") != number)
            current = int(dig(job, "status", "attempt") or 0)
            if wanted is None and current > number:
                number, after, quiet = current, -1, 0
                yield f"--- attempt {number} ---\n"
                continue
            quiet += 1 if is_over else 0
            if quiet > 1:
                return
            await asyncio.sleep(LOG_POLL if not is_over else 0.05)
            yield ""

    async def job(self, target: Target) -> Object:
        """The job that a path names. Raises ApiError 404."""
        text = await reads.get(self.store.pool, JOB, target.namespace or "", target.name or "")
        if text is None:
            raise ApiError.not_found(JOB, target.name or "")
        job: Object = orjson.loads(text)
        return job


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _parse(body: bytes) -> Report:
    said = parse_json(body)
    check_storable(said)
    report: Report = _validated(_REPORT, said, "the report")
    _check_size("agent", report.agent, MAX_SELF)
    _check_size("telemetry", report.telemetry, MAX_TELEMETRY)
    return report


def _problem(said: Object) -> ApiError | None:
    """What is wrong with a transition as it came."""
    if _is_plain(said):
        return None
    try:
        transition = _validated(_TRANSITION, said, "the transition")
        _check_size("outputs", transition.outputs, MAX_OUTPUTS)
        _check_size("progress", transition.progress, MAX_SELF)
    except ApiError as error:
        return error
    return None


def _refuse_floods(jobs: Sequence[Object], answers: list[ApiError | None]) -> None:
    """Changes of one job are written one batch after the other: nobody sends so many that all others wait for them."""
    good = [number for number, error in enumerate(answers) if error is None]
    counts = Counter((jobs[number]["namespace"], jobs[number]["name"]) for number in good)
    for number in good:
        if counts[jobs[number]["namespace"], jobs[number]["name"]] > MAX_OF_ONE:
            why = f"more than {MAX_OF_ONE} transitions of one job in one report: send the last of each kind"
            answers[number] = ApiError(422, "Invalid", why)


def _answered(said: Object, error: ApiError | None) -> Object:
    code, message = (200, "") if error is None else (error.status, error.message)
    return {"uid": said.get("uid"), "attempt": said.get("attempt"), "code": code, "message": message}


def _validated(model: TypeAdapter[Any], said: Any, what: str) -> Any:
    """Raises ApiError 422 with the first field that is wrong."""
    try:
        return model.validate_python(said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ApiError(422, "Invalid", f"{what} is wrong at {path or 'its top'}: {first['msg']}") from error


def _check_size(field: str, value: Any, limit: int) -> None:
    if value is not None and len(orjson.dumps(value)) > limit:
        raise ApiError(422, "Invalid", f"{field}: Too long: may not be more than {limit} bytes as JSON")


def _chunk_address(request: Request) -> tuple[str, int, int]:
    query = request.query
    numbers = [query.get("attempt", ""), query.get("seq", "")]
    if not query.get("uid") or not all(text.isascii() and text.isdigit() and len(text) < 9 for text in numbers):
        raise ApiError.bad_request("a log chunk needs ?uid=UID&attempt=NUMBER&seq=NUMBER")
    attempt, seq = map(int, numbers)
    if seq > beside.MAX_LOG_SEQ:
        raise ApiError.bad_request(f"seq: a log has no more than {beside.MAX_LOG_SEQ} chunks")
    return query["uid"], attempt, seq
