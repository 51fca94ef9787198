"""`casare keys`: API keys, issued by the server or made offline, replaced and taken back."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from casare_cli import options, session


class Role(StrEnum):
    """What a key may do."""

    ROBOT = "robot"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class OnRevoke(StrEnum):
    """What becomes of the jobs that a robot runs under a key that is taken back."""

    FINISH = "Finish"
    REQUEUE = "Requeue"
    CANCEL = "Cancel"


Name = Annotated[str, typer.Argument(metavar="[apikey/]NAME", help="The ApiKey's name.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Make, rotate and revoke API keys.", no_args_is_help=True)
    group.command("create")(create)
    group.command("list")(list_keys)
    group.command("rotate")(rotate)
    group.command("revoke")(revoke)
    group.command("hash")(hash_key)
    app.add_typer(group, name="keys")


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The ApiKey's name.")],
    role: Annotated[Role, typer.Option(help="What it may do.")],
    robot: Annotated[str | None, typer.Option(metavar="ID", help="The id of its robot, for the role robot.")] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
    expires: Annotated[str | None, typer.Option(metavar="TIME", help="Until when it is valid (RFC 3339).")] = None,
    rotate_every: Annotated[
        str | None, typer.Option(metavar="SPAN", help="How old it gets before it is to be replaced: 90d.")
    ] = None,
    on_revoke: Annotated[
        OnRevoke | None, typer.Option(help="What becomes of its robot's jobs when it is taken back.")
    ] = None,
    namespace: options.Namespace = None,
) -> int:
    """Create an ApiKey and print its key, which nobody can see again."""
    from casare_api.machinery.names import robot_name
    from casare_cli.failures import Misuse

    if (role is Role.ROBOT) != (robot is not None):
        raise Misuse("--robot ROBOT belongs to --role robot, and the other way round")
    named = robot and robot_name(robot)
    spec: dict[str, Any] = {
        "role": role.value, "robotName": named, "description": description, "expiresAt": expires,
        "rotation": {"every": rotate_every} if rotate_every else None,
        "onRevoke": on_revoke.value if on_revoke is not None else None,
    }  # fmt: skip
    with session.of(context).client(namespace) as client:
        client.create(
            {
                "apiVersion": "fleet.casare.net/v1",
                "kind": "ApiKey",
                "metadata": {"name": name, "namespace": client.config.namespace},
                "spec": {key: value for key, value in spec.items() if value is not None},
            }
        )
        print(client.issue_key(name))
        print(f"apikey/{name} created; the key above is shown this once", file=sys.stderr)
    return 0


def list_keys(
    context: typer.Context,
    namespace: options.Namespace = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    labels: options.Labels = "",
    form: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="wide, name, yaml or json.")] = "wide",
) -> int:
    """List ApiKeys: whether they are good, when they were last used and from where."""
    from casare_cli import getting, output, targets

    query = getting.Query(targets.parse(["apikeys"]), all_namespaces, labels, form=output.check(form))
    with session.of(context).client(namespace) as client:
        return getting.show(client, query)


def rotate(
    context: typer.Context,
    name: Name,
    overlap: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="How long the old key stays good: 1h; 0 makes it bad at once. Default: the "
                                          "ApiKey's own, else 24h."),
    ] = None,
    namespace: options.Namespace = None,
) -> int:
    """Put a new key in place of the old one, and print it; nobody can see it again."""
    from casare_cli import targets

    key = targets.one(name, "ApiKey")
    with session.of(context).client(namespace) as client:
        made = client.rotate_key(key, overlap=overlap)
    print(made["key"])
    until = made.get("previousUntil")
    old = f"the old one is good until {until}" if until else "the old one is not good any more"
    print(f"apikey/{key} rotated; the key above is shown this once, {old}", file=sys.stderr)
    return 0


def revoke(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="[apikey/]NAME...", help="The ApiKeys' names.")],
    on_revoke: Annotated[
        OnRevoke | None,
        typer.Option(help="What becomes of jobs that run under a robot's last key: they may finish there, go back to "
                          "the queue, or are cancelled. Default: what the ApiKey says."),
    ] = None,
    namespace: options.Namespace = None,
) -> int:
    """Take keys back: whatever is open under them ends at once, and they open nothing any more."""
    from casare_api.machinery.errors import ApiError
    from casare_cli import targets

    keys, code = [targets.one(name, "ApiKey") for name in names], 0
    spec: dict[str, Any] = {"revoked": True} | ({"onRevoke": on_revoke.value} if on_revoke is not None else {})
    with session.of(context).client(namespace) as client:
        for key in keys:
            try:
                client.patch("ApiKey", key, {"spec": spec})
                print(f"apikey/{key} revoked")
            except ApiError as error:
                if error.status != 404:
                    raise
                print(f"error: {error}", file=sys.stderr)
                code = 1
    return code


def hash_key(
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Hash the key on standard input instead of a new one.")
    ] = False,
) -> int:
    """Make a key offline, and the hash that an ApiKey manifest holds instead of it (spec.hash)."""
    from casare_api.machinery import credentials
    from casare_cli.failures import Misuse

    key = sys.stdin.readline().strip() if stdin else credentials.new()
    if not key:
        raise Misuse("there is no key on standard input")
    print(f"key:  {key}")
    print(f"hash: {credentials.digest(key)}")
    return 0
