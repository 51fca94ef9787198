"""How does one caller see objects: whole, as a table, or as metadata alone; and sealed ones opened?

What everybody gets alike travels as the store's own bytes. A view is for the others: it takes those bytes apart for
one caller, so that nothing of what was opened or reshaped is ever shared. A list is text all the way: objects that
were taken apart need many times as much memory, so no more than a chunk of them is ever there at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast, get_args

import orjson
import yaml

from casare_api.kinds import Kind, Object
from casare_api.machinery import tables
from casare_api.machinery.errors import ApiError
from casare_apiserver import negotiation
from casare_apiserver.negotiation import Form
from casare_apiserver.wire import Request
from casare_store.reads import SEPARATOR

MAX_YAML = 3 * 1024 * 1024  # bytes as JSON; each of them takes a core for a microsecond
_YAML_WRITER = ThreadPoolExecutor(1, "yaml")  # one core at most, and no other work waits behind it
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True)
class View:
    """How one caller sees the objects of a kind.

    `opened` undoes what keeps a kind's values from being read, or gives the object another face.
    """

    kind: Kind
    form: Form
    include: tables.Include = "Metadata"
    opened: Callable[[Object], Object] | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @classmethod
    def of(cls, request: Request, kind: Kind, opened: Callable[[Object], Object] | None = None) -> View:
        """What a request asks for. Raises ApiError 400, 406."""
        include = request.query.get("includeObject") or "Metadata"
        if include not in get_args(tables.Include):
            raise ApiError.bad_request(f'includeObject: Invalid value: "{include[:40]}": None, Metadata or Object')
        form = negotiation.form(request.header(b"accept"))
        shown = opened if kind.sealed else None if kind.face is None else kind.face.from_stored
        return cls(kind, form, cast(tables.Include, include), shown)

    @property
    def is_plain(self) -> bool:
        """Whether the store's own bytes are the answer."""
        return self.form == negotiation.WHOLE and self.opened is None

    async def one(self, request: Request, status: int, obj: Object, is_open: bool = False) -> None:
        """Sends one object; `is_open` where it comes from a write and was never sealed."""
        if self.opened is not None and not is_open:
            obj = self.opened(obj)
        if self.form == negotiation.WHOLE:
            await request.object(status, obj)
            return
        meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        await request.answer(
            status, await self._encoded(orjson.dumps(self._shaped(obj, meta)) + b"\n"), content_type=self._content_type,
        )

    async def all(self, request: Request, chunks: list[bytes], metadata: Object) -> None:
        """Sends a list: these chunks of a page, which it takes away, so that a client's slowness keeps none of them.

        Raises ApiError 406, 429.
        """
        await request.answer(
            200, await self._encoded(await self._joined(chunks, metadata)), content_type=self._content_type,
        )

    async def _joined(self, chunks: list[bytes], metadata: Object) -> bytes:
        envelope = orjson.dumps(self._listed([], metadata)).removesuffix(b"]}")
        parts: list[bytes] = []
        chunks.reverse()
        while chunks:
            chunk = chunks.pop()
            if not self.is_plain:
                objects = [self._open(obj) for obj in orjson.loads(b"[" + chunk + b"]")]
                chunk = SEPARATOR.join(map(orjson.dumps, self._parts(objects)))
                await asyncio.sleep(0)  # others get their turn
            parts.append(chunk)
        return envelope + SEPARATOR.join(parts) + b"]}\n"

    def event(self, line: bytes, is_first: bool) -> bytes:
        """A watch's line as this caller gets it; `is_first` for the first of its watch."""
        event = orjson.loads(line)
        if event["type"] == "ERROR":
            return line
        obj = event["object"]  # of a bookmark, metadata alone: a table has it in its row, where clients look
        shown = self._shaped(self._open(obj), {"resourceVersion": obj["metadata"]["resourceVersion"]})
        if self.form.shape == "Table" and not is_first:
            shown["columnDefinitions"] = None
        return orjson.dumps({"type": event["type"], "object": shown}) + b"\n"

    def _open(self, obj: Object) -> Object:
        return obj if self.opened is None else self.opened(obj)

    def _shaped(self, obj: Object, metadata: Object) -> Object:
        parts = self._parts([obj])
        return self._listed(parts, metadata) if self.form.shape == "Table" else parts[0]

    def _parts(self, objects: list[Object]) -> list[Object]:
        if self.form.shape == "Table":
            return tables.rows(self.kind, objects, self.now(), self.include)
        return objects if self.form.shape == "whole" else [tables.partial(obj) for obj in objects]

    def _listed(self, parts: list[Object], metadata: Object) -> Object:
        if self.form.shape == "Table":
            return tables.table(tables.columns(self.kind), parts, metadata)
        if self.form.shape == "whole":
            kind, version = f"{self.kind.kind}List", self.kind.api_version
        else:
            kind, version = "PartialObjectMetadataList", tables.META
        return {"kind": kind, "apiVersion": version, "metadata": metadata, "items": parts}

    @property
    def _content_type(self) -> bytes:
        return b"application/yaml" if self.form.yaml else b"application/json"

    async def _encoded(self, text: bytes) -> bytes:
        """JSON in the form that is asked for. Raises ApiError 406 for more than is written as YAML."""
        if not self.form.yaml:
            return text
        if len(text) > MAX_YAML:
            most = MAX_YAML // 1024**2
            why = f"the answer is too large for YAML (more than {most} MiB): ask for JSON, or for less with limit"
            raise ApiError(406, "NotAcceptable", why)
        return await asyncio.get_running_loop().run_in_executor(_YAML_WRITER, _as_yaml, text)


def _as_yaml(text: bytes) -> bytes:
    body = orjson.loads(text)
    dumped: str = yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return dumped.encode()
