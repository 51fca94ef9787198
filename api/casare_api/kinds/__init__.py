"""The kinds of resources there are, one file each.

Belongs here: models, phases with their transitions, columns, selectable fields. Never: I/O, clocks, decisions.
Adding a kind is a file here, a line in `KINDS`, and a migration for its table. `SERVED` are all that have paths: the
kinds, and other faces of theirs.
"""

from __future__ import annotations

import difflib

from casare_api.kinds.apikey import APIKEY
from casare_api.kinds.config import CONFIGMAP, SECRET
from casare_api.kinds.core import EVENT, NAMESPACE
from casare_api.kinds.events import EVENTS_V1
from casare_api.kinds.fire import FIRE
from casare_api.kinds.job import JOB
from casare_api.kinds.jointoken import JOINTOKEN
from casare_api.kinds.kind import GROUP, Column, Kind, Object, dig
from casare_api.kinds.lease import LEASE
from casare_api.kinds.quota import QUOTA
from casare_api.kinds.rbac import CLUSTERROLE, CLUSTERROLEBINDING, ROLE, ROLEBINDING
from casare_api.kinds.robot import ROBOT
from casare_api.kinds.schedule import SCHEDULE
from casare_api.kinds.workflow import WORKFLOW
from casare_api.machinery.errors import ApiError

KINDS: dict[str, Kind] = {
    kind.kind: kind
    for kind in (
        NAMESPACE, CONFIGMAP, SECRET, APIKEY, JOINTOKEN, ROBOT, WORKFLOW, SCHEDULE, JOB, FIRE, QUOTA, LEASE, EVENT,
    )
}

_ACCESS = (ROLE, ROLEBINDING, CLUSTERROLE, CLUSTERROLEBINDING)
KINDS |= {kind.kind: kind for kind in _ACCESS}

SERVED: tuple[Kind, ...] = (*KINDS.values(), EVENTS_V1)

_WORDS: dict[str, Kind] = {
    word: kind
    for kind in KINDS.values()
    for word in (kind.plural, kind.singular, *kind.short_names, kind.kind.lower(), f"{kind.plural}.{kind.group}")
}


def find(word: str) -> Kind:
    """The kind that a person means by `jobs`, `job`, `Job`, a short name or `jobs.fleet.casare.net`.

    Raises ApiError 404 with the nearest name and all there are.
    """
    kind = _WORDS.get(word.lower().rstrip("."))
    if kind is not None:
        return kind
    near = difflib.get_close_matches(word.lower(), _WORDS, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    known = ", ".join(kind.plural for kind in KINDS.values())
    raise ApiError(404, "NotFound", f'there is no kind "{word}"{hint} (there are: {known})')


__all__ = ["GROUP", "KINDS", "SERVED", "Column", "Kind", "Object", "dig", "find"]
