"""`casare cancel`: ask for the end of jobs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from casare_cli import options, session

if TYPE_CHECKING:
    from casare_client import Client


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("cancel")(cancel)


def cancel(
    context: typer.Context,
    jobs: Annotated[list[str], typer.Argument(metavar="[job/]NAME...", help="The jobs.")],
    namespace: options.Namespace = None,
) -> int:
    """End jobs: a queued one at once, a running one after its grace period."""
    from casare_cli import targets

    names = [targets.one(job, "Job") for job in jobs]
    with session.of(context).client(namespace) as client:
        return max([_cancel(client, name) for name in names])


def _cancel(client: Client, name: str) -> int:
    from casare_api.kinds.job import FINAL
    from casare_api.machinery.errors import ApiError

    try:
        phase = (client.get("Job", name).get("status") or {}).get("phase")
        if phase in FINAL:
            print(f"job/{name} had ended before: {phase}")
            return 0
        client.patch("Job", name, {"spec": {"cancel": True}})
    except ApiError as error:
        if error.status not in (404, 409, 422):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"job/{name} will be cancelled")
    return 0
