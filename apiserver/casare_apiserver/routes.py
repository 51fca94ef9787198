"""Which handler serves a path? The resource API's paths, derived from the kinds; everything else goes to FastAPI.

One place authenticates, one place authorizes, one place turns errors into answers: no route can forget to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter

import orjson
import psycopg
import structlog

from casare_api.decisions.access import ANONYMOUS, READ, Attempted, Identity, Verb
from casare_api.decisions.granting import check_grant, is_granting
from casare_api.kinds import GROUP, SERVED
from casare_api.kinds.job import JOB
from casare_api.machinery.errors import ApiError
from casare_api.machinery.selectors import FieldSelector
from casare_apiserver import auditing, enrolling, headers, metrics, refusing, wire
from casare_apiserver.gate import Gate
from casare_apiserver.handlers import Handler, Handlers
from casare_apiserver.refusals import refusal
from casare_apiserver.targets import Target
from casare_apiserver.wire import Receive, Request, Scope, Send
from casare_store import reads
from casare_store.auditing import CALLER

App = Callable[[Scope, Receive, Send], Awaitable[None]]
log = structlog.get_logger(__name__)

_SPECIAL = {("robots", "report"), ("jobs", "log"), ("jobs", "retry"), ("jobs", "why"), ("apikeys", "token"),
            ("apikeys", "rotate"), ("jointokens", "token"), ("jobs", "artifacts")}
_NAMED = {("workflows", "revisions"), ("jobs", "artifacts")}  # with a name behind them
_BESIDE = frozenset({"blobs", "audit", "sealing"})  # that are no kinds
PROBES = frozenset({"/healthz", "/livez", "/readyz"})
_ROOTS = {f"{kind.root}/": kind.group for kind in SERVED}
_BY_PLURAL = {(kind.group, kind.plural): kind for kind in SERVED}
_VERBS: dict[str, Verb] = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch",
                           "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Path:
    """A path of the resource API in its parts."""

    group: str
    namespace: str | None
    plural: str
    name: str | None = None
    subresource: str | None = None
    rest: str | None = None

    @property
    def is_report(self) -> bool:
        """Whether it is where robots say what they do."""
        return (self.plural, self.subresource) in auditing.REPORTS


def parse(path: str) -> Path | None:
    """The parts of a decoded resource path, None for any other path. A slash at the end means nothing."""
    root = next((root for root in _ROOTS if path.startswith(root)), None)
    if root is None:
        return None
    parts = path[len(root):].removesuffix("/").split("/")
    group, namespace = _ROOTS[root], None
    if len(parts) > 2 and parts[0] == "namespaces" and (group or parts[2] != "status"):
        namespace, parts = parts[1], parts[2:]
    if not all(parts) or namespace == "" or len(parts) > 4:
        return None
    plural, name, subresource, rest = (*parts, None, None, None)[:4]
    assert plural is not None
    kind = _BY_PLURAL.get((group, plural))
    is_known = kind.namespaced or namespace is None if kind else group == GROUP and plural in _BESIDE
    return Path(group, namespace, plural, name, subresource, rest) if is_known else None


@dataclass(slots=True)
class Router:
    """The outermost application: resource paths here, the others to `other` (FastAPI)."""

    other: App
    handlers: Handlers
    gate: Gate
    is_ready: Callable[[], bool]
    stall_seconds: float = 30.0
    _verbs: dict[Verb, Handler] = field(init=False)
    _specials: dict[tuple[str, str | None, Verb], Handler] = field(init=False)

    def __post_init__(self) -> None:
        self._verbs, self._specials = self.handlers.verbs(), self.handlers.specials()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = parse(scope["path"]) if scope["type"] == "http" else None
        if path is None and not (scope["type"] == "http" and self.handlers.describing.knows(scope["path"])):
            await self._pass_on(scope, receive, send)
            return
        begun, sent = perf_counter(), _Sent(send)
        try:
            await self._serve(path, scope, receive, sent)
        except ApiError as error:
            self._note_refusal(path, scope, error, sent.identity)
            await sent.refuse(error)
        except psycopg.DataError:  # a name or a selector that no stored text can be
            why = "a name or a selector holds characters that no stored text has (such as NUL)"
            await sent.refuse(ApiError.bad_request(why))
        except psycopg.Error as error:
            log.warning("the database can't be used", why=str(error).split("\n")[0], path=scope["path"])
            await sent.refuse(refusing.without_database(error))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a request failed", method=scope["method"], path=scope["path"])
            await sent.refuse(ApiError(500, "InternalError", "the server failed on this request; it is in its log"))
        finally:
            plural = path.plural if path is not None else "discovery"
            metrics.request(scope["method"], plural, sent.status, perf_counter() - begun)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What FastAPI serves, for whoever asks; probes are for those who must never be told to wait."""
        if scope["type"] == "http" and scope["path"] not in PROBES:
            try:
                self.gate.limits.check_stranger(self.gate.addresses.of(scope))
            except ApiError as error:
                await _Sent(send).refuse(error)
                return
        await self.other(scope, receive, wire.tracked(send, scope.get("path", "")))

    def _note_refusal(self, path: Path | None, scope: Scope, error: ApiError, who: Identity | None) -> None:
        """Tells the audit log of an attempt to reach what one may not."""
        if error.status in (401, 403):
            kind = _BY_PLURAL.get((path.group, path.plural)) if path is not None else None
            self.gate.refusals.note(refusal(who, self.gate.addresses.of(scope), scope, path, kind, error.status))

    async def _serve(self, path: Path | None, scope: Scope, receive: Receive, send: _Sent) -> None:
        if not self.is_ready():
            raise ApiError.unavailable("the server is starting: try again in a moment")
        CALLER.set(None)  # this task may have been begun by another request, whose connection it shares
        if scope["path"] == enrolling.PATH:
            await self._enrol(self._request(scope, receive, send, ANONYMOUS))
            return
        identity = send.identity = await self.gate.keys.identify(scope)
        self.gate.limits.check(identity, self.gate.addresses.of(scope), path is not None and path.is_report)
        if not scope["path"].isprintable():
            raise ApiError.bad_request("the path holds characters that no name has")
        request = self._request(scope, receive, send, identity)
        request.has_come = partial(self.gate.limits.spend, identity, path is not None and path.is_report)
        if identity.expires is not None:
            request.lifetime = max((identity.expires - self.gate.keys.clock()).total_seconds(), 0.0)
        refusing.check_impersonation(request)
        self.gate.keys.open.add(request)
        try:
            await self._answer(request, path)
        finally:
            self.gate.keys.open.remove(request)

    async def _answer(self, request: Request, path: Path | None) -> None:
        identity = request.identity
        if path is None:
            await self._describe(request)
            return
        if path.plural == "blobs":
            await self._blob(request, path)
            return
        if path.plural in ("audit", "sealing"):
            await self._whole_server(request, path)
            return
        kind = _BY_PLURAL[path.group, path.plural]
        target = Target(kind, path.namespace, path.name, path.subresource)
        verb = _verb(request, target)
        what = Attempted(verb, path.plural, path.subresource, path.namespace, path.name, path.group)
        await self._authorize(request, what)
        if verb not in READ and is_granting(kind) and identity.role != "robot":  # which can rotate its own key, no more
            await self._check_given(request, target)
        if identity.role == "robot" and kind is JOB and path.subresource is None:
            await self._own_jobs_only(request, target, verb)
        address = self.gate.addresses.of(request.scope)
        CALLER.set(auditing.caller(identity, address, verb, path.plural, path.subresource))
        await self._handler(request, target, path, verb)(request, target)

    async def _authorize(self, request: Request, what: Attempted) -> None:
        """Whether the caller may do it, and from now on whether he still may. Raises ApiError 403, 503."""
        who, policies = request.identity, self.gate.policies
        if not policies.may(who, what):
            what = _of_one(request, what)
            if not await policies.may_after_all(who, what):
                raise refusing.forbidden(who, what)
        request.policy = policies.current
        request.is_welcome = lambda: self.gate.keys.holds(who) and policies.may(who, what)

    async def _check_given(self, request: Request, target: Target) -> None:
        """Before access is given away: by the policy as it is now, and what is below an object by what that gives.

        Handlers check again what the object will be, under the writer's lock. Raises ApiError 403, 503.
        """
        if request.identity.is_of_all or request.identity.role == "robot":  # which rotates its own key alone
            return
        await self.gate.policies.catch_up()
        request.policy = self.gate.policies.current
        if target.subresource is None or target.name is None:
            return
        text = await reads.get(self.handlers.writing.store.pool, target.kind, target.key_namespace, target.name)
        if text is not None:
            check_grant(request.identity, request.policy, target.kind, None, orjson.loads(text))

    async def _describe(self, request: Request) -> None:
        """What a question is answered is what was bound up to now."""
        if request.method == "POST" and request.identity.subjects:
            await self.gate.policies.catch_up()
        request.policy = self.gate.policies.current
        await self.handlers.describing.serve(request)

    async def _enrol(self, request: Request) -> None:
        """Who joins by a token has no key yet: the token is what is checked, and that is limited by address."""
        address = self.gate.addresses.of(request.scope)
        self.gate.limits.check_stranger(address)
        CALLER.set(auditing.caller(enrolling.SOMEBODY, address, "create", "robots", "enroll"))
        await self.handlers.enrolling.enrol(request)

    def _request(self, scope: Scope, receive: Receive, send: Send, who: Identity) -> Request:
        return Request(scope["method"], scope["path"], scope, receive, send, wire.parse_query(scope), who,
                       lambda: self.gate.keys.holds(who), self.stall_seconds)

    def _handler(self, request: Request, target: Target, path: Path, verb: Verb) -> Handler:
        """The handler of a target and verb. Raises ApiError 404, 405."""
        special = self._special(target, path, verb)
        if special is not None:
            return special
        if (path.plural, path.subresource) in (_SPECIAL if path.rest is None else _NAMED):
            raise ApiError.method_not_allowed(target.kind, verb)
        if path.subresource is not None and (path.subresource != "status" or not target.kind.has_status or path.rest):
            raise ApiError(404, "NotFound", f"there is no {path.plural}/{path.subresource[:60]}: the server could not "
                                            "find the requested resource")
        if target.kind.namespaced and target.namespace is None and verb not in ("list", "watch"):
            raise ApiError.method_not_allowed(target.kind, verb)
        if target.kind is JOB and verb == "create" and path.name is None and wire.is_set(request.query, "why"):
            return self.handlers.why.of_new
        if path.subresource == "status" and verb not in ("get", "update", "patch"):
            raise ApiError.method_not_allowed(target.kind, verb)
        if (verb == "create") == (path.name is not None) and verb in ("create", "update", "patch"):
            raise ApiError.method_not_allowed(target.kind, verb)
        if verb == "deletecollection" and not target.kind.namespaced:
            raise ApiError.method_not_allowed(target.kind, verb)  # a fleet's namespaces are not deleted in one go
        return self._verbs[verb]

    def _special(self, target: Target, path: Path, verb: Verb) -> Handler | None:
        """Subresources of single kinds."""
        if (path.plural, path.subresource, verb) == ("workflows", "revisions", "get") and path.rest:
            revision = path.rest
            return lambda request, target: self.handlers.files.revision(request, target, revision)
        if (path.plural, path.subresource) == ("jobs", "artifacts") and path.rest and verb in ("get", "update"):
            name, serve = path.rest, self.handlers.artifacts.get if verb == "get" else self.handlers.artifacts.put
            return lambda request, target: serve(request, target, name)
        return self._specials.get((path.plural, path.subresource, verb)) if path.rest is None else None

    async def _blob(self, request: Request, path: Path) -> None:
        verb: Verb = "create" if request.method == "PUT" else "get"
        if request.method not in ("GET", "HEAD", "PUT") or path.namespace is None or path.name is None:
            raise ApiError(405, "MethodNotAllowed", "files are read and written one by one: GET, HEAD or PUT "
                                                    ".../namespaces/NAMESPACE/blobs/SHA256")
        await self._authorize(request, Attempted(verb, "blobs", None, path.namespace, path.name, GROUP))
        await self.handlers.files.blob(request, path.namespace, path.name)

    async def _whole_server(self, request: Request, path: Path) -> None:
        """What is about all namespaces and has no names: the audit log, and the keys that Secrets are sealed with."""
        if path.namespace is not None or path.name is not None:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        verb: Verb = "create" if request.method == "POST" and path.plural == "sealing" else "list"
        await self._authorize(request, Attempted(verb, path.plural, group=GROUP))
        if path.plural == "audit":
            await self.handlers.audit.read(request)
            return
        if verb == "create":
            address = self.gate.addresses.of(request.scope)
            CALLER.set(auditing.caller(request.identity, address, "reseal", "secrets", None))
        await self.handlers.resealing.step(request)

    async def _own_jobs_only(self, request: Request, target: Target, verb: Verb) -> None:
        """A robot's key sees the jobs of its robot and no others."""
        who = request.identity
        robot = await self.handlers.agents.own(who)
        uid = robot["metadata"]["uid"]
        if verb == "get":
            job = await self.handlers.agents.job(target)
            is_own = (job.get("status") or {}).get("robotUID") == uid
        else:
            selector = FieldSelector.parse(request.query.get("fieldSelector", ""), JOB.selectable)
            is_own = any(
                term.field == "status.robotUID" and term.operator != "!=" and term.value == uid
                for term in selector.terms
            )
        if not is_own:
            why = f"can see only its own jobs: select them with fieldSelector=status.robotUID={uid}"
            raise ApiError(403, "Forbidden", f'jobs.{GROUP} is forbidden: robot "{who.robot_name}" {why}')


class _Sent:
    """`send` that knows whether an answer has begun: an error after that can only end the connection."""

    __slots__ = ("_send", "identity", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.identity: Identity | None = None  # of the caller, as soon as it is known

    async def __call__(self, message: wire.Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], headers.DATA]
        await self._send(message)

    async def refuse(self, error: ApiError) -> None:
        if not self.status:
            await wire.refuse(self, error)


def _verb(request: Request, target: Target) -> Verb:
    verb = _VERBS.get(request.method)
    if verb is None:
        raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    if request.method == "GET" and wire.is_set(request.query, "watch") and target.subresource is None:
        return "watch"
    if target.name is None:
        return {"get": "list", "delete": "deletecollection"}.get(verb, verb)  # type: ignore[return-value]
    return verb


def _of_one(request: Request, what: Attempted) -> Attempted:
    """A list or a watch of one object alone is about that one, as in Kubernetes."""
    if what.name is not None or what.verb not in ("list", "watch") or not request.query.get("fieldSelector"):
        return what
    try:
        selector = FieldSelector.parse(request.query["fieldSelector"], ("metadata.name",))
    except ApiError:
        return what  # it selects by other fields, too
    return replace(what, name=selector.exact("metadata.name"))
