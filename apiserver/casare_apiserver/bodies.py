"""What does the body of a request say? JSON or YAML as an object, or a patch; everything else is refused in words.

YAML is bounded before it is built: no aliases (a few bytes of them can mean gigabytes) and no deeper than an object
may be. It can say what JSON can and nothing else, with the numbers of YAML 1.2; and it is read beside the event loop,
since it takes a hundred times as long as JSON.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import orjson
import yaml

from casare_api.kinds import GROUP, Kind, Object
from casare_api.machinery import admission, patches, protobuf
from casare_api.machinery.errors import REJECTED, ApiError
from casare_api.machinery.strategic import strategic_patch
from casare_apiserver.wire import MAX_BODY, Request, too_large

MAX_YAML = 1024 * 1024  # bytes
MAX_PARTS = 500_000  # objects and lists in a large body: as Python objects they take a hundred times their bytes
MAX_OPTIONS = 16 * 1024  # bytes of a DELETE's body, which is read on the event loop
PROTOBUF = "application/vnd.kubernetes.protobuf"
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
APPLY, STRATEGIC = "application/apply-patch+yaml", "application/strategic-merge-patch+json"
_PATCHES = (JSON_PATCH, MERGE_PATCH, APPLY)
_JSON = ("", "application/json", "text/json")
_YAML = ("application/yaml", "application/x-yaml", "text/yaml")
_OPENING = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken, yaml.FlowMappingStartToken,
            yaml.FlowSequenceStartToken)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_TAG = "tag:yaml.org,2002:"
# YAML 1.1 has numbers to the base of 60 as well (1:30:00); they take a time that grows with the square of their length.
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
# A bare y is true, as for everybody who reads YAML 1.1 and as kubectl has it.
_BOOL = re.compile(r"(?:y|n|yes|no|true|false|on|off)\Z", re.IGNORECASE)


class _JsonLoader(_Loader):  # type: ignore[misc]
    """YAML without what JSON has not: a date stays the text that was written, `<<` is a key like others."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Nothing is merged: that is for aliases, and there are none."""


_JsonLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag in (_TAG + "null", _TAG + "bool")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_JsonLoader.yaml_constructors = {
    tag: yaml.SafeLoader.yaml_constructors[tag]
    for tag in (_TAG + "null", _TAG + "str", _TAG + "seq", _TAG + "map", None)  # None: all others are refused
}


def _whole(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _fraction(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _truth(text: str) -> bool:
    return text.lower() in ("y", "yes", "true", "on")


def _scalar(pattern: re.Pattern[str], read: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    """A constructor of what looks like `pattern`; a tag that was written can stand before anything."""

    def construct(loader: Any, node: Any) -> Any:
        text = loader.construct_scalar(node)
        if not pattern.match(text):
            raise yaml.constructor.ConstructorError(None, None, f"what is there is not {node.tag}", node.start_mark)
        return read(text)

    return construct


_JsonLoader.add_implicit_resolver(_TAG + "bool", re.compile(r"[yYnN]\Z"), list("yYnN"))
_JsonLoader.add_implicit_resolver(_TAG + "int", _INT, list("-+0123456789"))
_JsonLoader.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+.0123456789"))
_JsonLoader.add_constructor(_TAG + "int", _scalar(_INT, _whole))
_JsonLoader.add_constructor(_TAG + "float", _scalar(_FLOAT, _fraction))
_JsonLoader.add_constructor(_TAG + "bool", _scalar(_BOOL, _truth))


async def read_object(request: Request, kind: Kind | None = None, limit: int = MAX_BODY) -> Any:
    """The body as an object: JSON, YAML or (for the built-in kinds) protobuf, as it says.

    A body that does not say is JSON: clients' typed calls leave it out. `limit` are the bytes of JSON. Raises ApiError
    400, 413, 415.
    """
    content_type = _media_type(request.header(b"content-type"))
    if content_type in _YAML:
        return await asyncio.to_thread(from_yaml, await request.body(MAX_YAML))
    is_built_in = kind is None or kind.group != GROUP
    if content_type == PROTOBUF and is_built_in:
        return protobuf.decode(await request.body())
    if content_type not in _JSON:
        known = ["application/json", "application/yaml", PROTOBUF]
        raise ApiError.unsupported_media_type(known if is_built_in else known[:2])
    body = await request.body(limit)
    if len(body) > MAX_BODY and body.count(b"{") + body.count(b"[") > MAX_PARTS:
        why = f"more than {MAX_PARTS} objects and lists in one request: send less at once"
        raise ApiError(413, "RequestEntityTooLarge", why)
    return parse_json(body)


def read_options(request: Request, body: bytes) -> Any:
    """The options in the body of a DELETE. Raises ApiError 400, 413, 415."""
    content_type = _media_type(request.header(b"content-type"))
    if len(body) > MAX_OPTIONS:
        raise too_large(MAX_OPTIONS)
    if content_type in _YAML:
        return from_yaml(body)
    if content_type == PROTOBUF:
        return protobuf.decode(body)
    if content_type not in _JSON:
        raise ApiError.unsupported_media_type(["application/json", "application/yaml", PROTOBUF])
    return parse_json(body)


def parse_json(body: bytes) -> Any:
    """Raises ApiError 400."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError.bad_request(f"the body is not JSON: {error}") from error


def from_yaml(body: bytes) -> Any:
    """YAML as JSON would say it. Raises ApiError 400."""
    try:
        text = body.decode()
        _check_structure(text)
        return orjson.loads(orjson.dumps(_finite(yaml.load(text, Loader=_JsonLoader))))  # noqa: S506  it is a safe one
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError, RecursionError) as error:
        raise ApiError.bad_request(f"the body is not YAML: {' '.join(str(error).split())[:200]}") from error


@dataclass(frozen=True, slots=True)
class Patch:
    """What the body of a PATCH says: a change of the object as it is, or (`config`) what somebody applies."""

    change: Callable[[Object], Object]
    config: Object | None = None


async def read_patch(request: Request, kind: Kind) -> Patch:
    """The patch in a request's body. Raises ApiError 400, 413, 415."""
    content_type = _media_type(request.header(b"content-type"))
    known = _PATCHES if kind.group == GROUP else (*_PATCHES, STRATEGIC)
    if content_type not in known:
        raise ApiError.unsupported_media_type(known)
    if content_type == APPLY:
        return Patch(_unchanged, await _applied(request))
    said = parse_json(await request.body())
    admission.check_storable(said, kind.sealed)
    if content_type != JSON_PATCH and not isinstance(said, dict):
        raise ApiError.bad_request("the patch must be a JSON object")
    put_on = {JSON_PATCH: patches.json_patch, STRATEGIC: strategic_patch}.get(content_type, patches.merge_patch)
    if kind.sealed:
        put_on = _hiding(put_on)
    return Patch(lambda current: cast(Object, put_on(current, said)))


def _hiding(put_on: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The same, without the values that a refusal would show."""

    def put_on_unseen(current: Any, said: Any) -> Any:
        try:
            return put_on(current, said)
        except ApiError as error:
            raise ApiError(error.status, error.reason, f"{REJECTED}: what it says is {admission.HIDDEN}") from None

    return put_on_unseen


async def _applied(request: Request) -> Object:
    """What is applied: YAML, of which JSON, which kubectl sends, is a part that is read faster."""
    body = await request.body()
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        if len(body) > MAX_YAML:
            raise too_large(MAX_YAML) from None
        said = await asyncio.to_thread(from_yaml, body)
    if not isinstance(said, dict):
        raise ApiError.bad_request("what is applied must be an object")
    admission.check_storable(said)
    return said


def _unchanged(current: Object) -> Object:
    return current


def _media_type(header: str) -> str:
    return header.split(";")[0].strip().lower()


def _check_structure(text: str) -> None:
    depth = 0
    for token in yaml.scan(text, Loader=_JsonLoader):
        if isinstance(token, yaml.AliasToken):
            raise ApiError.bad_request("the body is YAML with aliases (*name): write it without")
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > admission.MAX_DEPTH:
            raise ApiError.bad_request(f"the object is nested deeper than {admission.MAX_DEPTH} levels")


def _finite(value: Any) -> Any:
    """The value, once it is known to hold no number that JSON has not (it would become null)."""
    admission.check_storable(value)
    return value
