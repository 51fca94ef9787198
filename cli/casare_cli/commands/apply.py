"""`casare apply`: make the server hold what manifests declare."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from casare_cli import options, session


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("apply")(apply)


def apply(
    context: typer.Context,
    files: options.Files = None,
    namespace: options.Namespace = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the server check everything and keep nothing.")
    ] = False,
) -> int:
    """Make the server hold what manifests declare."""
    from casare_cli.apply import apply_paths
    from casare_cli.failures import Misuse

    if not files:
        raise Misuse("which manifests? give -f FILE, -f FOLDER or -f - for standard input")
    with session.of(context).client(namespace) as client:
        return apply_paths(client, files, namespace, sys.stdout, sys.stderr, dry_run)
