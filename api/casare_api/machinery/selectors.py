"""Which objects does a selector mean? Label selectors and field selectors in Kubernetes' own grammar.

A parsed selector is a frozen, hashable value: ``str()`` of it parses back to the same, and its requirements or terms
are there for whoever translates them (to SQL, to an index). As in Kubernetes, ``!=`` and ``notin`` also select objects
that lack the key. Whatever does not parse is an ``ApiError`` 400 that says what was found and what was expected.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from casare_api.machinery import names
from casare_api.machinery.errors import ApiError

_One = TypeVar("_One")
Operator = Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]

_OPERATORS: dict[str, Operator] = {
    "in": "In",
    "notin": "NotIn",
    "=": "In",
    "==": "In",
    "!=": "NotIn",
    ">": "Gt",
    "gt": "Gt",
    "<": "Lt",
    "lt": "Lt",
}
_COUNTS = {"Exists": "no values", "DoesNotExist": "no values", "Gt": "exactly one value", "Lt": "exactly one value"}
_BINARY = "in, notin, =, ==, !=, gt, lt"
MAX_REQUIREMENTS, MAX_TERMS = 100, 20  # in what people send: each is a condition that the store tries on each object
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. ``=`` is In with one value; values are sorted and without doubles."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                return self._compares(value)

    def _compares(self, value: str | None) -> bool:
        number = _integer(value)
        if number is None:
            return False
        limit = int(self.values[0])
        return number > limit if self.operator == "Gt" else number < limit

    def __str__(self) -> str:
        listed = ",".join(self.values)
        single = len(self.values) == 1
        match self.operator:
            case "In":
                return f"{self.key}={listed}" if single else f"{self.key} in ({listed})"
            case "NotIn":
                return f"{self.key}!={listed}" if single else f"{self.key} notin ({listed})"
            case "Exists":
                return self.key
            case "DoesNotExist":
                return f"!{self.key}"
            case "Gt":
                return f"{self.key}>{listed}"
            case "Lt":
                return f"{self.key}<{listed}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All of its requirements; without any, everything."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def parse(cls, text: str) -> LabelSelector:
        """``site in (berlin,paris),!old,floor>1`` as a selector; the empty text selects everything."""
        tokens = _Tokens(text)
        try:
            return cls(_bounded(_requirements(tokens), MAX_REQUIREMENTS, "a label selector"))
        except _Unparsable as problem:
            raise ApiError.bad_request(f"unable to parse requirement: {problem}") from None

    @classmethod
    def from_expressions(cls, expressions: Iterable[Mapping[str, Any]]) -> LabelSelector:
        """The selector of ``[{key, operator, values}]``, as ``robotSelector`` and ``matchExpressions`` have it."""
        return cls(tuple(_from_expression(each) for each in expressions))

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(each.matches(labels) for each in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(each) for each in self.requirements)


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One condition on one field; ``operator`` is ``=`` or ``!=``. A field without a value counts as empty."""

    field: str
    operator: Literal["=", "!="]
    value: str

    def matches(self, values: Mapping[str, str]) -> bool:
        return ((values.get(self.field) or "") == self.value) == (self.operator == "=")

    def __str__(self) -> str:
        escaped = re.sub(r"([\\,=])", r"\\\1", self.value)
        return f"{self.field}{self.operator}{escaped}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All of its terms; without any, everything."""

    terms: tuple[FieldTerm, ...] = ()

    @classmethod
    def parse(cls, text: str, allowed: Collection[str] | None = None) -> FieldSelector:
        """``status.phase!=Failed,metadata.name=a`` as a selector over the fields in ``allowed`` (None: any field).

        A comma, an equals sign or a backslash within a value is written with a backslash before it.
        """
        parsed = (_parse_term(part) for part in _split_terms(text) if part.strip())
        terms = _bounded(parsed, MAX_TERMS, "a field selector")
        for term in terms:
            if allowed is not None and term.field not in allowed:
                raise ApiError.bad_request(f"field label not supported: {term.field}")
        return cls(terms)

    def matches(self, values: Mapping[str, str]) -> bool:
        return all(term.matches(values) for term in self.terms)

    def exact(self, field: str) -> str | None:
        """The one value ``field`` must have, if the selector says so: what an index can look up."""
        return next((term.value for term in self.terms if term.field == field and term.operator == "="), None)

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms)


def match_expressions(expressions: Iterable[Mapping[str, Any]], labels: Mapping[str, str]) -> bool:
    """Whether the labels satisfy each of ``[{key, operator, values}]``. ApiError 400 for a malformed one."""
    return LabelSelector.from_expressions(expressions).matches(labels)


def _bounded(found: Iterable[_One], most: int, what: str) -> tuple[_One, ...]:
    """All that was found. ApiError 400 for too many, before the rest is looked at."""
    kept = tuple(itertools.islice(found, most + 1))
    if len(kept) > most:
        raise ApiError.bad_request(f"{what} may have no more than {most} conditions")
    return kept


# -- label selectors: a lexer and a parser, as in k8s.io/apimachinery/pkg/labels -----------------------------------

_TOKEN = re.compile(r"\s*(?:(?P<symbol>==|!=|[=!(),<>])|(?P<word>[^\s=!(),<>]+))")


class _Tokens:
    """The words and symbols of a selector, one ahead."""

    def __init__(self, text: str) -> None:
        # Without what follows the last word: blanks that nothing follows would be looked through from each of them.
        found = _TOKEN.finditer(text.rstrip())
        self._items = [(token[1] or token[2], token[2] is not None) for token in found]
        self._at = 0

    def peek(self) -> str:
        return self._items[self._at][0] if self._at < len(self._items) else ""

    def peek_word(self) -> bool:
        return self._at < len(self._items) and self._items[self._at][1]

    def take(self) -> str:
        text = self.peek()
        self._at += 1
        return text

    def take_word(self) -> str:
        if not self.peek_word():
            raise _Unparsable(self.peek(), "identifier")
        return self.take()


class _Unparsable(Exception):
    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"found '{found}', expected: {expected}")


def _requirements(tokens: _Tokens) -> Iterator[Requirement]:
    if not tokens.peek():
        return
    while True:
        if not tokens.peek_word() and tokens.peek() != "!":
            raise _Unparsable(tokens.peek(), "!, identifier, or 'end of string'")
        yield _requirement(tokens)
        if not tokens.peek():
            return
        if tokens.peek() != ",":
            raise _Unparsable(tokens.peek(), "',' or 'end of string'")
        tokens.take()
        if not tokens.peek_word() and tokens.peek() != "!":
            raise _Unparsable(tokens.peek(), "identifier after ','")


def _requirement(tokens: _Tokens) -> Requirement:
    absent = tokens.peek() == "!"
    if absent:
        tokens.take()
    key = tokens.take_word()
    if absent:
        return _checked(key, "DoesNotExist", ())
    if tokens.peek() in ("", ","):
        return _checked(key, "Exists", ())
    word = tokens.peek()
    if word not in _OPERATORS:
        raise _Unparsable(word, _BINARY)
    tokens.take()
    return _checked(key, _OPERATORS[word], _value_list(tokens) if word in ("in", "notin") else (_value(tokens),))


def _value(tokens: _Tokens) -> str:
    """One value; nothing before a comma or the end is the empty one."""
    return "" if tokens.peek() in ("", ",") else tokens.take_word()


def _value_list(tokens: _Tokens) -> tuple[str, ...]:
    """The values between parentheses; nothing between two commas is the empty one."""
    values: list[str] = []
    mark, expected = tokens.take(), "'('"
    while mark == ("," if values else "("):
        values.append(tokens.take() if tokens.peek_word() else "")
        mark, expected = tokens.take(), "',' or ')'"
    if mark != ")" or not values:
        raise _Unparsable(mark, expected)
    return tuple(values)


def _checked(key: str, operator: Operator, values: Sequence[str]) -> Requirement:
    """The requirement in its one form. ApiError 400 for a key or a value that no label can have."""
    if problem := names.check_label_key(key):
        raise ApiError.bad_request(f'unable to parse requirement: key: Invalid value: "{key}": {problem}')
    for value in values:
        if problem := _value_problem(operator, value):
            raise ApiError.bad_request(f'unable to parse requirement: values: Invalid value: "{value}": {problem}')
    return Requirement(key, operator, tuple(sorted(set(values))))


def _value_problem(operator: Operator, value: str) -> str | None:
    if operator in ("Gt", "Lt"):
        return None if _integer(value) is not None else "for 'Gt', 'Lt' operators, the value must be an integer"
    return names.check_label_value(value)


def _from_expression(expression: Mapping[str, Any]) -> Requirement:
    key, operator, values = expression.get("key"), expression.get("operator"), expression.get("values") or []
    if not isinstance(key, str) or not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise ApiError.bad_request("a label expression needs a key, an operator and a list of values, all of them text")
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"):
        raise ApiError.bad_request(
            f'"{operator}" is not a valid label selector operator: In, NotIn, Exists, DoesNotExist, Gt, Lt'
        )
    wanted = _COUNTS.get(operator, "some values")
    if not {"no values": not values, "exactly one value": len(values) == 1}.get(wanted, bool(values)):
        raise ApiError.bad_request(f"label expression on {key}: {operator} takes {wanted}")
    return _checked(key, operator, values)


def _integer(value: str | None) -> int | None:
    """A 64-bit integer as Go reads it: ASCII digits and a sign, nothing around them."""
    number = int(value) if value is not None and _INTEGER.fullmatch(value) else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


# -- field selectors -----------------------------------------------------------------------------------------------


def _split_terms(text: str) -> list[str]:
    """At each comma that has no backslash before it."""
    return [found[0] for found in re.finditer(r"(?:\\.|[^,\\]|\\$)+", text, re.DOTALL)]


def _parse_term(text: str) -> FieldTerm:
    found = re.match(r"([^=!]*)(!=|==|=)(.*)", text, re.DOTALL)
    if found is None:
        raise ApiError.bad_request(f"invalid field selector: '{text}'; can't understand '{text}'")
    return FieldTerm(found[1].strip(), "!=" if found[2] == "!=" else "=", _unescape(found[3]))


def _unescape(text: str) -> str:
    return re.sub(r"\\(.?)|[,=]", _plain, text, flags=re.DOTALL)


def _plain(found: re.Match[str]) -> str:
    if found[0] in (",", "="):
        raise ApiError.bad_request(f"invalid field selector: unescaped character in value: {found[0]}")
    if found[1] not in ("\\", ",", "="):
        raise ApiError.bad_request(f"invalid field selector: invalid escape sequence: {found[0]}")
    return found[1]
