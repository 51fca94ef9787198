"""What stands in up.json? Where everything is, for clients on this computer, and the process ids as they are now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from casare_cli.up import data_dir
from casare_cli.up.child import Child
from casare_cli.up.data_dir import DataDir
from casare_cli.up.settings import Settings


def write(data: DataDir, settings: Settings, children: Sequence[Child]) -> None:
    """Writes it whole. A process id is null while there is no such process."""
    pids = {child.name: child.pid for child in children}
    content = {
        "api": settings.api,
        "tls": settings.tls,
        "dashboard": settings.dashboard_url,
        "kubeconfig": str(data.kubeconfig),
        "adminKeyFile": str(data.admin_key),
        "caFile": str(data.ca),
        "pids": {name: pids.get(name) for name in ("apiserver", "controller", "postgres", "dashboard")}
        | {"agents": [pids[name] for name in settings.robot_names if name in pids]},
    }
    data_dir.write(data.record, json.dumps(content, indent=2) + "\n", mode=0o644)


def read(data: DataDir) -> dict[str, Any] | None:
    """None where there is none, or a damaged one."""
    try:
        content = json.loads(data.record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
