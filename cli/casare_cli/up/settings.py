"""What did the person ask `casare up` for?"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from casare_cli.failures import Failure, Misuse


@dataclass(frozen=True, slots=True)
class Settings:
    """The options. Ports are on 127.0.0.1; a `tls_port` of 0 means: no TLS."""

    data_dir: Path
    port: int = 8000
    tls_port: int = 8443
    dashboard_port: int = 8501
    dashboard: bool = True
    robots: int = 1
    apply: tuple[str, ...] = ()
    new_secret_key: bool = False

    def __post_init__(self) -> None:
        ports = [port for port in self.ports.values() if port]
        if len(set(ports)) < len(ports):
            raise Misuse("--port, --tls-port and --dashboard-port must be three different ports")

    @property
    def ports(self) -> dict[str, int]:
        """The ports that will be listened on, by the option that sets each."""
        ports = {"--port": self.port, "--tls-port": self.tls_port}
        return ports | ({"--dashboard-port": self.dashboard_port} if self.dashboard else {})

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls(self) -> str | None:
        return f"https://127.0.0.1:{self.tls_port}" if self.tls_port else None

    @property
    def dashboard_url(self) -> str | None:
        return f"http://127.0.0.1:{self.dashboard_port}" if self.dashboard else None

    @property
    def arguments(self) -> list[str]:
        """How the same is typed."""
        values = {"data-dir": self.data_dir, "port": self.port, "tls-port": self.tls_port, "robots": self.robots}
        words = [f"--{name}={value}" for name, value in values.items()]
        words += [f"--apply={path}" for path in self.apply]
        words += ["--new-secret-key"] if self.new_secret_key else []
        return [*words, f"--dashboard-port={self.dashboard_port}" if self.dashboard else "--no-dashboard"]

    @property
    def robot_names(self) -> tuple[str, ...]:
        return tuple(f"local-{number}" for number in range(1, self.robots + 1))


def check_installed() -> None:
    """Raises Failure where this installation lacks the servers or the agent."""
    missing = [name for name in ("psycopg", "fastapi", "uvicorn", "psutil") if importlib.util.find_spec(name) is None]
    if missing:
        raise Failure(f"'casare up' needs more than is installed ({missing[0]}): pip install 'casare-fleet[all]'")


def dashboard_installed() -> bool:
    """Whether the dashboard's extra is there, without importing it."""
    return importlib.util.find_spec("streamlit") is not None
