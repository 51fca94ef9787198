"""Which objects does a person mean by `jobs`, `job/a robot/b`, `job a b` or `robots,jobs`?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casare_api.kinds import Kind, find
from casare_api.machinery import names
from casare_cli.failures import Misuse


@dataclass(frozen=True, slots=True)
class Target:
    """A kind, and the names of objects of it; no names: all of them."""

    kind: Kind
    names: tuple[str, ...] = ()


def parse(words: Sequence[str]) -> list[Target]:
    """The targets that arguments name. Raises Misuse, and ApiError 404 for an unknown kind."""
    if not words:
        raise Misuse("which kind? for example: casare get robots")
    if any("/" in word for word in words):
        return [_slashed(word) for word in words]
    kinds = [find(word) for word in words[0].split(",") if word]
    return [Target(kind, tuple(_name(word) for word in words[1:])) for kind in dict.fromkeys(kinds)]


def one(word: str, default: str) -> str:
    """The name in `job/NAME` or `NAME`, where the kind is known. Raises Misuse for another kind."""
    if "/" not in word:
        return _name(word)
    target = _slashed(word)
    if target.kind.kind != default:
        raise Misuse(f"{word} is no {find(default).singular}")
    return target.names[0]


def _slashed(word: str) -> Target:
    kind, _, name = word.partition("/")
    if not kind or not name or "/" in name:
        raise Misuse(f'"{word}" is not KIND/NAME: with a slash in one argument, all have to look like job/a')
    return Target(find(kind), (_name(name),))


def _name(word: str) -> str:
    problem = names.check_name(word)
    if problem:
        raise Misuse(f'"{word}" is no name: {problem}')
    return word
