"""The key that a robot got in place of the one that it was given: whole, for nobody else to read, and no longer than
that one counts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from casare_agent import keyring


def test_the_kept_key_counts_as_long_as_the_configured_one_is_the_same(tmp_path: Path) -> None:
    directory = tmp_path / "robot"
    assert keyring.load(directory, "given") == "given" and keyring.kept(directory, "given") is None
    keyring.save(directory, "given", "second")
    keyring.save(directory, "given", "third")
    assert keyring.load(directory, "given") == "third" == keyring.kept(directory, "given")
    assert keyring.load(directory, "another") == "another"
    assert os.listdir(directory) == [keyring.FILE]


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_nobody_else_reads_it_whatever_was_there_before(tmp_path: Path) -> None:
    (tmp_path / f"{keyring.FILE}.new").write_text("half a ke")
    (tmp_path / keyring.FILE).write_text("{}")
    keyring.save(tmp_path, "given", "second")
    assert stat.S_IMODE((tmp_path / keyring.FILE).stat().st_mode) == 0o600
    assert "given" not in (tmp_path / keyring.FILE).read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', '{"key": 3}', '{"key": "k"}', '{"key": "", "replaces": ""}'])
def test_what_is_no_kept_key_is_as_if_it_were_not_there(tmp_path: Path, text: str) -> None:
    (tmp_path / keyring.FILE).write_text(text)
    assert keyring.load(tmp_path, "given") == "given"
