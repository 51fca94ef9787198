"""`casare delete`: which objects go, and when are they gone?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from casare_api.decisions.deletion import RUNNING
from casare_api.kinds import KINDS, Kind, Object
from casare_api.machinery.errors import ApiError
from casare_cli import apply, manifests, progress
from casare_cli.failures import Misuse
from casare_cli.pump import interruptible
from casare_cli.targets import Target
from casare_client import RELIST, Client

_WAITS = {RUNNING: "its robot to end it"}  # what finalizers mean to people


@dataclass(frozen=True, slots=True)
class Doomed:
    """An object to be deleted."""

    kind: Kind
    name: str
    namespace: str | None = None

    def __str__(self) -> str:
        return f"{self.kind.singular}/{self.name}"


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to delete."""

    wait: bool = False
    ignore_missing: bool = False


def delete(client: Client, doomed: Sequence[Doomed], wishes: Wishes) -> int:
    """Deletes each; 1 where one was not there or could not be deleted."""
    code, leaving = 0, []
    for one in doomed:
        try:
            leaving.append((one, _delete(client, one)))
        except ApiError as error:
            if error.status == 401:
                raise
            if not (wishes.ignore_missing and error.status == 404):
                print(f"error: {error}", file=sys.stderr)
                code = 1
    if wishes.wait:
        for one, uid in leaving:
            _wait(client, one, uid)
    return code


def selected(client: Client, targets: Sequence[Target], labels: str) -> Iterator[Doomed]:
    """What arguments name, or a selector finds. Raises Misuse where neither is given: a kind alone is too much."""
    for target in targets:
        if target.names and labels:
            raise Misuse("names and -l exclude each other")
        if not target.names and not labels:
            raise Misuse(f"which {target.kind.plural}? name them, or select them with -l")
        for name in target.names:
            yield Doomed(target.kind, name)
        for obj in client.list(target.kind, labels=labels)["items"] if labels else ():
            yield Doomed(target.kind, obj["metadata"]["name"])


def declared(client: Client, paths: Sequence[str], namespace: str | None) -> tuple[list[Doomed], list[str]]:
    """What manifests declare, in the reverse of the order it is applied in, and the problems in them."""
    reading = manifests.read(paths)
    doomed = [_of(manifest.object, namespace) for manifest in apply.in_order(reading.manifests)]
    return doomed[::-1], reading.problems


def _of(obj: Object, namespace: str | None) -> Doomed:
    return Doomed(KINDS[obj["kind"]], obj["metadata"]["name"], obj["metadata"].get("namespace") or namespace)


def _delete(client: Client, one: Doomed) -> str:
    """Deletes it and returns its uid."""
    answer = client.delete(one.kind, one.name, one.namespace)
    if answer.get("kind") == "Status":
        print(f"{one} deleted")
        return str((answer.get("details") or {}).get("uid") or "")
    words = [_WAITS.get(word, word) for word in answer["metadata"].get("finalizers") or ()]
    held = ", ".join(words) or "what belongs to it"
    print(f"{one} is being deleted; it waits for {held}")
    return str(answer["metadata"].get("uid") or "")


def _wait(client: Client, one: Doomed, uid: str) -> None:
    """Returns when the object with this uid is gone."""
    events = client.follow(one.kind, one.namespace, fields=f"metadata.name={one.name}")
    with progress.waiting(f"waiting for {one} to be gone"):
        for event in interruptible(events):
            there = event.object["items"] if event.type == RELIST else [event.object]
            if event.type == "DELETED" or not any(obj["metadata"].get("uid") == uid for obj in there):
                return
