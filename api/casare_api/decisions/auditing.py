"""What does the audit log say of who did what? The rows of a batch of writes, without their numbers.

Pure. A row is one object that one request changed; what a request creates or deletes by the hundred (a JobList, a
collection) is one row a batch, with all names. What robots report, what duties do, Events and the renewals of a Lease
are no deeds of anybody and have no rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from casare_api.decisions import audit_fields
from casare_api.decisions.audit_chain import Object
from casare_api.kinds import Kind, dig

_SECRET = re.compile(r"(crpa|cjt)_[^/\s]*")
ANYTHING = 253  # characters of what a caller may have made up


@dataclass(slots=True, eq=False)
class Caller:
    """Who writes, from where, and what was asked for; one of these a request, by which its writes are known."""

    actor: str
    role: str
    address: str
    verb: str
    resource: str  # with the subresource: apikeys/token
    namespace: str | None = None  # that the key belongs to; None: the whole server's, or no key
    key_uid: str | None = None

    def said(self) -> Object:
        """The part of a row about the caller."""
        found: Object = {"actor": self.actor, "role": self.role, "from": self.address}
        if self.namespace is not None:
            found["keyNamespace"] = self.namespace
        if self.key_uid is not None:
            found["keyUID"] = self.key_uid
        found["verb"], found["resource"] = self.verb, self.resource
        return found


@dataclass(slots=True)
class Deed:
    """One change of one object; `old` is None for a creation, `new` for a deletion. Holds what must not be shown."""

    by: Caller
    kind: Kind
    old: Object | None = field(repr=False)
    new: Object | None = field(repr=False)
    rv: int

    @property
    def effect(self) -> str:
        return "created" if self.old is None else "deleted" if self.new is None else "changed"

    @property
    def meta(self) -> Object:
        found = self.new if self.new is not None else self.old
        assert found is not None
        meta: Object = found["metadata"]
        return meta


def is_deed(kind: Kind, old: Object | None, new: Object | None) -> bool:
    """Whether a change is a deed that the log keeps."""
    if kind.kind == "Event":
        return False
    if kind.kind != "Lease" or old is None or new is None:
        return True
    return bool(dig(old, "spec", "holderIdentity") != dig(new, "spec", "holderIdentity"))


def entries(deeds: Sequence[Deed]) -> list[Object]:
    """The rows of a batch, in the order of what began them."""
    groups: dict[tuple[int, ...] | tuple[int, str, str, str], list[Deed]] = {}
    for number, deed in enumerate(deeds):
        effect = deed.effect
        is_one = effect == "changed" and deed.by.verb != "deletecollection"
        namespace = deed.meta.get("namespace") or ""
        groups.setdefault((number,) if is_one else (id(deed.by), deed.kind.kind, effect, namespace), []).append(deed)
    return [_one(group[0]) if len(group) == 1 else _many(group) for group in groups.values()]


def _one(deed: Deed) -> Object:
    meta = deed.meta
    found = deed.by.said()
    found |= _of(deed)
    found["name"], found["uid"], found["resourceVersion"] = meta["name"], meta["uid"], str(deed.rv)
    # Jobs come by the thousand, and what they were made of is in the job.
    if deed.new is not None and (deed.kind.kind != "Job" or deed.old is not None):
        found["fields"] = audit_fields.changed(deed.old, deed.new, deed.kind.sealed)
    return found


def _many(group: Sequence[Deed]) -> Object:
    first, last = group[0], group[-1]
    return {**first.by.said(), **_of(first), "count": len(group), "names": [deed.meta["name"] for deed in group],
            "resourceVersion": str(first.rv), "lastResourceVersion": str(last.rv)}  # fmt: skip


def beside(by: Caller, kind: Kind, obj: Object) -> Object:
    """A row of what somebody put beside an object: output, a file."""
    meta = obj["metadata"]
    found: Object = {"effect": "changed", "kind": kind.kind, "namespace": meta.get("namespace") or ""}
    return {**by.said(), **found, "name": meta["name"], "uid": meta["uid"]}


def resealed(by: Caller, key: str, part: str, count: int) -> Object:
    """A row of Secrets, or entries of the log, that were sealed anew with the key of this id."""
    return {**by.said(), "effect": "resealed", "kind": "Secret", "count": count, "key": key, "part": part}


def _of(deed: Deed) -> Object:
    found: Object = {"effect": deed.effect, "kind": deed.kind.kind}
    if namespace := deed.meta.get("namespace"):
        found["namespace"] = namespace
    return found


@dataclass(frozen=True, slots=True)
class Refusal:
    """What somebody may not do and tried; equal ones are counted. `code` is 401 or 403."""

    actor: str
    role: str
    address: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    kind: str = ""
    key_namespace: str | None = None
    key_uid: str | None = None


def refused(what: Refusal, count: int) -> Object:
    """The row of a refused attempt, or of several that were the same."""
    by = Caller(what.actor, what.role, what.address, what.verb, what.resource, what.key_namespace, what.key_uid)
    found = {**by.said(), "effect": "refused", "code": what.code, "count": count}
    place = (("kind", what.kind), ("namespace", what.namespace), ("name", what.name))
    return found | {key: value for key, value in place if value}


def unsaid(count: int) -> Object:
    """The row in the place of refusals that were too many to be told one by one."""
    by = Caller("system:apiserver", "system", "", "refuse", "")
    return {**by.said(), "effect": "refused", "count": count}


def dropped(through: int, hash_: str, count: int) -> Object:
    """The row that says which rows were dropped by their age: all up to number `through`, the hash of that one."""
    by = Caller("system:controller", "system", "", "drop", "audit")
    return {**by.said(), "effect": "dropped", "through": through, "hash": hash_, "count": count}


def plain(text: str) -> str:
    """What a caller made up (a path, a name) as it may stand in a row: printable, short, text for any database.

    A key or a token that somebody took for a name is left out: `_` is in no name.
    """
    if "_" in text:
        text = _SECRET.sub(r"\1_...", text)
    if len(text) <= ANYTHING and text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:ANYTHING])

