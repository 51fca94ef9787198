"""Which HTTP request asks for what? Pure: every function returns a Request value, nothing is sent.

Paths come from the kinds; names are percent-encoded, so that no name reaches another path. Writes of people ask for
strict field validation: a misspelt field is an error, not silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import orjson

from casare_api.kinds import GROUP, KINDS, Kind, Object, find
from casare_api.machinery.errors import ApiError

JSON = "application/json"
# Seconds: one report that is never answered, and the next one, fit into the shortest lease (three of 3 s and one).
REPORT_TIMEOUT = 5.0
PatchType = Literal["merge", "json"]
_PATCH_TYPES = {"merge": "application/merge-patch+json", "json": "application/json-patch+json"}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, relative to the server's URL; `content` is left out of the repr, it may hold a secret.

    `timeout` (seconds) is for what can't wait as long as others may.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)
    content_type: str = JSON
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a kind: one namespace or (None) all, by labels and fields."""

    kind: Kind
    namespace: str | None = None
    labels: str = ""
    fields: str = ""

    def params(self) -> dict[str, str]:
        """The query parameters that select."""
        wanted = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in wanted.items() if value}


def kind_of(kind: Kind | str) -> Kind:
    """The kind itself, by value or by any of its names. Raises ApiError 404 for an unknown one."""
    return kind if isinstance(kind, Kind) else KINDS.get(kind) or find(kind)


def path(kind: Kind, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
    """The kind's path with its parts percent-encoded."""
    return kind.path(_part(namespace), _part(name), subresource)


def get(kind: Kind, namespace: str | None, name: str) -> Request:
    """Reads one object."""
    return Request("GET", path(kind, namespace, name))


def list_(selection: Selection, limit: int | None = None, proceed: str = "") -> Request:
    """Lists a page: at most `limit` objects, going on where the token `proceed` says."""
    params = selection.params()
    if limit is not None:
        params["limit"] = str(limit)
    if proceed:
        params["continue"] = proceed
    return Request("GET", path(selection.kind, selection.namespace), params)


def watch(selection: Selection, resource_version: str, timeout_seconds: int | None = None) -> Request:
    """Watches what changes after a resourceVersion."""
    params = {"watch": "true", "allowWatchBookmarks": "true", **selection.params()}
    if resource_version:
        params["resourceVersion"] = resource_version
    if timeout_seconds is not None:
        params["timeoutSeconds"] = str(timeout_seconds)
    return Request("GET", path(selection.kind, selection.namespace), params)


def create(kind: Kind, namespace: str | None, obj: Object, dry_run: bool = False) -> Request:
    """Creates an object from a whole one."""
    params = _write_params(dry_run)
    if kind is KINDS["Job"]:
        del params["fieldManager"]  # nobody shares a job's fields with others, and who owns them would double its size
    return Request("POST", path(kind, namespace), params, _json(obj))


def replace(kind: Kind, namespace: str | None, name: str, obj: Object) -> Request:
    """Replaces an object; its resourceVersion, where it has one, must still be the stored one."""
    return Request("PUT", path(kind, namespace, name), _write_params(False), _json(obj))


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of some fields: a merge patch (an object) or a JSON patch (a list of operations)."""

    body: Any
    type: PatchType = "merge"
    subresource: str | None = None
    dry_run: bool = False


def patch(kind: Kind, namespace: str | None, name: str, change: Patch) -> Request:
    """Changes some fields of an object."""
    return Request(
        "PATCH",
        path(kind, namespace, name, change.subresource),
        _write_params(change.dry_run),
        _json(change.body),
        _PATCH_TYPES[change.type],
    )


def delete(kind: Kind, namespace: str | None, name: str, uid: str | None = None) -> Request:
    """Deletes an object, with a uid only that very one."""
    options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    if uid is not None:
        options["preconditions"] = {"uid": uid}
    return Request("DELETE", path(kind, namespace, name), content=_json(options))


def submit(namespace: str, jobs: Sequence[Object], dry_run: bool = False) -> Request:
    """Creates many jobs of a namespace; each is answered for itself."""
    params = _write_params(dry_run)
    del params["fieldManager"]
    body = {"apiVersion": KINDS["Job"].api_version, "kind": "JobList", "items": list(jobs)}
    return Request("POST", path(KINDS["Job"], namespace), params, _json(body))


def retry(namespace: str, job: str, dry_run: bool = False) -> Request:
    """Makes a job that does again what one did that has ended."""
    params = {"dryRun": "All"} if dry_run else {}
    return Request("POST", path(KINDS["Job"], namespace, job, "retry"), params, b"{}")


def why(namespace: str, job: str) -> Request:
    """Asks why a job waits, or how it ended."""
    return Request("GET", path(KINDS["Job"], namespace, job, "why"))


def why_of(namespace: str, job: Object) -> Request:
    """Asks the same of a job that nobody has submitted; nothing is kept."""
    params = {"fieldValidation": "Strict", "dryRun": "All", "why": "true"}
    return Request("POST", path(KINDS["Job"], namespace), params, _json(job))


def artifacts(namespace: str, job: str, attempt: int | None = None) -> Request:
    """Lists the files that a job left: of each name the newest attempt's, or those of one attempt."""
    return Request("GET", path(KINDS["Job"], namespace, job, "artifacts"), _of_attempt(attempt))


def artifact(namespace: str, job: str, file: str, attempt: int | None = None) -> Request:
    """Reads one of them."""
    return Request("GET", path(KINDS["Job"], namespace, job, f"artifacts/{_part(file)}"), _of_attempt(attempt))


def report(namespace: str, robot: str, body: Object, instance: str = "") -> Request:
    """An agent's heartbeat and its jobs' transitions."""
    where, params = path(KINDS["Robot"], namespace, robot, "report"), {"instance": instance} if instance else {}
    return Request("POST", where, params, content=_json(body), timeout=REPORT_TIMEOUT)


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A numbered piece of an attempt's log; sending it twice is harmless."""

    uid: str
    attempt: int
    seq: int
    text: str


def send_log(namespace: str, job: str, chunk: LogChunk) -> Request:
    """Appends a chunk to a job's log."""
    params = {"uid": chunk.uid, "attempt": str(chunk.attempt), "seq": str(chunk.seq)}
    content = chunk.text.encode("utf-8", errors="replace")
    return Request("POST", path(KINDS["Job"], namespace, job, "log"), params, content, "text/plain; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that an attempt of a job leaves behind: its length in bytes, its SHA-256 in hex."""

    uid: str
    attempt: int
    name: str
    size: int
    sha256: str


def put_artifact(namespace: str, job: str, file: Artifact) -> Request:
    """Keeps a file of a job; its content goes with it in pieces. Sending it again replaces it."""
    params = {"uid": file.uid, "attempt": str(file.attempt)}
    where = path(KINDS["Job"], namespace, job, f"artifacts/{_part(file.name)}")
    return Request("PUT", where, params, content_type="application/octet-stream")


def read_log(namespace: str, job: str, attempt: int | None = None, follow: bool = False) -> Request:
    """Reads a job's log: of its last attempt unless one is named, to the end of the job with `follow`."""
    params = _of_attempt(attempt)
    if follow:
        params["follow"] = "true"
    return Request("GET", path(KINDS["Job"], namespace, job, "log"), params)


def blob(method: Literal["GET", "HEAD", "PUT"], namespace: str, sha256: str, data: bytes | None = None) -> Request:
    """Asks for, reads or stores a file's bytes by their digest."""
    where = f"/apis/{GROUP}/v1/namespaces/{_part(namespace)}/blobs/{_part(sha256)}"
    return Request(method, where, content=data, content_type="application/octet-stream")


def revision(namespace: str, workflow: str, digest: str) -> Request:
    """Reads an immutable revision of a workflow."""
    return Request("GET", path(KINDS["Workflow"], namespace, workflow, f"revisions/{_part(digest)}"))


def token(namespace: str, name: str, kind: Kind = KINDS["ApiKey"]) -> Request:
    """Issues the secret of an ApiKey or a JoinToken; the server gives it out once."""
    return Request("POST", path(kind, namespace, name, "token"), content=b"{}")


def enrol(body: Object) -> Request:
    """Becomes a robot by a join token."""
    return Request("POST", f"/apis/{GROUP}/v1/enroll", content=_json(body))


def whoami() -> Request:
    """Asks who the caller is."""
    return Request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", content=b"{}")


def rotate(namespace: str, key: str, overlap: str | None = None) -> Request:
    """Issues another secret of an ApiKey; the one before is good for the overlap, where None is as the key says."""
    body = {} if overlap is None else {"overlap": overlap}
    return Request("POST", path(KINDS["ApiKey"], namespace, key, "rotate"), content=_json(body))


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        # Lone surrogates, integers beyond 64 bits, values that are not JSON's.
        raise ApiError.bad_request(f"this can't be sent as JSON: {error}") from None


def _of_attempt(attempt: int | None) -> dict[str, str]:
    return {} if attempt is None else {"attempt": str(attempt)}


def _write_params(dry_run: bool) -> dict[str, str]:
    params = {"fieldManager": "casare", "fieldValidation": "Strict"}
    if dry_run:
        params["dryRun"] = "All"
    return params


def _part(text: str | None) -> str | None:
    """One path segment; "." and ".." would be folded away by URL libraries, so their dots are encoded too."""
    if text is None:
        return None
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")
