"""`casare version`: which version is this, and which one is the server?"""

from __future__ import annotations

import typer

from casare_cli import session


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("version")(version)


def version(context: typer.Context) -> None:
    """Show the versions of this command and of the server."""
    from casare_api.machinery.errors import ApiError
    from casare_cli.versions import own
    from casare_client import NoServer, Unreachable

    print(f"casare {own()}")
    try:
        with session.of(context).client() as client:
            found = client.request("GET", "/version").json()
            print(f"server {found.get('gitVersion', 'unknown')} at {client.config.server}")
    except (ApiError, NoServer, Unreachable) as error:
        print(f"server: {error}")
