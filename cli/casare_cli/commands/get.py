"""`casare get`: list objects, or show some by name."""

from __future__ import annotations

from typing import Annotated

import typer

from casare_cli import options, session


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("get")(get)


def get(
    context: typer.Context,
    what: Annotated[
        list[str], typer.Argument(metavar="KIND[/NAME] [NAME]...", help="robots, job/NAME, job A B, or robots,jobs.")
    ],
    namespace: options.Namespace = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    labels: options.Labels = "",
    fields: Annotated[
        str,
        typer.Option("--field-selector", metavar="FIELDS", help="Only those with these fields: status.phase=Failed."),
    ] = "",
    form: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="wide, name, yaml or json.")] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Then show each change, until Ctrl-C.")] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="Of jobs, those that Failed or Expired, and why; 'casare retry' retries.")
    ] = False,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Without the line of headers.")] = False,
) -> int:
    """List objects, or show some by name."""
    from casare_cli import getting, output, targets

    meant = targets.parse(what)
    if failed:
        from casare_cli import deadletters

        meant, fields = deadletters.only(meant, fields)
    query = getting.Query(meant, all_namespaces, labels, fields, output.check(form), watch, headers=not no_headers)
    with session.of(context).client(namespace) as client:
        return getting.show(client, query)
