"""What a YAML text says, and on which line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_cli import yaml_output, yaml_text
from casare_cli.yaml_text import Text, Unreadable


def parse(text: str) -> Any:
    [document] = yaml_text.documents(text)
    return yaml_text.parse(document).value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True), ("y", True), ("on", True), ("N", False), ("off", False), ("TRUE", True),
        ("~", None), ("", None), ("null", None),
        ("0", 0), ("-7", -7), ("+5", 5), ("1_000", 1000), ("010", 8), ("0o17", 15), ("0x1F", 31), ("0b101", 5),
        ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("-1.5e-3", -0.0015),
        ("2026-10", "2026-10"), ("2026-10-01", "2026-10-01"), ("2026-10-01T12:00:00Z", "2026-10-01T12:00:00Z"),
        ("12:30", "12:30"), ("08", "08"), ("1.2.3", "1.2.3"), ("-", "-"), ("+", "+"), (".", "."), ("90s", "90s"),
    ],
)  # fmt: skip
def test_a_plain_scalar_means_what_kubectl_takes_it_for_but_dates_stay_text(text: str, value: object) -> None:
    found = yaml_text.scalar(text)
    assert (found, type(found)) == (value, type(value))


def test_what_is_quoted_or_tagged_is_text() -> None:
    assert parse("[\"yes\", '010', !!str 5, !!int '5', !!float 3]") == ["yes", "010", "5", 5, 3]


def test_keys_are_the_text_they_are() -> None:
    assert parse("on: 1\n1: 2\n2026-10-01: 3\n") == {"on": 1, "1": 2, "2026-10-01": 3}


def test_merge_keys_and_aliases_work_and_own_keys_win() -> None:
    assert parse("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz: *x\n") == {
        "x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": {"a": 1, "b": 2},
    }  # fmt: skip


def test_documents_are_numbered_by_their_separators_and_know_their_lines() -> None:
    text = "# a file\n---\na: 1\n---\n# nothing\n--- # third\nb:\n  - c: 1\n---\n"
    found = yaml_text.documents(text)
    assert [one.number for one in found] == [1, 3]
    last = yaml_text.parse(found[1])
    assert (last.value, last.line, last.lines["b[0].c"]) == ({"b": [{"c": 1}]}, 7, 8)


def test_a_separator_inside_a_block_of_text_is_none() -> None:
    assert parse("a: |\n  ---\n  b\n") == {"a": "---\nb\n"}


def test_lines_are_found_for_the_nearest_field_that_has_one() -> None:
    parsed = yaml_text.parse(Text(1, 10, "spec:\n  env:\n    - name: x\n"))
    assert yaml_text.line_of(parsed.lines, "spec.env[0].value", 1) == 12
    assert yaml_text.line_of(parsed.lines, "spec.priority", 1) == 10
    assert yaml_text.line_of(parsed.lines, "metadata.name", 99) == 99


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 'the key "a" appears twice in the document'),
        ("a:\n  b: 1\n  b: 2\n", 3, 'the key "b" appears twice in a'),
        ("a: b: c\n", 1, 'a ": " stands where none can'),
        ("a:\n\t- b\n", 2, "a tab can't indent: use spaces"),
        ("a: @b\n", 1, "a value can't begin with @: put it in quotes"),
        ("a: *b\n", 1, "*b stands for nothing"),
        ("a: &a [*a]\n", 1, "*a stands for nothing"),
        ("a: .inf\n", 1, ".inf can't be written in JSON"),
        ("{{ a }}: 1\n", 1, "a key must be text"),
        ("a: \x01\n", 1, "control character"),
        ("a: 1\n...\nb: 2\n", 3, "did not find expected <document start>"),
        ("a: !!python/object:os.system x\n", 1, "does not fit"),
        ("a: !!int x\n", 1, "!!int does not fit 'x'"),
        ("[" * 100_000, 1, "nested deeper than 100 levels"),
        ("{a: " * 100_000, 1, "nested deeper than 100 levels"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, said: str) -> None:
    [document] = yaml_text.documents(text)
    with pytest.raises(Unreadable, match=r".") as caught:
        yaml_text.parse(document)
    assert (caught.value.line, said in caught.value.message) == (line, True), caught.value.message
    assert "\n" not in caught.value.message


def test_aliases_that_multiply_are_stopped() -> None:
    rows = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(Unreadable, match="more than 500000 values"):
        parse("\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x, x]", *rows]))


_LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])) | st.from_regex(r"[-+0-9._:eExoynYN~= ]{0,8}", fullmatch=True)
)  # fmt: skip
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner), max_leaves=20
)


@given(_JSON)
def test_what_get_prints_as_yaml_reads_back_the_same(value: object) -> None:
    text = yaml_output.dump({"value": value})
    assert parse(text) == {"value": value}
