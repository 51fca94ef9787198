"""Which object is in this protobuf body? The dict that the same object would be, had it been sent as JSON.

Typed Go clients (kubectl among them) send built-in kinds so and know no other way: four bytes of magic, then a
``runtime.Unknown`` that names the kind and holds the object's message. Only what comes in is read; answers are JSON.
Whatever is malformed is an ``ApiError`` 400 that says where. Time and memory are linear in the size of the body, and
the fields are counted, because thousands of empty ones are the cheapest way to make a server work.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from casare_api.machinery import times
from casare_api.machinery.errors import ApiError
from casare_api.machinery.patches import check_depth
from casare_api.machinery.protobuf_fields import MESSAGES, Field, message_of

Object = dict[str, Any]
Payload = int | slice | None  # a number, where some bytes are, or one of the wire types that no field of ours has

MAGIC = b"k8s\0"
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAX_FIELDS = 100_000  # a body of 3 MiB can hold a million; what people send has hundreds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO = datetime(1, 1, 1, tzinfo=UTC)  # Go's time that is not set
_LONGEST_VARINT = 10


class _Malformed(Exception):
    """What is wrong with the body, without the words around it."""


def decode(body: bytes) -> Object:
    """The object in a body of type ``application/vnd.kubernetes.protobuf``, with its apiVersion and kind.

    Empty texts, zeros and times that are not set are left out, as Go's JSON does; empty messages stay. ApiError 400
    for a body that is malformed, of a kind that is not sent so, or of more than 100,000 fields.
    """
    try:
        decoded = _object(bytes(body))
        check_depth(decoded)
    except _Malformed as problem:
        raise ApiError.bad_request(f"the body is not a Kubernetes protobuf object: {problem}") from None
    return decoded


def _object(body: bytes) -> Object:
    if not body.startswith(MAGIC):
        raise _Malformed("it does not begin with k8s and a zero byte")
    wire = _Wire(body)
    meta, encoding, raw = _envelope(wire)
    api_version, kind = meta.get(1, ""), meta.get(2, "")
    if encoding:
        raise _Malformed(f"its content encoding is {_shown(encoding)}: send it plain")
    if not kind:
        raise _Malformed("its TypeMeta names no kind")
    message = message_of(api_version, kind)
    if message is None:
        raise _Malformed(f"no kind {_shown(kind)} is known in version {_shown(api_version)}: send JSON")
    return {"apiVersion": api_version, "kind": kind} | _message(wire, raw, message, {}, kind)


def _envelope(wire: _Wire) -> tuple[dict[int, str], str, slice]:
    """The type (by field number), the content's encoding, and where the object's own message is."""
    meta: dict[int, str] = {}
    encoding, raw = "", slice(0, 0)
    for number, payload in wire.fields(slice(len(MAGIC), len(wire.data))):
        if number == 1:
            spans = wire.fields(_span(payload, "typeMeta"))
            meta |= {part: wire.text(value, "typeMeta") for part, value in spans if part in (1, 2)}
        elif number == 2:
            raw = _span(payload, "raw")
        elif number == 3:
            encoding = wire.text(payload, "contentEncoding")
    return meta, encoding, raw


# -- the wire: varints, tags and spans -----------------------------------------------------------------------------


class _Wire:
    """The bytes of one body. Nothing is copied before a value is wanted: messages are spans."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._count = 0

    def fields(self, span: slice) -> Iterator[tuple[int, Payload]]:
        """Number and payload of each field in a span. Raises _Malformed."""
        at, end = span.start, span.stop
        while at < end:
            self._count += 1
            if self._count > MAX_FIELDS:
                raise _Malformed(f"it has more than {MAX_FIELDS} fields")
            tag, at = self._varint(at, end)
            if not 0 < tag >> 3 < 2**29:
                raise _Malformed(f"there is no field number {tag >> 3}")
            payload, at = self._payload(tag & 7, at, end)
            yield tag >> 3, payload

    def content(self, payload: Payload, path: str) -> bytes:
        return self.data[_span(payload, path)]

    def text(self, payload: Payload, path: str) -> str:
        try:
            return self.content(payload, path).decode()
        except UnicodeDecodeError:
            raise _Malformed(f"{path} is not UTF-8") from None

    def _payload(self, wire_type: int, at: int, end: int) -> tuple[Payload, int]:
        if wire_type == 0:
            return self._varint(at, end)
        if wire_type not in (1, 2, 5):
            raise _Malformed(f"wire type {wire_type} is none that Kubernetes uses")
        size, at = self._varint(at, end) if wire_type == 2 else ({1: 8, 5: 4}[wire_type], at)
        if size > end - at:
            raise _Malformed("it ends within a field")
        return (slice(at, at + size) if wire_type == 2 else None), at + size

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """An unsigned number of up to 64 bits, and where it ends."""
        if at < end and self.data[at] < 0x80:  # nearly always
            return self.data[at], at + 1
        value = 0
        for index in range(min(_LONGEST_VARINT, end - at)):
            byte = self.data[at + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if value >= 2**64:
                    raise _Malformed("a number has more than 64 bits")
                return value, at + index + 1
        is_cut = end - at < _LONGEST_VARINT
        raise _Malformed("it ends within a number" if is_cut else "a number has more than ten bytes")


def _span(payload: Payload, path: str) -> slice:
    if not isinstance(payload, slice):
        raise _Malformed(f"{path} has the wire type of something else")
    return payload


def _number(payload: Payload, path: str, bits: int = 64) -> int:
    """The number as two's complement: what is too large for a field loses its upper bits, as everywhere in protobuf."""
    if not isinstance(payload, int):
        raise _Malformed(f"{path} has the wire type of something else")
    limit = 1 << bits
    cut = payload % limit
    return cut - limit if cut >= limit // 2 else cut


# -- messages ------------------------------------------------------------------------------------------------------


def _message(wire: _Wire, span: slice, message: str, into: Object, path: str) -> Object:
    """Reads a message into ``into``: one that comes in pieces is merged, and what is said last holds."""
    known = MESSAGES[message]
    for number, payload in wire.fields(span):
        field = known.get(number)
        if field is not None:
            _set(wire, field, payload, into, f"{path}.{field.name}")
    return into


def _set(wire: _Wire, field: Field, payload: Payload, into: Object, path: str) -> None:
    if field.shape == "list":
        into.setdefault(field.name, []).append(_value(wire, field.type, payload, None, path))
    elif field.shape == "map":
        key, value = _entry(wire, field.type, payload, path)
        into.setdefault(field.name, {})[key] = value
    else:
        value = _value(wire, field.type, payload, into.get(field.name), path)
        if value is None or (value in ("", 0) and not field.keeps_zero):
            into.pop(field.name, None)
        else:
            into[field.name] = value


def _entry(wire: _Wire, of: str, payload: Payload, path: str) -> tuple[str, Any]:
    """One entry of a map: a message of a key and a value, either of them empty where it is missing."""
    key, value = "", [] if of == "ExtraValue" else ""
    for number, part in wire.fields(_span(payload, path)):
        if number == 1:
            key = wire.text(part, path)
        elif number == 2:
            value = _value(wire, of, part, None, path)
    return key, value


def _value(wire: _Wire, of: str, payload: Payload, before: Any, path: str) -> Any:
    """One value as JSON has it; None for one that is not set. ``before`` is what the message it merges into has."""
    match of:
        case "string":
            return wire.text(payload, path)
        case "bytes":
            return base64.b64encode(wire.content(payload, path)).decode()
        case "bool":
            return _number(payload, path) != 0
        case "int32" | "int64":
            return _number(payload, path, int(of[3:]))
        case "Time" | "MicroTime":
            return _time(wire, _span(payload, path), of == "MicroTime", path)
        case "FieldsV1":
            return _fields_v1(wire, _span(payload, path), path)
        case "ExtraValue":
            return [wire.text(part, path) for number, part in wire.fields(_span(payload, path)) if number == 1]
        case _:
            return _message(wire, _span(payload, path), of, before or {}, path)


def _time(wire: _Wire, span: slice, micro: bool, path: str) -> str | None:
    """RFC 3339 in UTC; what is smaller than a second, or with ``micro`` than a microsecond, is cut off."""
    if span.start == span.stop:
        return None
    seconds = nanos = 0
    for number, payload in wire.fields(span):
        if number == 1:
            seconds = _number(payload, path)
        elif number == 2:
            nanos = _number(payload, path, 32)
    if not 0 <= nanos < 10**9:
        raise _Malformed(f"{path} has {nanos} nanoseconds")
    try:
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000 if micro else 0)
    except OverflowError:
        raise _Malformed(f"{path} is not in the years 1 to 9999") from None
    return None if moment == _ZERO else times.to_text(moment, micro)


def _fields_v1(wire: _Wire, span: slice, path: str) -> Object | None:
    """The fields that a manager owns: JSON within the protobuf, its one field of bytes."""
    raw = b""
    for number, payload in wire.fields(span):
        if number == 1:
            raw = wire.content(payload, path)
    if not raw:
        return None
    try:
        fields = orjson.loads(raw)
    except ValueError:
        raise _Malformed(f"{path} is not JSON") from None
    if not isinstance(fields, dict):
        raise _Malformed(f"{path} is not a JSON object")
    return fields


def _shown(text: str) -> str:
    """The text in quotes, on one line and not too long."""
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."
