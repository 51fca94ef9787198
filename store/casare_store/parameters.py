"""Do a job's parameters fit their workflow's JSON Schema (draft 2020-12)? Answered within a bound, whatever it says.

Both are a user's, and the answer may be sought while others wait to be written. So the work is counted: a schema that
doubles itself with every reference, or a list of thousands of items that must be unique, is refused as too much; a
regular expression has a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, lru_cache
from itertools import islice
from time import perf_counter
from typing import Any

import orjson

from casare_api.kinds import Object
from casare_api.machinery.errors import Cause

MAX_WORK = 100_000  # steps of checking one job's parameters: about a fifth of a second
MAX_CAUSES = 10  # told at once
PATTERN_SECONDS = 0.1
STEPS_A_SECOND = 500_000
_left: ContextVar[list[int]] = ContextVar("left")
Keyword = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


class Unusable(Exception):
    """The schema can't be used for these parameters; one line that says why."""


def causes(schema: Object, parameters: Object) -> list[Cause]:
    """What is wrong with the parameters, at most ten of it. Raises Unusable."""
    token = _left.set([MAX_WORK])
    try:
        problems = list(islice(_validator(orjson.dumps(schema)).iter_errors(parameters), MAX_CAUSES))
    except Unusable:
        raise
    except Exception as error:  # a reference to nowhere, a schema that goes round in circles
        raise Unusable(type(error).__name__) from error
    finally:
        _left.reset(token)
    return [
        Cause(
            ".".join(["spec.parameters", *map(str, problem.absolute_path)]),
            "FieldValueInvalid",
            f"Invalid value: {problem.message[:300]}",
        )
        for problem in problems
    ]


def with_defaults(schema: Object, parameters: Object) -> Object:
    """The parameters with the `default` of every property that they leave out; those further in stay as they are."""
    properties = schema.get("properties")
    known = properties.items() if isinstance(properties, dict) else ()
    left_out = {
        name: of["default"]
        for name, of in known
        if isinstance(of, dict) and "default" in of and name not in parameters
    }
    return {**parameters, **left_out} if left_out else parameters


def problem_of(schema: Object) -> tuple[str, str] | None:
    """What keeps this from being a JSON Schema that we use: the path in it ("": all of it), and why."""
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return ".".join(map(str, error.absolute_path)), f"not a JSON Schema: {error.message[:300]}"
    for reference in _references(schema):
        if not reference.startswith("#"):
            return "", f'"{reference[:80]}": a schema may refer only to itself (#...)'
    words = {word for word, _ in _members(schema)}
    if {"unevaluatedProperties", "patternProperties"} <= words:  # the library would search with what can't be stopped
        return "", "unevaluatedProperties and patternProperties can't be used together"
    return None


def _references(schema: Any) -> Iterator[str]:
    """What a schema's $ref and $dynamicRef say, at any depth."""
    return (str(value) for word, value in _members(schema) if word in ("$ref", "$dynamicRef"))


def _members(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value, at any depth."""
    if isinstance(schema, dict):
        yield from schema.items()
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _members(part)


@lru_cache(maxsize=1000)
def _validator(schema: bytes) -> Any:
    """The validator of a schema; references to other documents are not followed, wherever they point."""
    from referencing import Registry

    return _bounded()(orjson.loads(schema), registry=Registry())


@cache
def _bounded() -> Any:
    """Draft 2020-12 whose keywords count their work. Made when it is first needed: the library takes its time."""
    import jsonschema

    standard = jsonschema.Draft202012Validator
    keywords = {**standard.VALIDATORS, **_OURS}
    counted = {name: _counted(keyword, _COSTS.get(name, _length)) for name, keyword in keywords.items()}
    return jsonschema.validators.extend(standard, counted)  # type: ignore[no-untyped-call]


def _counted(keyword: Keyword, cost: Callable[[Any, Any], int]) -> Keyword:
    def check(validator: Any, said: Any, instance: Any, schema: Any) -> Iterator[Any]:
        _spend(cost(said, instance))
        yield from keyword(validator, said, instance, schema) or ()

    return check


def _spend(steps: int) -> None:
    left = _left.get()
    left[0] -= steps
    if left[0] < 0:
        raise Unusable(f"checking these parameters takes more than {MAX_WORK} steps")


def _length(said: Any, instance: Any = None) -> int:
    return 1 + (len(said) if isinstance(said, (list, dict)) else 0)


def _each_with_each(said: Any, instance: Any) -> int:
    """Items that can't be sorted are compared each with each."""
    if not isinstance(instance, list):
        return 1
    return len(instance) ** 2 if any(isinstance(item, (list, dict)) for item in instance) else len(instance)


_COSTS: dict[str, Callable[[Any, Any], int]] = {"uniqueItems": _each_with_each}


# The library's own use Python's regular expressions, which may run for ever and can't be stopped.


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Object, instance: Any, schema: Any) -> Iterator[Any]:
    for pattern, below in patterns.items() if isinstance(instance, dict) else ():
        for name, value in instance.items():
            if _matches(pattern, name):
                yield from validator.descend(value, below, path=name, schema_path=pattern)


def _additional_properties(validator: Any, below: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not isinstance(instance, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [name for name in instance if name not in named and not any(_matches(one, name) for one in patterns)]
    if below is False and extra:
        listed = ", ".join(map(repr, extra))
        yield ValidationError(f"Additional properties are not allowed ({listed} not in the schema)")
        return
    for name in extra:
        yield from validator.descend(instance[name], below, path=name)


def _matches(pattern: str, text: str) -> bool:
    """Whether it matches anywhere. A long search costs steps, too: 500,000 a second."""
    import regex

    begun = perf_counter()
    try:
        found = regex.search(pattern, text, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        raise Unusable(f"the pattern {pattern[:80]!r} takes too long") from None
    _spend(1 + int((perf_counter() - begun) * STEPS_A_SECOND))
    return found


_OURS: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
}
