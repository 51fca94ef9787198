"""`casare delete`: delete objects by name, by label or by manifest."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from casare_cli import options, session


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("delete")(delete)


def delete(
    context: typer.Context,
    what: Annotated[
        list[str] | None, typer.Argument(metavar="KIND[/NAME] [NAME]...", help="job/NAME, job A B.")
    ] = None,
    files: options.Files = None,
    namespace: options.Namespace = None,
    labels: options.Labels = "",
    wait: Annotated[bool, typer.Option("--wait", help="Return when they are gone.")] = False,
    ignore: Annotated[bool, typer.Option("--ignore-not-found", help="What is not there is no error.")] = False,
) -> int:
    """Delete objects by name, by label or by manifest."""
    from casare_cli import deleting, targets
    from casare_cli.failures import Misuse

    if bool(what) == bool(files):
        raise Misuse("what? give KIND NAME, KIND -l LABELS, or -f FILE")
    with session.of(context).client(namespace) as client:
        problems: list[str] = []
        if files:
            doomed, problems = deleting.declared(client, files, namespace)
        else:
            doomed = list(deleting.selected(client, targets.parse(what or []), labels))
        for problem in problems:
            print(problem, file=sys.stderr)
        code = deleting.delete(client, doomed, deleting.Wishes(wait, ignore))
        return 1 if problems else code
