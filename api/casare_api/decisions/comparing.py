"""Which of these permissions does somebody not hold? Many asked at once, at a bounded cost whatever is bound to him.

Whoever may write roles can make both sides as large as a role may be. What he holds is narrowed once for each verb,
group and resource that is asked for, so that names cost nothing; and each look at a rule is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from casare_api.decisions.rules import Permission, Rule, Rules

Object = dict[str, Any]
MOST_LOOKS = 30_000  # at rules, names and paths: about a hundredth of a second, and a caller may ask often


class TooMuch(Exception):
    """It would take too long to compare."""


@dataclass(slots=True)
class Looks:
    """How many looks are left."""

    left: int = MOST_LOOKS

    def take(self, number: int) -> None:
        """Raises TooMuch where they are not left."""
        self.left -= number
        if self.left < 0:
            raise TooMuch


@dataclass(slots=True)
class Holding:
    """What somebody holds in one place: the rules of all his roles there."""

    roles: Sequence[Rules]
    looks: Looks
    _about: dict[str, list[Rule]] = field(default_factory=dict)  # by path

    def missing(self, said: Iterable[Object]) -> Iterator[Permission]:
        """What these rules allow and he does not hold. Raises TooMuch."""
        for one in said:
            verbs, names = one.get("verbs") or (), one.get("resourceNames") or (None,)
            for verb, group, path in product(verbs, one.get("apiGroups") or (), one.get("resources") or ()):
                for name in self._names_missing(verb, group, path, names):
                    yield Permission(verb, group, path, name)
            for verb, url in product(verbs, one.get("nonResourceURLs") or ()):
                if not any(self._allows_url(rules, verb, url) for rules in self.roles):
                    yield Permission(verb, None, url)

    def _names_missing(self, verb: str, group: str, path: str, names: Sequence[str | None]) -> Iterator[str | None]:
        about = self._rules_about(path)
        self.looks.take(len(about) + len(names))
        held = [rule for rule in about if rule.says(verb, group)]
        if all(rule.names for rule in held):
            self.looks.take(sum(len(rule.names) for rule in held))
            of_names = frozenset[str]().union(*(rule.names for rule in held))
            yield from (name for name in names if name not in of_names)

    def _rules_about(self, path: str) -> list[Rule]:
        if path not in self._about:
            self.looks.take(len(self.roles))
            self._about[path] = [rule for rules in self.roles for rule in rules.on(path)]
            self.looks.take(len(self._about[path]))
        return self._about[path]

    def _allows_url(self, rules: Rules, verb: str, url: str) -> bool:
        self.looks.take(1 + sum(len(patterns) for _, patterns in rules.urls))
        return rules.allow_url(verb, url)
