"""Which keys are Secrets sealed with, and may one of them go? Walked step by step: there may be many of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from casare_api.kinds import GROUP, Object
from casare_cli.table import Table

if TYPE_CHECKING:
    from casare_client import Client

PATH = f"/apis/{GROUP}/v1/sealing"
FALLBACKS = "CASARE_SECRET_KEY_FALLBACKS"
BROKEN_SHOWN = 5


@dataclass(slots=True)
class Sealed:
    """What a whole walk has found; keys are ids.

    `key` and `opens` are of the apiserver that answered last, `apiservers` all that were there meanwhile.
    """

    key: str = ""
    opens: list[str] = field(default_factory=list)
    apiservers: list[Object] = field(default_factory=list)
    secrets: Counter[str] = field(default_factory=Counter)  # how many, by key
    log: Counter[str] = field(default_factory=Counter)
    resealed: Counter[str] = field(default_factory=Counter)  # by part
    broken: dict[str, list[str]] = field(default_factory=dict)  # Secrets that their key does not open, by key
    broken_log: Counter[str] = field(default_factory=Counter)  # how many entries of the log, by key

    def add(self, step: Object) -> None:
        self.key, self.opens = step["key"], step["opens"]
        # Whoever was there for a part of the walk may have written what it had passed.
        self.apiservers += [one for one in step["apiservers"] if one not in self.apiservers]
        (self.secrets if step["part"] == "secrets" else self.log).update(step["found"])
        self.resealed[step["part"]] += step["resealed"]
        for one in step["broken"]:
            if step["part"] == "secrets":
                self.broken.setdefault(one["key"], []).append(one["name"])
            else:
                self.broken_log[one["key"]] += 1


def walked(client: Client, method: str) -> Sealed:
    """All that is sealed: GET counts, POST seals anew."""
    found, place = Sealed(), ""
    while True:
        step: Object = orjson.loads(client.request(method, PATH, params={"continue": place} if place else {}).content)
        found.add(step)
        place = step["metadata"].get("continue", "")
        if not place:
            return found


def shown(found: Sealed) -> Iterator[str]:
    """A line a key: what is sealed with it, and which apiservers have it."""
    keys = {*found.secrets, *found.log, *(key for one in found.apiservers for key in one["opens"])}
    table = Table(["Key", "Secrets", "Log", "Seals at", "Opens at"])
    yield from table.all([
        [key, found.secrets[key], found.log[key], *(", ".join(_places(found, key, seals)) for seals in (True, False))]
        for key in sorted(keys, key=lambda key: (key != found.key, key))
    ])  # fmt: skip


def _places(found: Sealed, key: str, seals: bool) -> list[str]:
    return [_place(one) for one in found.apiservers if key in ([one["key"]] if seals else one["opens"])]


def _place(apiserver: Object) -> str:
    return apiserver["address"] or "socket"


def verdict(done: Sealed, now: Sealed) -> tuple[list[str], bool]:
    """What to tell a person who had all sealed anew: what was done, what is left and why, and whether that is nothing.

    `now` is counted afterwards. Broken entries of the log hold no key: none opens them, and nobody can delete them.
    """
    amount = _amount(done.resealed["secrets"], done.resealed["log"])
    why = [*_all_left(done, now), *_different(now)]
    said = [f"{amount} sealed anew with the key {now.key}", *why, *_broken_log(done.broken_log & now.log)]
    if why:
        return [*said, "no key may be taken away yet"], False
    others = f"take others out of {FALLBACKS}, and keep them as long as you keep backups from before"
    return [*said, f"no other key is needed any more: {others}"], True


def _broken_log(broken: Counter[str]) -> Iterator[str]:
    if count := broken.total():
        one = count == 1
        yield (
            f"{_entries(count)} {'is' if one else 'are'} broken: no key opens {'it' if one else 'them'}, "
            f"and {'it goes' if one else 'they go'} when the log is cut off"
        )


def _all_left(done: Sealed, now: Sealed) -> Iterator[str]:
    """A line for each key that something is sealed with and new things are not."""
    entries = now.log - done.broken_log
    for key in sorted(key for key in now.secrets + entries if key != now.key):
        what = f"{_amount(now.secrets[key], entries[key])} still sealed with the key {key}"
        yield what + _reason(done.broken.get(key, []) if now.secrets[key] else [], key in now.opens)


def _reason(broken: list[str], is_here: bool) -> str:
    """Why something is left under a key, and what to do."""
    if not is_here:
        return f", which is not here: name it in {FALLBACKS} of all apiservers, restart them, and run this again"
    if broken:
        names = ", ".join(broken[:BROKEN_SHOWN]) + (" ..." if len(broken) > BROKEN_SHOWN else "")
        them = "it" if len(broken) == 1 else "them"
        return f", which does not open {names} (changed in the database): delete {them}, and run this again"
    return ": they were written meanwhile; run this again"


def _different(now: Sealed) -> Iterator[str]:
    if len({one["key"] for one in now.apiservers}) > 1:
        where = "; ".join(f"at {_place(one)} {one['key']}" for one in now.apiservers)
        why = f"apiservers seal with different keys ({where})"
        yield f"{why}: give all the same CASARE_SECRET_KEY, restart them, and run this again"


def _amount(secrets: int, entries: int) -> str:
    """`1 Secret and 3 entries of the log are`."""
    return f"{secrets} Secret{'' if secrets == 1 else 's'} and {_entries(entries)} are"


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'} of the log"
