"""Which fields belong to a set, and what do two sets have in common? Sets of fields as ``fieldsV1`` writes them.

A set is the nested dict of the wire. Its keys are the steps of a path: ``f:name`` for a field, ``k:{"name":"A"}`` for
the item of a keyed list, ``v:"x"`` for a value of a set. A step that leads to ``{}`` is in the set; one that leads to
further steps is in it if ``.`` is among them. So ``{"f:spec": {"f:tags": {".": {}, 'v:"x"': {}}}}`` holds
``.spec.tags`` and ``.spec.tags[="x"]``, but not ``.spec``. ``{}`` as a whole is the empty set.

Nothing here changes what it is given. A result shares with its inputs whatever is the same in both, and *is* the first
input where nothing changed, so that a caller may ask with ``is``. No node of a result holds only ``.``: that is ``{}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from casare_api.machinery.errors import ApiError
from casare_api.machinery.patches import check_depth

Fields = dict[str, Any]  # a set, or what lies below one of its steps
Path = tuple[str, ...]  # steps, outermost first

SELF = "."  # the step that stands for where it is
_ALONE: Fields = {SELF: {}}  # what {} means below the top; never handed out


# -- algebra -------------------------------------------------------------------------------------------------------


def union(one: Fields, other: Fields) -> Fields:
    """What is in either."""
    joined = one
    for step, theirs in other.items():
        mine = joined.get(step)
        node = theirs if mine is None else _joined(mine, theirs)
        if node is mine:
            continue
        if joined is one:
            joined = dict(one)
        joined[step] = node
    return joined


def difference(one: Fields, other: Fields) -> Fields:
    """What is in ``one`` but not in ``other``. What lies below a step of ``other`` stays."""
    return _taken(one, other, _minus)


def without(one: Fields, gone: Fields) -> Fields:
    """What is in ``one`` and neither in ``gone`` nor below anything that is."""
    return _taken(one, gone, _minus_all)


def intersection(one: Fields, other: Fields) -> Fields:
    """What is in both."""
    common: Fields = {}
    for step in other if len(other) < len(one) else one:
        mine, theirs = one.get(step), other.get(step)
        if mine is None or theirs is None:
            continue
        node = _common(mine, theirs)
        if node is not None:
            common[step] = node
    return common


def has(fields: Fields, path: Path) -> bool:
    """Is exactly this path in the set? The empty path, the object as a whole, never is."""
    node: Fields | None = fields
    for step in path:
        node = node.get(step) if node else None
        if node is None:
            return False
    return bool(path) and node is not None and is_member(node)


def is_member(node: Fields) -> bool:
    """Is the step that leads to this node in the set, or only something below it?"""
    return not node or SELF in node


def canonical(node: Fields) -> Fields | None:
    """A node below the top as sets here have it: None if nothing is in it, ``{}`` if only itself."""
    if not node:
        return None
    return {} if len(node) == 1 and SELF in node else node


def _joined(mine: Fields, theirs: Fields) -> Fields:
    if mine is theirs or not (mine or theirs):
        return mine
    if not theirs:
        return mine if SELF in mine else {SELF: {}, **mine}
    if not mine:
        return theirs if SELF in theirs else {SELF: {}, **theirs}
    return union(mine, theirs)


def _taken(one: Fields, other: Fields, minus: Callable[[Fields, Fields], Fields | None]) -> Fields:
    left = one
    for step, theirs in other.items():
        mine = left.get(step)
        if mine is None:
            continue
        node = minus(mine, theirs)
        if node is mine:
            continue
        if left is one:
            left = dict(one)
        if node is None:
            del left[step]
        else:
            left[step] = node
    return left


def _minus(mine: Fields, theirs: Fields) -> Fields | None:
    if not mine:
        return None if is_member(theirs) else mine
    left = difference(mine, theirs or _ALONE)
    return mine if left is mine else canonical(left)


def _minus_all(mine: Fields, theirs: Fields) -> Fields | None:
    if is_member(theirs):
        return None
    left = without(mine, theirs)
    return mine if left is mine else canonical(left)


def _common(mine: Fields, theirs: Fields) -> Fields | None:
    if not mine:
        return mine if is_member(theirs) else None
    return canonical(intersection(mine, theirs or _ALONE))


# -- paths for people ----------------------------------------------------------------------------------------------


def paths(fields: Fields, above: Path = ()) -> Iterator[Path]:
    """Every path in the set, as a Kubernetes server lists conflicts: those of a level, then what lies deeper."""
    steps = sorted(step for step in fields if step != SELF)
    for step in steps:
        if is_member(fields[step]):
            yield (*above, step)
    for step in steps:
        yield from paths(fields[step], (*above, step))


def text(path: Path) -> str:
    """As a server prints it: ``.spec.env[name="A"].value``, ``.spec.tags[="x"]``. Has words for any steps at all."""
    return "".join(map(_step_text, path))


def _step_text(step: str) -> str:
    kind, content = step[:2], step[2:]
    if kind == "f:":
        return f".{content}"
    try:
        value = orjson.loads(content)
    except ValueError:
        return f"[{step}]"
    if kind == "k:" and isinstance(value, dict):
        return f"[{','.join(f'{key}={_json(value[key])}' for key in sorted(value))}]"
    return f"[={_json(value)}]" if kind == "v:" else f"[{content}]"


# -- sets from outside ---------------------------------------------------------------------------------------------


def checked(fields: object) -> Fields:
    """The set that somebody else wrote, as sets here are written. ValueError if it is none.

    Steps of a kind nobody knows are left out, as a Kubernetes server does, so that newer ones may come.
    """
    try:
        check_depth(fields)
    except ApiError as problem:
        raise ValueError(problem.message) from None
    found = _checked(fields)
    found.pop(SELF, None)  # nobody owns an object as a whole
    return found


def step_of_value(value: object) -> str:
    """The step to a value of a set."""
    return "v:" + _json(value)


def step_of_keys(keys: dict[str, Any]) -> str:
    """The step to the item of a keyed list that has these keys."""
    return "k:" + _json(keys)


def _checked(node: object) -> Fields:
    if not isinstance(node, dict):
        raise ValueError("a step has to lead to an object")
    result: Fields = {}
    for step, below in node.items():
        known, inner = _known(step), _checked(below)
        settled = canonical(inner) if below else inner
        if known is not None and settled is not None:
            result[known] = settled if known != SELF else {}
    return result


def _known(step: str) -> str | None:
    kind, content = step[:2], step[2:]
    if step == SELF:
        return step
    if step[1:2] != ":":
        raise ValueError(f"{step!r} has no colon where a step has one")
    if kind == "v:":
        return step_of_value(orjson.loads(content))
    if kind == "k:":
        keys = orjson.loads(content)
        if not isinstance(keys, dict):
            raise ValueError(f"{step!r} has no keys")
        return step_of_keys(keys)
    if kind == "i:":
        return f"i:{int(content)}"
    return step if kind == "f:" else None


def _json(value: object) -> str:
    """One text for one value: keys sorted, 1.0 the same as 1."""
    if value.__class__ is float and value.is_integer():
        value = int(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
