"""What is there, and what may I do? Discovery, OpenAPI and the questions a caller asks about itself.

Everything here follows from the kinds of this release, so each document is made once, when it is first asked for; its
ETag is made of its content, and all replicas of a release agree on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from typing import Any

import orjson

from casare_api.decisions import reviews
from casare_api.kinds import Object
from casare_api.kinds.reviews import REVIEWS
from casare_api.machinery import discovery, openapi
from casare_api.machinery.errors import ApiError
from casare_apiserver import bodies, negotiation, options, wire
from casare_apiserver.wire import Request

_EXACT, _BELOW = ("/api", "/api/v1", "/apis"), ("/apis/", "/openapi/")
_QUESTIONS: dict[str, Callable[..., Object]] = {
    "SelfSubjectAccessReview": reviews.access_review,
    "SelfSubjectRulesReview": reviews.rules_review,
    "SelfSubjectReview": lambda who, body, policy: reviews.self_review(who),
}
_REVIEW_PATHS = {f"/apis/{review.group}/{review.version}/{review.plural}": review for review in REVIEWS}
_OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"  # as it is asked for; answered without @
_YEAR = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Document:
    """One document as it is sent. `pin` is the hash in the address under which it never changes, where it has one."""

    body: bytes
    content_type: bytes = b"application/json"
    pin: str | None = None
    etag: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "etag", hashlib.sha256(self.content_type + self.body).hexdigest()[:32].upper())


@dataclass(frozen=True, slots=True)
class Describing:
    """The handler of all paths that are about the API itself."""

    release: str

    def knows(self, path: str) -> bool:
        """Whether a path is one of these. Others below /api may be the orchestrator API's."""
        return path.rstrip("/") in _EXACT or path.startswith(_BELOW)

    async def serve(self, request: Request) -> None:
        """Answers whoever shows a key. Raises ApiError 400, 403, 405, 406, 415, 422."""
        path = request.path.rstrip("/")
        if request.identity.role == "anonymous":
            why = f'User "{request.identity.name}" cannot {request.method.lower()} path "{path[:253]}"'
            raise ApiError(403, "Forbidden", f'forbidden: {why}')
        if path in _REVIEW_PATHS:
            await self._review(request, path)
            return
        found = self._document(path, request)
        if found is None:
            await wire.reply(request.send, 404, b"404 page not found\n", b"text/plain; charset=utf-8")
        elif request.method not in ("GET", "HEAD"):
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        else:
            await _send(request, found)

    async def _review(self, request: Request, path: str) -> None:
        review = _REVIEW_PATHS[path]
        if request.method != "POST":
            raise ApiError.method_not_allowed(review, request.method.lower())
        options.mode(request)
        options.dry_run(request)
        body = await bodies.read_object(request)
        if not isinstance(body, dict) or body.get("kind", review.kind) != review.kind:
            raise ApiError.bad_request(f"the body must be an object of kind {review.kind}")
        await request.object(201, _QUESTIONS[review.kind](request.identity, body, request.policy))

    def _document(self, path: str, request: Request) -> Document | None:
        if path.startswith("/openapi"):
            return self._openapi(path, request)
        accept = request.header(b"accept")
        version = negotiation.aggregated_version(accept) if path in ("/api", "/apis") else None
        if version is None:
            negotiation.form(accept)
        return _discovery().get((path, version))

    def _openapi(self, path: str, request: Request) -> Document | None:
        if path == "/openapi/v2":
            if _OPENAPI_V2 not in request.header(b"accept"):
                raise ApiError.not_acceptable(["application/json at /openapi/v3"])
            return Document(openapi.nothing_in_v2(self.release), _OPENAPI_V2.replace("@", ".").encode())
        root, _, name = path.partition("/openapi/v3")
        return _openapi(self.release).get(name.removeprefix("/")) if not root and path != "/openapi" else None


async def _send(request: Request, document: Document) -> None:
    """Sends a document, or says that the client has it already."""
    headers = [(b"etag", f'"{document.etag}"'.encode()), (b"vary", b"Accept"), *_kept(request, document)]
    if document.etag in request.header(b"if-none-match"):
        await wire.reply(request.send, 304, b"", document.content_type, headers)
        return
    body = b"" if request.method == "HEAD" else document.body
    await request.answer(200, body, headers, document.content_type)


def _kept(request: Request, document: Document) -> list[tuple[bytes, bytes]]:
    """For how long clients may keep a document without asking again. Another hash than its own pins nothing."""
    if not request.path.startswith("/openapi"):
        return [(b"cache-control", b"public")]
    if document.pin is None or request.query.get("hash") != document.pin:
        return []
    expires = format_datetime(datetime.now(UTC) + timedelta(seconds=_YEAR), usegmt=True)
    return [(b"cache-control", f"public, immutable, max-age={_YEAR}".encode()), (b"expires", expires.encode())]


@cache
def _discovery() -> dict[tuple[str, str | None], Document]:
    """All discovery documents by path; those in one piece by the version of their form as well."""
    found: dict[tuple[str, str | None], Document] = {}
    for root in ("api", "apis"):
        for version in ("v2", "v2beta1"):
            kind = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            found[f"/{root}", version] = _document(discovery.aggregated(root, version), kind.encode())
    found["/api", None], found["/apis", None] = _document(discovery.api_versions()), _document(discovery.group_list())
    for group in discovery.groups():
        if group.name:
            found[f"/apis/{group.name}", None] = _document(discovery.group(group.name))
        for version in group.versions:
            root = f"/apis/{group.name}" if group.name else "/api"
            found[f"{root}/{version}", None] = _document(discovery.resource_list(group.name, version))
    return found


@cache
def _openapi(release: str) -> dict[str, Document]:
    """The OpenAPI documents by the last part of their path; the index is at ""."""
    documents = openapi.documents(release)
    found = {"": _document(openapi.index(documents))}
    for name, one in documents.items():
        found[name] = Document(openapi.text(one) + b"\n", pin=openapi.fingerprint(one))
    return found


def _document(content: Any, content_type: bytes = b"application/json") -> Document:
    return Document(orjson.dumps(content) + b"\n", content_type)


assert set(_QUESTIONS) == {review.kind for review in REVIEWS}, "every question needs its answer"
