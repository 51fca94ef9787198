"""What must hold of an object among the others when it is created, changed or deleted?

Runs inside the writer, under the history lock: what it reads there is true when the change commits. `create`, `update`
and `remove` make the operations that the API submits; the rules of each kind are in `settling`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from casare_api.decisions import lifecycle
from casare_api.kinds import KINDS, Kind, Object, dig
from casare_api.kinds.job import FINAL, TRANSITIONS, JobPhase
from casare_api.machinery.errors import ApiError
from casare_store import objects, settling
from casare_store.batch import Key
from casare_store.writer import Context, Mutate, Operation

CONTENT = "fleet.casare.net/content"  # the finalizer of a namespace that is being emptied
MAX_OBJECT = 3 * 2**20  # bytes of what people write, as in Kubernetes; what the system adds to it is little
_DECIDED = {"Workflow": ("revision",), "ApiKey": ("phase", "hint")}  # status that follows from the spec alone


def create(kind: Kind, obj: Object, dry_run: bool = False, checked: str | None = None) -> Operation:
    """Creates an admitted object. The operation fails with 409 when it exists, 404 when its namespace does not.

    `checked` is the workflow's revision whose schema a job's parameters are known to fit: that can take a while, and
    is better found out before.
    """
    meta = obj["metadata"]
    namespace, name = (meta.get("namespace") or "") if kind.namespaced else "", meta["name"]

    def mutate(current: Object | None, context: Context) -> Object:
        _check_namespace(kind, namespace, name, context)
        if current is not None:
            raise ApiError.already_exists(kind, name)
        fresh = {key: value for key, value in obj.items() if key != "status"}
        return settling.settle(kind, None, fresh, replace(context, checked=checked) if checked else context)

    return Operation(kind, namespace, name, mutate, reads(kind, obj), dry_run, MAX_OBJECT)


def update(
    kind: Kind,
    namespace: str,
    name: str,
    change: Callable[[Object, Context], Object],
    *,
    status: bool = False,
    extra_reads: tuple[Key, ...] = (),
    dry_run: bool = False,
) -> Operation:
    """Changes an existing object: `change(current, context)` gives the admitted new one.

    With `status` only status may change, else everything but status. The operation fails with 404 when there is no
    such object, 409 when the new one names another resourceVersion or uid.
    """

    def mutate(current: Object | None, context: Context) -> Object:
        if current is None:
            raise ApiError.not_found(kind, name)
        new = change(current, context)
        if new is current:
            return current
        _check_preconditions(kind, name, current, new)
        new = objects.without_deletion(new, current)
        if status:
            return _with_status(kind, current, new)
        kept = {**{key: value for key, value in new.items() if key != "status"}}
        if "status" in current:
            kept["status"] = current["status"]
        _check_finalizers(kind, current, kept)
        return settling.settle(kind, current, kept, context)

    return Operation(kind, namespace, name, mutate, extra_reads, dry_run, MAX_OBJECT)


def remove(
    kind: Kind, namespace: str, name: str, *, uid: str | None = None, rv: str | None = None, dry_run: bool = False
) -> Operation:
    """Deletes an object, or marks it when finalizers hold it."""

    def mutate(current: Object | None, context: Context) -> Object | None:
        if current is None:
            raise ApiError.not_found(kind, name)
        meta = current["metadata"]
        if (uid and uid != meta["uid"]) or (rv and rv != meta["resourceVersion"]):
            raise ApiError.conflict(kind, name, "the precondition (uid or resourceVersion) does not hold")
        if kind.kind == "Namespace" and name == "default":
            raise ApiError(403, "Forbidden", 'namespaces "default" is forbidden: this namespace may not be deleted')
        if kind.kind == "Namespace":
            return _terminating(current, context)
        return going(kind, current, context.now)

    return Operation(kind, namespace, name, mutate, (), dry_run)


def going(kind: Kind, obj: Object, now: datetime) -> Object | None:
    """An object after a deletion: None when it goes at once, marked when a finalizer holds it: a job is cancelled."""
    marked = objects.deleted(obj, now)
    if kind.kind != "Job" or marked is None or marked is obj:
        return marked
    return lifecycle.cancel({**marked, "spec": {**marked["spec"], "cancel": True}}, now)


def emptied(namespace: str) -> Operation:
    """Nothing holds this namespace any more: its content is gone."""

    def mutate(current: Object | None, context: Context) -> Object | None:
        if current is None or CONTENT not in (current["metadata"].get("finalizers") or ()):
            return current
        left = [one for one in current["metadata"]["finalizers"] if one != CONTENT]
        return {**current, "metadata": {**current["metadata"], "finalizers": left}}

    return Operation(KINDS["Namespace"], "", namespace, mutate)


def reads(kind: Kind, obj: Object) -> tuple[Key, ...]:
    """The other objects that creating this one looks at."""
    if not kind.namespaced:
        return ()
    namespace = obj["metadata"].get("namespace") or ""
    workflow = dig(obj, "spec", "workflowRef", "name") if kind.kind == "Job" else None
    own: tuple[Key, ...] = (("Namespace", "", namespace),)
    return (*own, ("Workflow", namespace, workflow)) if workflow else own


# -- rules of every kind -----------------------------------------------------------------------------------------


def _terminating(namespace: Object, context: Context) -> Object:
    """A namespace that is deleted waits for its content to go: the garbage duty takes the finalizer away then."""
    meta = namespace["metadata"]
    if meta.get("deletionTimestamp"):
        return namespace
    held = {**meta, "finalizers": [*(meta.get("finalizers") or []), CONTENT]}
    return {**(objects.deleted({**namespace, "metadata": held}, context.now) or {}), "status": {"phase": "Terminating"}}


def _check_namespace(kind: Kind, namespace: str, name: str, context: Context) -> None:
    if not kind.namespaced:
        return
    found = context.reads.get(("Namespace", "", namespace))
    if found is None:
        raise ApiError.not_found(KINDS["Namespace"], namespace)
    if found["metadata"].get("deletionTimestamp") and kind.kind != "Event":
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        full = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
        raise ApiError(403, "Forbidden", f'{full} "{name}" is forbidden: {why}')


def _check_preconditions(kind: Kind, name: str, current: Object, new: Object) -> None:
    """What the new object says of its resourceVersion and uid must be what is there."""
    meta, now = new["metadata"], current["metadata"]
    if meta.get("uid") not in (None, now["uid"]):
        raise ApiError.conflict(
            kind, name, f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {now['uid']}"
        )
    if meta.get("resourceVersion") not in (None, "", now["resourceVersion"]):
        raise ApiError.conflict(kind, name)


def _with_status(kind: Kind, current: Object, new: Object) -> Object:
    if kind.kind == "Job":
        _check_transition(current, new)
    before = current.get("status") or {}
    kept = {key: before[key] for key in _DECIDED.get(kind.kind, ()) if key in before}
    return {**current, "status": {**(new.get("status") or {}), **kept}}


def _check_transition(current: Object, new: Object) -> None:
    """A job's status moves along the transition table, whoever writes it."""
    before, said = lifecycle.phase(current), dig(new, "status", "phase")
    try:
        after = JobPhase(said)
    except ValueError:
        raise settling.invalid("Job", new, "status.phase", f'Unsupported value: "{said}"') from None
    if before in FINAL or (after is not before and after not in TRANSITIONS[before]):
        raise settling.invalid("Job", new, "status.phase", f"Forbidden: a job does not go from {before} to {after}")


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


def mutate_with(function: Callable[[Object, Context], Object | None]) -> Mutate:
    """A mutation for the system's own changes: skips objects that are gone instead of failing."""

    def mutate(current: Object | None, context: Context) -> Object | None:
        return None if current is None else function(current, context)

    return mutate


def system(kind: Kind, obj: Object, function: Callable[[Object, Context], Any]) -> Operation:
    """An operation by which a duty or a report changes an object it read before."""
    meta = obj["metadata"]
    return Operation(kind, meta.get("namespace") or "", meta["name"], mutate_with(function))
