"""`casare secrets`: which key are Secrets sealed with, and how do all of them get another one?"""

from __future__ import annotations

import typer

from casare_cli import session


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Show and replace the key that Secrets are sealed with.", no_args_is_help=True)
    group.command("status")(status)
    group.command("reseal")(reseal)
    app.add_typer(group, name="secrets")


def status(context: typer.Context) -> int:
    """Show with which keys Secrets are sealed, in rows and in the log, and which apiservers have them."""
    from casare_cli import resealing

    with session.of(context).client() as client:
        found = resealing.walked(client, "GET")
    for line in resealing.shown(found):
        print(line)
    return 0


def reseal(context: typer.Context) -> int:
    """Seal all Secrets anew with the apiservers' current key. Exit code 1 while another key is still needed.

    It may be interrupted and run again, at any time.
    """
    from casare_cli import resealing

    with session.of(context).client() as client:
        done = resealing.walked(client, "POST")
        now = resealing.walked(client, "GET")
    lines, is_over = resealing.verdict(done, now)
    for line in lines:
        print(line)
    return 0 if is_over else 1
