"""How does one change of the log look to watchers? The same bytes for all who see it in the same way."""

from __future__ import annotations

import orjson

from casare_api.kinds import KINDS, Object
from casare_store.changes import Change


class Entry:
    """One change on its way to watchers: its lines and old values are made once, when the first watcher needs them."""

    __slots__ = ("_lines", "change", "fields", "kind", "old_fields")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.kind = KINDS[change.kind]
        self.fields: list[str] = orjson.loads(change.fields)
        self.old_fields: list[str] = orjson.loads(change.old_fields) if change.old_fields else self.fields
        self._lines: dict[str, bytes] = {}

    def line(self, type_: str, old: bool = False) -> bytes:
        """The event as a watcher gets it; `old` shows the object as it was selected before."""
        key = f"{type_}{old}"
        found = self._lines.get(key)
        if found is None:
            text = orjson.dumps(self._old_state()) if old else self.change.object
            found = self._lines[key] = b'{"type":"%s","object":%s}\n' % (type_.encode(), text)
        return found

    def _old_state(self) -> Object:
        """The object with its labels and selectable fields as they were: what the watcher last knew of it."""
        obj: Object = orjson.loads(self.change.object)
        if self.change.old_labels is not None:
            obj["metadata"]["labels"] = orjson.loads(self.change.old_labels)
        for path, old in zip(self.kind.fields.values(), self.old_fields[2:], strict=True):
            place = obj
            for key in path[:-1]:
                place = place.setdefault(key, {})
            if old:
                place[path[-1]] = old
            else:
                place.pop(path[-1], None)
        return obj
