"""What becomes of an object when a patch is put on it? RFC 7386, RFC 6902, and the patch that ``apply`` computes.

The inputs are JSON as Python has it (dict, list, str, int, float, bool, None) and are never changed; a result
shares nothing with them. Work and size stay bounded: an input nested deeper than 100 levels, a patch of more than
10,000 operations and one that copies more than 3 MiB in all are refused with an ``ApiError``, never with a
RecursionError.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from casare_api.machinery.errors import ApiError

Json = Any

MAX_DEPTH = 100
MAX_OPERATIONS = 10_000
MAX_COPIED = 3 * 2**20  # about the bytes that `copy` operations add, as kube-apiserver limits them

_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")


def merge_patch(target: Json, patch: Json) -> Json:
    """RFC 7386: what the patch names is set, null removes, lists are replaced whole."""
    return _merge(_copy(target), patch, 0)


def json_patch(target: Json, operations: Json) -> Json:
    """RFC 6902: all operations in turn, or none.

    ApiError 400 for a document that is no JSON patch, 422 for an operation that can't be carried out here (a failing
    ``test``, a path that is not there, an operation nobody knows), 413 for one that copies too much.
    """
    run = _Run(_copy(target))
    for number, operation in enumerate(_operations(operations), 1):
        try:
            run.apply(operation)
        except _Impossible as problem:
            raise ApiError.rejected(f"operation {number} ({_named(operation)}): {problem}") from None
    check_depth(run.document)  # moves may have nested it
    return run.document


def three_way(original: Json, modified: Json, current: Json) -> Json | None:
    """The merge patch that takes ``current`` to what ``modified`` says, as kubectl's client-side apply computes it.

    ``original`` is what was applied last (None: nothing). What it had and ``modified`` lacks is removed; what neither
    names is left to whoever set it. A null counts as not there. Lists are atomic. None: nothing would change.
    """
    for each in (original, modified, current):
        check_depth(each)
    if not isinstance(modified, dict):
        return None if json_equal(modified, current) else _copy(modified)
    return _difference(_members(original), modified, _members(current)) or None


def json_equal(one: Json, other: Json) -> bool:
    """Equality as JSON has it: 1 is 1.0, but true is not 1. For values no deeper than the limit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return len(one) == len(other) and all(key in other and json_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(json_equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other) if type(one) is type(other) or _are_numbers(one, other) else False


def check_depth(value: Json) -> None:
    """ApiError 400 if the value is nested deeper than the limit. Needs no recursion itself."""
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise _too_deep()
        below: list[Json] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
        level, depth = below, depth + 1


def _copy(value: Json, depth: int = 0) -> Json:
    if depth > MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, dict):
        return {key: _copy(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_copy(each, depth + 1) for each in value]
    return value


def _too_deep() -> ApiError:
    return ApiError.bad_request(f"nested deeper than {MAX_DEPTH} levels")


def _are_numbers(one: Json, other: Json) -> bool:
    return isinstance(one, int | float) and isinstance(other, int | float)


# -- merge patch ---------------------------------------------------------------------------------------------------


def _merge(target: Json, patch: Json, depth: int) -> Json:
    """``target`` is ours to change."""
    if depth > MAX_DEPTH:
        raise _too_deep()
    if not isinstance(patch, dict):
        return _copy(patch, depth)
    merged = target if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value, depth + 1)
    return merged


# -- three-way -----------------------------------------------------------------------------------------------------


def _members(value: Json) -> dict[str, Json]:
    """The members of an object without its nulls; anything else has none."""
    return {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else {}


def _difference(original: dict[str, Json], modified: dict[str, Json], current: dict[str, Json]) -> dict[str, Json]:
    patch: dict[str, Json] = {}
    wanted = _members(modified)
    for key, value in wanted.items():
        has = current.get(key)
        if isinstance(value, dict) and isinstance(has, dict):
            if inner := _difference(_members(original.get(key)), value, _members(has)):
                patch[key] = inner
        elif not json_equal(value, has):
            patch[key] = _merge(None, value, 0)  # on nothing: drops its nulls
    for key in original:
        if key not in wanted and key in current:
            patch[key] = None
    return patch


# -- JSON patch ----------------------------------------------------------------------------------------------------


class _Impossible(Exception):
    """An operation that can't be carried out on this document."""


class _Run:
    """One patch being put on one document."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self._copied = 0

    def apply(self, operation: dict[str, Json]) -> None:
        path = _pointer(operation["path"])
        match operation["op"]:
            case "add":
                self._add(path, _copy(operation["value"]))
            case "remove":
                self._take(path)
            case "replace":
                self._replace(path, _copy(operation["value"]))
            case "move":
                self._move(_pointer(operation["from"]), path)
            case "copy":
                self._add(path, self._duplicate(self._get(_pointer(operation["from"]))))
            case "test":
                self._test(path, operation["value"])
            case _:
                raise _Impossible("there is no such operation; allowed: add, remove, replace, move, copy, test")

    def _get(self, pointer: Sequence[str]) -> Json:
        value = self.document
        for token in pointer:
            if isinstance(value, dict) and token in value:
                value = value[token]
            elif isinstance(value, list):
                value = value[_index(token, len(value) - 1)]
            else:
                raise _Impossible("there is nothing at that path")
        return value

    def _add(self, pointer: Sequence[str], value: Json) -> None:
        if not pointer:
            self.document = value
            return
        parent, token = self._get(pointer[:-1]), pointer[-1]
        if isinstance(parent, dict):
            parent[token] = value
        elif isinstance(parent, list):
            parent.insert(len(parent) if token == "-" else _index(token, len(parent)), value)
        else:
            raise _Impossible("only an object or a list can hold something")

    def _replace(self, pointer: Sequence[str], value: Json) -> None:
        self._get(pointer)
        if not pointer:
            self.document = value
            return
        parent, token = self._get(pointer[:-1]), pointer[-1]
        parent[token if isinstance(parent, dict) else int(token)] = value

    def _take(self, pointer: Sequence[str]) -> Json:
        value = self._get(pointer)
        if not pointer:
            self.document = None
            return value
        parent, token = self._get(pointer[:-1]), pointer[-1]
        del parent[token if isinstance(parent, dict) else int(token)]
        return value

    def _move(self, source: list[str], target: list[str]) -> None:
        if len(target) > len(source) and target[: len(source)] == source:
            raise _Impossible("a value can't be moved into itself")
        self._add(target, self._take(source))

    def _test(self, pointer: list[str], value: Json) -> None:
        if not json_equal(_copy(value), self._get(pointer)):
            raise _Impossible("the value there is another one")

    def _duplicate(self, value: Json) -> Json:
        self._copied += _weight(value, MAX_COPIED)
        if self._copied > MAX_COPIED:
            raise ApiError.too_large(MAX_COPIED)
        return _copy(value)


def _operations(operations: Json) -> list[dict[str, Json]]:
    """The operations, each known to have its members. ApiError 400 for anything that is no JSON patch."""
    if not isinstance(operations, list):
        raise ApiError.bad_request("a JSON patch must be a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise ApiError.bad_request(f"a JSON patch must have no more than {MAX_OPERATIONS} operations")
    for number, operation in enumerate(operations, 1):
        if problem := _malformed(operation):
            raise ApiError.bad_request(f"operation {number} of the JSON patch {problem}")
    return operations


def _malformed(operation: Json) -> str | None:
    if not isinstance(operation, dict):
        return "must be an object"
    wanted = ["op", "path"] + (["from"] if operation.get("op") in ("move", "copy") else [])
    for member in wanted:
        if not isinstance(operation.get(member), str):
            return f'needs "{member}", as text'
    if operation["op"] in ("add", "replace", "test") and "value" not in operation:
        return 'needs "value"'
    return None


def _pointer(path: str) -> list[str]:
    """The tokens of an RFC 6901 pointer."""
    if not path:
        return []
    if not path.startswith("/"):
        raise _Impossible("a path is empty or begins with a slash")
    if path.count("/") > 10 * MAX_DEPTH or re.search(r"~(?![01])", path):
        raise _Impossible("that is no JSON pointer")
    return [token.replace("~1", "/").replace("~0", "~") for token in path[1:].split("/")]


def _index(token: str, last: int) -> int:
    if not _INDEX.fullmatch(token):
        raise _Impossible("a list is indexed by a number")
    if int(token) > last:
        raise _Impossible("the list is shorter than that")
    return int(token)


def _weight(value: Json, limit: int) -> int:
    """About how many bytes the value takes as JSON; stops counting beyond ``limit``."""
    weight, stack = 0, [value]
    while stack and weight <= limit:
        each = stack.pop()
        weight += 2 + (len(each) if isinstance(each, str) else 0)
        if isinstance(each, dict):
            weight += sum(map(len, each))
            stack.extend(each.values())
        elif isinstance(each, list):
            stack.extend(each)
    return weight


def _named(operation: dict[str, Json]) -> str:
    named = f"{operation['op']} {operation['path']}"
    return named if len(named) <= 120 else named[:117] + "..."
