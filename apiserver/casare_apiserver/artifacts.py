"""How do files get from jobs to people? Part by part: neither this process nor Postgres ever holds one whole.

Always holds: a file that did not come whole leaves nothing that anybody sees; a robot adds files to its current attempt
and reads none; what a client gets is the file that it asked for, or a connection that is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote
from uuid import UUID, uuid4

import orjson
import psycopg
import structlog

from casare_api.decisions import artifacts as rules
from casare_api.decisions import lifecycle
from casare_api.kinds import Object, dig
from casare_api.kinds.job import JOB
from casare_api.machinery import times
from casare_api.machinery.errors import ApiError
from casare_apiserver import auditing, options, wire
from casare_apiserver.agents import MAX_INT4, Agents
from casare_apiserver.targets import Target
from casare_apiserver.wire import ClientStalled, Request
from casare_store import artifacts, beside
from casare_store.artifacts import PART, Artifact, NoRoom, Place
from casare_store.store import Store

TRANSFER = 1800.0  # seconds that a file may be on its way: the sweep takes parts without a file that are older
AT_ONCE = 64  # files on their way to this process, each of which holds a part or two in memory
AT_ONCE_OF_A_JOB = 4  # of them, since what is on its way is not counted against the job's limit yet
log = structlog.get_logger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_PLAIN = re.compile(r"[^A-Za-z0-9._ ()-]")


@dataclass(frozen=True, slots=True)
class Artifacts:
    """The handlers of `jobs/NAME/artifacts`; `parts` are the connections that parts travel on."""

    store: Store
    agents: Agents
    parts: beside.Pool
    _coming: Counter[str] = field(default_factory=Counter)  # files on their way, by their job's uid

    async def list(self, request: Request, target: Target) -> None:
        """A job's files, of each name the newest attempt's, or those of `?attempt=`."""
        job = await self.agents.job(target)
        found = await artifacts.listed(self.store.pool, job["metadata"]["uid"], _asked_attempt(request))
        items = [_shown(one) for one in found]
        await request.object(200, {"kind": "ArtifactList", "apiVersion": JOB.api_version, "items": items})

    # -- a file to people ----------------------------------------------------------------------------------------------

    async def get(self, request: Request, target: Target, name: str) -> None:
        """The file of this name: the newest attempt's, or the one of `?attempt=`."""
        job = await self.agents.job(target)
        uid = job["metadata"]["uid"]
        found = await artifacts.find(self.store.pool, uid, name, _asked_attempt(request))
        if found is None:
            raise ApiError(404, "NotFound", f'job "{target.name}" has no file "{name[:rules.MAX_NAME]}"')
        await request.begin(200, _headers(found))
        if request.method == "HEAD":
            await request.send({"type": "http.response.body", "body": b""})
            return
        try:
            await self._give(request, found)
        except ClientStalled:
            log.warning("a job's file was cut: its client does not read", job=target.name)

    async def _give(self, request: Request, found: Artifact) -> None:
        for number in range(-(-found.size // PART)):
            data = await artifacts.part(self.parts, found.id, number)
            if data is None or not request.is_welcome():  # replaced or deleted meanwhile; the key is no longer good
                request.abort()
                return
            await request.chunk(data)
        await request.chunk(b"", more=False)

    # -- a file from a job ---------------------------------------------------------------------------------------------

    async def put(self, request: Request, target: Target, name: str) -> None:
        """Keeps a file, in place of the one that the same attempt left under this name."""
        problem = rules.check_name(name)
        if problem is not None:
            raise ApiError.bad_request(f"{name[:60]!a}: {problem}")
        digest = _asked_digest(request)
        job, attempt = await self._target(request, target)
        place = await self._place(job, attempt, name)
        with _in_words(target, name):
            declared = _declared_size(request)
            place.check(declared, await artifacts.room(self.store.pool, place))
            async with self._turn(place.job_uid):
                kept, is_new = await self._take(request, target, place, digest)
        await auditing.tell_beside(self.store, job)
        await request.object(201 if is_new else 200, _shown(kept))

    async def _take(
        self, request: Request, target: Target, place: Place, digest: str | None
    ) -> tuple[Artifact, bool]:
        """Takes the parts, then makes them a file; whatever goes wrong, the parts go."""
        id = uuid4()
        try:
            async with asyncio.timeout(TRANSFER):
                size, found = await self._receive(request, place, id)
                if digest not in (None, found):
                    raise ApiError(422, "Invalid", f"the body's SHA-256 is not {digest}: send the file again")
                await self._target(request, target)  # the attempt may be over by now
                return await artifacts.keep(self.store.pool, place, id, size, found)
        except BaseException as error:
            await asyncio.shield(self._drop(id))
            if isinstance(error, TimeoutError):
                why = f"the file did not get through within {TRANSFER:g} seconds"
                raise ApiError(408, "Timeout", why) from None
            raise

    async def _receive(self, request: Request, place: Place, id: UUID) -> tuple[int, str]:
        """Keeps the body in parts; its size, and its SHA-256 in hex. Raises NoRoom as soon as it is too large."""
        room = await artifacts.room(self.store.pool, place)
        digest, size = hashlib.sha256(), 0
        async for number, data in _cut(request):
            size += len(data)
            place.check(size, room)
            digest.update(data)
            await artifacts.add_part(self.parts, id, number, data)
        return size, digest.hexdigest()

    async def _drop(self, id: UUID) -> None:
        with contextlib.suppress(psycopg.Error):  # then the sweep does it
            await artifacts.drop_parts(self.parts, id)

    async def _target(self, request: Request, target: Target) -> tuple[Object, int]:
        """The job, and the attempt that the file is of. Raises ApiError 404, 409 where it may not be added to."""
        job = await self.agents.job(target)
        status, name = job.get("status") or {}, target.name or ""
        current = int(status.get("attempt") or 0)
        attempt = _asked_attempt(request)
        if request.query.get("uid") not in (None, job["metadata"]["uid"]):
            raise ApiError.not_found(JOB, name)
        if request.identity.role != "robot":
            if attempt is not None and not 0 < attempt <= current:
                raise ApiError.conflict(JOB, name, f"there is no attempt {attempt} yet")
            return job, current if attempt is None else attempt
        if attempt is None or "uid" not in request.query:
            raise ApiError.bad_request("a robot's file needs ?uid=UID&attempt=NUMBER")
        robot = await self.agents.own(request.identity)
        if attempt != current or status.get("robotUID") != robot["metadata"]["uid"]:
            raise ApiError.conflict(JOB, name, f"attempt {attempt} is not this robot's, or is over")
        await self._check_open(job)
        return job, attempt

    async def _check_open(self, job: Object) -> None:
        if not lifecycle.is_final(job):
            return
        if not await artifacts.is_open(self.store.pool, dig(job, "status", "finishedTime")):
            minutes = beside.LAST_WORDS.total_seconds() / 60
            why = f"it ended more than {minutes:g} minutes ago: no more files are taken"
            raise ApiError.conflict(JOB, job["metadata"]["name"], why)

    async def _place(self, job: Object, attempt: int, name: str) -> Place:
        most, text = rules.limit(await self._workflow(job))
        return Place(job["metadata"]["uid"], attempt, name, most, text)

    async def _workflow(self, job: Object) -> Object:
        """The spec that the job was submitted with; its limits stay in the revision, every job would grow by them."""
        own = dig(job, "spec", "workflow")
        if own:
            return dict(own)
        revision = str(dig(job, "spec", "workflowRef", "revision"))
        content = await beside.revision(self.store.pool, job["metadata"]["namespace"], revision)
        spec: Object = orjson.loads(content) if content else {}
        return spec

    @asynccontextmanager
    async def _turn(self, job_uid: str) -> AsyncIterator[None]:
        """Raises ApiError 429 where too many files are on their way."""
        if self._coming.total() >= AT_ONCE or self._coming[job_uid] >= AT_ONCE_OF_A_JOB:
            raise ApiError.too_many_requests("too many files are on their way: try again in a second")
        self._coming[job_uid] += 1
        try:
            yield
        finally:
            self._coming[job_uid] -= 1
            if not self._coming[job_uid]:
                del self._coming[job_uid]


# -- steps -----------------------------------------------------------------------------------------------------------


async def _cut(request: Request) -> AsyncIterator[tuple[int, bytes]]:
    """The body in parts of PART bytes, the last one shorter; numbered from 0."""
    waiting, number = bytearray(), 0
    async for data in request.parts():
        waiting += data
        while len(waiting) >= PART:
            yield number, bytes(waiting[:PART])
            del waiting[:PART]
            number += 1
    if waiting:
        yield number, bytes(waiting)


@contextlib.contextmanager
def _in_words(target: Target, name: str) -> Iterator[None]:
    """What does not fit is 413, and says what."""
    try:
        yield
    except NoRoom as why:
        raise ApiError(413, "RequestEntityTooLarge", f'job "{target.name}", file "{name}": {why}') from None


def _asked_attempt(request: Request) -> int | None:
    """The attempt in the query, None where there is none. Raises ApiError 400."""
    if "attempt" not in request.query:
        return None
    return min(options.whole_number(request.query, "attempt"), MAX_INT4)


def _asked_digest(request: Request) -> str | None:
    said = request.header(b"x-sha256").lower()
    if said and not _SHA256.match(said):
        raise ApiError.bad_request("x-sha256: a SHA-256 has 64 hex digits")
    return said or None


def _declared_size(request: Request) -> int:
    """What the client says that will come, 0 where it says nothing."""
    declared = request.header(b"content-length")
    return int(declared[:18]) if declared.isdecimal() else 0


def _shown(one: Artifact) -> Object:
    return {"name": one.name, "size": one.size, "sha256": one.sha256, "attempt": one.attempt,
            "createdTime": times.to_text(one.at)}


def _headers(one: Artifact) -> list[tuple[bytes, bytes]]:
    """Whatever is in the file, a browser saves it and shows nothing of it."""
    plain, exact = _PLAIN.sub("_", one.name), quote(one.name, safe="")
    return [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", str(one.size).encode()),
        (b"content-disposition", f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}".encode()),
        (b"etag", f'"{one.sha256}"'.encode()),
        (b"cache-control", b"no-cache, private"),
        wire.audit_id(),
    ]
