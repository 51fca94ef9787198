"""What is served beside the resources? Files of workflows by their hash, revisions, and the one showing of a key."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from casare_api.kinds import Object
from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.core import NAMESPACE
from casare_api.kinds.workflow import WORKFLOW
from casare_api.machinery.errors import ApiError
from casare_apiserver.auth import digest
from casare_apiserver.resources import Target
from casare_apiserver.wire import Request, reply
from casare_store import admission, beside, reads
from casare_store.store import Store
from casare_store.writer import Context

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_FOR_EVER = (b"cache-control", b"private, max-age=31536000, immutable")


@dataclass(frozen=True, slots=True)
class Files:
    """The handlers."""

    store: Store

    async def blob(self, request: Request, namespace: str, sha256: str) -> None:
        if not _SHA256.match(sha256):
            raise ApiError.bad_request("a file is named by the 64 hex digits of its SHA-256")
        if request.method == "PUT":
            data = await request.body(beside.MAX_BLOB)
            if await reads.get(self.store.pool, NAMESPACE, "", namespace) is None:
                raise ApiError.not_found(NAMESPACE, namespace)
            is_new = await beside.put_blob(self.store.pool, namespace, sha256, data)
            await request.object(201 if is_new else 200, {"sha256": sha256, "size": len(data)})
        elif request.method == "HEAD":
            size = await beside.has_blob(self.store.pool, namespace, sha256)
            if size is None:
                raise _no_file(sha256)
            await reply(request.send, 200, b"", b"application/octet-stream", extra=[(b"x-size", str(size).encode())])
        else:
            data_found = await beside.get_blob(self.store.pool, namespace, sha256)
            if data_found is None:
                raise _no_file(sha256)
            await reply(request.send, 200, data_found, b"application/octet-stream", extra=[_FOR_EVER])

    async def revision(self, request: Request, target: Target, name: str) -> None:
        content = await beside.revision(self.store.pool, target.namespace or "", name)
        if content is None:
            raise ApiError.not_found(WORKFLOW, f"{target.name}/revisions/{name}")
        body = (
            f'{{"apiVersion":"{WORKFLOW.api_version}","kind":"WorkflowRevision","metadata":{{"name":"{name}",'
            f'"namespace":"{target.namespace}"}},"spec":{content}}}\n'
        )
        await request.answer(200, body.encode(), [_FOR_EVER])

    async def token(self, request: Request, target: Target) -> None:
        """Makes the key of an ApiKey and shows it this once. Raises ApiError 409 when it has one already."""
        key = "crpa_" + secrets.token_urlsafe(32)

        def change(current: Object, context: Context) -> Object:
            if current["spec"].get("hash"):
                raise ApiError(409, "Conflict", f'apikey "{target.name}" has a key already: make another ApiKey, '
                                                "and revoke this one when nobody uses it")
            status = {**(current.get("status") or {}), "hint": hint(key)}
            return {**current, "spec": {**current["spec"], "hash": digest(key)}, "status": status}

        operation = admission.system(
            APIKEY, {"metadata": {"namespace": target.namespace, "name": target.name}}, change
        )
        if await self.store.writer.write(operation) is None:
            raise ApiError.not_found(APIKEY, target.name or "")
        await request.object(201, {"kind": "KeyToken", "apiVersion": APIKEY.api_version, "key": key})


def hint(key: str) -> str:
    """What may be shown of a key: enough to tell it from others."""
    return f"{key[:5]}...{key[-4:]}"


def _no_file(sha256: str) -> ApiError:
    return ApiError(404, "NotFound", f"there is no file {sha256[:12]}...: send it first")
