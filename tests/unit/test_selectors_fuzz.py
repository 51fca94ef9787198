"""Whatever anybody sends as a selector is a selector or a bad request, at once, and means the same when written again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from casare_api.machinery.errors import ApiError
from casare_api.machinery.selectors import (
    MAX_REQUIREMENTS,
    MAX_TERMS,
    FieldSelector,
    LabelSelector,
    match_expressions,
)

Parse = Callable[[str], LabelSelector | FieldSelector]
PARSERS: dict[str, Parse] = {"labels": LabelSelector.parse, "fields": FieldSelector.parse}

LABELS = st.dictionaries(st.sampled_from(["a", "b", "in", "x.y/z"]), st.sampled_from(["", "b", "in", "2", "-3"]))
TEXTS = st.text(max_size=40) | st.text(alphabet="ab1-./=!(),<>\\ \t\n", max_size=40)
# Pieces that belong to the grammar, put together in any order.
PIECES = st.lists(
    st.sampled_from(["a", "b", "x.y/z", "in", "notin", "gt", "lt", "=", "==", "!=", "!", "(", ")", ",", "<", ">", " ",
                     "2", "-3", "\\", "\\,", "\\=", "\\\\", "\n", "\u00a0", "\x1c", "é"]), max_size=14).map("".join)  # fmt: skip


def parsed(parse: Parse, text: str) -> LabelSelector | FieldSelector | None:
    """The selector, or None for a bad request; anything else fails the test."""
    try:
        return parse(text)
    except ApiError as error:
        assert (error.status, error.reason) == (400, "BadRequest") and error.message
        json.dumps(error.body(), ensure_ascii=False).encode("utf-8", "surrogatepass")
        return None


def check(parse: Parse, text: str, values: dict[str, str]) -> None:
    selector = parsed(parse, text)
    if selector is None:
        return
    again = parse(str(selector))
    assert again == selector and hash(again) == hash(selector)
    assert str(again) == str(selector), "its text is in its last form at once"
    assert again.matches(values) is selector.matches(values)


@settings(deadline=None, max_examples=300)
@given(TEXTS | PIECES, LABELS)
@example("a in (),b notin (,)", {})
@example("in in (in),notin notin (notin)", {})
def test_any_label_selector_means_the_same_when_written_again(text: str, labels: dict[str, str]) -> None:
    check(LabelSelector.parse, text, labels)


@settings(deadline=None, max_examples=300)
@given(TEXTS | PIECES, LABELS)
@example("a\\,b=c", {})
@example(" a = b ,=,\\==", {})
@example("a=\\\n", {})
def test_any_field_selector_means_the_same_when_written_again(text: str, values: dict[str, str]) -> None:
    check(FieldSelector.parse, text, values)


@settings(deadline=None, max_examples=200)
@given(st.data(), st.sampled_from(sorted(PARSERS)))
def test_a_damaged_selector_is_read_or_refused(data: st.DataObject, which: str) -> None:
    good = {"labels": "site in (berlin,paris),!old,floor>1,x.y/z!=,tier", "fields": "a.b!=c,metadata.name==x\\,y,z="}
    text = good[which]
    for _ in range(data.draw(st.integers(1, 4))):
        at, gone = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 3))
        text = text[:at] + data.draw(st.text(alphabet="a=!(),<>\\ \x00é", max_size=2)) + text[at + gone :]
    check(PARSERS[which], text, {"site": "berlin", "a.b": "c"})


@settings(deadline=None)
@given(st.text(alphabet="ab=!\\, ", max_size=20), st.sets(st.sampled_from(["a", "b", "ab", ""])))
def test_no_selector_comes_by_a_field_that_is_not_allowed(text: str, allowed: set[str]) -> None:
    selector = parsed(lambda text: FieldSelector.parse(text, allowed), text)
    assert selector is None or {term.field for term in selector.terms} <= allowed  # type: ignore[union-attr]


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional={
    "key": VALUES | st.just("a"), "operator": VALUES | st.sampled_from(["In", "NotIn", "Exists", "Gt", "Lt"]), "values": VALUES,
}), LABELS)  # fmt: skip
def test_any_expression_is_answered_or_refused(expression: dict[str, Any], labels: dict[str, str]) -> None:
    try:
        match_expressions([expression], labels)
    except ApiError as error:
        assert error.status == 400


LONG: dict[str, Callable[[int], str]] = {
    "one word": lambda n: "x" * n,
    "one value": lambda n: "a=" + "x" * n,
    "commas": lambda n: "," * n,
    "terms": lambda n: "a=b," * (n // 4),
    "values": lambda n: "a in (" + "b," * (n // 2) + ")",
    "a list that does not end": lambda n: "a in (" + "b," * (n // 2),
    "marks": lambda n: "!" * n,
    "signs": lambda n: "=" * n,
    "brackets": lambda n: "(" * n,
    "backslashes": lambda n: "a=" + "\\" * (n | 1),
    "escaped commas": lambda n: "a=" + "\\," * (n // 2),
    "digits": lambda n: "a>" + "1" * n,
    "dots": lambda n: "a" + "." * n + "/b=c",
    "dashes": lambda n: "a" + "-" * n + "=c",
    "space in front": lambda n: " " * n + "a",
    "space within": lambda n: "a" + " " * n + "= b",
    "space at the end": lambda n: "a=b" + " " * n,
    "lines at the end": lambda n: "a=b" + "\n" * n,
}


@pytest.mark.timeout(60)  # for what never ends: a parser that looks through the rest at each blank needs minutes
@pytest.mark.parametrize("what", LONG)
@pytest.mark.parametrize("which", PARSERS)
def test_long_selectors_take_no_longer_than_they_are(which: str, what: str) -> None:
    """64 KiB, as much as a request's line may have: parsed or refused, in a moment."""
    parsed(PARSERS[which], LONG[what](65_536))


@pytest.mark.parametrize(("which", "most"), [("labels", MAX_REQUIREMENTS), ("fields", MAX_TERMS)])
def test_a_million_conditions_are_refused_after_the_first_few(which: str, most: int) -> None:
    with pytest.raises(ApiError, match=f"no more than {most} conditions"):
        PARSERS[which]("a!=b," * 100_000 + "a!=b")
