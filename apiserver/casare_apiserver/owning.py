"""Whose are the fields of what is written? Managed fields for people's writes, as Kubernetes keeps them.

Kept for objects that were made by somebody who says who he is (`fieldManager`, as kubectl and every GitOps tool do), or
that somebody applied to. What programs make without a word (jobs by the thousand) has none: they would double its size
in rows, log and lists and cost a fifth of the creates a second. Its fields are all "before-first-apply" once somebody
applies to it, so that nothing is taken from anybody unseen. Reports and the system's own changes go around it; what
they write, in metadata and status, is nobody's and stays.
"""

from __future__ import annotations

from datetime import datetime

from casare_api.kinds import Object
from casare_api.machinery import ownership, times
from casare_api.machinery.schema import object_schema
from casare_apiserver import options
from casare_apiserver.targets import Target
from casare_apiserver.wire import Request
from casare_store import objects
from casare_store.admission import Own


def owner(request: Request, target: Target) -> Own:
    """What tells the store whose the fields are after this write. Raises ApiError 422 for a manager's bad name."""
    kind, manager = target.kind, options.manager(request)
    is_robot = request.identity.role == "robot"
    is_named = bool(request.query.get("fieldManager")) and not is_robot

    def own(old: Object | None, new: Object, now: datetime) -> Object:
        before = old if old is not None else objects.NOBODYS
        is_kept = is_named if old is None else bool(old["metadata"].get("managedFields"))
        if not is_kept:
            return objects.owned_as(before, new)
        if is_robot:
            new = objects.owned_as(before, new)  # it takes what it changes, and rewrites nobody's claims
        entries = ownership.updated(
            object_schema(kind), old, new, manager, times.to_text(now), kind.api_version, target.subresource or ""
        )
        return objects.owned_as({"metadata": {"managedFields": entries}}, new)

    return own
