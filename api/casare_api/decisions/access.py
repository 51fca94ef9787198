"""May this caller do that? What a key's role and what is bound to the caller let him do, in one pure rule.

Always holds: what is not allowed here is refused. A robot's key reaches its own robot and, by their uid, the jobs it
was given, whatever is bound to anybody; what every other key's role says holds in the key's own namespace; only the
server's admin key reaches all of them by itself. Whoever has no role (who signed in with OIDC) has what is bound to him
and his groups. Whoever shows no key is allowed nothing, and whoever shows one may ask what it is good for.

Roles are rules, the built-in ones too (`roles`): a request is allowed where one of them says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from casare_api.decisions import approval
from casare_api.decisions.policy import NOTHING_BOUND, Policy, Subject
from casare_api.decisions.roles import OF_ROLE, PREFIX
from casare_api.decisions.rules import ALL, Permission, Rules
from casare_api.decisions.served import CLUSTER_SCOPED, GROUPS
from casare_api.decisions.served import QUESTIONS as REVIEWS
from casare_api.decisions.verbs import READ, Verb

Object = dict[str, Any]

# What a robot must not decide about itself.
PEOPLE_DECIDE = frozenset({"serves", "desiredState", "drain", "restartRequestedAt", "taints", "maintenanceWindows"})
_META = ("labels", "finalizers", "ownerReferences")  # of its metadata: what draws jobs to it, or keeps it
_DEFAULTS = {"desiredState": "Active"}
EVERYBODY = "system:authenticated"  # the group of all who show a good key or sign-in
RESERVED = ("system:", PREFIX)  # names that no issuer of sign-ins can give


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: the name in messages, the role, and how far the key reaches (namespace None: everywhere).

    The role "user" is nobody's key: who signed in elsewhere, with the groups that were said there, until it `expires`.
    """

    name: str
    role: Literal["robot", "viewer", "operator", "admin", "anonymous", "user"]
    namespace: str | None = None
    robot_name: str | None = None
    key_uid: str | None = None
    robot_uid: str | None = None  # of the one robot that a key belongs to which was made for it as it joined
    key_hash: str | None = None  # of the very secret that was shown: a key may have two that are good
    key_name: str | None = None  # of the ApiKey
    groups: tuple[str, ...] = ()
    expires: datetime | None = None

    @property
    def user(self) -> str:
        """The name in bindings: no two have the same. Names of keys are their namespace's."""
        return f"{PREFIX}key:{self.namespace}:{self.name}" if self.namespace is not None else self.name

    @property
    def all_groups(self) -> tuple[str, ...]:
        """The groups in bindings."""
        if self.role == "anonymous":
            return ("system:unauthenticated",)
        return (*self.groups, EVERYBODY) if self.role == "user" else (EVERYBODY, f"{PREFIX}role:{self.role}")

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """What bindings may call this caller; a robot they give nothing."""
        if self.role in ("robot", "anonymous"):
            return ()
        return (("User", self.user), *(("Group", group) for group in self.all_groups))

    @property
    def is_of_all(self) -> bool:
        """Whether it is the server's own admin key, which may do everything."""
        return self.role == "admin" and self.namespace is None


ANONYMOUS = Identity("system:anonymous", "anonymous")


@dataclass(frozen=True, slots=True)
class Attempted:
    """What is asked for; `namespace` None is cluster-wide. The group None is the one that has such a resource."""

    verb: str
    resource: str
    subresource: str | None = None
    namespace: str | None = None
    name: str | None = None
    group: str | None = None


def allowed(who: Identity, what: Attempted, policy: Policy = NOTHING_BOUND) -> bool:
    """Whether the caller may do it. What needs a look at the object itself is checked by the handler."""
    if who.role == "anonymous":
        return False
    if who.is_of_all:
        return True
    if what.resource in REVIEWS:
        return (what.verb, what.subresource) == ("create", None)
    path = what.resource if what.subresource is None else f"{what.resource}/{what.subresource}"
    group = GROUPS.get(what.resource, ALL) if what.group is None else what.group
    if who.role == "robot":
        return _is_robots_own(who, what) and OF_ROLE["robot"].allow(what.verb, group, path, what.name)
    namespace, of_role = _place(what), OF_ROLE.get(who.role)
    is_in_reach = who.namespace in (None, namespace)
    if of_role is not None and is_in_reach and of_role.allow(what.verb, group, path, what.name):
        return True
    held = policy.held(who.subjects, namespace) if policy.bound else ()
    return any(rules.allow(what.verb, group, path, what.name) for rules in held)


def holds(who: Identity, asked: Permission, namespace: str | None, policy: Policy) -> bool:
    """Whether the caller has this permission in a namespace, or (None) everywhere; a robot has none to give away."""
    return who.is_of_all or any(rules.hold(asked) for rules in held_by(who, namespace, policy))


def held_by(who: Identity, namespace: str | None, policy: Policy) -> Iterator[Rules]:
    """The rules by which anybody but the server's admin holds what he holds in a namespace, or (None) everywhere."""
    of_role = OF_ROLE.get(who.role) if who.role != "robot" else None
    if of_role is not None and who.namespace in (None, namespace):
        yield of_role
    if policy.bound:
        yield from policy.held(who.subjects, namespace)


def robot_may_write(who: Identity, old: Object | None, new: Object) -> bool:
    """Whether a robot's key may make its Robot so: its own, saying what it is, never whom it serves or when.

    Its robotId is told once, when it registers. One that joined by a token is never made again by its own key, and
    stays in the environment that it joined; whether it is approved is not its own to say.
    """
    meta = new.get("metadata") or {}
    before, after = (old or {}).get("spec") or {}, new.get("spec") or {}
    is_own = meta.get("name") == who.robot_name and meta.get("namespace") == who.namespace
    was = (old or {}).get("metadata") or {}
    decided = all(before.get(key, _DEFAULTS.get(key)) == after.get(key, _DEFAULTS.get(key)) for key in PEOPLE_DECIDE)
    is_same = old is None or before.get("robotId") == after.get("robotId")
    is_same = is_same and _is_as_it_joined(who, old, new)
    return is_own and decided and is_same and all((was.get(key) or None) == (meta.get(key) or None) for key in _META)


def _is_as_it_joined(who: Identity, old: Object | None, new: Object) -> bool:
    """Whether nothing of it changes that its enrolment decided."""
    if who.robot_uid is not None and (old is None or old["metadata"].get("uid") != who.robot_uid):
        return False
    if any((approval.note(old, key) if old else None) != approval.note(new, key) for key in approval.NOTES):
        return False
    has_joined = old is not None and approval.note(old, approval.ENROLLED_BY) is not None
    environments = [((one or {}).get("spec") or {}).get("environment") or "default" for one in (old, new)]
    return not has_joined or environments[0] == environments[1]


def may_serve(who: Identity, old: Object | None, new: Object, policy: Policy = NOTHING_BOUND) -> bool:
    """Whether the caller may let a Robot take jobs of these namespaces: of those where he may make robots himself.

    A robot writes what it was given, whoever gave it (see `robot_may_write`).
    """
    before, after = ((one or {}).get("spec") or {} for one in (old, new))
    wanted = set(after.get("serves") or ()) - set(before.get("serves") or ())
    if who.role == "robot":
        return wanted <= {who.namespace}
    return all(
        allowed(who, Attempted("create", "robots", None, None if namespace == ALL else namespace), policy)
        for namespace in wanted
    )


def _place(what: Attempted) -> str | None:
    """Where it is done: a namespace is in itself, and no other cluster-wide object is in any."""
    if what.resource not in CLUSTER_SCOPED:
        return what.namespace
    return what.name if what.resource == "namespaces" else None


def _is_robots_own(who: Identity, what: Attempted) -> bool:
    """Whether the rules of a robot's key are about this: its own robot, and jobs anywhere (the handler looks whose).

    Its registration has no name in the path: the handler looks at the one in it.
    """
    if what.resource == "apikeys":  # its own, and the handler sees to it that it is no other of that name
        return what.namespace == who.namespace and what.name is not None and what.name == who.key_name
    if what.resource != "robots":
        return True
    is_registration = (what.verb, what.subresource) == ("create", None)
    if is_registration or what.name is None:
        return is_registration and what.name is None and what.namespace == who.namespace
    return what.namespace == who.namespace and what.name == who.robot_name


__all__ = [
    "ANONYMOUS", "EVERYBODY", "PEOPLE_DECIDE", "READ", "RESERVED", "REVIEWS", "Attempted", "Identity", "Verb",
    "allowed", "held_by", "holds", "may_serve", "robot_may_write",
]  # fmt: skip
