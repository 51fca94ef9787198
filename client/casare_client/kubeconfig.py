"""Which server does a kubeconfig's current context name, and is it one of ours?

Ours are marked by an extension `casare.net` on the cluster. Any other context is somebody's Kubernetes cluster and is
never spoken to. Files are merged as kubectl does: what is named first wins.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from casare_client.errors import NoServer

MARK = "casare.net"


@dataclass(frozen=True, slots=True)
class Context:
    """What the current context says; `key` and `ca_data` stay out of the repr."""

    name: str
    ours: bool
    server: str = ""
    key: str = field(default="", repr=False)
    ca_file: str | None = None
    ca_data: str | None = field(default=None, repr=False)
    namespace: str = "default"


def read(paths: str) -> Context | None:
    """The current context of the files in `paths` (separated as in PATH), None where none of them has one.

    Raises NoServer for a file that can't be read or is no kubeconfig.
    """
    files = [Path(part).expanduser() for part in paths.split(os.pathsep) if part]
    configs = [(file.parent, _load(file)) for file in files if file.exists()]
    name = next((str(config["current-context"]) for _, config in configs if config.get("current-context")), "")
    if not name:
        return None
    _, context = _named(configs, "contexts", "context", name)
    where, cluster = _named(configs, "clusters", "cluster", str(context.get("cluster", "")))
    if not _marked(cluster):
        return Context(name, ours=False)
    beside, user = _named(configs, "users", "user", str(context.get("user", "")))
    return Context(
        name,
        ours=True,
        server=str(cluster.get("server") or ""),
        key=_token(beside, user),
        ca_file=_beside(where, cluster.get("certificate-authority")),
        ca_data=_decoded(cluster.get("certificate-authority-data")),
        namespace=str(context.get("namespace") or "default"),
    )


def _load(file: Path) -> dict[str, Any]:
    import yaml  # 35 ms that only those with a kubeconfig pay

    try:
        with file.open(encoding="utf-8") as stream:
            config = yaml.safe_load(stream)
    except OSError as error:
        raise NoServer(f"cannot read the kubeconfig {file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise NoServer(f"{file} is no kubeconfig: it is not valid YAML") from None
    if not isinstance(config, dict):
        raise NoServer(f"{file} is no kubeconfig")
    return config


def _named(
    configs: list[tuple[Path, dict[str, Any]]], section: str, part: str, name: str
) -> tuple[Path, dict[str, Any]]:
    """The first entry of a section with this name, and the folder of its file; marks beside the part go with it."""
    for folder, config in configs:
        for entry in _objects(config.get(section)):
            if entry.get("name") == name and isinstance(entry.get(part), dict):
                return folder, {"extensions": entry.get("extensions"), **entry[part]}
    return Path(), {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _marked(cluster: Mapping[str, Any]) -> bool:
    return any(one.get("name") == MARK for one in _objects(cluster.get("extensions")))


def _token(folder: Path, user: Mapping[str, Any]) -> str:
    file = _beside(folder, user.get("tokenFile"))
    if file is None:
        return str(user.get("token") or "")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NoServer(f"cannot read the key file {file}: {error.strerror}") from None


def _beside(folder: Path, name: object) -> str | None:
    return str(folder / str(name)) if name else None


def _decoded(data: object) -> str | None:
    try:
        return base64.b64decode(str(data), validate=True).decode("ascii") if data else None
    except (binascii.Error, UnicodeDecodeError):
        raise NoServer("the kubeconfig's certificate-authority-data is not base64 of a PEM file") from None
