"""What is being answered under which key, and how does it end when that key is not good any more?

Always holds: an answer that has not ended by itself a moment after its key went bad is hung up on, whatever it is: a
watch, a followed log, a file on its way in either direction, a list that its client reads slowly. A request costs two
look-ups.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from casare_apiserver.wire import Request

PATIENCE = 0.6  # seconds that an answer has to end in order: a write that has begun is done by then, as a rule


@dataclass(frozen=True, slots=True)
class Open:
    """The requests of this process that are not answered yet, by the hash of the key that they came with."""

    _by_key: dict[str, set[Request]] = field(default_factory=dict)

    def add(self, request: Request) -> None:
        hashed = request.identity.key_hash
        if hashed is not None:
            self._by_key.setdefault(hashed, set()).add(request)

    def remove(self, request: Request) -> None:
        """It was answered; what was added under no key was never here."""
        hashed = request.identity.key_hash
        if hashed is None or (group := self._by_key.get(hashed)) is None:
            return
        group.discard(request)
        if not group:
            del self._by_key[hashed]

    def hashes(self) -> list[str]:
        """The hashes of the keys under which something is open."""
        return list(self._by_key)

    def cut(self, hashed: str) -> None:
        """Ends all of a key's: each as it ends in order, and by hanging up where that takes too long."""
        for request in list(self._by_key.get(hashed, ())):
            if request.end is not None:
                request.end()
            asyncio.get_running_loop().call_later(PATIENCE, self._hang_up, hashed, request)

    def _hang_up(self, hashed: str, request: Request) -> None:
        if request in self._by_key.get(hashed, ()):
            request.abort()
