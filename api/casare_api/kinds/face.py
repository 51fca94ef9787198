"""In which other form are a kind's objects read and written? One set of stored objects, two representations.

A face calls some top-level fields by other names and says another apiVersion; below them nothing differs. The two
functions are each other's inverse, and no-ops on what has their form already. Entries of `managedFields` are part of
the form: on each face all of them speak of its own version and field names, so that owners are the same on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casare_api.machinery.errors import Cause
from casare_api.machinery.selectors import FieldSelector, FieldTerm

if TYPE_CHECKING:
    from casare_api.kinds.kind import Kind, Object


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """How one kind shows the objects of another one, `stored`.

    `names` are the fields that are called otherwise, by their stored names. `problems(old, new)`, both as they are
    stored (None: it is new), are what this face does not allow beside what its model says.
    """

    stored: Kind
    api_version: str
    names: Mapping[str, str]
    problems: Callable[[Object | None, Object], list[Cause]]

    def from_stored(self, obj: Object) -> Object:
        """The object as this face shows it."""
        return _renamed(obj, self.names, self.stored.api_version, self.api_version)

    def to_stored(self, obj: Object) -> Object:
        """The object as it is stored."""
        return _renamed(obj, self._back, self.api_version, self.stored.api_version)

    def selected(self, fields: FieldSelector) -> FieldSelector:
        """A selector over this face's fields as one over the stored ones."""
        return FieldSelector(tuple(
            FieldTerm(".".join(_path(term.field.split("."), self._back)), term.operator, term.value)
            for term in fields.terms
        ))

    def fields(self) -> dict[str, tuple[str, ...]]:
        """The selectable fields, as they are called here."""
        paths = (_path(path, self.names) for path in self.stored.fields.values())
        return {".".join(path): path for path in paths}

    @property
    def _back(self) -> dict[str, str]:
        return {here: stored for stored, here in self.names.items()}


def _path(path: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    first, *rest = path
    return (names.get(first, first), *rest)


def _renamed(obj: Object, names: Mapping[str, str], before: str, after: str) -> Object:
    made = {names.get(key, key): value for key, value in obj.items()} | {"apiVersion": after}
    meta = obj.get("metadata") or {}
    if meta.get("managedFields"):
        entries = [_owned(entry, names, before, after) for entry in meta["managedFields"]]
        made["metadata"] = {**meta, "managedFields": entries}
    return made


def _owned(entry: Object, names: Mapping[str, str], before: str, after: str) -> Object:
    """An entry of managedFields; its steps to fields are written `f:NAME`."""
    version = entry.get("apiVersion")
    fields = {
        f"f:{names[step[2:]]}" if step[2:] in names else step: below
        for step, below in (entry.get("fieldsV1") or {}).items()
    }
    return {**entry, "apiVersion": after if version == before else version, "fieldsV1": fields}
