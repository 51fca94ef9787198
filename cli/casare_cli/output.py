"""How are objects shown: as a table, as YAML, as JSON, by name?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from casare_api.kinds import KINDS, Kind, Object
from casare_cli.failures import Misuse
from casare_cli.table import Value

FORMATS = ("wide", "name", "yaml", "json")


def check(form: str) -> str:
    """The format that is meant. Raises Misuse for an unknown one."""
    if form and form not in FORMATS:
        raise Misuse(f'there is no output format "{form}"; allowed: {", ".join(FORMATS)}')
    return form


def headers(kind: Kind, wide: bool, with_namespace: bool) -> list[str]:
    """The headers of a kind's table."""
    names = [column.name for column in kind.columns if wide or not column.wide]
    return ["Namespace", *names] if with_namespace and kind.namespaced else names


def row(kind: Kind, obj: Object, now: datetime, wide: bool, with_namespace: bool) -> list[Value]:
    """An object as a row of its kind's table."""
    cells: list[Value] = [column.cell(obj, now) for column in kind.columns if wide or not column.wide]
    if with_namespace and kind.namespaced:
        return [obj["metadata"].get("namespace"), *cells]
    return cells


def name(obj: Object) -> str:
    """`job/reconcile-x7k2p`."""
    kind = KINDS.get(obj.get("kind", ""))
    word = kind.singular if kind is not None else str(obj.get("kind", "object")).lower()
    return f"{word}/{obj['metadata']['name']}"


def document(objects: Sequence[Object], form: str, alone: bool) -> str:
    """Objects as YAML or JSON: the object itself where one was asked for by name, else a List that apply takes."""
    shown = [_presentable(obj) for obj in objects]
    if alone and len(shown) == 1:
        return dumps(shown[0], form)
    return dumps({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": shown}, form)


def dumps(value: Any, form: str) -> str:
    """YAML or JSON text, without a line end behind it."""
    if form == "json":
        return json.dumps(value, indent=4, ensure_ascii=False)
    from casare_cli.yaml_output import dump

    return dump(value).rstrip("\n")


def _presentable(obj: Object) -> Object:
    """Without managedFields, as kubectl shows objects: nobody reads them."""
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key != "managedFields"}
    return {**obj, "metadata": metadata}
