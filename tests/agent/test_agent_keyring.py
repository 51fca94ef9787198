"""What an agent keeps in its directory: its key, and which robot it was."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from casare_agent import keyring, memory
from casare_agent.config import ConfigError, load
from casare_agent.crew import check_apart, severity
from casare_agent.ending import Ending
from casare_agent.memory import Memory
from casare_api.machinery import credentials

TOKEN, KEY = "cjt_0123456789", "crpa_0123456789abcdef"


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



def test_a_kept_key_counts_as_long_as_the_configured_secret_is_the_same(tmp_path: Path) -> None:
    assert keyring.load(tmp_path, TOKEN) == TOKEN
    keyring.save(tmp_path / "deep", TOKEN, KEY)
    assert keyring.load(tmp_path / "deep", TOKEN) == KEY
    assert keyring.load(tmp_path / "deep", "another") == "another"
    keyring.save(tmp_path / "deep", TOKEN, KEY + "2")
    assert keyring.load(tmp_path / "deep", TOKEN) == KEY + "2"
    keyring.forget(tmp_path / "deep")
    keyring.forget(tmp_path / "deep")
    assert keyring.load(tmp_path / "deep", TOKEN) == TOKEN


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"key": 3, "replaces": "x"}', '{"key": "a"}', "\0"])
def test_a_file_that_is_none_of_ours_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / keyring.FILE).write_text(text)
    (tmp_path / memory.FILE).write_text(text)
    assert keyring.load(tmp_path, TOKEN) == TOKEN and memory.load(tmp_path) is None


@pytest.mark.skipif(os.name == "nt", reason="modes are of POSIX")
def test_nobody_else_reads_it_and_the_secret_is_not_in_it(tmp_path: Path) -> None:
    (tmp_path / "key.json.new").write_text("left by one that crashed")
    keyring.save(tmp_path, TOKEN, KEY)
    path = tmp_path / "key.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"key": KEY, "replaces": credentials.digest(TOKEN)}
    assert [each.name for each in tmp_path.iterdir()] == ["key.json"]


def test_new_keys_have_256_bits_of_chance() -> None:
    keys = {credentials.new() for _ in range(100)}
    assert len(keys) == 100 and all(key.startswith("crpa_") and len(key) == 5 + 43 for key in keys)


def test_a_robot_stays_deleted_until_there_is_a_new_key(tmp_path: Path) -> None:
    assert not memory.was_deleted(None, "k1")
    known = Memory("u1", "default", "k1")
    memory.save(tmp_path, known)
    assert memory.load(tmp_path) == known
    assert memory.was_deleted(known, "k1") and not memory.was_deleted(known, "k2")
    memory.forget(tmp_path)
    assert memory.load(tmp_path) is None


def test_a_wish_to_end_that_comes_by_two_ways_is_one_and_none_is_lost() -> None:
    ending, told = Ending(), list[str]()
    ending.ask("signal")
    ending.tell(lambda: told.append("first"))
    ending.ask("input")
    assert told == ["first"]
    ending.ask("input")
    assert told == ["first"] * 2
    ending.tell(lambda: told.append("second"))
    assert told == ["first"] * 2 + ["second"] * 2


def test_two_files_of_one_robot_are_a_mistake(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.yaml" for name in "ab"]
    for file in files:
        file.write_text(f"orchestrator: {{url: 'http://x:1', joinToken: {TOKEN}}}\nrobot: {{id: pc-01}}\n")
    with pytest.raises(ConfigError, match="are both robot pc-01"):
        check_apart(files, [load(file, {}) for file in files])
    files[1].write_text(files[1].read_text().replace("pc-01", "pc-02"))
    check_apart(files, [load(file, {}) for file in files])


def test_the_worst_exit_code_counts() -> None:
    assert max(map(severity, (0, 1, -9))) == 137 and max(map(severity, (0, 4, 1))) == 4


def test_a_join_token_of_a_file_is_not_mixed_with_a_key_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "pc.yaml"
    file.write_text(f"orchestrator: {{url: 'http://x:1', joinToken: {TOKEN}}}\n")
    settings = load(file, {"CASARE_ORCHESTRATOR_API_KEY": KEY})
    assert settings.secret == TOKEN and settings.api_key is None and TOKEN not in repr(settings)
    assert load(None, {"CASARE_API_URL": "http://x:1", "CASARE_JOIN_TOKEN": TOKEN}).secret == TOKEN
    both = {"CASARE_API_URL": "http://x:1", "CASARE_JOIN_TOKEN": TOKEN, "CASARE_ORCHESTRATOR_API_KEY": KEY}
    assert load(None, both).secret == KEY
