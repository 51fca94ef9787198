"""The documents are true: settings, commands and files they name are there, and what is there is named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from casare_agent.config import Settings as AgentSettings
from casare_apiserver.settings import Settings as ServerSettings
from casare_dashboard.settings import DashboardSettings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "manifests" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}


def names(settings: type[BaseSettings]) -> list[str]:
    found: list[str] = []
    for field in settings.model_fields.values():
        alias = field.validation_alias or field.alias
        found += [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
    return found


@pytest.mark.parametrize("settings", [ServerSettings, AgentSettings, DashboardSettings])
def test_every_setting_is_in_the_settings_page(settings: type[BaseSettings]) -> None:
    page = TEXT[ROOT / "docs" / "settings.md"]
    assert [name for name in names(settings) if f"`{name}`" not in page] == []


def test_every_variable_in_the_documents_is_read_somewhere() -> None:
    said = {word for text in TEXT.values() for word in re.findall(r"`(CASARE_[A-Z_]+)`", text)}
    code = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("*/casare_*/**/*.py"))
    assert sorted(word for word in said if word not in code) == []


def test_every_command_in_the_documents_exists() -> None:
    said = {word for text in TEXT.values() for word in re.findall(r"\bcasare ([a-z]+)\b", "\n".join(_commands(text)))}
    known = subprocess.run(
        [sys.executable, "-m", "casare_cli", "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert said, "the documents name no command: the test tested nothing"
    assert sorted(word for word in said if not re.search(rf"\b{word}\b", known)) == []


def _commands(text: str) -> list[str]:
    """Code blocks and inline code."""
    return [*re.findall(r"```[a-z]*\n(.*?)```", text, re.S), *re.findall(r"`(casare [^`]+)`", text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT[page]) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_architecture_names_the_folders_there_are() -> None:
    page = TEXT[ROOT / "docs" / "architecture.md"]
    packages = sorted(f"{path.parent.name}/{path.name}" for path in ROOT.glob("*/casare_*") if path.is_dir())
    assert [package for package in packages if f"`{package}`" not in page] == []
    files = set(re.findall(r"\b([a-z_]+\.py)\b", page))
    there = {path.name for path in ROOT.glob("*/casare_*/**/*.py")}
    assert files and files <= there
