"""What can this computer do? The four words of the original system, each found by looking, never by asking people.

A wrong "yes" sends a robot work that it fails; so each word needs its proof here.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

HIGH_MEMORY = 16 * 10**9  # bytes: what the maker of a 16 GB computer calls that

_BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge",
    "microsoft-edge-stable", "msedge", "firefox", "firefox-esr",
)  # fmt: skip
_APPLICATIONS = ("Google Chrome", "Chromium", "Microsoft Edge", "Firefox")
_WINDOWS_BROWSERS = (
    r"Google\Chrome\Application\chrome.exe",
    r"Microsoft\Edge\Application\msedge.exe",
    r"Mozilla Firefox\firefox.exe",
)


def detect(extra: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> list[str]:
    """The words that hold here, in a fixed order, and then those of `extra` that are not among them."""
    found = {
        "browser": _has_browser(environ),
        "desktop": _has_desktop(environ),
        "gpu": _has_gpu(environ),
        "high_memory": psutil.virtual_memory().total >= HIGH_MEMORY,
    }
    return list(dict.fromkeys([*(word for word, holds in found.items() if holds), *extra]))


def _has_browser(environ: Mapping[str, str]) -> bool:
    if any(shutil.which(name, path=environ.get("PATH")) for name in _BROWSERS):
        return True
    if sys.platform == "darwin":
        return any(Path(f"/Applications/{name}.app").exists() for name in _APPLICATIONS)
    folders = [environ[name] for name in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA") if environ.get(name)]
    return any(Path(folder, browser).exists() for folder in folders for browser in _WINDOWS_BROWSERS)


def _has_desktop(environ: Mapping[str, str]) -> bool:
    """A session that shows windows. A Windows service runs in a session of its own, which shows none."""
    if sys.platform == "win32":
        return environ.get("SESSIONNAME", "Services").lower() != "services"
    if sys.platform == "darwin":
        return "SSH_CONNECTION" not in environ
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def _has_gpu(environ: Mapping[str, str]) -> bool:
    """A processor for computing on; the render nodes that every graphics chip has do not count."""
    return shutil.which("nvidia-smi", path=environ.get("PATH")) is not None or Path("/dev/nvidia0").exists()
