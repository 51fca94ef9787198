"""What does the body of a request say? JSON or YAML as an object, or a patch; everything else is refused in words.

YAML is bounded before it is built: no aliases (a few bytes of them can mean gigabytes) and no deeper than an object
may be. It can say what JSON can and nothing else, with the numbers of YAML 1.2; and it is read beside the event loop,
since it takes a hundred times as long as JSON.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, cast

import orjson
import yaml

from casare_api.kinds import Object
from casare_api.machinery import admission, patches
from casare_api.machinery.errors import ApiError
from casare_apiserver.wire import Request

MAX_YAML = 1024 * 1024  # bytes
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
_BOOL = re.compile(r"(?:yes|no|true|false|on|off)\Z", re.IGNORECASE)


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
    return text.lower() in ("yes", "true", "on")


def _scalar(pattern: re.Pattern[str], read: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    """A constructor of what looks like `pattern`; a tag that was written can stand before anything."""

    def construct(loader: Any, node: Any) -> Any:
        text = loader.construct_scalar(node)
        if not pattern.match(text):
            raise yaml.constructor.ConstructorError(None, None, f"{text[:60]!r} is not {node.tag}", node.start_mark)
        return read(text)

    return construct


_JsonLoader.add_implicit_resolver(_TAG + "int", _INT, list("-+0123456789"))
_JsonLoader.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+.0123456789"))
_JsonLoader.add_constructor(_TAG + "int", _scalar(_INT, _whole))
_JsonLoader.add_constructor(_TAG + "float", _scalar(_FLOAT, _fraction))
_JsonLoader.add_constructor(_TAG + "bool", _scalar(_BOOL, _truth))


async def read_object(request: Request) -> Any:
    """The body as an object; JSON, or YAML when it says so. Raises ApiError 400, 413, 415."""
    content_type = _media_type(request.header(b"content-type"))
    if content_type in _YAML:
        return await asyncio.to_thread(from_yaml, await request.body(MAX_YAML))
    if content_type not in ("", "application/json", "text/json"):
        raise ApiError.unsupported_media_type(["application/json", "application/yaml"])
    return parse_json(await request.body())


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


def patch(content_type: str, body: bytes) -> Callable[[Object], Object]:
    """The patch in a body as a function on objects. Raises ApiError 400, 415."""
    kind = _media_type(content_type)
    if kind not in ("application/merge-patch+json", "application/json-patch+json"):
        raise ApiError.unsupported_media_type(["application/json-patch+json", "application/merge-patch+json"])
    said = parse_json(body)
    admission.check_storable(said)
    if kind == "application/json-patch+json":
        return lambda current: cast(Object, patches.json_patch(current, said))
    if not isinstance(said, dict):
        raise ApiError.bad_request("a merge patch must be a JSON object")
    return lambda current: cast(Object, patches.merge_patch(current, said))


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
