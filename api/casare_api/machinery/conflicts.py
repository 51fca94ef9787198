"""What is said to somebody who applies a value that others own? A Kubernetes server's words, for kubectl to show."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from casare_api.machinery import fieldsets
from casare_api.machinery.errors import ApiError
from casare_api.machinery.fieldsets import Fields
from casare_api.machinery.managers import UPDATE, Entry

MOST_TOLD = 200  # conflicts in an answer; a small request can have very many


class Conflict(NamedTuple):
    """One field and who owns it. ``field`` as people read it: ``.spec.mode``."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    field: str

    @property
    def owner(self) -> str:
        where = f" with subresource {_quoted(self.subresource)}" if self.subresource else ""
        using = f" using {self.api_version}" if self.operation == UPDATE else ""
        return _quoted(self.manager) + where + using


class ApplyConflict(Exception):
    """A configuration would change what others own. ``conflicts`` go by owner, and there is at least one."""

    def __init__(self, conflicts: Iterable[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        super().__init__(self.conflicts)

    def __str__(self) -> str:
        if len(self.conflicts) == 1:
            return f"Apply failed with 1 conflict: conflict with {self.conflicts[0].owner}: {self.conflicts[0].field}"
        lines: list[str] = []
        for owner, theirs in groupby(self.conflicts[:MOST_TOLD], key=lambda each: each.owner):
            lines += [f"conflicts with {owner}:", *(f"- {each.field}" for each in theirs)]
        if len(self.conflicts) > MOST_TOLD:
            lines.append(f"and {len(self.conflicts) - MOST_TOLD} more")
        return f"Apply failed with {len(self.conflicts)} conflicts: " + "\n".join(lines)


def conflicts(contested: Iterable[tuple[Entry, Fields]]) -> list[Conflict]:
    """One for each field of each entry, by owner, then by path."""
    owners = sorted(contested, key=lambda pair: [str(each) for each in _owner(pair[0])])
    return [
        Conflict(*_owner(each), fieldsets.text(path)) for each, fields in owners for path in fieldsets.paths(fields)
    ]


def conflict_error(conflict: ApplyConflict) -> ApiError:
    """409, whose details hold the causes and, as a Kubernetes server has it, nothing on the object."""
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {each.owner}", "field": each.field}
        for each in conflict.conflicts[:MOST_TOLD]
    ]
    return ApiError(409, "Conflict", str(conflict), {"causes": causes})


def _owner(entry: Entry) -> tuple[str, str, str, str]:
    return entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource", "")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
