"""Which keys are used on this computer, and where do they lie?

The admin key is the person's own where the environment has one, else it is made once; so is the key that Secrets are
sealed with in the database. Each local robot has its own key, made once and kept in its settings file; the server
learns only the hash.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from casare_api.machinery import credentials as keys
from casare_cli.failures import Failure
from casare_cli.up import data_dir
from casare_cli.up.data_dir import DataDir
from casare_cli.up.settings import Settings

FALLBACKS = ("CASARE_SECRET_KEY_FALLBACKS", "CASARE_SECRET_KEY_FALLBACK_FILES")
MARK = "casare.net"  # the extension by which our client knows a context of ours
SECRET_KEY = ("CASARE_SECRET_KEY", "CASARE_SECRET_KEY_FILE")
_OWN = ("ORCHESTRATOR_ADMIN_API_KEY", "API_SECRET")
_API_KEY = re.compile(r'^(\s*apiKey:\s*)"?([^"\s]+)"?\s*$', re.MULTILINE)
_URL = re.compile(r'^(\s*url:\s*)"?([^"\s]+)"?\s*$', re.MULTILINE)


def admin_key(data: DataDir, environ: Mapping[str, str] = os.environ) -> str:
    """The admin key, which afterwards stands in `admin.key`. Raises Failure for one that can't be sent."""
    own = next((environ[name].strip() for name in _OWN if environ.get(name, "").strip()), "")
    if any(not "!" <= char <= "~" for char in own):
        raise Failure("the admin key in the environment holds characters that no key can have (spaces, not ASCII)")
    key = own or _kept(data.admin_key).strip() or keys.new()
    data_dir.write(data.admin_key, f"{key}\n")
    return key


def secret_key(data: DataDir, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the apiserver needs to seal Secrets: the person's own setting, else `secret.key`, which is made once.

    That file is never written again: what is sealed with its key is lost with it.
    """
    own = _set(SECRET_KEY, environ)
    if own:
        return own
    if not _kept(data.secret_key).strip():
        data_dir.write(data.secret_key, f"{secrets.token_urlsafe(48)}\n")
    return {SECRET_KEY[1]: str(data.secret_key)}


def fallback_keys(data: DataDir, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What else opens Secrets: the person's own setting, and `secret.key.old` as long as it is there.

    The apiserver runs in the data directory: whatever characters its path has, the name of the file has no comma.
    """
    found = _set(FALLBACKS, environ)
    if data.old_secret_key.exists():
        found[FALLBACKS[1]] = ",".join(filter(None, (found.get(FALLBACKS[1]), data.old_secret_key.name)))
    return found


def new_secret_key(data: DataDir, environ: Mapping[str, str] = os.environ) -> None:
    """Makes `secret.key` the old one, so that another is made. Raises Failure where that can't be.

    The caller has claimed the directory. Whenever this ends, no key is lost: the old one opens what it has sealed.
    """
    if own := _set(SECRET_KEY, environ):
        raise Failure(f"--new-secret-key is for the key in {data.secret_key}, and yours is in {next(iter(own))}: "
                      "docs/security.md says how that one is rotated")
    if data.old_secret_key.exists():
        raise Failure(f"--new-secret-key: {data.old_secret_key} is still there: start without this option, run "
                      "'casare secrets reseal', and remove that file when it says so")
    if _kept(data.secret_key).strip():
        data.secret_key.rename(data.old_secret_key)


def _set(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in names if environ.get(name, "").strip()}


def robot_key(data: DataDir, name: str, url: str) -> str:
    """The key of a local robot, which afterwards stands in its settings file. What a person added there is kept."""
    file = data.agent(name)
    text = _kept(file)
    found = _API_KEY.search(text)
    if found is None or not _URL.search(text):
        key = keys.new()
        data_dir.write(file, _robot_settings(name, url, key))
        return key
    written = _URL.sub(lambda match: f"{match[1]}{json.dumps(url)}", text, count=1)
    if written != text:
        data_dir.write(file, written)
    file.chmod(0o600)
    return found[2]


def used_key(data: DataDir, name: str, key: str) -> str:
    """The key that a local robot calls with by now: it may have rotated the one in its settings file by itself."""
    from casare_agent import config, keyring

    try:
        return keyring.load(config.load(data.agent(name), {}).directory, key)
    except (config.ConfigError, OSError):
        return key  # the agent will say what is wrong


def write_kubeconfig(data: DataDir, settings: Settings, key: str) -> None:
    """For kubectl and our own command: the context `casare`. JSON is YAML, too."""
    cluster: dict[str, Any] = {
        "server": settings.tls or settings.api,
        "extensions": [{"name": MARK, "extension": {"api": settings.api, "dataDir": str(data.path)}}],
    }
    if settings.tls:
        cluster["certificate-authority-data"] = base64.b64encode(data.ca.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "casare", "cluster": cluster}],
        "users": [{"name": "casare-admin", "user": {"token": key}}],
        "contexts": [
            {"name": "casare", "context": {"cluster": "casare", "user": "casare-admin", "namespace": "default"}}
        ],
        "current-context": "casare",
    }
    data_dir.write(data.kubeconfig, json.dumps(config, indent=2) + "\n")


def _robot_settings(name: str, url: str, key: str) -> str:
    return (
        f"# Made by 'casare up'. Add settings of your own, such as tags; they are kept.\n"
        f"orchestrator:\n  url: {json.dumps(url)}\n  apiKey: {json.dumps(key)}\n"
        f"robot:\n  id: {name}\n  name: {name}\n"
        f"agent:\n  directory: ../agent\n"
    )


def _kept(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}") from None
