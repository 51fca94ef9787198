"""What does a file of settings say? Either `.env` lines, or YAML, grouped as `orchestrator:` and `robot:`, or flat.

    orchestrator: {url: http://127.0.0.1:8000, apiKey: crpa_..., caFile: ca.crt}     # or joinToken: cjt_...
    robot: {id: PC_01, name: PC-01, environment: production, tags: [sap], capabilities: [], maxConcurrentJobs: 2}

YAML that names something there is not is a mistake and said; a `.env` file belongs to others too, and what is not
ours in it is passed over. Paths in a file are relative to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

# Where the settings are in a grouped YAML file: group, key (any of camelCase, snake_case), field.
GROUPED: dict[str, dict[str, str]] = {
    "orchestrator": {"url": "orchestrator_url", "apiKey": "api_key", "joinToken": "join_token", "caFile": "ca_file"},
    "robot": {
        "id": "robot_id",
        "name": "robot_name",
        "environment": "environment",
        "tags": "tags",
        "capabilities": "capabilities",
        "maxConcurrentJobs": "max_concurrent_jobs",
        "namespace": "namespace",
    },
    "agent": {"directory": "agent_dir", "shutdownGrace": "shutdown_grace"},
}
_PATHS = ("ca_file", "agent_dir")


class Unreadable(Exception):
    """What is wrong with the file, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read(path: Path, variables: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The settings by field; `variables` are each field's names in an environment. Raises Unreadable."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise Unreadable([f"{path}: cannot be read: {why}"]) from None
    found = _yaml(path, text, variables) if path.suffix in (".yaml", ".yml") else _env(path, variables)
    return {field: _path(path, value) if field in _PATHS else value for field, value in found.items()}


def _path(file: Path, value: object) -> Path:
    return file.parent / Path(str(value)).expanduser()


def _env(path: Path, variables: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    lines = {name: value for name, value in dotenv_values(path, interpolate=False).items() if value}
    chosen = {field: [lines[name] for name in known if name in lines] for field, known in variables.items()}
    return {field: values[0] for field, values in chosen.items() if values}


def _yaml(path: Path, text: str, variables: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    try:
        document = yaml.load(text, Loader=yaml.BaseLoader)  # texts alone: an id of 007 stays 007, and yes stays yes
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        why = getattr(error, "problem", None) or "cannot be parsed"
        raise Unreadable([f"{path}{where}: not YAML: {why}"]) from None
    if not isinstance(document, dict):
        raise Unreadable([f"{path}: must hold settings, such as `robot: {{id: PC_01}}`"])
    known = {name: field for field, names in variables.items() for name in names}
    problems: list[str] = []
    found = dict(_entries(path, document, known, problems))
    if problems:
        raise Unreadable(problems)
    return {field: value for field, value in found.items() if value not in ("", "~", "null")}


def _entries(
    path: Path, document: Mapping[Any, Any], known: Mapping[str, str], problems: list[str]
) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if key in known:
            yield known[key], value
        elif key not in GROUPED:
            allowed = ", ".join([*GROUPED, *known])
            problems.append(f"{path}: {key}: there is no such setting; allowed are {allowed}")
        elif not isinstance(value or {}, dict):
            first = next(iter(GROUPED[key]))
            problems.append(f"{path}: {key}: must be a group of settings, such as `{key}: {{{first}: ...}}`")
        else:
            yield from _group(path, key, value or {}, problems)


def _group(path: Path, group: str, values: Mapping[Any, Any], problems: list[str]) -> Iterator[tuple[str, Any]]:
    fields = {_plain(key): field for key, field in GROUPED[group].items()}
    for key, value in values.items():
        if _plain(key) in fields:
            yield fields[_plain(key)], value
        else:
            problems.append(f"{path}: {group}.{key}: there is no such setting; allowed are {', '.join(GROUPED[group])}")


def _plain(key: object) -> str:
    """`max_concurrent_jobs` and `maxConcurrentJobs` are the same."""
    return str(key).replace("_", "").lower()
