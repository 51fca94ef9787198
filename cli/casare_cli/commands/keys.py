"""`casare keys`: API keys, issued by the server or made offline."""

from __future__ import annotations

import hashlib
import secrets
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from casare_cli import options, session

PREFIX = "crpa_"


class Role(StrEnum):
    """What a key may do."""

    ROBOT = "robot"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Make API keys.", no_args_is_help=True)
    group.command("create")(create)
    group.command("hash")(hash_key)
    app.add_typer(group, name="keys")


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The ApiKey's name.")],
    role: Annotated[Role, typer.Option(help="What it may do.")],
    robot: Annotated[str | None, typer.Option(metavar="ID", help="The id of its robot, for the role robot.")] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
    expires: Annotated[str | None, typer.Option(metavar="TIME", help="Until when it is valid (RFC 3339).")] = None,
    namespace: options.Namespace = None,
) -> int:
    """Create an ApiKey and print its key, which nobody can see again."""
    from casare_api.machinery.names import robot_name
    from casare_cli.failures import Misuse

    if (role is Role.ROBOT) != (robot is not None):
        raise Misuse("--robot ROBOT belongs to --role robot, and the other way round")
    named = robot and robot_name(robot)
    spec: dict[str, Any] = {"role": role.value, "robotName": named, "description": description, "expiresAt": expires}
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


def hash_key(
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Hash the key on standard input instead of a new one.")
    ] = False,
) -> int:
    """Make a key offline, and the hash that an ApiKey manifest holds instead of it (spec.hash)."""
    from casare_cli.failures import Misuse

    key = sys.stdin.readline().strip() if stdin else PREFIX + secrets.token_urlsafe(32)
    if not key:
        raise Misuse("there is no key on standard input")
    print(f"key:  {key}")
    print(f"hash: {digest(key)}")
    return 0


def digest(key: str) -> str:
    """What `ApiKey.spec.hash` holds: the SHA-256 of the key in hex."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()
