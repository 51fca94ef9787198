"""What must hold of an object among the others when it is created, changed or deleted?

Runs inside the writer, under the history lock: what it reads there is true when the change commits. `create`, `update`
and `remove` make the operations that the API submits; the rules of each kind are in `settling`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from casare_api.decisions import deletion, lifecycle, revoking
from casare_api.decisions.deletion import Propagation
from casare_api.decisions.roles import BUILT_IN
from casare_api.kinds import KINDS, Kind, Object, dig
from casare_api.kinds.job import FINAL, TRANSITIONS, JobPhase
from casare_api.machinery.admission import HIDDEN
from casare_api.machinery.errors import ApiError, Cause
from casare_store import objects, sealing, settling
from casare_store.batch import IDEMPOTENCY
from casare_store.headroom import quota_of
from casare_store.known import Key
from casare_store.operations import Context, Mutate, Operation

# Given the object before (None: it is new) and after a write and the time: the one after, with whose its fields are.
Own = Callable[[Object | None, Object, datetime], Object]
CONTENT = "fleet.casare.net/content"  # by which an older release held a namespace that is being emptied
MAX_OBJECT = 3 * 2**20  # bytes of what people write, as in Kubernetes; what the system adds to it is little
# Status that only the server decides: what others write there is left out. Who ends a job says when.
_DECIDED = {
    "Job": (
        "queuedTime", "agingInterval",  # its rank
        # Whether it runs and where: whoever could write that would run code on the robots of others.
        "attempt", "robotName", "robotUID", "heldUntil", "assignedTime", "startedTime", "finishedTime", "cancelTime",
        "drainTime", "attempts", "earlierAttempts",
    ),
    "Workflow": ("revision",),
    "Robot": ("drain", "telemetry"),  # since when it is drained
    "ApiKey": (
        "phase", "hint", "issuedTime", "rotationDueTime", "rotatedBy", "previousHash", "previousUntil", "revokedTime",
        "restoredTime", "lastUsedTime", "lastUsedIP", "robotUID", "goodSince",
    ),
    "JoinToken": ("phase", "hint", "used", "usesLeft", "expiresAt", "enrolled"),
    "Namespace": ("phase",),
}
_SAID_AT_ITS_END = ("startedTime", "finishedTime")  # of a job that somebody ends by its status


def create(
    kind: Kind, obj: Object, dry_run: bool = False, checked: str | None = None, own: Own | None = None
) -> Operation:
    """Creates an admitted object. The operation fails with 409 when it exists, 404 when its namespace does not.

    A job whose idempotencyKey another one has is not made: the result is that other one, as a `writer.Found`.
    `checked` is the workflow's revision whose schema a job's parameters are known to fit: that can take a while, and
    is better found out before. `own` says whose its fields are.
    """
    meta = obj["metadata"]
    namespace, name = (meta.get("namespace") or "") if kind.namespaced else "", meta["name"]

    def mutate(current: Object | None, context: Context) -> Object:
        _check_namespace(kind, namespace, name, context)
        if current is not None:
            raise ApiError.already_exists(kind, name)
        return _new(kind, obj, context.of(checked, dry_run), own)

    instead = _idempotency(kind, obj)
    return Operation(kind, namespace, name, mutate, reads(kind, obj), dry_run, MAX_OBJECT, instead)


def update(
    kind: Kind,
    namespace: str,
    name: str,
    change: Callable[[Object, Context], Object],
    *,
    status: bool = False,
    extra_reads: tuple[Key, ...] = (),
    dry_run: bool = False,
    own: Own | None = None,
) -> Operation:
    """Changes an existing object: `change(current, context)` gives the admitted new one.

    With `status` only status may change, else everything but status. The operation fails with 404 when there is no
    such object, 409 when the new one names another resourceVersion or uid. `own` says whose its fields are.
    """

    def mutate(current: Object | None, context: Context) -> Object:
        if current is None:
            raise ApiError.not_found(kind, name)
        sealing.check_open(context.sealer, current)
        new = change(current, context)
        return current if new is current else _changed(kind, name, current, new, context, status, own)

    return Operation(kind, namespace, name, mutate, extra_reads, dry_run, MAX_OBJECT)


def apply(
    kind: Kind,
    obj: Object,
    change: Callable[[Object | None, Context], Object],
    *,
    status: bool = False,
    dry_run: bool = False,
    checked: str | None = None,
) -> Operation:
    """Creates an object or changes it: `change(current, context)` gives the admitted one, None for current means new.

    `obj` is what was applied: it names the object. What `change` says of who owns which field is kept. The operation
    fails as `create` and `update` do.
    """
    meta = obj["metadata"]
    namespace, name = (meta.get("namespace") or "") if kind.namespaced else "", meta["name"]

    def mutate(current: Object | None, context: Context) -> Object:
        if current is not None:
            sealing.check_open(context.sealer, current)
            new = change(current, context)
            return current if new is current else _changed(kind, name, current, new, context, status, _as_said)
        if status:
            raise ApiError.not_found(kind, name)
        if meta.get("uid") or meta.get("resourceVersion"):
            why = "Precondition failed: it names a uid or a resourceVersion, and there is no such object"
            raise ApiError.conflict(kind, name, why)
        _check_namespace(kind, namespace, name, context)
        if same is not None and (there := context.reads.get(same)) is not None:
            why = f'job "{there["metadata"]["name"]}" has the same spec.idempotencyKey: apply that one, or leave it out'
            raise ApiError.conflict(kind, name, why)
        return _new(kind, change(None, context), context.of(checked, dry_run), _as_said)

    same = _idempotency(kind, obj)
    others = reads(kind, obj) if same is None else (*reads(kind, obj), same)
    return Operation(kind, namespace, name, mutate, others, dry_run, MAX_OBJECT)


def _as_said(old: Object | None, new: Object, now: datetime) -> Object:
    return new


def _new(kind: Kind, obj: Object, context: Context, own: Own | None) -> Object:
    fresh = {key: value for key, value in obj.items() if key != "status"}
    if "finalizers" in obj["metadata"]:
        _check_running(kind, objects.NOBODYS, fresh)
    made = settling.settle(kind, None, fresh, context)
    return objects.owned_as(objects.NOBODYS, made) if own is None else own(None, made, context.now)


def _changed(
    kind: Kind, name: str, current: Object, new: Object, context: Context, status: bool, own: Own | None
) -> Object:
    _check_preconditions(kind, name, current, new)
    new = objects.without_deletion(new, current)
    if status:
        made = _with_status(kind, current, new)
    else:
        kept = {key: value for key, value in new.items() if key != "status"}
        if "status" in current:
            kept["status"] = current["status"]
        _check_finalizers(kind, current, kept)
        _check_running(kind, current, kept)
        made = settling.settle(kind, current, kept, context)
    return objects.owned_as(current, made) if own is None else own(current, made, context.now)


def remove(
    kind: Kind,
    namespace: str,
    name: str,
    *,
    uid: str | None = None,
    rv: str | None = None,
    dry_run: bool = False,
    propagation: Propagation | None = None,
    at_once: bool = False,
) -> Operation:
    """Deletes an object, or marks it when finalizers hold it: see `objects.is_held`.

    `propagation` says what becomes of its dependents; None is as it was said before, at first Background. A
    namespace's content always goes first. `at_once` does not wait for a job's process to end.
    """

    def mutate(current: Object | None, context: Context) -> Object | None:
        if current is None:
            raise ApiError.not_found(kind, name)
        meta = current["metadata"]
        _check_meant(kind, meta, uid, rv)
        if kind.kind == "Namespace" and name == "default":
            raise ApiError.refused(kind, name, "this namespace may not be deleted")
        if kind.kind == "ClusterRole" and name in BUILT_IN:
            raise ApiError.refused(kind, name, "it is built in and can't be deleted")
        wanted = current if kind.kind == "Namespace" else deletion.with_policy(current, propagation)
        return going(kind, wanted, context.now, at_once)

    return Operation(kind, namespace, name, mutate, (), dry_run)


def going(kind: Kind, obj: Object, now: datetime, at_once: bool = False) -> Object | None:
    """An object after a deletion: None when it goes at once, marked when a finalizer holds it: a job is cancelled."""
    if kind.kind == "Namespace":
        return _terminating(obj, now)
    if kind.kind == "ApiKey" and not at_once:
        obj = revoking.held(obj)
    return _going_job(obj, now, at_once) if kind.kind == "Job" else objects.deleted(obj, now)


def _going_job(job: Object, now: datetime, at_once: bool) -> Object | None:
    """Its key and its slot are free when its process has ended: one that runs waits for that, unless `at_once`.

    One that was ended by a release before, which leaves the finalizer on, goes when it is deleted again.
    """
    if at_once or lifecycle.is_final(job):
        job = deletion.ended(job)
    elif not job["metadata"].get("deletionTimestamp") and lifecycle.phase(job) is JobPhase.RUNNING:
        job = deletion.until_ended(job)
    marked = objects.deleted(job, now)
    if marked is None or marked is job:
        return marked
    return lifecycle.cancel({**marked, "spec": {**marked["spec"], "cancel": True}}, now)


def emptied(namespace: str) -> Operation:
    """Nothing holds this namespace any more: its content is gone."""

    def mutate(current: Object | None, context: Context) -> Object | None:
        if current is None or not objects.is_held(current):
            return current
        left = [one for one in current["metadata"].get("finalizers") or () if one != CONTENT]
        spec = {**(current.get("spec") or {}), "finalizers": []}
        return {**current, "metadata": {**current["metadata"], "finalizers": left}, "spec": spec}

    return Operation(KINDS["Namespace"], "", namespace, mutate)


def reads(kind: Kind, obj: Object) -> tuple[Key, ...]:
    """The other objects that creating this one looks at."""
    if not kind.namespaced:
        return ()
    namespace = obj["metadata"].get("namespace") or ""
    own: tuple[Key, ...] = (("Namespace", "", namespace),)
    if kind.kind != "Job":
        return own
    workflow = dig(obj, "spec", "workflowRef", "name")
    own = (*own, quota_of(namespace))
    return (*own, ("Workflow", namespace, workflow)) if workflow else own


def _idempotency(kind: Kind, obj: Object) -> Key | None:
    """Where another job with this one's idempotencyKey would be."""
    key = dig(obj, "spec", "idempotencyKey") if kind.kind == "Job" else None
    return (IDEMPOTENCY, obj["metadata"].get("namespace") or "", key) if key else None


# -- rules of every kind -----------------------------------------------------------------------------------------


def _terminating(namespace: Object, now: datetime) -> Object:
    """A namespace that is deleted waits for its content to go: the garbage duty takes the finalizer away then."""
    if namespace["metadata"].get("deletionTimestamp"):
        return namespace
    held = {**namespace, "spec": {"finalizers": [settling.EMPTY]}, "status": {"phase": "Terminating"}}
    return objects.deleted(held, now) or held


def _check_namespace(kind: Kind, namespace: str, name: str, context: Context) -> None:
    if not kind.namespaced:
        return
    found = context.reads.get(("Namespace", "", namespace))
    if found is None:
        raise ApiError.not_found(KINDS["Namespace"], namespace)
    if found["metadata"].get("deletionTimestamp") and kind.kind != "Event":
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        told = Cause("metadata.namespace", "NamespaceTerminating", f"namespace {namespace} is being terminated")
        raise ApiError.refused(kind, name, why, [told])


def _check_preconditions(kind: Kind, name: str, current: Object, new: Object) -> None:
    """What the new object says of its resourceVersion and uid must be what is there."""
    meta, now = new["metadata"], current["metadata"]
    if meta.get("uid") not in (None, now["uid"]):
        said = HIDDEN if kind.sealed else meta["uid"]  # a patch may have copied a value there
        why = f"Precondition failed: UID in precondition: {said}, UID in object meta: {now['uid']}"
        raise ApiError.conflict(kind, name, why)
    if meta.get("resourceVersion") not in (None, "", now["resourceVersion"]):
        raise ApiError.conflict(kind, name)


def _check_meant(kind: Kind, meta: Object, uid: str | None, rv: str | None) -> None:
    """A deletion's preconditions must hold. Raises ApiError 409, which names the kind, as in Kubernetes."""
    for field, said, found, fate in (
        ("UID", uid, meta["uid"], "deleted and then recreated"),
        ("ResourceVersion", rv, meta["resourceVersion"], "modified"),
    ):
        if said and said != found:
            why = f"the {field} in the precondition ({said}) does not match the {field} in record ({found}). "
            named = replace(kind, plural=kind.kind)
            raise ApiError.conflict(named, meta["name"], f"{why}The object might have been {fate}")


def _with_status(kind: Kind, current: Object, new: Object) -> Object:
    decided = _DECIDED.get(kind.kind, ())
    if kind.kind == "Job":
        _check_transition(current, new)
        if lifecycle.is_final(new):
            decided = tuple(field for field in decided if field not in _SAID_AT_ITS_END)
    before = current.get("status") or {}
    said = {key: value for key, value in (new.get("status") or {}).items() if key in before or key not in decided}
    made = {**current, "status": {**said, **{key: before[key] for key in decided if key in before}}}
    if kind.kind == "Job" and lifecycle.is_final(made):
        made = deletion.ended(made)
    return objects.owned_as(new, made)


def _check_transition(current: Object, new: Object) -> None:
    """People may end a job by its status, as the transition table allows; all else is the server's to decide.

    A phase that puts a job on a robot, or back in the queue, would go past everything that placement looks at.
    """
    before, said = lifecycle.phase(current), dig(new, "status", "phase")
    try:
        after = JobPhase(said)
    except ValueError:
        raise settling.invalid("Job", new, "status.phase", f'Unsupported value: "{said}"') from None
    if before in FINAL or (after is not before and after not in TRANSITIONS[before]):
        raise settling.invalid("Job", new, "status.phase", f"Forbidden: a job does not go from {before} to {after}")
    if after is not before and after not in FINAL:
        why = f"Forbidden: only the server makes a job {after}; by its status it can be ended"
        raise settling.invalid("Job", new, "status.phase", why)


def _check_finalizers(kind: Kind, current: Object, new: Object) -> None:
    if not current["metadata"].get("deletionTimestamp"):
        return
    added = set(new["metadata"].get("finalizers") or ()) - set(current["metadata"].get("finalizers") or ())
    if added:
        listed = ", ".join(f'"{item}"' for item in sorted(added))
        raise settling.invalid(
            kind.kind,
            new,
            "metadata.finalizers",
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
            f"[]string{{{listed}}}",
        )


def _check_running(kind: Kind, current: Object, new: Object) -> None:
    """What keeps a deleted job until its process has ended is nobody's to add or to take away."""
    if kind.kind != "Job":
        return
    had, has = (deletion.RUNNING in (one["metadata"].get("finalizers") or ()) for one in (current, new))
    if had is not has and not (had and lifecycle.is_final(current)):
        why = (
            f'Forbidden: only the server adds and removes "{deletion.RUNNING}": it goes when the robot has ended the '
            "job; `kubectl delete --force --grace-period=0` deletes the job without waiting for that"
        )
        raise settling.invalid("Job", new, "metadata.finalizers", why)


def mutate_with(function: Callable[[Object, Context], Object | None]) -> Mutate:
    """A mutation for the system's own changes: skips objects that are gone instead of failing."""

    def mutate(current: Object | None, context: Context) -> Object | None:
        return None if current is None else function(current, context)

    return mutate


def system(kind: Kind, obj: Object, function: Callable[[Object, Context], Any]) -> Operation:
    """An operation by which a duty or a report changes an object it read before."""
    meta = obj["metadata"]
    return Operation(kind, meta.get("namespace") or "", meta["name"], mutate_with(function))
