"""What does a job look like that does again what another one did? Pure, from the job that ended and its workflow.

Always holds: what somebody asked for stays, what was filled in for the first job is left out, so that it is filled in
anew from the workflow as it is now. A job in a final phase is not changed by this; the new one names it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from casare_api.kinds.job import FINAL, JOB, JobPhase
from casare_api.kinds.kind import Object, dig
from casare_api.machinery import names, templates
from casare_api.machinery.errors import ApiError

RETRY_OF = "fleet.casare.net/retry-of"  # label: the uid of the job that is retried, to find its retries by
# What a job takes over from its workflow as it is.
POLICY = ("priority", "concurrency", "timeout", "gracePeriod", "retry", "lostAfter", "ttlAfterFinished")
_ONE_TIME = ("cancel", "idempotencyKey", "retryOf")  # what was said of the first job alone
_NOT_KEPT = frozenset({"fleet.casare.net/declared", "kubectl.kubernetes.io/last-applied-configuration"})


def again(ended: Object, was: Object | None) -> Object:
    """The job to submit in place of one that has ended, without a name and without `spec.retryOf` (see `retry_of`).

    `was` is the content of the workflow's revision that it ran, None where nobody knows it any more: then what it took
    over from the workflow stays as it was. Raises ApiError 409 for a job that has not ended.
    """
    _check_ended(ended)
    meta = ended["metadata"]
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {
            "generateName": _prefix(meta),
            "namespace": meta["namespace"],
            "labels": {**(meta.get("labels") or {}), RETRY_OF: meta["uid"]},
            **_kept("annotations", {key: value for key, value in _annotations(meta) if key not in _NOT_KEPT}),
            **_kept("ownerReferences", [one for one in meta.get("ownerReferences") or () if not _commands(one)]),
        },
        "spec": _fresh(ended["spec"], was),
    }


def retry_of(ended: Object) -> Object:
    """What the new job says of the one it retries: its name and uid."""
    return {"name": ended["metadata"]["name"], "uid": ended["metadata"]["uid"]}


def check_no_other(of: Object, retries: Iterable[Object]) -> None:
    """Raises ApiError 409 where one of a job's retries has not ended: `of` is the job, as `retry_of` says."""
    for retry in retries:
        phase = JobPhase(dig(retry, "status", "phase") or JobPhase.QUEUED)
        if phase not in FINAL:
            name = retry["metadata"]["name"]
            why = f'its retry "{name}" is {phase}: wait for its end or cancel it, or add ?force=true for another one'
            raise ApiError.conflict(JOB, of["name"], why)


def names_of(prefix: str, uid: str, letters: int) -> Iterator[str]:
    """The names of a job's retries, one after the other, and always the same: two who ask at once meet at one name."""
    return (names.generate(prefix, random.Random(f"{uid}/{number}"), letters) for number in itertools.count(1))


# -- parts -------------------------------------------------------------------------------------------------------


def _check_ended(job: Object) -> None:
    phase = JobPhase(dig(job, "status", "phase") or JobPhase.QUEUED)
    if phase not in FINAL:
        name = job["metadata"]["name"]
        why = f"it is {phase}, and only a job that has ended can be retried: cancel it first, or wait for its end"
        raise ApiError.conflict(JOB, name, why)


def _prefix(meta: Object) -> str:
    """What the name begins with: a retry of a retry does not have a longer name each time."""
    generated, name = meta.get("generateName"), str(meta["name"])
    return str(generated) if generated and name.startswith(generated) else f"{name}-"


def _annotations(meta: Object) -> list[tuple[str, str]]:
    return list((meta.get("annotations") or {}).items())


def _kept(key: str, value: Any) -> Object:
    return {key: value} if value else {}


def _commands(owner: Object) -> bool:
    """Whether an owner made the job and counts it among its own: a retry is somebody else's wish."""
    return bool(owner.get("controller")) or owner.get("kind") == "Schedule"


def _fresh(spec: Object, was: Object | None) -> Object:
    """The spec as somebody would write it for the same job now."""
    kept = {key: value for key, value in spec.items() if key not in _ONE_TIME}
    taken = _taken(spec, was or {})
    if "concurrency" in kept and kept["concurrency"] != taken.get("concurrency"):
        kept["concurrency"] = _as_written(kept["concurrency"])
    if kept.get("workflowRef"):
        kept["workflowRef"] = {"name": kept["workflowRef"]["name"]}
    if was is None:
        return kept
    kept = {key: value for key, value in kept.items() if key not in taken or taken[key] != value}
    wanted = _own_requirements(kept.pop("requirements", None) or {}, was.get("requirements") or {})
    return {**kept, **_kept("requirements", wanted)}


def _taken(spec: Object, was: Object) -> Object:
    """The policies that a job with these parameters took over from its workflow."""
    taken = {key: was[key] for key in POLICY if key in was}
    if "concurrency" in taken:
        taken["concurrency"] = _filled(taken["concurrency"], spec.get("parameters") or {})
    return taken


def _as_written(concurrency: Object) -> Object:
    """With a key that stays what it is: what was filled in may look like places to fill in."""
    key = concurrency.get("key")
    return {**concurrency, "key": key.replace("{{", '{{ "{{" }}')} if isinstance(key, str) else concurrency


def _filled(value: Any, parameters: Mapping[str, Any]) -> Any:
    """A policy as a job has it: with its places filled in. What can't be filled in is nothing that a job has."""
    try:
        return templates.render_tree(value, {"parameters": parameters})
    except ValueError:
        return value


def _own_requirements(job: Object, workflow: Object) -> Object:
    """What a job asks for beside its workflow: of lists the items that the workflow has not, of words its own."""
    own: Object = {}
    for key, value in job.items():
        theirs = workflow.get(key)
        left = [item for item in value if item not in (theirs or ())] if isinstance(value, list) else value
        if left != theirs and left not in (None, []):
            own[key] = left
    return own
