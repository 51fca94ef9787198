"""What is there that rules of access can be about? Every resource and subresource that the server has.

It follows from the kinds and from discovery: a kind or a subresource that is added is here by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from casare_api import kinds
from casare_api.kinds import GROUP
from casare_api.kinds.reviews import REVIEWS
from casare_api.machinery import discovery


@dataclass(frozen=True, slots=True)
class Served:
    """One resource, or one subresource of it, as the server has it."""

    group: str
    resource: str
    subresource: str | None
    namespaced: bool
    verbs: tuple[str, ...]

    @property
    def path(self) -> str:
        """As rules name it: ``jobs/log``."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def _served() -> Iterator[Served]:
    for kind in kinds.SERVED:
        yield Served(kind.group, kind.plural, None, kind.namespaced, discovery.verbs(kind))
        for below in discovery.subresources(kind):
            yield Served(kind.group, kind.plural, below.name, kind.namespaced, below.verbs)
    yield Served(GROUP, "blobs", None, True, ("get", "create"))
    for review in REVIEWS:
        yield Served(review.group, review.plural, None, False, ("create",))


SERVED: tuple[Served, ...] = tuple(sorted(_served(), key=lambda one: (one.group, one.path)))
QUESTIONS = frozenset(review.plural for review in REVIEWS)
CLUSTER_SCOPED = frozenset(one.resource for one in SERVED if not one.namespaced)
# The API group of a resource; a plural that several groups have is the first one's, which is the core group's.
GROUPS: dict[str, str] = {one.resource: one.group for one in reversed(SERVED)}
