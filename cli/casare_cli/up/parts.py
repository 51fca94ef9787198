"""Which programs make up the system, and with what environment does each run?

Order of the stages: what is ended first has the highest number. Each program gets what it needs and no more: robots
run other people's code, so neither the admin key, the key of Secrets nor the database's address reaches them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from casare_cli.up import credentials
from casare_cli.up.child import KILL, Process
from casare_cli.up.data_dir import DataDir
from casare_cli.up.settings import Settings

AGENT_GRACE = 20.0  # seconds that running jobs get when the system ends, unless CASARE_SHUTDOWN_GRACE says otherwise
ROBOT_DELETED = 4  # an agent's exit code
_OURS = (
    "DATABASE_URL",
    "ORCHESTRATOR_ADMIN_API_KEY",
    "API_SECRET",
    *credentials.SECRET_KEY,
    *credentials.FALLBACKS,
    "CASARE_ORCHESTRATOR_URL",
    "CASARE_ORCHESTRATOR_API_KEY",
    "CASARE_ROBOT_ID",
    "CASARE_ROBOT_NAME",
    "CASARE_CA_FILE",
    "CASARE_PORT",
    "CASARE_TLS_PORT",
    "CASARE_HOST",
    "CASARE_UP_DETACHED",
)


class Parts:
    """Makes the programs of one `casare up`."""

    def __init__(self, settings: Settings, data: DataDir, environ: Mapping[str, str] = os.environ) -> None:
        self._settings, self._data = settings, data
        self._environ = environ
        kept = {name: value for name, value in environ.items() if name not in _OURS}
        self._env = kept | {"CASARE_DATA_DIR": str(data.path), "PYTHONUNBUFFERED": "1"}

    def migrations(self, database_url: str) -> Process:
        return self._python("migrations", ["casare_migrations"], {"DATABASE_URL": database_url}, stage=1)

    def apiserver(self, database_url: str) -> Process:
        extra = {
            "DATABASE_URL": database_url,
            "CASARE_HOST": "127.0.0.1",
            "CASARE_PORT": str(self._settings.port),
            "CASARE_TLS_PORT": str(self._settings.tls_port),
            "CASARE_PKI_DIR": str(self._data.pki),
            "CASARE_ADMIN_KEY_FILE": str(self._data.admin_key),
            **credentials.secret_key(self._data, self._environ),
        }
        made = self._python("apiserver", ["casare_apiserver"], extra, stage=1)
        made.looked_up = lambda: credentials.fallback_keys(self._data, self._environ)  # the old key goes some day
        return made

    def controller(self, database_url: str) -> Process:
        return self._python("controller", ["casare_controller"], {"DATABASE_URL": database_url}, stage=2)

    def dashboard(self) -> Process:
        extra = {
            "CASARE_ORCHESTRATOR_URL": self._settings.api,
            "CASARE_DASHBOARD_PORT": str(self._settings.dashboard_port),
        }
        return self._python("dashboard", ["casare_dashboard"], extra, stage=3)

    def agent(self, name: str) -> Process:
        made = self._python(name, ["casare_agent", "--config", str(self._data.agent(name))], {}, stage=4)
        made.env = {"CASARE_SHUTDOWN_GRACE": f"{AGENT_GRACE:.0f}"} | dict(made.env)
        made.grace = _seconds(made.env["CASARE_SHUTDOWN_GRACE"]) + 20  # it hands back what did not finish
        made.death_signal = KILL  # when we are killed: it would go on for as long as its jobs do
        made.final_codes = frozenset({ROBOT_DELETED})
        return made

    def _python(self, name: str, program: list[str], extra: dict[str, str], stage: int) -> Process:
        # -P: a module in the directory where somebody typed the command must not take the place of ours.
        argv = [sys.executable, "-P", "-m", *program]
        return Process(name, argv, self._env | extra, self._data.log(name), self._data.path, stage)


def _seconds(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 86400.0)
    except ValueError:
        return AGENT_GRACE
