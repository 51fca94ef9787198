"""Which server is meant? The first that is named, in this order:

what the caller was told (`--server`, `--kubeconfig`, `--data-dir`), CASARE_ORCHESTRATOR_URL, KUBECONFIG where its
current context is one of ours, and the server that `casare up` started here. The key of one server is never sent to
another: the admin key of a data directory goes to the addresses written beside it alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from casare_client import kubeconfig
from casare_client.config import Config, server_url
from casare_client.errors import NoServer

HELP = (
    "no server is named: give --server URL and --key KEY, or set CASARE_ORCHESTRATOR_URL and "
    "CASARE_ORCHESTRATOR_API_KEY, or point KUBECONFIG at a fleet; 'casare up' starts a server here"
)


@dataclass(frozen=True, slots=True)
class Named:
    """What somebody said explicitly; None where nothing was said."""

    server: str | None = None
    key: str | None = None
    kubeconfig: str | None = None
    data_dir: str | None = None
    ca_file: str | None = None
    namespace: str | None = None


def from_environment(
    server: str | None = None,
    key: str | None = None,
    *,
    kubeconfig: str | None = None,
    data_dir: str | None = None,
    ca_file: str | None = None,
    namespace: str | None = None,
    environ: Mapping[str, str] = os.environ,
    warn: Callable[[str], None] = lambda line: None,
) -> Config:
    """How to reach the server that is meant. Raises NoServer with one line that says what to do."""
    named = Named(server or None, key or None, kubeconfig or None, data_dir or None, ca_file or None, namespace or None)
    config = _find(named, environ, warn)
    if named.ca_file:
        config = replace(config, ca_file=named.ca_file, ca_data=None)
    return replace(config, key=named.key or config.key, namespace=named.namespace or config.namespace)


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where `casare up` keeps its data: CASARE_DATA_DIR, else ~/.casare, for root /var/lib/casare."""
    if environ.get("CASARE_DATA_DIR"):
        return Path(environ["CASARE_DATA_DIR"]).expanduser()
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/casare")
    return Path.home() / ".casare"


def _find(named: Named, environ: Mapping[str, str], warn: Callable[[str], None]) -> Config:
    if named.server:
        return _known(named.server, named, environ)
    if named.kubeconfig:
        return _from_kubeconfig(named.kubeconfig)
    if named.data_dir:
        folder = Path(named.data_dir).expanduser()
        return _from_data_dir(folder, named.key, f"no server was started in {folder}: 'casare up --data-dir' does")
    if environ.get("CASARE_ORCHESTRATOR_URL"):
        return _known(environ["CASARE_ORCHESTRATOR_URL"], named, environ)
    found = _from_their_kubeconfig(environ.get("KUBECONFIG", ""), warn)
    return found or _from_data_dir(default_data_dir(environ), _told_key(named, environ), HELP)


def _told_key(named: Named, environ: Mapping[str, str]) -> str | None:
    return named.key or environ.get("CASARE_ORCHESTRATOR_API_KEY") or None


def _known(server: str, named: Named, environ: Mapping[str, str]) -> Config:
    """A server by its URL; where it is the one started here, with the key and certificates left beside it."""
    url, told = server_url(server), _told_key(named, environ)
    folder = Path(named.data_dir).expanduser() if named.data_dir else default_data_dir(environ)
    plain = Config(url, told or "", environ.get("CASARE_CA_FILE") or None)
    try:
        up = _up(folder)
    except (OSError, ValueError, TypeError):
        return plain
    if url not in (up.get("api"), up.get("tls")):
        return plain
    return replace(plain, key=told or _admin_key(up, folder), ca_file=plain.ca_file or _ca_file(up, folder))


def _from_kubeconfig(paths: str) -> Config:
    context = kubeconfig.read(paths)
    if context is None:
        raise NoServer(f"{paths} has no current context")
    if not context.ours:
        raise NoServer(f'the current context "{context.name}" of {paths} is no Casare fleet')
    return _config(context)


def _from_their_kubeconfig(paths: str, warn: Callable[[str], None]) -> Config | None:
    context = kubeconfig.read(paths) if paths else None
    if context is None:
        return None
    if not context.ours:
        warn(f'KUBECONFIG is ignored: its current context "{context.name}" is no Casare fleet')
        return None
    return _config(context)


def _config(context: kubeconfig.Context) -> Config:
    return Config(context.server, context.key, context.ca_file, context.namespace, ca_data=context.ca_data)


def _from_data_dir(folder: Path, key: str | None, missing: str) -> Config:
    try:
        up = _up(folder)
    except FileNotFoundError:
        raise NoServer(missing) from None
    except OSError as error:
        raise NoServer(f"cannot read {folder / 'up.json'}: {error.strerror}; name a server with --server") from None
    except (ValueError, TypeError):
        raise NoServer(f"{folder / 'up.json'} is damaged; 'casare up' writes it anew") from None
    return Config(str(up.get("api") or ""), key or _admin_key(up, folder), _ca_file(up, folder))


def _ca_file(up: Mapping[str, Any], folder: Path) -> str:
    return str(up.get("caFile") or folder / "ca.crt")


def _up(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "up.json").read_text(encoding="utf-8")))


def _admin_key(up: Mapping[str, Any], folder: Path) -> str:
    file = Path(str(up.get("adminKeyFile") or folder / "admin.key"))
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NoServer(f"cannot read the admin key {file}: {error.strerror}; give a key with --key") from None
