"""May this caller do that? The four roles as one pure rule.

Always holds: what is not allowed here is refused. A robot's key reaches its own robot and, by their uid, the jobs it
was given; every other key reaches its own namespace; only the server's admin key reaches all of them. Whoever shows
no key is allowed nothing, and whoever shows one may ask what it is good for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Object = dict[str, Any]

Verb = Literal["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
READ = frozenset({"get", "list", "watch"})
# What a robot must not decide about itself.
PEOPLE_DECIDE = frozenset({"serves", "desiredState", "drain", "restartRequestedAt", "taints", "maintenanceWindows"})
_META = ("labels", "finalizers", "ownerReferences")  # of its metadata: what draws jobs to it, or keeps it
_DEFAULTS = {"desiredState": "Active"}
# What an operator runs the fleet with; keys and namespaces are an admin's.
OPERATED = frozenset(
    {"robots", "workflows", "jobs", "schedules", "fires", "events", "blobs", "configmaps", "leases"}
)
SHARES = frozenset({"quotas"})  # what a namespace gets of the fleet: no key of its own decides that
SECRET = frozenset({"secrets"})  # read and written by admins alone: a password is no state of the fleet
# What everybody with a key may create: nothing is kept, and the answer is about the caller (see `reviews`).
REVIEWS = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: the name in messages, the role, and how far the key reaches (namespace None: everywhere)."""

    name: str
    role: Literal["robot", "viewer", "operator", "admin", "anonymous"]
    namespace: str | None = None
    robot_name: str | None = None
    key_uid: str | None = None
    key_hash: str | None = None  # of the very secret that was shown: a key may have two that are good
    key_name: str | None = None  # of the ApiKey


ANONYMOUS = Identity("system:anonymous", "anonymous")


@dataclass(frozen=True, slots=True)
class Attempted:
    """What is asked for; `namespace` None is cluster-wide."""

    verb: Verb
    resource: str
    subresource: str | None = None
    namespace: str | None = None
    name: str | None = None


def allowed(who: Identity, what: Attempted) -> bool:
    """Whether the role lets the caller do it. What needs a look at the object itself is checked by the handler."""
    is_of_all = who.role == "admin" and who.namespace is None
    if who.role == "anonymous":
        return False
    if what.resource in REVIEWS:
        return is_of_all or (what.verb, what.subresource) == ("create", None)
    if who.role == "robot":
        return _robot(who, what)
    if what.resource == "namespaces":
        return is_of_all or (what.verb in READ and who.namespace in (None, what.name))
    if who.namespace is not None and what.namespace != who.namespace:
        return False
    if what.resource in SECRET or (what.resource, what.subresource) == ("robots", "report"):
        return who.role == "admin"
    if what.resource in SHARES:
        return is_of_all or what.verb in READ
    if who.role == "admin" or what.verb in READ:
        return True
    return who.role == "operator" and what.resource in OPERATED


def robot_may_write(who: Identity, old: Object | None, new: Object) -> bool:
    """Whether a robot's key may make its Robot so: its own, saying what it is, never whom it serves or when.

    Its robotId is told once, when it registers.
    """
    meta = new.get("metadata") or {}
    before, after = (old or {}).get("spec") or {}, new.get("spec") or {}
    is_own = meta.get("name") == who.robot_name and meta.get("namespace") == who.namespace
    was = (old or {}).get("metadata") or {}
    decided = all(before.get(key, _DEFAULTS.get(key)) == after.get(key, _DEFAULTS.get(key)) for key in PEOPLE_DECIDE)
    is_same = old is None or before.get("robotId") == after.get("robotId")
    return is_own and decided and is_same and all((was.get(key) or None) == (meta.get(key) or None) for key in _META)


def may_serve(who: Identity, old: Object | None, new: Object) -> bool:
    """Whether the caller may let a Robot take jobs of these namespaces: no further than its own key reaches."""
    before, after = ((one or {}).get("spec") or {} for one in (old, new))
    wanted = set(after.get("serves") or ()) - set(before.get("serves") or ())
    return who.namespace is None or wanted <= {who.namespace}


def _robot(who: Identity, what: Attempted) -> bool:
    if what.resource == "robots" and what.name is None:  # its registration: the handler looks at the name in it
        return (what.verb, what.subresource, what.namespace) == ("create", None, who.namespace)
    if what.resource == "robots":
        is_own = what.namespace == who.namespace and what.name == who.robot_name
        return is_own and (what.verb, what.subresource) in (("get", None), ("patch", None), ("create", "report"))
    if what.resource == "jobs":
        if what.subresource == "log":
            return what.verb == "create"
        if what.subresource == "artifacts":
            return what.verb == "update"
        return what.subresource is None and what.verb in READ
    if what.resource == "apikeys":  # its own, and the handler sees to it that it is no other of that name
        is_own = what.namespace == who.namespace and what.name is not None and what.name == who.key_name
        return is_own and (what.verb, what.subresource) == ("create", "rotate")
    # Revisions and files are named by their hash: who knows it was given the job that uses it.
    return what.verb == "get" and (what.resource, what.subresource) in (("workflows", "revisions"), ("blobs", None))
