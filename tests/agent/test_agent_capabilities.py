"""What a computer can do is found out, and what people add to it stays."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from casare_agent.capabilities import detect


def test_what_is_there_is_found(tmp_path: Path) -> None:
    for program in ("chromium", "nvidia-smi"):
        (tmp_path / program).touch(mode=0o755)
    found = detect(environ={"PATH": str(tmp_path), "DISPLAY": ":0"})
    assert {"browser", "desktop", "gpu"} <= set(found)


def test_what_is_not_there_is_not_claimed(tmp_path: Path) -> None:
    assert not {"browser", "desktop"} & set(detect(environ={"PATH": str(tmp_path), "HOME": str(tmp_path)}))


def test_high_memory_is_16_gb_or_more(tmp_path: Path) -> None:
    has_much = psutil.virtual_memory().total >= 16 * 10**9
    assert ("high_memory" in detect(environ={"PATH": str(tmp_path)})) == has_much


@pytest.mark.parametrize("word", ["sap", "excel"])
def test_further_words_are_added(word: str) -> None:
    assert word in detect([word])
