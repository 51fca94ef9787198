"""`casare describe`: all there is to know of an object, with its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from casare_cli import options, session

if TYPE_CHECKING:
    from casare_api.kinds import Kind, Object
    from casare_cli import targets
    from casare_client import Client


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("describe")(describe)


def describe(
    context: typer.Context,
    what: Annotated[list[str], typer.Argument(metavar="KIND[/NAME] [NAME]...", help="job/NAME, job A B, or jobs.")],
    namespace: options.Namespace = None,
    labels: options.Labels = "",
) -> int:
    """Show all there is to know of objects, with their events."""
    from datetime import UTC, datetime

    from casare_cli import describing, targets

    shown = False
    with session.of(context).client(namespace) as client:
        for target in targets.parse(what):
            for obj in _objects(client, target, labels):
                lines = describing.describe(obj, _events(client, obj), _jobs(client, obj), datetime.now(UTC))
                print(("\n\n" if shown else "") + "\n".join(lines))
                shown = True
    return 0


def _objects(client: Client, target: targets.Target, labels: str) -> list[Object]:
    from casare_cli.failures import Failure

    kind = target.kind
    if target.names:
        found = [client.get(kind, name) for name in target.names]
    else:
        found = client.list(kind, labels=labels)["items"]
    if not found:
        raise Failure(f"there are no {kind.plural}")
    return [_typed(kind, obj) for obj in found]


def _typed(kind: Kind, obj: Object) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.kind, **obj}


def _events(client: Client, obj: Object) -> list[Object]:
    """The object's events; those of a cluster-wide kind are kept in the namespace default."""
    from casare_api.machinery.errors import ApiError

    metadata = obj["metadata"]
    try:
        found = client.list(
            "Event", metadata.get("namespace") or "default", fields=f"involvedObject.uid={metadata.get('uid')}"
        )
    except ApiError as error:
        if error.status == 403:  # who may see the object may not see what happened to it: show what can be shown
            return []
        raise
    items: list[Object] = found["items"]
    return items


def _jobs(client: Client, obj: Object) -> list[Object]:
    """What a robot has to do now."""
    if obj["kind"] != "Robot":
        return []
    fields = f"status.robotUID={obj['metadata'].get('uid')},status.phase!=Succeeded,status.phase!=Failed"
    fields += ",status.phase!=Cancelled,status.phase!=Expired"
    items: list[Object] = client.list("Job", all_namespaces=True, fields=fields)["items"]
    return items
