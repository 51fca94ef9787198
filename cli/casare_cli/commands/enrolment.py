"""`casare join-tokens` and `casare approve`: let computers become robots."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casare_cli import options, session

if TYPE_CHECKING:
    from casare_client import Client


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Make tokens by which computers become robots.", no_args_is_help=True)
    group.callback()(lambda: None)  # so that one command is a group of one
    group.command("create")(create)
    app.add_typer(group, name="join-tokens")
    app.command("approve")(approve)


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The JoinToken's name.")],
    pattern: Annotated[str, typer.Option(metavar="PATTERN", help="What robots may be called: 'pc-*'.")] = "*",
    uses: Annotated[int, typer.Option(metavar="NUMBER", help="How many robots may join.")] = 1,
    ttl: Annotated[str, typer.Option(metavar="DURATION", help="How long it is good.")] = "24h",
    is_asked: Annotated[
        bool, typer.Option("--approve", help="Robots wait until somebody approves each (casare approve).")
    ] = False,
    environment: Annotated[str | None, typer.Option(metavar="WORD", help="The environment they join.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label they get.")] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
    namespace: options.Namespace = None,
) -> int:
    """Create a JoinToken and print its token, which nobody can see again."""
    spec: dict[str, Any] = {
        "namePattern": pattern, "uses": uses, "ttl": ttl, "approval": "Manual" if is_asked else "Automatic",
        "environment": environment, "labels": _labels(label or []) or None, "description": description,
    }  # fmt: skip
    with session.of(context).client(namespace) as client:
        client.create(
            {
                "apiVersion": "fleet.casare.net/v1",
                "kind": "JoinToken",
                "metadata": {"name": name, "namespace": client.config.namespace},
                "spec": {key: value for key, value in spec.items() if value is not None},
            }
        )
        print(client.issue_key(name, kind="JoinToken"))
        print(f"jointoken/{name} created; the token above is shown this once", file=sys.stderr)
    return 0


def approve(
    context: typer.Context,
    robots: Annotated[list[str], typer.Argument(metavar="[robot/]NAME...", help="The robots.")],
    namespace: options.Namespace = None,
) -> int:
    """Let robots take work that joined by a token with --approve and wait for that."""
    from casare_cli import targets

    names = [targets.one(robot, "Robot") for robot in robots]
    with session.of(context).client(namespace) as client:
        return max([_approve(client, name) for name in names])


def _approve(client: Client, name: str) -> int:
    from casare_api.decisions import approval
    from casare_api.machinery.errors import ApiError

    try:
        if approval.is_approved(client.get("Robot", name)):
            print(f"robot/{name} was approved before, or never had to be")
            return 0
        client.patch("Robot", name, {"metadata": {"annotations": {approval.APPROVED: "true"}}})
    except ApiError as error:
        if error.status not in (404, 409, 422):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"robot/{name} approved")
    return 0


def _labels(words: list[str]) -> dict[str, str]:
    """`site=berlin` as a label. Raises Misuse."""
    from casare_cli.failures import Misuse

    for word in words:
        if "=" not in word:
            raise Misuse(f'--label: "{word}" is not KEY=VALUE')
    return dict(word.split("=", 1) for word in words)
