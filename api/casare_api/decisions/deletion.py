"""What becomes of an object that is deleted, and of what hangs on it, under each propagation policy?

As in Kubernetes: `Background` (the default) deletes the object at once and its dependents later; `Foreground` keeps it
until its dependents are gone; `Orphan` keeps it until they have let go of it. A finalizer says which of the two is
under way. Pure rules: the garbage duty reads and writes.

A job that runs is kept under each of them until its process has ended, as far as the server can know: RUNNING says so.
The server alone puts it on and takes it off, the latter in the write by which the job becomes final.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

Object = dict[str, Any]
Propagation = Literal["Background", "Foreground", "Orphan"]

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
RUNNING = "fleet.casare.net/running"  # of a job: a robot may still run its process
_FINALIZERS: dict[str, list[str]] = {"Background": [], "Foreground": [FOREGROUND], "Orphan": [ORPHAN]}


def with_policy(obj: Object, propagation: Propagation | None) -> Object:
    """The object with the finalizer of a policy and of no other; None leaves what was asked for before."""
    if propagation is None:
        return obj
    before = obj["metadata"].get("finalizers") or []
    after = [one for one in before if one not in (FOREGROUND, ORPHAN)] + _FINALIZERS[propagation]
    return obj if after == before else _with_meta(obj, finalizers=after)


def policy(obj: Object) -> Propagation | None:
    """What a deletion that is under way waits for: Foreground, Orphan, or None (nothing of the kind)."""
    meta = obj["metadata"]
    finalizers = meta.get("finalizers") if meta.get("deletionTimestamp") else None
    if not finalizers:
        return None
    return "Foreground" if FOREGROUND in finalizers else "Orphan" if ORPHAN in finalizers else None


def let_go(obj: Object) -> Object:
    """The object when its dependents are out of its way."""
    return with_policy(obj, "Background")


def dependent(obj: Object, owners: Mapping[str, Propagation], alive: Mapping[str, str]) -> Object | None:
    """A dependent when these owners (uid: policy) are deleted: the same, with fewer owners, or None where it goes.

    It goes with an owner that is deleted in the foreground, unless it has another one that stays. `alive` are the
    objects that are there, as `owners_there` takes them.
    """
    refs = owners_there(obj, alive)
    going = {uid for uid in refs if owners.get(uid) == "Foreground"}
    leaving = {uid for uid in refs if owners.get(uid) == "Orphan"}
    if going and not refs - owners.keys():
        return None
    return _without(obj, going | leaving) if going or leaving else obj


def until_ended(job: Object) -> Object:
    """A running job as its deletion begins: it waits for the end of its process."""
    before = job["metadata"].get("finalizers") or []
    return job if RUNNING in before else _with_meta(job, finalizers=[*before, RUNNING])


def ended(job: Object) -> Object:
    """A job whose deletion waits for no process any more; what others wait for stays."""
    before = job["metadata"].get("finalizers") or []
    return _with_meta(job, finalizers=[one for one in before if one != RUNNING]) if RUNNING in before else job


def owners_of(obj: Object) -> list[str]:
    """The uids that an object names as its owners."""
    return [str(one["uid"]) for one in obj["metadata"].get("ownerReferences") or ()]


def owners_there(obj: Object, there: Mapping[str, str]) -> set[str]:
    """The owners (uid) of an object among those that are there, given by uid with their namespace ("": in none).

    What is in another namespace owns nothing here, whatever the object says: nobody waits for it or goes with it.
    """
    own = obj["metadata"].get("namespace") or ""
    return {uid for uid in owners_of(obj) if there.get(uid) in ("", own)}


def held(waiting: Mapping[str, Object], blockers: Iterable[tuple[str, str]]) -> set[str]:
    """Which of the waiting objects (by uid) have to go on waiting; `blockers` are pairs of owner and dependent.

    A dependent that waits itself for the object, over however many others, is not waited for: neither would ever go.
    """
    return {owner for owner, blocker in blockers if blocker not in _above(owner, waiting)}


def _above(uid: str, waiting: Mapping[str, Object]) -> set[str]:
    """The waiting objects that an object belongs to, directly or not."""
    namespaces = {one: obj["metadata"].get("namespace") or "" for one, obj in waiting.items()}
    found: set[str] = set()
    left = [uid]
    while left:
        for owner in owners_there(waiting[left.pop()], namespaces) - found:
            found.add(owner)
            left.append(owner)
    return found


def _without(obj: Object, uids: Collection[str]) -> Object:
    refs = [one for one in obj["metadata"]["ownerReferences"] if one["uid"] not in uids]
    return _with_meta(obj, ownerReferences=refs)


def _with_meta(obj: Object, **changed: list[Any]) -> Object:
    """The object with other lists in its metadata; empty ones are left out."""
    meta = {key: value for key, value in {**obj["metadata"], **changed}.items() if key not in changed or value}
    return {**obj, "metadata": meta}
