"""What all may this caller do in a namespace? Read off the rules that he has, never asked of each thing that there is.

What is listed is allowed, whatever anybody has bound; and it costs a bounded time, also for somebody to whom thousands
of rules and names were bound by others: what is beyond the bounds is left out, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any, get_args

from casare_api.decisions.access import REVIEWS, Attempted, Identity, allowed
from casare_api.decisions.policy import Policy
from casare_api.decisions.roles import OF_ROLE
from casare_api.decisions.rules import ALL, Rule, Rules
from casare_api.decisions.served import SERVED, Served
from casare_api.decisions.verbs import Verb

Object = dict[str, Any]
Part = tuple[frozenset[str], frozenset[str]]  # verbs, and the names they are for; no names: whatever it is
MOST_ROLES = 100  # that are looked at
MOST_RULES = 100  # of them that are looked at for one resource
MOST_NAMES = 2000  # in one answer
VERBS: tuple[Verb, ...] = get_args(Verb)
_VERBS = frozenset[str](VERBS)
_ANY: frozenset[str] = frozenset()
_NOBODY = "-"  # stands for any name: nothing can be called so


def listed(who: Identity, namespace: str, policy: Policy) -> tuple[list[Object], bool]:
    """``resourceRules``: one rule for all resources of a group with the same verbs; and whether that is all."""
    listing = _Listing(who, namespace, policy)
    merged: dict[tuple[str, tuple[Verb, ...], int], tuple[frozenset[str], list[str]]] = {}
    for one in SERVED:
        for verbs, names in listing.parts(one):
            merged.setdefault((one.group, _ordered(verbs), id(names)), (names, []))[1].append(one.path)
    rules: list[Object] = []
    room = MOST_NAMES
    for (group, ordered, _), (names, paths) in merged.items():
        if len(names) > room:
            listing.is_all = False
            continue
        room -= len(names)
        named = {"resourceNames": sorted(names)} if names else {}
        rules.append({"verbs": [*ordered], "apiGroups": [group], "resources": paths, **named})
    return rules, listing.is_all


@dataclass(slots=True)
class _Listing:
    who: Identity
    namespace: str
    policy: Policy
    is_all: bool = True
    _in_force: dict[str | None, list[Rules]] = field(default_factory=dict)  # by where
    _own: dict[str, frozenset[str]] = field(default_factory=dict)  # sets of one name, which are told apart by identity

    def parts(self, one: Served) -> Iterator[Part]:
        """What is allowed with one resource: first whatever it is called, then what is for some names alone."""
        if self.who.role in ("robot", "anonymous"):  # who have nothing but what is their own
            yield from self._asked(one)
            return
        if one.resource in REVIEWS:
            yield frozenset({"create"}), _ANY
            return
        rules = self._rules(one, self.namespace if one.namespaced else None)
        whatever = _ANY.union(*(_verbs(rule) for rule in rules if not rule.names))
        if whatever:
            yield whatever, _ANY
        # What is created has no name in its path.
        rest = _VERBS - whatever - ({"create"} if one.subresource is None else set())
        for verbs, names in (*((_verbs(rule), rule.names) for rule in rules if rule.names), *self._of_itself(one)):
            if verbs & rest:
                yield verbs & rest, names

    def _of_itself(self, one: Served) -> Iterator[Part]:
        """A namespace is in itself, though it is in none."""
        if one.resource != "namespaces":
            return
        for name in dict.fromkeys(filter(None, (self.who.namespace, self.namespace))):
            found = [rule for rule in self._rules(one, name) if not rule.names or name in rule.names]
            yield _ANY.union(*map(_verbs, found)), self._only(name)

    def _rules(self, one: Served, where: str | None) -> list[Rule]:
        """The rules in force there that are about this resource."""
        about = (rule for rules in self._roles(where) for rule in rules.on(one.path))
        found = list(islice(about, MOST_RULES + 1))
        if len(found) > MOST_RULES:
            self.is_all = False
        unique = {id(rule): rule for rule in found[:MOST_RULES]}
        return [rule for rule in unique.values() if one.group in rule.groups or ALL in rule.groups]

    def _roles(self, where: str | None) -> list[Rules]:
        """What the key's role says there comes first, then what is bound."""
        if where not in self._in_force:
            of_role = OF_ROLE.get(self.who.role) if self.who.namespace in (None, where) else None
            bound = {id(rules): rules for rules in self.policy.held(self.who.subjects, where)}
            if len(bound) > MOST_ROLES:
                self.is_all = False
            self._in_force[where] = [*filter(None, (of_role,)), *islice(bound.values(), MOST_ROLES)]
        return self._in_force[where]

    def _asked(self, one: Served) -> Iterator[Part]:
        """The same for a robot's key, which has its own role and a few names: `allowed` is asked."""
        where = self.namespace if one.namespaced else None

        def may(verb: Verb, name: str | None) -> bool:
            return allowed(self.who, Attempted(verb, one.resource, one.subresource, where, name, one.group))

        def whoever(verb: Verb) -> bool:
            is_nameless = verb == "create" and one.subresource is None
            return may(verb, None) and (is_nameless or may(verb, _NOBODY))

        whatever = frozenset[str](verb for verb in VERBS if whoever(verb))
        if whatever:
            yield whatever, _ANY
        for name in dict.fromkeys(filter(None, (self.who.robot_name, self.who.namespace, self.who.key_name))):
            own = frozenset[str](verb for verb in VERBS if verb not in whatever and may(verb, name))
            if own:
                yield own, self._only(name)

    def _only(self, name: str) -> frozenset[str]:
        return self._own.setdefault(name, frozenset((name,)))


def _verbs(rule: Rule) -> frozenset[str]:
    return _VERBS if ALL in rule.verbs else rule.verbs & _VERBS


@cache
def _ordered(verbs: frozenset[str]) -> tuple[Verb, ...]:
    return tuple(verb for verb in VERBS if verb in verbs)
