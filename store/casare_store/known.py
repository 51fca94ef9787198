"""Which objects did an open batch read, by key? A mapping that parses a text when somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, cast

import orjson

from casare_api.kinds import Object

Key = tuple[str, str, str]  # kind, namespace ("" for cluster kinds), name


class Known(MutableMapping[Key, Object]):
    """Objects by key; jobs, which come by the hundred, are text until they are asked for.

    Parsed one by one, an object is in the processor's caches still when it is decided about and written again.
    """

    __slots__ = ("_objects", "_texts")

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._texts: dict[Key, bytes] = {}

    def keep(self, key: Key, text: bytes) -> None:
        self._texts[key] = text

    def get(self, key: Key, default: Any = None) -> Any:
        text = self._texts.pop(key, None)
        if text is not None:
            self._objects[key] = orjson.loads(text)
        return self._objects.get(key, default)

    def __getitem__(self, key: Key) -> Object:
        if (found := self.get(key)) is None:
            raise KeyError(key)
        return cast(Object, found)

    def __setitem__(self, key: Key, obj: Object) -> None:
        self._texts.pop(key, None)
        self._objects[key] = obj

    def __delitem__(self, key: Key) -> None:
        if self._texts.pop(key, None) is None:
            del self._objects[key]

    def __iter__(self) -> Iterator[Key]:
        return iter((*self._objects, *self._texts))

    def __len__(self) -> int:
        return len(self._objects) + len(self._texts)
