"""Which files a job may leave behind: their names, and how many and how large they may be together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casare_api.decisions import artifacts


@pytest.mark.parametrize("name", ["report.csv", "Übersicht 2026-10 (neu).xlsx", "日本.png", "a" * 253, "-", "ü" * 126])
def test_a_name_of_any_script_is_good(name: str) -> None:
    assert artifacts.check_name(name) is None


@pytest.mark.parametrize(("name", "word"), [
    ("", "empty"), (".", "dot"), ("..", "dot"), (".env", "dot"), ("a/b", "slash"), ("..\\b", "dot"), ("a\\b", "slash"),
    ("a\nb", "control"), ("a\0", "control"), ("a\x7f", "control"), ("a\u202eb", "control"), ("\udcff", "control"),
    ("a" * 254, "253 bytes"), ("ü" * 127, "253 bytes"),
])
def test_a_name_that_could_leave_its_folder_or_hide_is_refused_in_words(name: str, word: str) -> None:
    assert word in (artifacts.check_name(name) or "")


def test_the_limit_is_the_workflows_and_otherwise_500_mebibytes() -> None:
    assert artifacts.limit({"limits": {"artifactSize": "2Ki"}}) == (2048, "2Ki")
    assert artifacts.limit({"limits": {"memory": "2Ki"}}) == artifacts.limit({}) == (500 * 2**20, "500Mi")


@given(st.lists(st.integers(0, 100), max_size=20), st.integers(0, 300))
def test_what_fits_is_never_more_than_the_limit_and_nothing_that_fits_is_left_out(sizes: list[int], most: int) -> None:
    files = [(f"f{number}", size) for number, size in enumerate(sizes)]
    found = artifacts.fitting(files, most, "little")
    kept = sum(size for name, size in files if found[name] is None)
    assert kept <= most and list(found) == [name for name, _ in files]
    assert all(kept + size > most for name, size in files if found[name] is not None)


def test_a_job_leaves_so_many_files_and_no_more() -> None:
    names = [f"f{number:05}" for number in range(artifacts.MAX_FILES + 1)]
    found = artifacts.fitting([(name, 0) for name in names], 0, "nothing")
    assert [name for name, why in found.items() if why is not None] == names[-1:]
    assert "no more than 1000 files" in (found[names[-1]] or "")
