"""`casare audit`: who did what; `casare audit verify`: is the log whole?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from casare_cli import options, session

if TYPE_CHECKING:
    from casare_cli.auditing import Wanted


def register(app: typer.Typer) -> None:
    """Adds the command."""
    group = typer.Typer(help="Show who did what; with verify, check that nobody changed that.")
    group.callback(invoke_without_command=True)(audit)
    group.command("verify")(verify)
    app.add_typer(group, name="audit")


def audit(
    context: typer.Context,
    actor: Annotated[str, typer.Option(metavar="NAME", help="Only what this key or person did.")] = "",
    about: Annotated[str, typer.Option("--object", metavar="KIND/NAME", help="Only what was done to this.")] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="Only since then: 2h, 7d, 2026-01-31T08:00:00Z.")] = "",
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="The last N rows.")] = 50,
    form: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="wide, yaml or json.")] = "",
    namespace: options.Namespace = None,
) -> int:
    """Show who did what to which object, from where; the newest at the bottom."""
    if context.invoked_subcommand is not None:
        return 0
    from casare_cli import auditing
    from casare_cli.failures import Misuse

    if form not in ("", "wide", "yaml", "json"):
        raise Misuse(f'there is no output format "{form}" here; allowed: wide, yaml, json')
    with session.of(context).client(namespace) as client:
        wanted: Wanted = auditing.Wanted(actor, auditing.place(about, client.config.namespace), since, limit)
        rows = auditing.newest(client, wanted)
    for line in auditing.shown(rows, form):
        print(line)
    return 0


def verify(
    context: typer.Context,
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="HASH", help="What an earlier verify has printed, which must be in the log. Repeatable."),
    ] = None,
) -> int:
    """Check that no row of the audit log was changed or removed. Prints how it ends: keep that elsewhere.

    Rows that were cut off at the end are found by what was kept: casare audit verify --expect HASH.
    """
    from casare_cli import auditing

    with session.of(context).client() as client:
        print(auditing.verified(client, [auditing.hash_of(text) for text in expect or ()]))
    return 0
