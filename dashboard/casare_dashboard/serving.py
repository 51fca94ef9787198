"""How is the dashboard started? Streamlit in this process, with every option given here.

What is given here wins over a config.toml of this computer: nothing is reported to anybody, no browser is opened, no
file is watched. Errors are shown in words by the pages; a traceback goes to the log, never to a browser.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from pydantic import ValidationError

from casare_dashboard import theme
from casare_dashboard.settings import DashboardSettings

APP = Path(__file__).with_name("app.py")


def main() -> int:
    """Serves until the process is told to end. The exit code: 2 for a wrong setting, 1 where the port is taken."""
    try:
        settings = DashboardSettings()
    except ValidationError as error:
        for problem in error.errors():
            print(f"dashboard: {problem['loc'][0]}: {problem['msg']}", file=sys.stderr)
        return 2
    why = _cannot_listen(settings)
    if why:
        print(f"dashboard: {why}; set CASARE_DASHBOARD_PORT to a free port", file=sys.stderr)
        return 1
    _serve(settings)
    return 0


def options(settings: DashboardSettings) -> dict[str, str]:
    """Streamlit's options by name."""
    return {
        "server.address": settings.host,
        "server.port": str(settings.port),
        "server.headless": "true",
        "server.showEmailPrompt": "false",
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "server.maxUploadSize": "1",
        "browser.gatherUsageStats": "false",
        "logger.hideWelcomeMessage": "true",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": "false",
        **theme.OPTIONS,
    }


def _serve(settings: DashboardSettings) -> None:
    from streamlit.web import cli  # 0.4 s, which a wrong setting need not wait for

    flags = [f"--{name}={value}" for name, value in options(settings).items()]
    print(f"dashboard: http://{settings.host}:{settings.port} shows {settings.orchestrator_url}", flush=True)
    cli.main(["run", str(APP), *flags], prog_name="casare dashboard", standalone_mode=False)


def _cannot_listen(settings: DashboardSettings) -> str | None:
    """Why the address can't be listened on; asked first because Streamlit's own answer names no setting."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        return f"cannot listen on {settings.host}:{settings.port}: {(error.strerror or str(error)).lower()}"
    return None
