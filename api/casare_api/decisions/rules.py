"""Does a rule of access let somebody do a thing? Rules as Kubernetes' RBAC has them, made quick to ask.

A rule names verbs, API groups, resources (`jobs`, `jobs/log`, `*/status`) and, where it is for some objects alone,
their names; `*` stands for all. A `Permission` is one thing that a rule may let somebody do. The words of one that is
asked for are taken as they are: one with `*` in it is held by a `*` alone, which is what makes the same question right
for requests and for what somebody wants to give away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

Object = dict[str, Any]
ALL = "*"
MOST = 20_000  # permissions of one role that are looked at one by one


@dataclass(frozen=True, slots=True)
class Permission:
    """One verb on one resource (`path`: with its subresource), of one name or (None) whatever it is called.

    Where `group` is None, it is a path of the server that is no resource's.
    """

    verb: str
    group: str | None
    path: str
    name: str | None = None

    def __str__(self) -> str:
        """As Kubernetes writes a rule."""
        if self.group is None:
            return f'{{NonResourceURLs:["{self.path}"], Verbs:["{self.verb}"]}}'
        named = f', ResourceNames:["{self.name}"]' if self.name is not None else ""
        return f'{{APIGroups:["{self.group}"], Resources:["{self.path}"]{named}, Verbs:["{self.verb}"]}}'


@dataclass(frozen=True, slots=True)
class Rule:
    """What one rule says besides its resources."""

    verbs: frozenset[str]
    groups: frozenset[str]
    names: frozenset[str]

    def fits(self, verb: str, group: str, name: str | None) -> bool:
        """Whether it says so of this verb and group, and of an object of this name."""
        return self.says(verb, group) and (not self.names or name in self.names)

    def says(self, verb: str, group: str) -> bool:
        """Whether it is about this verb and group, for some names or for all."""
        return (verb in self.verbs or ALL in self.verbs) and (group in self.groups or ALL in self.groups)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one role, filed under each resource that they name."""

    by_path: Mapping[str, tuple[Rule, ...]]
    urls: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = ()
    widest: int = 0  # how many rules are about one resource, at most

    @classmethod
    def of(cls, said: Iterable[Object]) -> Rules:
        """The rules as an object has them."""
        filed: dict[str, list[Rule]] = {}
        urls: list[tuple[frozenset[str], tuple[str, ...]]] = []
        for one in said:
            verbs, paths = frozenset(one.get("verbs") or ()), one.get("resources") or ()
            rule = Rule(verbs, frozenset(one.get("apiGroups") or ()), frozenset(one.get("resourceNames") or ()))
            for path in paths:
                filed.setdefault(path, []).append(rule)
            if one.get("nonResourceURLs"):
                urls.append((verbs, tuple(one["nonResourceURLs"])))
        of_all = len(filed.get(ALL, ()))
        widest = max((len(found) for path, found in filed.items() if path != ALL), default=0) + of_all
        return cls({path: tuple(found) for path, found in filed.items()}, tuple(urls), widest)

    def allow(self, verb: str, group: str, path: str, name: str | None = None) -> bool:
        """Whether any rule allows it."""
        for rule in self.by_path.get(path, ()):
            if rule.fits(verb, group, name):
                return True
        if any(rule.fits(verb, group, name) for rule in self.by_path.get(ALL, ())):
            return True
        _, slash, below = path.partition("/")
        return bool(slash) and any(rule.fits(verb, group, name) for rule in self.by_path.get(f"{ALL}/{below}", ()))

    def on(self, path: str) -> Iterator[Rule]:
        """The rules about this resource, whatever else they say."""
        yield from self.by_path.get(path, ())
        yield from self.by_path.get(ALL, ())
        _, slash, below = path.partition("/")
        if slash:
            yield from self.by_path.get(f"{ALL}/{below}", ())

    def allow_url(self, verb: str, url: str) -> bool:
        """Whether any rule allows it on a path that is no resource's."""
        return any(
            (verb in verbs or ALL in verbs) and any(covers(pattern, url) for pattern in patterns)
            for verbs, patterns in self.urls
        )

    def hold(self, asked: Permission) -> bool:
        """Whether whoever has these rules has that, too."""
        if asked.group is None:
            return self.allow_url(asked.verb, asked.path)
        return self.allow(asked.verb, asked.group, asked.path, asked.name)


def covers(pattern: str, path: str) -> bool:
    """Whether a path is meant: by its own name, or by a beginning with a star behind it."""
    return path.startswith(pattern[:-1]) if pattern.endswith(ALL) else path == pattern


def size(said: Sequence[Object]) -> int:
    """How many permissions these rules come to."""
    return sum(map(_size, said))


def _size(one: Object) -> int:
    verbs, groups, paths, names, urls = (
        len(one.get(key) or ()) for key in ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")
    )
    return verbs * (groups * paths * max(1, names) + urls)


def permissions(said: Iterable[Object]) -> Iterator[Permission]:
    """All that rules allow, one by one."""
    for one in said:
        verbs = one.get("verbs") or ()
        names = one.get("resourceNames") or (None,)
        for verb, group, path, name in product(verbs, one.get("apiGroups") or (), one.get("resources") or (), names):
            yield Permission(verb, group, path, name)
        for verb, url in product(verbs, one.get("nonResourceURLs") or ()):
            yield Permission(verb, None, url)
