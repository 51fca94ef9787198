"""Whose are the fields of what is written? Managed fields for people's writes, as Kubernetes keeps them.

Robots' reports and the system's own changes go around it. Kinds that machines write in masses keep it only for those
who say who they are: a job's log row must stay small.
"""

from __future__ import annotations

from datetime import datetime

from casare_api.kinds import Object
from casare_api.kinds.core import EVENT
from casare_api.kinds.fire import FIRE
from casare_api.kinds.job import JOB
from casare_api.machinery import ownership, times
from casare_api.machinery.schema import object_schema
from casare_apiserver import options
from casare_apiserver.targets import Target
from casare_apiserver.wire import Request
from casare_store import objects
from casare_store.admission import Own

_IN_MASSES = (JOB, FIRE, EVENT)
_NOBODYS: Object = {"metadata": {}}


def owner(request: Request, target: Target) -> Own:
    """What tells the store whose the fields are after this write. Raises ApiError 422 for a manager's bad name."""
    kind, manager = target.kind, options.manager(request)
    is_named = bool(request.query.get("fieldManager")) or kind not in _IN_MASSES
    is_robot = request.identity.role == "robot"

    def own(old: Object | None, new: Object, now: datetime) -> Object:
        before = old if old is not None else _NOBODYS
        if is_robot or not (is_named or before["metadata"].get("managedFields")):
            return objects.owned_as(before, new)
        entries = ownership.updated(
            object_schema(kind), old, new, manager, times.to_text(now), kind.api_version, target.subresource or ""
        )
        return objects.owned_as({"metadata": {"managedFields": entries}}, new)

    return own
