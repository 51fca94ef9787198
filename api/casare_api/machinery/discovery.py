"""Which groups, kinds and verbs does this server have? The discovery documents of Kubernetes, made from the kinds.

There are two forms of them, and clients need both: the aggregated one says everything in one answer for `/api` and one
for `/apis`; the older one has a document for each group and version. What they list is what the routes serve.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from casare_api.kinds import GROUP, SERVED, Kind
from casare_api.kinds.reviews import REVIEWS, Review

Document = dict[str, Any]

STATUS_VERBS = ("get", "patch", "update")
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Subresource:
    """Something below one object: the kind of what travels there, and what can be done with it."""

    name: str
    kind: str
    verbs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A group ("" is the core group) and its versions."""

    name: str
    versions: tuple[str, ...]


# What single kinds have beside `status`.
SUBRESOURCES: dict[str, tuple[Subresource, ...]] = {
    "ApiKey": (Subresource("rotate", "KeyToken", ("create",)), Subresource("token", "KeyToken", ("create",))),
    "Job": (
        Subresource("artifacts", "ArtifactList", ("get", "update")),
        Subresource("log", "JobLog", ("create", "get")),
        Subresource("retry", "Job", ("create",)),
        Subresource("why", "JobExplanation", ("get",)),
    ),
    "Robot": (Subresource("report", "RobotReport", ("create",)),),
    "Workflow": (Subresource("revisions", "WorkflowRevision", ("get",)),),
}


def verbs(kind: Kind) -> tuple[str, ...]:
    """What can be done with objects of a kind. A fleet's namespaces are not deleted in one go."""
    return _VERBS if kind.namespaced else tuple(verb for verb in _VERBS if verb != "deletecollection")


def subresources(kind: Kind) -> tuple[Subresource, ...]:
    """What there is below an object of a kind, by name."""
    status = (Subresource("status", kind.kind, STATUS_VERBS),) if kind.has_status else ()
    return tuple(sorted((*status, *SUBRESOURCES.get(kind.kind, ())), key=lambda one: one.name))


@cache
def groups() -> tuple[Group, ...]:
    """All groups: the core group first, then our own, then the others by name."""
    return tuple(Group(name, versions) for name, versions in _groups().items())


# -- the aggregated form -----------------------------------------------------------------------------------------


@cache
def aggregated(root: Literal["api", "apis"], version: str = "v2") -> Document:
    """Everything at once: the core group for `/api`, all others for `/apis`. `version` is apidiscovery.k8s.io's."""
    items = [
        {
            "metadata": {"name": name} if name else {},
            "versions": [
                {"version": one, "resources": [_discovered(each) for each in _resources(name, one)],
                 "freshness": "Current"}
                for one in versions
            ],
        }
        for name, versions in _groups().items()
        if bool(name) == (root == "apis")
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{version}", "metadata": {},
            "items": items}


# -- the older form ----------------------------------------------------------------------------------------------


@cache
def api_versions() -> Document:
    """`/api`: the versions of the core group."""
    return {"kind": "APIVersions", "versions": list(_groups()[""]), "serverAddressByClientCIDRs": []}


@cache
def group_list() -> Document:
    """`/apis`: all groups but the core group."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in _groups() if name]}


@cache
def group(name: str) -> Document | None:
    """`/apis/GROUP`; None where there is no such group."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name)} if name and name in _groups() else None


@cache
def resource_list(group: str, version: str) -> Document | None:
    """`/api/VERSION` (group "") and `/apis/GROUP/VERSION`; None where there is no such version."""
    if version not in _groups().get(group, ()):
        return None
    resources = [row for one in _resources(group, version) for row in _listed(one)]
    named = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": named, "resources": resources}


# -- steps -------------------------------------------------------------------------------------------------------

_EVERY: tuple[Kind | Review, ...] = (*SERVED, *REVIEWS)


@cache
def _groups() -> dict[str, tuple[str, ...]]:
    """The versions of each group, in the order of `groups`."""
    found: dict[str, set[str]] = {}
    for one in _EVERY:
        found.setdefault(one.group, set()).add(one.version)
    order = sorted(found, key=lambda name: (name != "", name != GROUP, name))
    return {name: tuple(sorted(found[name])) for name in order}


def _resources(group: str, version: str) -> list[Kind | Review]:
    """The kinds and questions of a group's version, by plural."""
    return sorted((one for one in _EVERY if (one.group, one.version) == (group, version)), key=lambda one: one.plural)


def _group(name: str) -> Document:
    versions = [{"groupVersion": f"{name}/{version}", "version": version} for version in _groups()[name]]
    return {"name": name, "versions": versions, "preferredVersion": versions[-1]}


def _discovered(one: Kind | Review) -> Document:
    """A resource as aggregated discovery shows it."""
    row: Document = {
        "resource": one.plural,
        "responseKind": _kind(one, one.kind),
        "scope": "Namespaced" if isinstance(one, Kind) and one.namespaced else "Cluster",
        "singularResource": one.singular,
        "verbs": list(verbs(one)) if isinstance(one, Kind) else ["create"],
    }
    if not isinstance(one, Kind):
        return row
    below = [
        {"subresource": sub.name, "responseKind": _kind(one, sub.kind), "verbs": list(sub.verbs)}
        for sub in subresources(one)
    ]
    return row | _words(one) | ({"subresources": below} if below else {})


def _listed(one: Kind | Review) -> Iterator[Document]:
    """A resource and its subresources as the older form shows them."""
    if not isinstance(one, Kind):
        yield {"name": one.plural, "singularName": one.singular, "namespaced": False, "kind": one.kind,
               "verbs": ["create"]}
        return
    yield {"name": one.plural, "singularName": one.singular, "namespaced": one.namespaced, "kind": one.kind,
           "verbs": list(verbs(one)), **_words(one)}
    for sub in subresources(one):
        yield {"name": f"{one.plural}/{sub.name}", "singularName": "", "namespaced": one.namespaced, "kind": sub.kind,
               "verbs": list(sub.verbs)}


def _kind(one: Kind | Review, kind: str) -> Document:
    return {"group": one.group, "version": one.version, "kind": kind}


def _words(kind: Kind) -> Document:
    """The other words that people may use for a kind."""
    said = {"shortNames": list(kind.short_names), "categories": list(kind.categories)}
    return {key: value for key, value in said.items() if value}
