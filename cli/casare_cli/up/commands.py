"""How are `up`, `down` and `status` typed?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from casare_cli import session
from casare_cli.failures import Failure

Directory = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", help="Default: ~/.casare, for root /var/lib/casare.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)


def up(
    context: typer.Context,
    data_dir: Directory = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The API's port on 127.0.0.1.")] = 8000,
    tls_port: Annotated[int, typer.Option(min=0, max=65535, help="The API's TLS port; 0 for none.")] = 8443,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65535, help="The dashboard's port.")] = 8501,
    no_dashboard: Annotated[bool, typer.Option("--no-dashboard", help="Run no dashboard.")] = False,
    robots: Annotated[int, typer.Option(min=0, max=100, help="How many local robots to run.")] = 1,
    apply: Annotated[
        list[str] | None, typer.Option("--apply", metavar="PATH", help="Apply these manifests; may repeat.")
    ] = None,
    new_secret_key: Annotated[
        bool,
        typer.Option("--new-secret-key", help="Seal Secrets with a new key; 'casare secrets reseal' ends the old one."),
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready; 'casare down' stops it.")] = False,
) -> int:
    """Run the whole system on this computer: database, servers, robots and dashboard."""
    if sys.platform == "win32":
        raise Failure("the servers run on Linux and macOS only: start them there, and on Windows run 'casare agent'")
    from casare_cli.up import settings
    from casare_cli.up import up as upping

    paths = [Path(path).expanduser().absolute() for path in apply or ()]
    for path in paths:
        if not path.exists():
            raise Failure(f"--apply {path}: there is no such file or folder")
    chosen = settings.Settings(
        _directory(context, data_dir),
        port,
        tls_port,
        dashboard_port,
        not no_dashboard and settings.dashboard_installed(),
        robots,
        tuple(map(str, paths)),
        new_secret_key,
    )
    return upping.detach(chosen) if detach else upping.up(chosen)


def down(context: typer.Context, data_dir: Directory = None) -> int:
    """Stop what 'casare up' runs."""
    from casare_cli.up import down as stopping

    return stopping.down(_directory(context, data_dir))


def status(context: typer.Context, data_dir: Directory = None) -> int:
    """Show what 'casare up' runs, and how it is. Exit code 3 when nothing runs."""
    from casare_cli.up import status as showing

    return showing.status(_directory(context, data_dir))


def _directory(context: typer.Context, given: str | None) -> Path:
    from casare_cli.up import data_dir

    chosen = given or session.of(context).data_dir
    return (Path(chosen).expanduser() if chosen else data_dir.default()).resolve()
