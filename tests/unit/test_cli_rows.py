"""Rows of a CSV file become parameters, as the workflow's JSON Schema says; what is wrong is told with its place."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.kinds import Object
from casare_cli import rows
from casare_cli.failures import Failure
from casare_cli.rows import Sheet

SCHEMA = {
    "properties": {
        "month": {"type": "string"},
        "count": {"type": "integer"},
        "rate": {"type": "number"},
        "dry": {"type": "boolean"},
        "tags": {"type": "array"},
    }
}


def read(text: str, schema: Any = SCHEMA) -> list[Object]:
    sheet = Sheet("rows.csv", text, schema)
    found = [row.parameters for row in sheet.rows()]
    assert sheet.checked() == len(found)
    return found


def refused(text: str, schema: Any = SCHEMA) -> str:
    with pytest.raises(Failure) as failure:
        Sheet("rows.csv", text, schema).checked()
    assert "\n" not in str(failure.value)
    return str(failure.value)


def test_cells_are_what_the_schema_says() -> None:
    text = 'month,count,rate,dry,tags\n2026-10,3,0.5,TRUE,"[""a"", 1]"\n01,-7,12,no,[]\n'
    assert read(text) == [
        {"month": "2026-10", "count": 3, "rate": 0.5, "dry": True, "tags": ["a", 1]},
        {"month": "01", "count": -7, "rate": 12, "dry": False, "tags": []},
    ]


@pytest.mark.parametrize(
    ("text", "types", "value"),
    [
        ("3", set(), "3"),
        ("3", {"string"}, "3"),
        ("3", {"string", "integer"}, 3),
        ("3 x", {"string", "integer"}, "3 x"),
        ("yes", {"string", "boolean"}, "yes"),
        ("1", {"boolean"}, True),
        ("1", {"boolean", "integer"}, 1),
        ("null", {"null", "integer"}, None),
        (" 4 ", {"integer"}, 4),
        ("1e3", {"number"}, 1000.0),
        ('{"a": 1}', {"object"}, {"a": 1}),
        ("[1]", {"object", "string"}, "[1]"),
    ],
)
def test_a_cell_means_the_first_of_its_types_that_it_can_be(text: str, types: set[str], value: object) -> None:
    found = rows.value(text, types)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "types", "said"),
    [
        ("abc", {"integer"}, '"abc" is not a whole number'),
        ("3.5", {"integer"}, "is not a whole number"),
        ("1" * 30, {"integer"}, "is not a whole number"),
        ("inf", {"number"}, "is not a number"),
        ("1_000", {"number"}, "is not a number"),
        ("maybe", {"boolean", "null"}, "is not true or false or null"),
        ("{", {"object"}, "is not an object in JSON"),
        ("1", {"array"}, "is not a list in JSON"),
    ],
)
def test_a_cell_that_can_be_none_of_its_types_is_wrong(text: str, types: set[str], said: str) -> None:
    with pytest.raises(rows.Wrong, match=said):
        rows.value(text, types)


def test_what_the_schema_does_not_name_is_text() -> None:
    assert read("other,count\n7,7\n") == [{"other": "7", "count": 7}]
    assert read("other\n7\n", None) == [{"other": "7"}]


def test_an_enumeration_says_the_types_of_its_values() -> None:
    schema = {"properties": {"size": {"enum": [1, 2]}, "word": {"enum": ["1", "2"]}}}
    assert read("size,word\n1,1\n", schema) == [{"size": 1, "word": "1"}]


def test_an_empty_cell_is_a_parameter_that_is_not_set() -> None:
    assert read("month,count\n,3\n2026-10,\n") == [{"count": 3}, {"month": "2026-10"}]


def test_blank_lines_are_no_rows_however_a_spreadsheet_writes_them() -> None:
    assert read("month,count\n01,1\n\n,\n , \n02,2\n") == [{"month": "01", "count": 1}, {"month": "02", "count": 2}]


def test_what_is_no_json_is_no_list() -> None:
    assert "tags" in refused("month,tags\n01,[NaN]\n")


def test_quoted_cells_hold_separators_quotes_and_line_breaks() -> None:
    assert read('month,count\n"a, ""b""\nc",1\n') == [{"month": 'a, "b"\nc', "count": 1}]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_spreadsheets_separate_as_they_like(separator: str, end: str) -> None:
    text = end.join(["", separator.join(["month", "count", ""]), separator.join(["x", "1", ""]), "", ""])
    assert read(text) == [{"month": "x", "count": 1}]


def test_problems_name_row_line_and_column() -> None:
    said = refused('month,count\n"a\nb",x\n\nc,1\nd,3.5\n')
    assert said == (
        'rows.csv: row 1 (line 3), column "count": "x" is not a whole number; '
        'rows.csv: row 3 (line 6), column "count": "3.5" is not a whole number'
    )


def test_only_the_first_problems_are_told() -> None:
    assert refused("count\n" + "x\n" * 1000).count("column") == rows.SHOWN


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "rows.csv is empty: its first line must name the columns"),
        ("month,count\n", "there is no row below the header"),
        ("month,month\na,b\n", 'column "month" is there twice'),
        ("month,,count\na,b,c\n", "column 2 has no name"),
        ("month,count\na\n", "row 1 (line 2) has 1 cells, and the header names 2 columns"),
        ("month,count\na,1,b\n", "row 1 (line 2) has 3 cells, and the header names 2 columns"),
        ('month,count\na,1\n"b,2\n', "row 2 (line 3): a quote that begins a cell is never closed"),
        ('month,count\n"a"b,1\n', "row 1 (line 2): there is text behind the closing quote"),
    ],
)
def test_a_file_that_is_no_table_is_refused(text: str, said: str) -> None:
    assert said in refused(text)


def test_columns_that_the_schema_does_not_name_are_known() -> None:
    assert Sheet("rows.csv", "month,mont\na,b\n", SCHEMA).unknown() == ["mont"]
    assert Sheet("rows.csv", "month,mont\na,b\n", None).unknown() == []


def test_a_file_may_have_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes("month\nMärz\n".encode("utf-8-sig"))
    assert read(rows.read(str(file))[1]) == [{"month": "März"}]


def test_a_file_in_another_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"month\na\nM\xe4rz\n")
    with pytest.raises(Failure, match=r"rows.csv: line 3 is not UTF-8: save the file as CSV in UTF-8"):
        rows.read(str(file))
    with pytest.raises(Failure, match=r"cannot read .*: no such file"):
        rows.read(str(tmp_path / "nothing"))


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1), min_size=1))
def test_any_text_comes_out_as_it_went_in(texts: list[str]) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([["month"], *([text] for text in texts)])
    wanted = [{"month": text} for text in texts if text.strip()]  # blank rows are none
    assert [row.parameters for row in Sheet("rows.csv", written.getvalue(), SCHEMA).rows()] == wanted
