"""`casare status`: what runs in a data directory, since when, and is it well?"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from casare_cli.up import data_dir, probes, record
from casare_cli.up.data_dir import DataDir

NOTHING = 3  # exit code when nothing runs
UNWELL = 1
_WELL = ("ready", "running", "Idle", "Busy")


@dataclass(frozen=True, slots=True)
class Line:
    """One program."""

    name: str
    pid: int | None
    health: str


def status(path: Path) -> int:
    """Prints a table. Returns 0 when all is well, 1 when something is not, 3 when nothing runs."""
    data = DataDir(path)
    pid = data_dir.holder(data)
    if pid is None:
        print(f"nothing runs in {path}; 'casare up' starts it")
        return NOTHING
    found = record.read(data)
    if found is None:
        print(f"starting or stopping (pid {pid}) in {path}")
        return UNWELL
    lines = [Line("up", pid, "running"), *_lines(data, found)]
    print(f"{'NAME':<12} {'PID':>8}  {'SINCE':<20}  HEALTH")
    for line in lines:
        print(f"{line.name:<12} {line.pid or '-':>8}  {_since(line.pid):<20}  {line.health}")
    for name in ("api", "tls", "dashboard"):
        if found.get(name):
            print(f"{name:<12} {found[name]}")
    return 0 if all(line.health in _WELL for line in lines) else UNWELL


def _lines(data: DataDir, found: dict[str, Any]) -> list[Line]:
    pids = found["pids"]
    lines = []
    if pids.get("postgres"):
        lines.append(Line("postgres", pids["postgres"], _postgres(data)))
    lines.append(Line("apiserver", pids.get("apiserver"), _answer(f"{found['api']}/readyz")))
    lines.append(Line("controller", pids.get("controller"), "running" if pids.get("controller") else "down"))
    if found.get("dashboard"):
        lines.append(Line("dashboard", pids.get("dashboard"), _answer(f"{found['dashboard']}/_stcore/health")))
    names = [f"local-{number}" for number in range(1, len(pids.get("agents", [])) + 1)]
    agents = dict(zip(names, pids.get("agents", []), strict=True))
    phases = _phases(data, found, agents)
    return lines + [Line(name, pid, phases[name]) for name, pid in agents.items()]


def _answer(url: str) -> str:
    code = probes.status(url)
    return "ready" if code == 200 else f"answers {code}" if code else "does not answer"


def _postgres(data: DataDir) -> str:
    from casare_store import embedded_running

    running = embedded_running.read(data.path / "postgres")
    return str(running.address.ask()) if running else "down"


def _phases(data: DataDir, found: dict[str, Any], agents: dict[str, int | None]) -> dict[str, str]:
    """How the server sees the robots."""
    from casare_cli.up import fleet
    from casare_client import Client, Config

    try:
        key = data.admin_key.read_text().strip()
    except OSError:
        return dict.fromkeys(agents, "unknown")
    with Client(Config(found["api"], key, timeout=probes.TIMEOUT), "casare-status") as client:
        return {name: phase or "unknown" for name, phase in fleet.phases(client, agents).items()}


def _since(pid: int | None) -> str:
    if pid is None or importlib.util.find_spec("psutil") is None:
        return ""
    import psutil

    try:
        return datetime.fromtimestamp(psutil.Process(pid).create_time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except psutil.Error:
        return ""
