"""`casare retry`: do again what jobs did that have ended."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from casare_cli import options, session

if TYPE_CHECKING:
    from casare_client import Client

AT_ONCE = 8  # requests under way; the server writes them together


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("retry")(retry)


def retry(
    context: typer.Context,
    jobs: Annotated[list[str] | None, typer.Argument(metavar="[job/]NAME...", help="Jobs that have ended.")] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="All that Failed or Expired and were not retried yet.")
    ] = False,
    labels: options.Labels = "",
    workflow: Annotated[str, typer.Option(metavar="NAME", help="With --failed: only jobs of this workflow.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be retried, and make nothing.")] = False,
    namespace: options.Namespace = None,
) -> int:
    """Make new jobs that do again what others did. Prints job/OLD -> job/NEW for each.

    The new job has the parameters of the old one, and runs the workflow as it is now.
    """
    from casare_cli import targets

    names = _names(jobs or [], failed, labels, workflow)
    wanted = targets.one(workflow, "Workflow") if workflow else ""
    with session.of(context).client(namespace) as client:
        if failed:
            names = _dead(client, labels, wanted)
        return _retry(client, names, dry_run)


def _names(jobs: Sequence[str], failed: bool, labels: str, workflow: str) -> list[str]:
    from casare_cli import targets
    from casare_cli.failures import Misuse

    if failed and jobs:
        raise Misuse("names and --failed exclude each other")
    if not failed and (labels or workflow):
        raise Misuse("selectors are for --failed: casare retry --failed -l site=berlin")
    if not failed and not jobs:
        raise Misuse("which jobs? for example: casare retry job/NAME, or casare retry --failed")
    return [targets.one(job, "Job") for job in jobs]


def _dead(client: Client, labels: str, workflow: str) -> list[str]:
    from casare_cli import deadletters

    found = deadletters.waiting(client, labels, workflow)
    if found.retried:
        print(f"{found.retried} left out, for they were retried before: name them to do it again", file=sys.stderr)
    if not found.names:
        print(f"no job to retry in {client.config.namespace}", file=sys.stderr)
    return found.names


def _retry(client: Client, names: Sequence[str], dry_run: bool) -> int:
    """Retries them in their order, a few at a time; 1 where the server refused one."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(min(AT_ONCE, max(1, len(names))), thread_name_prefix="retry")
    code = 0
    try:
        for line, problem in pool.map(lambda name: _one(client, name, dry_run), names):
            if problem:
                print(f"error: {problem}", file=sys.stderr, flush=True)
                code = 1
            else:
                print(line, flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    return code


def _one(client: Client, name: str, dry_run: bool) -> tuple[str, str]:
    """The line about a retry, and what is wrong with it, "" for nothing."""
    from casare_api.machinery.errors import ApiError

    try:
        made = client.retry(name, dry_run=dry_run)
    except ApiError as error:
        if error.status not in (404, 409, 422, 429):
            raise
        return "", _said(name, error)
    return f"job/{name} -> " + ("(dry run)" if dry_run else f"job/{made['metadata']['name']}"), ""


def _said(name: str, error: Exception) -> str:
    """The refusal; the name that the server made up for the new job tells nobody anything."""
    causes = "; ".join(str(cause) for cause in getattr(error, "causes", ()))
    return f"job/{name}: {causes}" if causes else str(error)
