"""The keys of the robots that `casare up` runs: what their settings say, or what they got in its place."""

from __future__ import annotations

from pathlib import Path

from casare_agent import keyring
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
