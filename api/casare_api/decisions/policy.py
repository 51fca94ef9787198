"""What do all roles and bindings come to? Per subject and namespace, the rules that it holds beside its key's role.

A value that never changes: a new one is made when a role or a binding changes. Whoever no binding names costs a request
nothing here; whoever one names costs it a look-up for each of his groups, and a look at each rule. So that these are
never too many, whatever anybody binds, the rules of one subject in one place count up to a bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from casare_api.decisions.roles import BUILT_IN
from casare_api.decisions.rules import Rules
from casare_api.kinds.rbac import CLUSTERROLE, CLUSTERROLEBINDING, ROLE, ROLEBINDING

Object = dict[str, Any]
Said = list[Object]  # the rules of a role, as they are written
Subject = tuple[str, str]  # "User" or "Group", and its name
ROLES, BINDINGS = (ROLE.kind, CLUSTERROLE.kind), (ROLEBINDING.kind, CLUSTERROLEBINDING.kind)
KINDS = (ROLE, CLUSTERROLE, ROLEBINDING, CLUSTERROLEBINDING)
Place = tuple[Subject, str | None]  # whose rules, and in which namespace (None: everywhere)
MOST_HELD = 2000  # rules that count of one subject in one place: those of the oldest bindings


@dataclass(frozen=True, slots=True)
class Held:
    """Rules that somebody holds in a namespace, or (None) everywhere."""

    namespace: str | None
    rules: Rules
    said: Said


@dataclass(frozen=True, slots=True)
class Policy:
    """`bound` says what each subject holds, by namespace; `roles` what each role is, by namespace (None) and name.

    `used`: how many rules count of whom; `left_out`: who has bindings beyond the bound, which give nothing.
    """

    bound: Mapping[Subject, Mapping[str | None, tuple[Held, ...]]] = field(default_factory=dict)
    roles: Mapping[tuple[str | None, str], Said] = field(default_factory=dict)
    used: Mapping[Place, int] = field(default_factory=dict)
    left_out: frozenset[Place] = frozenset()

    @classmethod
    def of(cls, objects: Iterable[Object], compiled: dict[tuple[str, str], Rules] | None = None) -> Policy:
        """The policy that these roles and bindings come to; `compiled` keeps rules from one to the next."""
        roles: dict[tuple[str | None, str], Said] = {(None, name): said for name, said in BUILT_IN.items()}
        versions: dict[tuple[str | None, str], tuple[str, str]] = {}
        bindings: list[Object] = []
        for obj in objects:
            if obj["metadata"].get("deletionTimestamp"):  # what holds it up must not keep anybody's access
                continue
            if obj["kind"] in BINDINGS:
                bindings.append(obj)
            elif (address := _address(obj)) not in roles or address[0] is not None:
                roles[address] = obj.get("rules") or []
                versions[address] = (obj["metadata"].get("uid", ""), obj["metadata"].get("resourceVersion", ""))
        compiled = {} if compiled is None else compiled
        filing = _Filing()
        for binding in sorted(bindings, key=_age):
            address = _meant(binding)
            said = roles.get(address)
            if said is None:
                continue
            version = versions.get(address) or ("", str(address))
            rules = compiled.get(version) or compiled.setdefault(version, Rules.of(said))
            where = binding["metadata"].get("namespace") if binding["kind"] == ROLEBINDING.kind else None
            for subject in binding.get("subjects") or ():
                filing.add((subject["kind"], subject["name"]), Held(where, rules, said))
        return cls(filing.filed(), roles, filing.used, frozenset(filing.left_out))

    def held(self, subjects: Iterable[Subject], namespace: str | None) -> Iterator[Rules]:
        """The rules that any of the subjects holds in a namespace, or (None) everywhere."""
        for subject in subjects:
            of_subject = self.bound.get(subject)
            if of_subject is None:
                continue
            for one in of_subject.get(None, ()):
                yield one.rules
            if namespace is not None:
                for one in of_subject.get(namespace, ()):
                    yield one.rules

    def all_held(self, subjects: Iterable[Subject], namespace: str) -> Iterator[Held]:
        """All that any of the subjects holds in a namespace, and everywhere; what is not in all of them says so."""
        for subject in subjects:
            of_subject = self.bound.get(subject, {})
            yield from of_subject.get(None, ())
            yield from of_subject.get(namespace, ())

    def has_room(self, subject: Subject, where: str | None, said: Said) -> bool:
        """Whether these rules would count for the subject there, beside what it holds; also where it holds them."""
        if self.used.get((subject, where), 0) + _count(said) <= MOST_HELD:
            return True
        return any(one.said is said for one in self.bound.get(subject, {}).get(where, ()))

    def role(self, binding: Object) -> Said | None:
        """The rules of the role that a binding gives away, None where there is no such role."""
        return self.roles.get(_meant(binding))


def is_light(objects: Iterable[Object], most: int) -> bool:
    """Whether there is less than that to work out: an object is one, and each subject, each rule and its resources."""
    left = most
    for one in objects:
        left -= 1 + len(one.get("subjects") or ())
        for rule in one.get("rules") or ():
            left -= 1 + len(rule.get("resources") or ())
            if left <= 0:
                return False
    return left > 0


@dataclass(slots=True)
class _Filing:
    """Files what each subject holds in each place: each role once, and no more than the bound."""

    bound: dict[Subject, dict[str | None, dict[int, Held]]] = field(default_factory=dict)
    used: dict[Place, int] = field(default_factory=dict)
    left_out: set[Place] = field(default_factory=set)

    def add(self, subject: Subject, one: Held) -> None:
        held = self.bound.setdefault(subject, {}).setdefault(one.namespace, {})
        if id(one.rules) in held:
            return
        place = subject, one.namespace
        used = self.used.get(place, 0) + _count(one.said)
        if used > MOST_HELD:
            self.left_out.add(place)
            return
        self.used[place] = used
        held[id(one.rules)] = one

    def filed(self) -> dict[Subject, dict[str | None, tuple[Held, ...]]]:
        """All of it, as it stays."""
        return {who: {where: tuple(held.values()) for where, held in of.items()} for who, of in self.bound.items()}


def _count(said: Said) -> int:
    """A role that says nothing costs a look as well."""
    return max(1, len(said))


def _age(binding: Object) -> tuple[str, str]:
    """Every apiserver counts the same bindings, in whatever order it heard of them."""
    meta = binding["metadata"]
    return meta.get("creationTimestamp") or "", meta.get("uid") or ""


NOTHING_BOUND = Policy({}, {(None, name): said for name, said in BUILT_IN.items()})


def _address(role: Object) -> tuple[str | None, str]:
    meta = role["metadata"]
    return (meta.get("namespace") if role["kind"] == ROLE.kind else None), meta["name"]


def _meant(binding: Object) -> tuple[str | None, str]:
    ref = binding["roleRef"]
    return (binding["metadata"].get("namespace") if ref["kind"] == ROLE.kind else None), ref["name"]
