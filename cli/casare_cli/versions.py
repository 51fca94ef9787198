"""Which version is this? Read from what is installed."""

from __future__ import annotations

from importlib import metadata


def own() -> str:
    """The version of this distribution, "unknown" where it runs uninstalled."""
    try:
        return metadata.version("casare-fleet")
    except metadata.PackageNotFoundError:
        return "unknown"
