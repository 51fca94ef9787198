"""`casare logs`: what a job printed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from casare_cli import options, session

if TYPE_CHECKING:
    from casare_client import Client


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("logs")(logs)


def logs(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="[job/]NAME", help="The job.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    attempt: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Of this attempt; else of the last one.")
    ] = None,
    namespace: options.Namespace = None,
) -> int:
    """Show what a job printed."""
    from casare_cli import following, targets

    name = targets.one(job, "Job")
    with session.of(context).client(namespace) as client:
        if follow and attempt is None:
            client.get("Job", name)  # a name that is not there is an error now
            following.follow(client, client.config.namespace, name, lambda line: None)
            return 0
        return _show(client, name, attempt, follow)


def _show(client: Client, name: str, attempt: int | None, follow: bool) -> int:
    from casare_cli.pump import interruptible

    written = False
    for text in interruptible(client.read_log(client.config.namespace, name, attempt, follow)):
        sys.stdout.write(text)
        sys.stdout.flush()
        written = True
    if not written:
        phase = (client.get("Job", name).get("status") or {}).get("phase", "Queued")
        print(f"job/{name} has printed nothing; it is {phase}", file=sys.stderr)
    return 0
