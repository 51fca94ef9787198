"""How is the audit log read, shown and checked? The chain is walked here, by whoever asks, and not by the server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from casare_api.decisions.audit_chain import Broken, Check, Link, Row
from casare_api.kinds import GROUP, Object, find
from casare_cli import output
from casare_cli.failures import Failure, Misuse
from casare_cli.table import Table, Value

if TYPE_CHECKING:
    from casare_client import Client

PATH = f"/apis/{GROUP}/v1/audit"
PAGE = 1000  # rows, the most that the server gives at once
FIELDS_SHOWN = 3
_HASH = re.compile(r"(?:[0-9]+:)?([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows; `about` is what the server asks for to find an object."""

    actor: str
    about: Mapping[str, str]
    since: str
    limit: int

    def params(self) -> dict[str, str]:
        said = {"actor": self.actor, "since": self.since, **self.about}
        return {name: value for name, value in said.items() if value}


def place(about: str, namespace: str) -> dict[str, str]:
    """The object that `job/NAME` means. Raises Misuse, and ApiError 404 for an unknown kind."""
    if not about:
        return {}
    word, _, name = about.partition("/")
    if not name:
        raise Misuse(f'"{about}" is no object: name it like job/NAME')
    kind = find(word)
    return {"kind": kind.stored.kind, "name": name} | ({"namespace": namespace} if kind.namespaced else {})


def newest(client: Client, wanted: Wanted) -> list[Object]:
    """The last rows, the newest at the end."""
    rows: list[Object] = []
    before = ""
    while len(rows) < wanted.limit:
        limit = min(wanted.limit - len(rows), PAGE)
        page = _page(client, {**wanted.params(), "limit": str(limit), **({"before": before} if before else {})})
        rows += page["items"]
        before = page["metadata"].get("continue", "")
        if not before:
            break
    return rows[::-1]


def _page(client: Client, params: Mapping[str, str]) -> Object:
    found: Object = orjson.loads(client.request("GET", PATH, params=params).content)
    return found


# -- shown -----------------------------------------------------------------------------------------------------------


def shown(rows: Sequence[Object], form: str) -> Iterator[str]:
    """The lines for a terminal, or a document."""
    if form in ("yaml", "json"):
        yield output.dumps({"apiVersion": f"{GROUP}/v1", "kind": "AuditList", "items": list(rows)}, form)
        return
    is_wide = form == "wide"
    headers = ["Time", "Actor", "From", "What", "Object", "Fields"]
    table = Table(["Seq", *headers, "Version", "Key"] if is_wide else headers)
    yield from table.all([_line(row, is_wide) for row in rows])


def _line(row: Object, is_wide: bool) -> list[Value]:
    cells: list[Value] = [
        str(row.get("time", ""))[:19].replace("T", " "), row.get("actor"), row.get("from"), _what(row), _object(row),
        _fields(row, len(row.get("fields") or ()) if is_wide else FIELDS_SHOWN),
    ]  # fmt: skip
    return [row.get("seq"), *cells, row.get("resourceVersion"), row.get("keyUID")] if is_wide else cells


def _what(row: Object) -> str:
    """`patch`, `create token`, `refused 403 get`."""
    verb, _, subresource = str(row.get("resource", "")).partition("/")
    words = [str(row.get("verb", "")), subresource]
    if row.get("effect") == "refused":
        words = ["refused", str(row.get("code", "")), *words]
    return " ".join(filter(None, words)) or verb


def _object(row: Object) -> str:
    kind = str(row.get("kind") or str(row.get("resource", "")).partition("/")[0]).lower()
    named = row.get("name") or (f"{row['names'][0]} ... {row['names'][-1]}" if row.get("names") else "")
    where = f"{row['namespace']}/" if row.get("namespace") else ""
    count = f" ({row['count']})" if row.get("count", 1) != 1 else ""
    return f"{kind} {where}{named}".strip() + count


def _fields(row: Object, most: int) -> str:
    if row.get("effect") == "dropped":
        return f"rows up to {row.get('through')}"
    fields = [one for one in row.get("fields") or () if "field" in one]
    said = [_field(one) for one in fields[:most]]
    return ", ".join(said) + (f" +{len(fields) - most}" if len(fields) > most else "")


def _field(one: Object) -> str:
    sides = [_value(one[side]) for side in ("from", "to") if side in one]
    return f"{one['field']}={'->'.join(sides)}" if sides else str(one["field"])


def _value(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


# -- checked ---------------------------------------------------------------------------------------------------------


def hash_of(text: str) -> str:
    """The hash in `HASH` or `NUMBER:HASH`. Raises Misuse."""
    form = _HASH.fullmatch(text.strip().lower())
    if form is None:
        raise Misuse(f'"{text[:80]}" is no hash: give what `casare audit verify` has printed')
    return form[1]


def verified(client: Client, expected: Sequence[str]) -> str:
    """What to say of a log that is whole. Raises Failure with what is wrong."""
    try:
        return _walked(client, expected)
    except Broken as problem:
        raise Failure(f"the audit log was tampered with: {problem}") from None
    except (ValueError, KeyError, TypeError) as problem:
        raise Failure(f"the audit log was tampered with: a row can't be read: {problem}") from None


def _walked(client: Client, expected: Sequence[str]) -> str:
    check: Check | None = None
    while True:
        page = _page(client, {"rows": "true", "limit": str(PAGE), "after": str(check.last.seq if check else 0)})
        start, end = Link(**page["start"]), Link(**page["end"])
        check = check or Check(start, expected)
        check.skip_to(start)
        for row in page["items"]:
            check.add(Row(**row))
        if len(page["items"]) < PAGE:
            check.finish(end)
            return _said(check)


def _said(check: Check) -> str:
    dropped = f"; {check.start.seq} older ones were dropped by their age" if check.start.seq else ""
    return f"the audit log is whole: {check.count} rows{dropped}\nit ends with {check.last}"
