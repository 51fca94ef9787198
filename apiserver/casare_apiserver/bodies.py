"""What does the body of a request say? JSON or YAML as an object, or a patch; everything else is refused in words.

YAML is bounded before it is built: no aliases (a few bytes of them can mean gigabytes) and no deeper than an object
may be; and it is read beside the event loop, since it takes a hundred times as long as JSON.
"""

from __future__ import annotations

import asyncio
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


class _JsonLoader(_Loader):  # type: ignore[misc]
    """YAML without timestamps: a date stays the text that was written."""


_JsonLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


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
