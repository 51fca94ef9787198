"""What may a viewer do, and what an operator? The built-in ClusterRoles: what people read is what decides.

Made from what the server has, so that a new kind is read by viewers and written by admins without anybody thinking of
it; what an operator writes is listed by hand. They are kept in the database for reading alone: decisions take them from
here, and nobody can change or delete them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args

from casare_api.decisions.rules import ALL, Rules
from casare_api.decisions.served import QUESTIONS, SERVED, Served
from casare_api.decisions.verbs import READ, Verb
from casare_api.kinds.rbac import CLUSTERROLE

Object = dict[str, Any]

PREFIX = "casare:"  # of the ClusterRole that a role is, and of all names that are the server's to give
# What an operator runs the fleet with; keys and namespaces are an admin's.
OPERATED = frozenset(
    {"robots", "workflows", "jobs", "schedules", "fires", "events", "blobs", "configmaps", "leases"}
)
SHARES = frozenset({"quotas"})  # what a namespace gets of the fleet: no key of its own decides that
SECRET = frozenset({"secrets"})  # read and written by admins alone: a password is no state of the fleet
REPORTS = frozenset({"robots/report"})  # a robot's own words: nobody else speaks for it, but for admins
_VERBS: tuple[Verb, ...] = get_args(Verb)
_READ: tuple[Verb, ...] = tuple(verb for verb in _VERBS if verb in READ)
Verbs = tuple[Verb, ...]


def _viewer(one: Served) -> Verbs:
    return () if one.resource in SECRET or one.path in REPORTS else _READ


def _operator(one: Served) -> Verbs:
    return _VERBS if one.resource in OPERATED and one.path not in REPORTS else _viewer(one)


def _admin(one: Served) -> Verbs:
    return _VERBS if one.namespaced and one.resource not in SHARES else _READ


# What a robot's key may do with its own robot and the jobs that are its own (see `access`), and with what is named by
# its hash: who knows that was given the job that uses it.
_OF_A_ROBOT: dict[str, Verbs] = {
    "robots": ("get", "create", "patch"),
    "robots/report": ("create",),
    "apikeys/rotate": ("create",),
    "jobs": _READ,
    "jobs/log": ("create",),
    "jobs/artifacts": ("update",),
    "workflows/revisions": ("get",),
    "blobs": ("get",),
}


def _rules(verbs_of: Callable[[Served], Verbs]) -> list[Object]:
    """One rule for all resources of a group with the same verbs."""
    merged: dict[tuple[str, Verbs], list[str]] = {}
    for one in SERVED:
        if one.resource not in QUESTIONS and (verbs := verbs_of(one)):
            merged.setdefault((one.group, verbs), []).append(one.path)
    return [{"verbs": [*verbs], "apiGroups": [group], "resources": paths} for (group, verbs), paths in merged.items()]


_EVERYTHING: list[Object] = [
    {"verbs": [ALL], "apiGroups": [ALL], "resources": [ALL]},
    {"verbs": [ALL], "nonResourceURLs": [ALL]},
]
ROLE_RULES: dict[str, list[Object]] = {
    "robot": _rules(lambda one: _OF_A_ROBOT.get(one.path, ())),
    "viewer": _rules(_viewer),
    "operator": _rules(_operator),
    "admin": _rules(_admin),
}
# By the name of a ClusterRole that is always there. The last one is what the server's own admin key may do.
BUILT_IN: dict[str, list[Object]] = {
    **{f"{PREFIX}{role}": rules for role, rules in ROLE_RULES.items()},
    "cluster-admin": _EVERYTHING,
}
_DESCRIBED = {
    f"{PREFIX}robot": "What a robot's key may do with its own robot, and with the jobs it was given.",
    f"{PREFIX}viewer": "Reads all but Secrets.",
    f"{PREFIX}operator": "Reads all but Secrets; writes what the fleet is run with.",
    f"{PREFIX}admin": "Reads and writes all that is in a namespace; its share of the fleet it reads alone.",
    "cluster-admin": "Everything, everywhere.",
}
# The same, made quick to ask.
OF_ROLE: dict[str, Rules] = {role: Rules.of(rules) for role, rules in ROLE_RULES.items()}


def built_in() -> Iterable[Object]:
    """The objects as they are to be read."""
    for name, rules in BUILT_IN.items():
        meta = {"name": name, "annotations": {"fleet.casare.net/description": _DESCRIBED[name]}}
        yield {"apiVersion": CLUSTERROLE.api_version, "kind": "ClusterRole", "metadata": meta, "rules": rules}
