"""Selectors follow Kubernetes' grammar, refuse with its words, and are values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casare_api.machinery.errors import ApiError
from casare_api.machinery.selectors import FieldSelector, LabelSelector, Requirement, match_expressions

LABELS = {"site": "berlin", "floor": "2", "empty": ""}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("site", True),
        ("!site", False),
        ("!other", True),
        ("site=berlin", True),
        ("site==berlin", True),
        ("site = paris", False),
        ("site!=paris", True),
        ("other!=paris", True),
        ("site in (paris, berlin)", True),
        ("site notin (paris,berlin)", False),
        ("other notin (paris)", True),
        ("other in (paris)", False),
        ("empty=", True),
        ("empty in ()", True),
        ("site in (,x)", False),
        ("floor>1", True),
        ("floor<2", False),
        ("floor gt 1, floor lt 3", True),
        ("site>1", False),
        ("other<5", False),
        ("site=berlin,floor=2,!other", True),
        ("site=berlin,floor=3", False),
        ("in in (in,notin)", False),
        ("  site  in  ( berlin )  ", True),
    ],
)
def test_label_selectors_select(text: str, selected: bool) -> None:
    assert LabelSelector.parse(text).matches(LABELS) is selected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a b", "found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a in b", "found 'b', expected: '('"),
        ("a in", "found '', expected: '('"),
        ("a in (b", "found '', expected: ',' or ')'"),
        ("a in (b c)", "found 'c', expected: ',' or ')'"),
        ("!", "found '', expected: identifier"),
        ("!!a", "found '!', expected: identifier"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("a=(b)", "found '(', expected: identifier"),
        ("a>b", "values: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer"),
        ("a>99999999999999999999", 'values: Invalid value: "99999999999999999999": for'),
        ("a/b/c", 'key: Invalid value: "a/b/c": prefix part must'),
        ("a=b/c", 'values: Invalid value: "b/c": must be empty or'),
        ("a=" + "x" * 64, "must be no more than 63 characters"),
    ],
)
def test_label_selectors_refuse_in_kubernetes_words(text: str, problem: str) -> None:
    with pytest.raises(ApiError) as caught:
        LabelSelector.parse(text)
    assert (caught.value.status, caught.value.reason) == (400, "BadRequest")
    assert caught.value.message.startswith("unable to parse requirement: ")
    assert problem in caught.value.message


def test_requirements_are_in_one_form_for_translation() -> None:
    assert LabelSelector.parse("a=x,b notin (2,1,2),!c,d,e>5,f!=").requirements == (
        Requirement("a", "In", ("x",)),
        Requirement("b", "NotIn", ("1", "2")),
        Requirement("c", "DoesNotExist"),
        Requirement("d", "Exists"),
        Requirement("e", "Gt", ("5",)),
        Requirement("f", "NotIn", ("",)),
    )


def test_selectors_are_values() -> None:
    one, other = LabelSelector.parse("a in (y,x),b"), LabelSelector.parse("a in (x, y) , b")
    assert one == other and hash(one) == hash(other) and str(one) == "a in (x,y),b"
    fields = FieldSelector.parse("a==b"), FieldSelector.parse("a=b")
    assert fields[0] == fields[1] and hash(fields[0]) == hash(fields[1])


WORD = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?", fullmatch=True)
VALUES = st.lists(WORD | st.just(""), min_size=1, max_size=3)
EXPRESSIONS = st.one_of(
    st.builds(
        lambda key, op, values: {"key": key, "operator": op, "values": values},
        WORD,
        st.sampled_from(["In", "NotIn"]),
        VALUES,
    ),
    st.builds(lambda key, op: {"key": key, "operator": op}, WORD, st.sampled_from(["Exists", "DoesNotExist"])),
    st.builds(
        lambda key, op, number: {"key": key, "operator": op, "values": [str(number)]},
        WORD,
        st.sampled_from(["Gt", "Lt"]),
        st.integers(-(2**62), 2**62),
    ),
)


@settings(deadline=None)
@given(st.lists(EXPRESSIONS, max_size=4), st.dictionaries(WORD, WORD | st.just("")))
def test_text_round_trips_and_means_the_same(expressions: list[dict[str, Any]], labels: dict[str, str]) -> None:
    selector = LabelSelector.from_expressions(expressions)
    again = LabelSelector.parse(str(selector))
    assert again == selector
    assert again.matches(labels) == match_expressions(expressions, labels)


@settings(deadline=None)
@given(st.text(alphabet="ab=!(),<> \tin\x00é", max_size=30))
def test_any_text_parses_or_is_a_bad_request(text: str) -> None:
    try:
        selector = LabelSelector.parse(text)
    except ApiError as error:
        assert error.status == 400
    else:
        assert LabelSelector.parse(str(selector)) == selector


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ({"key": "a", "operator": "in", "values": ["b"]}, "is not a valid label selector operator"),
        ({"key": "a", "operator": "In"}, "In takes some values"),
        ({"key": "a", "operator": "Exists", "values": ["b"]}, "Exists takes no values"),
        ({"key": "a", "operator": "Gt", "values": ["1", "2"]}, "Gt takes exactly one value"),
        ({"key": "a", "operator": "Gt", "values": ["x"]}, "must be an integer"),
        ({"key": "-", "operator": "Exists"}, "name part must"),
        ({"operator": "Exists"}, "needs a key"),
        ({"key": "a", "operator": "In", "values": "b"}, "needs a key"),
        ({"key": "a", "operator": "In", "values": [True]}, "all of them text"),
    ],
)
def test_malformed_expressions_are_bad_requests(expression: dict[str, Any], problem: str) -> None:
    with pytest.raises(ApiError, match=problem) as caught:
        match_expressions([expression], {})
    assert caught.value.status == 400


# -- fields --------------------------------------------------------------------------------------------------------


def test_field_selectors_select() -> None:
    selector = FieldSelector.parse("status.phase!=Failed,metadata.name==a,", {"status.phase", "metadata.name"})
    assert selector.matches({"metadata.name": "a", "status.phase": "Queued"})
    assert selector.matches({"metadata.name": "a"})
    assert not selector.matches({"metadata.name": "a", "status.phase": "Failed"})
    assert not selector.matches({"metadata.name": "b"})
    assert FieldSelector.parse("status.robotUID=").matches({})
    assert FieldSelector.parse("").matches({"x": "y"})


def test_the_field_that_an_index_can_look_up() -> None:
    selector = FieldSelector.parse("a!=x,b=y")
    assert (selector.exact("a"), selector.exact("b"), selector.exact("c")) == (None, "y", None)


def test_special_characters_of_values_are_escaped() -> None:
    selector = FieldSelector.parse(r"a=x\,y\=z\\,b=c")
    assert [term.value for term in selector.terms] == ["x,y=z\\", "c"]
    assert str(selector) == r"a=x\,y\=z\\,b=c"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("spec.mode=x", "field label not supported: spec.mode"),
        ("a", "invalid field selector: 'a'; can't understand 'a'"),
        (r"a=b\n", r"invalid field selector: invalid escape sequence: \n"),
        ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
        ("a=b=c", "invalid field selector: unescaped character in value: ="),
    ],
)
def test_field_selectors_refuse(text: str, problem: str) -> None:
    with pytest.raises(ApiError) as caught:
        FieldSelector.parse(text, {"a"})
    assert (caught.value.status, caught.value.message) == (400, problem)


def test_selectors_are_bounded() -> None:
    assert len(LabelSelector.parse(",".join(f"a{n}!=b" for n in range(100))).requirements) == 100
    assert len(FieldSelector.parse(",".join(f"a{n}!=b" for n in range(20))).terms) == 20
    for parse, most in ((LabelSelector.parse, 100), (FieldSelector.parse, 20)):
        with pytest.raises(ApiError, match=f"selector may have no more than {most} conditions") as caught:
            parse(",".join(f"a{n}!=b" for n in range(most + 1)))
        assert caught.value.status == 400


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b.c"]), st.sampled_from(["=", "!="]), st.text(max_size=8)), max_size=4)
)
def test_field_selectors_round_trip(terms: list[tuple[str, str, str]]) -> None:
    text = ",".join(
        f"{field}{op}" + "".join("\\" + c if c in "\\,=" else c for c in value) for field, op, value in terms
    )
    selector = FieldSelector.parse(text)
    assert [(term.field, term.operator, term.value) for term in selector.terms] == terms
    assert FieldSelector.parse(str(selector)) == selector
