"""Which keys does an apiserver seal and open Secrets with? What its settings say, or one line about what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from casare_apiserver.app import _sealer
from casare_apiserver.settings import Settings
from casare_store.sealing import Sealer

TEXTS = [f"{number} is a key of more than 32 characters" for number in range(4)]


def settings(**values: str) -> Settings:
    return Settings.model_validate({"DATABASE_URL": "x", **{f"CASARE_SECRET_KEY{name}": text for name, text in values.items()}})


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "_FILE", "_FALLBACKS", "_FALLBACK_FILES"):
        monkeypatch.delenv(f"CASARE_SECRET_KEY{name}", raising=False)


def test_fallbacks_come_from_the_setting_and_from_files(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file, text in zip(files, TEXTS[2:], strict=True):
        file.write_text(f"{text}\n")
    found = settings(**{"": TEXTS[0], "_FALLBACKS": f" {TEXTS[1]} ,", "_FALLBACK_FILES": f"{files[0]}, {files[1]}"})
    sealer = _sealer(found)
    assert sealer is not None
    assert sealer.key_ids == tuple(Sealer.from_text(text).key_id for text in TEXTS)
    assert not any(text in repr(found) + repr(sealer) for text in TEXTS)


def test_a_file_that_is_not_there_and_fallbacks_without_a_key_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"CASARE_SECRET_KEY_FALLBACK_FILES: .*nothing") as caught:
        _sealer(settings(**{"": TEXTS[0], "_FALLBACK_FILES": str(tmp_path / "nothing")}))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="needs CASARE_SECRET_KEY"):
        _sealer(settings(_FALLBACKS=TEXTS[0]))
    assert _sealer(settings()) is None
