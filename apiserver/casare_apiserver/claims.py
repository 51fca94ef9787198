"""Whom does a key's hash stand for, which hashes does an ApiKey have, and which keys end with a robot?

A value that knows no clock. Each question is one look-up, however many keys there are: a thousand robots that are
deleted at once ask the last one a thousand times, on the event loop.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime

from casare_api.decisions.access import Identity


@dataclass(frozen=True, slots=True)
class Known:
    """What an ApiKey makes of a hash, which stands in the identity."""

    identity: Identity
    expires: datetime | None
    due: datetime | None = None  # when its robot is to replace it
    is_previous: bool = False  # it was replaced, and is good until an overlap ends


@dataclass(slots=True)
class Claims:
    """What ApiKeys (uid) make of hashes, each of which may be claimed by several."""

    # The first of a hash is who is meant: it is his current key. To others it was their key before, until somebody
    # gave it by hand to the first.
    _by_hash: dict[str, tuple[Known, ...]] = field(default_factory=dict)
    _hashes_of: dict[str, set[str]] = field(default_factory=dict)  # by the ApiKey's uid
    _of_robot: dict[str, dict[tuple[str, str], Known]] = field(default_factory=dict)  # its uid -> ApiKey's uid and hash

    def clear(self) -> None:
        """Forgets all."""
        self._by_hash.clear()
        self._hashes_of.clear()
        self._of_robot.clear()

    def meant(self, hashed: str) -> Known | None:
        """Whom a hash stands for."""
        claims = self._by_hash.get(hashed)
        return claims[0] if claims else None

    def hashes_of(self, key: str) -> Set[str]:
        """The hashes of an ApiKey (uid)."""
        return self._hashes_of.get(key, frozenset())

    def of_robot(self, robot: str) -> list[Known]:
        """What was made for this one robot (uid)."""
        return list(self._of_robot.get(robot, {}).values())

    def put(self, key: str, hashed: str, known: Known | None) -> None:
        """Makes this the ApiKey's claim to a hash, in place of what it was; None: it has none any more."""
        before = self._by_hash.pop(hashed, ())
        for one in before:
            if one.identity.key_uid == key:
                self._let_go(key, hashed, one.identity.robot_uid)
        claims = [one for one in before if one.identity.key_uid != key]
        if known is not None:
            claims.append(known)
            self._hashes_of.setdefault(key, set()).add(hashed)
            if known.identity.robot_uid is not None:
                self._of_robot.setdefault(known.identity.robot_uid, {})[key, hashed] = known
        if claims:
            self._by_hash[hashed] = tuple(sorted(claims, key=lambda one: (one.is_previous, one.identity.key_uid)))

    def _let_go(self, key: str, hashed: str, robot: str | None) -> None:
        self._hashes_of[key].discard(hashed)
        if not self._hashes_of[key]:
            del self._hashes_of[key]
        if robot is not None:
            del self._of_robot[robot][key, hashed]
            if not self._of_robot[robot]:
                del self._of_robot[robot]
