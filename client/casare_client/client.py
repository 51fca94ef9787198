"""The client: one method per thing that can be asked of the apiserver.

Objects are parsed JSON (`dict`). Every method raises ApiError for what the server refuses and Unreachable where
nobody answers; a write that ended in Unreachable may have happened. Any thread may call any method.
"""

from __future__ import annotations

import codecs
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import httpx2

from casare_api.kinds import Kind, Object
from casare_api.machinery.errors import ApiError
from casare_client import apply as applying
from casare_client import requests
from casare_client.backoff import Backoff
from casare_client.config import Config
from casare_client.errors import Unreachable
from casare_client.requests import Artifact, LogChunk, Patch, PatchType, Request, Selection, kind_of
from casare_client.transport import Transport
from casare_client.watch import Pace, WatchEvent, events, follow, passing

WATCH_SILENCE = 75.0  # seconds; the server sends a bookmark every 30, so two of them lost mean a dead connection
LOG_SILENCE = 300.0  # seconds; a log may well be silent: it is asked for again from where it stopped
PAGE = 2000


class Client:
    """Talks to one apiserver. Use it as a context manager, or call `close()`."""

    def __init__(self, config: Config, user_agent: str = "casare") -> None:
        self.config = config
        self._transport = Transport(config, user_agent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.config.server})"

    def close(self) -> None:
        """Closes all connections. Watches and logs that other threads read end at once."""
        self._transport.close()

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, kind: Kind | str, name: str, namespace: str | None = None) -> Object:
        """One object."""
        return self._object(requests.get(kind_of(kind), self._namespace(kind, namespace), name))

    def list(
        self,
        kind: Kind | str,
        namespace: str | None = None,
        *,
        all_namespaces: bool = False,
        labels: str = "",
        fields: str = "",
        limit: int | None = None,
    ) -> Object:
        """The List object with every object in it, or with the first `limit` (then `metadata.continue` says more)."""
        selection = self._select(kind, namespace, all_namespaces, labels, fields)
        if limit is not None:
            return self._object(requests.list_(selection, limit))
        return self._whole(selection)

    def pages(
        self,
        kind: Kind | str,
        namespace: str | None = None,
        *,
        all_namespaces: bool = False,
        labels: str = "",
        fields: str = "",
        size: int = PAGE,
    ) -> Iterator[Object]:
        """The same as List objects of at most `size` objects.

        Each page is of its own moment; all carry the first one's revision, so that a watch from there misses nothing.
        """
        return self._pages(self._select(kind, namespace, all_namespaces, labels, fields), size)

    def watch(
        self,
        kind: Kind | str,
        namespace: str | None = None,
        *,
        all_namespaces: bool = False,
        resource_version: str = "",
        labels: str = "",
        fields: str = "",
        timeout_seconds: int | None = None,
    ) -> Iterator[WatchEvent]:
        """The changes after a resourceVersion (bookmarks too) until the stream ends; ApiError 410: too old."""
        selection = self._select(kind, namespace, all_namespaces, labels, fields)
        return self._watch(selection, resource_version, timeout_seconds)

    def follow(
        self,
        kind: Kind | str,
        namespace: str | None = None,
        *,
        all_namespaces: bool = False,
        resource_version: str = "",
        labels: str = "",
        fields: str = "",
        on_outage: Callable[[Exception], None] = lambda error: None,
        longest: Callable[[], float] | None = None,
    ) -> Iterator[WatchEvent]:
        """A RELIST event with the List as it stands, then every change, through outages; `close()` alone ends it.

        RELIST comes again whenever the server has forgotten the changes since: replace all that is known by it. With
        a resourceVersion (of a list read before) the first RELIST is left out. One of a crowd says the `longest` wait
        between its tries (seconds): over half of that all spread from the first try on.
        """
        source = _Source(self, self._select(kind, namespace, all_namespaces, labels, fields))
        wait = self._transport.closed.wait
        if longest is None:
            return follow(source, Pace(wait, Backoff(), on_outage), resource_version)
        return follow(source, Pace(wait, Backoff(longest() / 2), on_outage, longest), resource_version)

    def renew(self, before: float) -> None:
        """Ends what is read since before a moment of `time.monotonic`: `follow` goes on on a new connection.

        For whoever knows that nobody answered since: a connection that broke without a word is silent for long.
        """
        self._transport.cut(before)

    def revision(self, namespace: str, workflow: str, digest: str) -> Object:
        """An immutable revision of a workflow: `{"kind": "WorkflowRevision", "spec": {...}}`."""
        return self._object(requests.revision(namespace, workflow, digest))

    # -- writing -------------------------------------------------------------------------------------------------

    def create(self, obj: Object, *, dry_run: bool = False) -> Object:
        """Creates an object; the answer is the stored one."""
        kind, namespace, _ = self._identity(obj)
        return self._object(requests.create(kind, namespace, obj, dry_run))

    def replace(self, obj: Object) -> Object:
        """Replaces an object; ApiError 409 where its resourceVersion is no longer the stored one."""
        kind, namespace, name = self._identity(obj)
        return self._object(requests.replace(kind, namespace, name, obj))

    def patch(
        self,
        kind: Kind | str,
        name: str,
        body: Any,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        patch_type: PatchType = "merge",
        dry_run: bool = False,
    ) -> Object:
        """Changes some fields: `body` is a merge patch, or a list of JSON patch operations with patch_type="json"."""
        change = Patch(body, patch_type, subresource, dry_run)
        return self._object(requests.patch(kind_of(kind), self._namespace(kind, namespace), name, change))

    def delete(self, kind: Kind | str, name: str, namespace: str | None = None, *, uid: str | None = None) -> Object:
        """Deletes an object: a Status when it is gone, the object itself while finalizers hold it."""
        return self._object(requests.delete(kind_of(kind), self._namespace(kind, namespace), name, uid))

    def apply(self, obj: Object, *, dry_run: bool = False) -> tuple[Object, applying.Action]:
        """Makes the server hold what `obj` declares, and says what that took.

        A declared Job that ran before and was cleaned up since is "unchanged", and comes back as it was declared,
        without a uid.
        """
        kind, namespace, name = self._identity(obj)
        wanted = applying.declared(obj)
        current = self._find(kind, namespace, name)
        if current is None:
            try:
                return self._object(requests.create(kind, namespace, wanted, dry_run)), "created"
            except ApiError as error:
                if error.reason == "AlreadyDeclared":
                    return obj, "unchanged"
                if error.reason != "AlreadyExists":
                    raise
            current = self._object(requests.get(kind, namespace, name))  # somebody was faster
        return self._configure(kind, wanted, current, dry_run)

    # -- jobs ----------------------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[Object], namespace: str | None = None, *, dry_run: bool = False) -> Object:
        """Creates up to 10,000 jobs at once: `{"created": n, "existing": n, "failed": n, "items": [...]}`.

        Items are in the order of the jobs: `{"name", "uid", "code": 201 | 200}` or `{"name", "code", "reason",
        "message"}`. 200 is a job that was there, with the same idempotencyKey.
        """
        return self._object(requests.submit(namespace or self.config.namespace, jobs, dry_run))

    def retry(self, job: str, namespace: str | None = None, *, dry_run: bool = False) -> Object:
        """A new job that does again what one did that has ended; ApiError 409 for one that has not."""
        return self._object(requests.retry(namespace or self.config.namespace, job, dry_run))

    def why(self, job: str, namespace: str | None = None) -> Object:
        """Why a job waits, as a JobExplanation: a sentence, its place, what robots lack."""
        return self._object(requests.why(namespace or self.config.namespace, job))

    def why_of(self, job: Object) -> Object:
        """The same for a job that nobody has submitted, from its manifest."""
        namespace = (job.get("metadata") or {}).get("namespace") or self.config.namespace
        return self._object(requests.why_of(namespace, job))

    def artifacts(self, job: str, namespace: str | None = None, *, attempt: int | None = None) -> Sequence[Object]:
        """The files that a job left: `{"name", "size" (bytes), "sha256" (hex), "attempt", "createdTime"}` each.

        Of each name the newest attempt's, or those of one attempt.
        """
        request = requests.artifacts(namespace or self.config.namespace, job, attempt)
        items: Sequence[Object] = self._object(request)["items"]
        return items

    def read_artifact(
        self, job: str, file: str, namespace: str | None = None, *, attempt: int | None = None
    ) -> Iterator[bytes]:
        """One of these files in pieces, as they come. Whether it is whole is the reader's to check, by its sha256."""
        request = requests.artifact(namespace or self.config.namespace, job, file, attempt)
        return self._chunks(request, self.config.timeout)

    # -- robots, logs, files -------------------------------------------------------------------------------------

    def report(self, namespace: str, robot: str, body: Object, instance: str = "") -> Object:
        """An agent's heartbeat and transitions; the answer says when to come again and what became of each.

        `instance` is the agent's process, where several may have one robot's key.
        """
        return self._object(requests.report(namespace, robot, body, instance))

    def enrol(self, body: Object) -> Object:
        """Becomes a robot by a join token, which is this client's key; the answer names the robot."""
        return self._object(requests.enrol(body))

    def whoami(self) -> Object:
        """Who this client is to the server: `{"username", "uid", "groups", "extra"}`."""
        return dict(self._object(requests.whoami())["status"]["userInfo"])

    def send_log(self, namespace: str, job: str, uid: str, attempt: int, seq: int, text: str) -> None:
        """Appends a numbered chunk (at most 256 KiB of UTF-8) to a job's log; a repeated number changes nothing."""
        self._transport.send(requests.send_log(namespace, job, LogChunk(uid, attempt, seq, text)))

    def put_artifact(self, namespace: str, job: str, file: Artifact, pieces: Iterable[bytes]) -> Object:
        """Keeps a file that a job leaves behind; `pieces` are read as they are sent, and what they raise is raised."""
        answer: Object = self._transport.upload(requests.put_artifact(namespace, job, file), file, pieces)
        return answer

    def read_log(self, namespace: str, job: str, attempt: int | None = None, follow: bool = False) -> Iterator[str]:
        """A job's log in pieces; with `follow` as it is written, to the end of the job, through outages."""
        request = requests.read_log(namespace, job, attempt, follow)
        chunks = self._followed(request) if follow else self._chunks(request, self.config.timeout)
        yield from codecs.iterdecode(chunks, "utf-8", errors="replace")

    def put_blob(self, namespace: str, data: bytes) -> str:
        """Stores a file's bytes (at most 64 MiB) unless they are there, and returns their SHA-256 in hex."""
        digest = hashlib.sha256(data).hexdigest()
        try:
            self._transport.send(requests.blob("HEAD", namespace, digest))
        except ApiError as error:
            if error.status != 404:
                raise
            self._transport.send(requests.blob("PUT", namespace, digest, data))
        return digest

    def get_blob(self, namespace: str, sha256: str) -> bytes:
        """The bytes with this digest; it is checked. Raises Unreachable where they arrive damaged."""
        data = self._transport.send(requests.blob("GET", namespace, sha256)).content
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Unreachable(f"{self.config.server} sent other bytes than those with the digest {sha256[:12]}")
        return data

    def issue_key(self, name: str, namespace: str | None = None, kind: Kind | str = "ApiKey") -> str:
        """The secret of an ApiKey or a JoinToken, which the server gives out once."""
        return str(self._object(requests.token(namespace or self.config.namespace, name, kind_of(kind)))["key"])

    def rotate_key(self, name: str, namespace: str | None = None, overlap: str | None = None) -> Object:
        """A new secret of an ApiKey in `key`, given out once; in `previousUntil` until when the one before is good.

        `overlap` None is as the ApiKey says, "0" makes the one before bad at once.
        """
        return self._object(requests.rotate(namespace or self.config.namespace, name, overlap))

    def use_key(self, key: str) -> None:
        """Calls with another key from the next request on; what is open goes on with the one before."""
        self.config = replace(self.config, key=key)
        self._transport.use_key(key)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        content_type: str = requests.JSON,
    ) -> httpx2.Response:
        """A request of one's own, to a path of the server; for status 400 and more an ApiError."""
        return self._transport.send(Request(method, path, params or {}, content, content_type))

    # -- steps ---------------------------------------------------------------------------------------------------

    def _object(self, request: Request) -> Object:
        answer: Object = self._transport.send_json(request)
        return answer

    def _find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        try:
            return self._object(requests.get(kind, namespace, name))
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def _configure(self, kind: Kind, wanted: Object, current: Object, dry_run: bool) -> tuple[Object, applying.Action]:
        body = applying.change(wanted, current)
        if body is None:
            return current, "unchanged"
        metadata = current["metadata"]
        change = Patch(body, dry_run=dry_run)
        stored = self._object(requests.patch(kind, metadata.get("namespace"), metadata["name"], change))
        return stored, "unchanged" if applying.same(stored, current) else "configured"

    def _whole(self, selection: Selection) -> Object:
        listed = self._object(requests.list_(selection))
        while proceed := (listed.get("metadata") or {}).get("continue"):
            more = self._object(requests.list_(selection, None, proceed))
            more["items"] = listed["items"] + more["items"]
            listed = more
        return listed

    def _pages(self, selection: Selection, size: int) -> Iterator[Object]:
        proceed = ""
        while True:
            page = self._object(requests.list_(selection, size, proceed))
            yield page
            proceed = (page.get("metadata") or {}).get("continue") or ""
            if not proceed:
                return

    def _watch(self, selection: Selection, version: str, timeout_seconds: int | None = None) -> Iterator[WatchEvent]:
        request = requests.watch(selection, version, timeout_seconds)
        with self._transport.stream(request, WATCH_SILENCE) as response:
            yield from events(response.iter_bytes())

    def _chunks(self, request: Request, silence: float) -> Iterator[bytes]:
        with self._transport.stream(request, silence) as response:
            yield from response.iter_bytes()

    def _followed(self, request: Request) -> Iterator[bytes]:
        """A growing text, through lost connections: read again from its start, without what was handed over."""
        seen, backoff = 0, Backoff()
        while True:
            skip = seen
            try:
                for chunk in self._chunks(request, LOG_SILENCE):
                    fresh = chunk[skip:]
                    skip = max(0, skip - len(chunk))
                    seen += len(fresh)
                    if fresh:
                        backoff.reset()
                        yield fresh
                return
            except Exception as error:
                if not passing(error) or self._transport.closed.wait(backoff.next()):
                    raise

    def _select(
        self, kind: Kind | str, namespace: str | None, all_namespaces: bool, labels: str, fields: str
    ) -> Selection:
        kind = kind_of(kind)
        return Selection(kind, None if all_namespaces else self._namespace(kind, namespace), labels, fields)

    def _namespace(self, kind: Kind | str, namespace: str | None) -> str | None:
        return (namespace or self.config.namespace) if kind_of(kind).namespaced else None

    def _identity(self, obj: Object) -> tuple[Kind, str | None, str]:
        kind, metadata = kind_of(str(obj.get("kind"))), obj.get("metadata") or {}
        return kind, self._namespace(kind, metadata.get("namespace")), str(metadata.get("name") or "")


class _Source:
    """What `follow` follows: a selection at a server."""

    def __init__(self, client: Client, selection: Selection) -> None:
        self.list = functools.partial(client._whole, selection)
        self.watch = functools.partial(client._watch, selection)
