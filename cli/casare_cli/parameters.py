"""What does `-p key=value` mean to this workflow? Its JSON Schema says which values are text.

Where the schema wants a string the text is taken as it is (`-p month=2026-10`, `-p zip=01234`); anything else is read
as a YAML value (`-p count=3`, `-p dry=true`, `-p tags=[a,b]`). Whether it fits is the server's to judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from casare_api.kinds import Object
from casare_cli import yaml_text
from casare_cli.failures import Misuse
from casare_cli.yaml_text import Text, Unreadable


def parse(words: Sequence[str], schema: Any) -> Object:
    """What `key=value` words give; the last one of a key counts. Raises Misuse for a word without "="."""
    found: Object = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise Misuse(f'"{word}" is no parameter: write -p key=value')
        found[key] = value(key, text, schema)
    return found


def value(key: str, text: str, schema: Any) -> Any:
    """What the text of one parameter means under the workflow's JSON Schema."""
    types = types_of(schema, key)
    if types and types <= {"string"}:
        return text
    try:
        read = yaml_text.parse(Text(1, 1, text)).value
    except Unreadable as error:
        if "string" in types or not types:
            return text
        raise Misuse(f"-p {key}: {error}") from None
    if "string" in types and not _is_other(read, types):
        return text
    return read


def types_of(schema: Any, key: str) -> set[str]:
    """The JSON types that the schema allows for a parameter; empty where it does not say."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    found = properties.get(key) if isinstance(properties, dict) else None
    said = found.get("type") if isinstance(found, dict) else None
    if said is None and isinstance(found, dict) and isinstance(found.get("enum"), list):
        return {_type(item) for item in found["enum"]}
    return {said} if isinstance(said, str) else {str(one) for one in said} if isinstance(said, list) else set()


def _is_other(read: Any, types: set[str]) -> bool:
    """Whether the value is of one of the types beside string: ["string", "null"] takes `null` for null."""
    name = _type(read)
    return name in types or (name == "integer" and "number" in types)


def _type(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}
    return names.get(type(value), "string")
