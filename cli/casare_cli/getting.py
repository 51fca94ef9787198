"""`casare get`: which objects, and how do they reach the screen?

Tables come page by page, so that a million jobs do not have to fit into memory as objects. A watch prints the list,
then a row for each change, and goes on through a server's restart: every change is shown once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from casare_api.kinds import Kind, Object
from casare_api.machinery.errors import ApiError
from casare_cli import output, styles
from casare_cli.failures import Misuse
from casare_cli.pump import interruptible
from casare_cli.table import Table
from casare_cli.targets import Target
from casare_client import RELIST, Client, WatchEvent


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked for, and how it is to be shown."""

    targets: list[Target]
    all_namespaces: bool = False
    labels: str = ""
    fields: str = ""
    form: str = ""
    watch: bool = False
    headers: bool = True

    def __post_init__(self) -> None:
        named = any(target.names for target in self.targets)
        if named and (self.labels or self.fields):
            raise Misuse("names and selectors exclude each other")
        if named and self.all_namespaces:
            raise Misuse("a name is looked up in one namespace: leave out -A")
        if self.watch and (len(self.targets) != 1 or len(self.targets[0].names) > 1):
            raise Misuse("watch one kind, or one object, at a time")

    @property
    def wide(self) -> bool:
        """Whether all columns are wanted."""
        return self.form == "wide"

    @property
    def is_table(self) -> bool:
        """Whether the objects are shown as a table."""
        return self.form in ("", "wide")


def show(client: Client, query: Query) -> int:
    """Prints what was asked for; 1 where a named object is not there."""
    if query.watch:
        return _watch(client, query)
    return _tables(client, query) if query.is_table else _documents(client, query)


# -- tables ------------------------------------------------------------------------------------------------------


def _tables(client: Client, query: Query) -> int:
    """A table a kind, with a blank line between; kinds of which there is nothing are left out."""
    code, shown, prefixed = 0, False, len({target.kind.kind for target in query.targets}) > 1
    for kind, names in _by_kind(query.targets):
        pages, missing = _pages(client, query, kind, names)
        code = code or missing
        table = Table(output.headers(kind, query.wide, query.all_namespaces), styles.coloured(sys.stdout))
        rows = [_row(query, kind, obj, prefixed) for page in pages for obj in page["items"]]
        if not rows:
            continue
        lines = table.all(rows) if query.headers else table.lines(rows)
        print(("\n" if shown else "") + "\n".join(lines))
        shown = True
    if not shown and not code:
        print(_nothing(client, query), file=sys.stderr)
    return code


def _row(query: Query, kind: Kind, obj: Object, prefixed: bool) -> list[Any]:
    shown = {**obj, "metadata": {**obj["metadata"], "name": output.name(obj)}} if prefixed else obj
    return output.row(kind, shown, datetime.now(UTC), query.wide, query.all_namespaces)


def _by_kind(targets: list[Target]) -> Iterator[tuple[Kind, list[str]]]:
    """Each kind once, with all the names asked for."""
    kinds = {target.kind.kind: target.kind for target in targets}
    for word, kind in kinds.items():
        yield kind, [name for target in targets if target.kind.kind == word for name in target.names]


def _pages(client: Client, query: Query, kind: Kind, names: list[str]) -> tuple[Iterator[Object], int]:
    """The objects as Lists, and 1 where a named one is missing (which has been said then)."""
    if names:
        found, code = _named(client, kind, names)
        return iter([{"items": found}]), code
    pages = client.pages(kind, all_namespaces=query.all_namespaces, labels=query.labels, fields=query.fields)
    return pages, 0


def _named(client: Client, kind: Kind, names: list[str]) -> tuple[list[Object], int]:
    found, code = [], 0
    for name in names:
        try:
            found.append(client.get(kind, name))
        except ApiError as error:
            if error.status != 404:
                raise
            print(f"error: {error}", file=sys.stderr)
            code = 1
    return found, code


def _nothing(client: Client, query: Query) -> str:
    namespaced = all(target.kind.namespaced for target in query.targets)
    if query.all_namespaces or not namespaced:
        return "No resources found."
    return f"No resources found in {client.config.namespace} namespace."


# -- documents ---------------------------------------------------------------------------------------------------


def _documents(client: Client, query: Query) -> int:
    objects: list[Object] = []
    code = 0
    for kind, names in _by_kind(query.targets):
        pages, missing = _pages(client, query, kind, names)
        objects += [_typed(kind, obj) for page in pages for obj in page["items"]]
        code = code or missing
    alone = sum(len(target.names) for target in query.targets) == 1
    if query.form == "name":
        for obj in objects:
            print(output.name(obj))
    elif objects or not code:
        print(output.document(objects, query.form, alone))
    return code


def _typed(kind: Kind, obj: Object) -> Object:
    """With kind and apiVersion, which the items of a list of core kinds may lack."""
    return {"apiVersion": kind.api_version, "kind": kind.kind, **obj}


# -- watching ----------------------------------------------------------------------------------------------------


def _watch(client: Client, query: Query) -> int:
    target = query.targets[0]
    fields = f"metadata.name={target.names[0]}" if target.names else query.fields
    if target.names:
        client.get(target.kind, target.names[0])  # a name that is not there is an error now, not silence for ever
    events = client.follow(
        target.kind,
        all_namespaces=query.all_namespaces,
        labels=query.labels,
        fields=fields,
        on_outage=lambda error: print(f"warning: {error}; trying again", file=sys.stderr, flush=True),
    )
    screen = _Screen(query, target.kind)
    for event in interruptible(events):
        screen.show(event)
    return 0


class _Screen:
    """Prints events: the first list as a table, then what has changed, nothing twice."""

    def __init__(self, query: Query, kind: Kind) -> None:
        self._query, self._kind = query, kind
        self._table = Table(output.headers(kind, query.wide, query.all_namespaces), styles.coloured(sys.stdout))
        self._shown: dict[str, tuple[str, Object]] = {}
        self._started = False

    def show(self, event: WatchEvent) -> None:
        changed = self._relisted(event.object) if event.type == RELIST else [self._changed(event)]
        if self._query.is_table:
            self._print_rows(changed)
        else:
            self._print_documents(changed)
        sys.stdout.flush()

    def _changed(self, event: WatchEvent) -> tuple[Object, bool]:
        uid, version = _key(event.object)
        gone = event.type == "DELETED"
        if gone:
            self._shown.pop(uid, None)
        else:
            self._shown[uid] = (version, event.object)
        return event.object, gone

    def _relisted(self, listed: Object) -> list[tuple[Object, bool]]:
        """What differs from what the screen shows: the changes that a watch could no longer deliver."""
        now = {_key(obj)[0]: (_key(obj)[1], _typed(self._kind, obj)) for obj in listed["items"]}
        gone = [(obj, True) for uid, (_, obj) in self._shown.items() if uid not in now]
        fresh = [(obj, False) for uid, (version, obj) in now.items() if self._shown.get(uid, ("", obj))[0] != version]
        self._shown = now
        return gone + fresh

    def _print_rows(self, changed: list[tuple[Object, bool]]) -> None:
        query = self._query
        rows = [output.row(self._kind, obj, datetime.now(UTC), query.wide, query.all_namespaces) for obj, _ in changed]
        lines = self._table.lines(rows)
        if not self._started and lines and query.headers:
            print(self._table.header())
        self._started = self._started or bool(lines)
        for line, (_, gone) in zip(lines, changed, strict=True):
            print(line + "  (deleted)" if gone else line)

    def _print_documents(self, changed: list[tuple[Object, bool]]) -> None:
        for obj, _ in changed:
            if self._query.form == "name":
                print(output.name(_typed(self._kind, obj)))
            else:
                print(
                    "---\n" * (self._query.form == "yaml")
                    + output.document([_typed(self._kind, obj)], self._query.form, True)
                )


def _key(obj: Object) -> tuple[str, str]:
    metadata = obj["metadata"]
    return str(metadata.get("uid") or metadata.get("name")), str(metadata.get("resourceVersion"))
