"""The keys of the robots that `casare up` runs: what their settings say, or what they got in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from casare_agent import keyring
from casare_cli.failures import Failure
from casare_cli.up import credentials
from casare_cli.up.data_dir import DataDir


def test_a_local_robot_that_rotated_its_key_is_known_by_the_new_one(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.agent("local-1").parent.mkdir()
    key = credentials.robot_key(data, "local-1", "http://127.0.0.1:8000")
    assert credentials.used_key(data, "local-1", key) == key
    keyring.save(tmp_path / "agent" / "local-1", key, "crpa_second")
    assert credentials.used_key(data, "local-1", key) == "crpa_second"
    assert credentials.robot_key(data, "local-1", "http://127.0.0.1:8000") == key, "the settings are the person's"
    data.agent("local-1").write_text("robot: [")
    assert credentials.used_key(data, "local-1", key) == key


def test_a_new_key_of_secrets_leaves_the_old_one_beside_it_and_never_takes_the_place_of_one(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    credentials.new_secret_key(data, {})
    assert not data.old_secret_key.exists() and credentials.fallback_keys(data, {}) == {}, "there was none yet"
    credentials.secret_key(data, {})
    first = data.secret_key.read_text()
    credentials.new_secret_key(data, {})
    assert not data.secret_key.exists(), "and here it may end: the next start makes one"
    assert credentials.secret_key(data, {}) == {"CASARE_SECRET_KEY_FILE": str(data.secret_key)}
    assert data.old_secret_key.read_text() == first != data.secret_key.read_text()
    with pytest.raises(Failure, match="is still there: start without") as caught:
        credentials.new_secret_key(data, {})
    assert "\n" not in str(caught.value) and data.old_secret_key.read_text() == first


def test_a_key_of_ones_own_is_not_rotated_by_the_command(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    credentials.secret_key(data, {})
    for name in credentials.SECRET_KEY:
        with pytest.raises(Failure, match=f"yours is in {name}:"):
            credentials.new_secret_key(data, {name: "x" * 40})
    assert data.secret_key.exists() and not data.old_secret_key.exists()


def test_the_old_key_opens_beside_fallbacks_of_ones_own(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    own = {"CASARE_SECRET_KEY_FALLBACKS": "x" * 40, "CASARE_SECRET_KEY_FALLBACK_FILES": "/a"}
    assert credentials.fallback_keys(data, own) == own
    data.old_secret_key.write_text("y" * 40)
    assert credentials.fallback_keys(data, own) == {**own, "CASARE_SECRET_KEY_FALLBACK_FILES": "/a,secret.key.old"}
    assert credentials.fallback_keys(data, {}) == {"CASARE_SECRET_KEY_FALLBACK_FILES": "secret.key.old"}
