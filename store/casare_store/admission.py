"""What must hold of an object among the others, and what does the server fill in for its kind?

Runs inside the writer, under the history lock: what it reads there is true when the change commits. `create`, `update`
and `remove` make the operations that the API submits; the rules of each kind are in `_SETTLE`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from casare_api.decisions import lifecycle, schedule
from casare_api.kinds import KINDS, Kind, Object, dig
from casare_api.kinds.job import FINAL, MUTABLE, TRANSITIONS, JobPhase
from casare_api.machinery import times
from casare_api.machinery.errors import ApiError, Cause
from casare_api.machinery.patches import json_equal
from casare_store import columns, objects, parameters
from casare_store.batch import Key
from casare_store.writer import Context, Mutate, Operation

CONTENT = "fleet.casare.net/content"  # the finalizer of a namespace that is being emptied
MAX_OBJECT = 3 * 2**20  # bytes of what people write, as in Kubernetes; what the system adds to it is little
INLINE = "inline"  # in place of a revision: the job brings its workflow along
DECLARED = "fleet.casare.net/declared"  # annotation: the hash of a declared job's content
_POLICY = (
    "priority",
    "requirements",
    "concurrency",
    "timeout",
    "gracePeriod",
    "retry",
    "lostAfter",
    "ttlAfterFinished",
)
_DECIDED = {"Workflow": ("revision",), "ApiKey": ("phase", "hint")}  # status that follows from the spec alone
_NARROWED = ("capabilities", "tags", "robotSelector", "tolerations", "prefer")


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
        return settle(kind, None, fresh, replace(context, checked=checked) if checked else context)

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
        return settle(kind, current, kept, context)

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


def settle(kind: Kind, old: Object | None, new: Object, context: Context) -> Object:
    """The object with what the server fills in for its kind; raises ApiError where a rule of the kind forbids it."""
    rule = _SETTLE.get(kind.kind)
    return rule(old, new, context) if rule else new


# -- the rules of each kind --------------------------------------------------------------------------------------


def _job(old: Object | None, new: Object, context: Context) -> Object:
    if old is not None:
        return _changed_job(old, new, context)
    spec = _resolved(new, context)
    job = lifecycle.queue({**new, "spec": spec}, context.now)
    wanted = columns.requirements(job)
    context.also(
        "INSERT INTO classes (class, requirements) VALUES ($1::bigint, $2) ON CONFLICT DO NOTHING",
        (str(wanted.digest()), wanted.canonical()),
    )
    declared = dig(new, "metadata", "annotations", DECLARED)
    if declared:
        context.also(
            "INSERT INTO declared (namespace, name, hash) VALUES ($1, $2, $3) "
            "ON CONFLICT (namespace, name) DO UPDATE SET hash = excluded.hash, at = clock_timestamp()",
            (new["metadata"]["namespace"], new["metadata"]["name"], declared),
        )
    return job


def _changed_job(old: Object, new: Object, context: Context) -> Object:
    """A submitted job may change in three fields; taking `cancel` back is too late."""
    before, after = old["spec"], new["spec"]
    fixed = sorted(
        key for key in before.keys() | after.keys() if key not in MUTABLE and before.get(key) != after.get(key)
    )
    if fixed:
        allowed = ", ".join(sorted(MUTABLE))
        causes = [
            Cause(f"spec.{key}", "FieldValueForbidden", f"Forbidden: a submitted job can change only in {allowed}")
            for key in fixed
        ]
        raise ApiError.invalid(KINDS["Job"], new["metadata"]["name"], causes)
    if before.get("cancel") and not after.get("cancel"):
        raise _invalid("Job", new, "spec.cancel", "Forbidden: a job that was asked to cancel can't be taken back")
    return lifecycle.cancel(new, context.now) if after.get("cancel") else new


def _resolved(job: Object, context: Context) -> Object:
    """The job's spec with what its workflow says: revision, requirements, policies."""
    spec, namespace = job["spec"], job["metadata"]["namespace"]
    ref = spec.get("workflowRef")
    if ref is None:
        content, revision = spec["workflow"], INLINE
        if context.checked != INLINE:
            _check_schema("Job", job, "spec.workflow.parameters", content.get("parameters"))
    else:
        workflow = context.reads.get(("Workflow", namespace, ref["name"]))
        if workflow is None:
            raise _invalid(
                "Job",
                job,
                "spec.workflowRef.name",
                f'Not found: there is no workflow "{ref["name"]}" in namespace {namespace}',
            )
        content, revision = workflow["spec"], dig(workflow, "status", "revision")
        if ref.get("revision") not in (None, revision):
            why = f"Forbidden: the workflow's revision is {revision} now, and jobs run that one: leave this out"
            raise _invalid("Job", job, "spec.workflowRef.revision", why)
        spec = {**spec, "workflowRef": {"name": ref["name"], "revision": revision}}
    fitting = _fitting(job, content.get("parameters"), context.checked == revision)
    if fitting is not None:
        spec = {**spec, "parameters": fitting}
    requirements = _narrowed(content.get("requirements") or {}, spec.get("requirements") or {})
    spec = {**spec, **{key: content[key] for key in _POLICY if key in content and key not in spec}}
    return {**spec, "requirements": requirements} if requirements else spec


def check_parameters(job: Object, workflow: Object | None) -> str | None:
    """Looks, before anybody has to wait for it, whether a job's parameters fit; what to tell `create` then.

    `workflow` is the one that the job names, None for a job that has its own. Raises ApiError 422.
    """
    if workflow is not None:
        _fitting(job, workflow["spec"].get("parameters"))
        return str(dig(workflow, "status", "revision"))
    schema = dig(job, "spec", "workflow", "parameters")
    _check_schema("Job", job, "spec.workflow.parameters", schema)
    _fitting(job, schema)
    return INLINE


def _fitting(job: Object, schema: Object | None, is_checked: bool = False) -> Object | None:
    """The job's parameters with the schema's defaults. Raises ApiError 422 with the path of the first problems."""
    given: Object | None = job["spec"].get("parameters")
    if not schema:
        return given
    filled = parameters.with_defaults(schema, given or {})
    if is_checked:
        return filled or given
    try:
        causes = parameters.causes(schema, filled)
    except parameters.Unusable as why:
        text = f"Invalid value: the workflow's JSON Schema can't be used: {why}"
        raise _invalid("Job", job, "spec.parameters", text) from None
    if causes:
        raise ApiError.invalid(KINDS["Job"], job["metadata"].get("name") or "", causes)
    return filled or given


def _narrowed(workflow: Object, job: Object) -> Object:
    """Requirements of both: lists add up, single words of the job win."""
    merged = {**workflow, **job}
    for key in _NARROWED:
        both = [
            *(workflow.get(key) or []),
            *(item for item in job.get(key) or [] if item not in (workflow.get(key) or [])),
        ]
        if both:
            merged[key] = both
    return merged


def _workflow(old: Object | None, new: Object, context: Context) -> Object:
    """A workflow's content becomes an immutable revision, named by its hash."""
    if old is not None and json_equal(old["spec"], new["spec"]):
        return new
    _check_schema("Workflow", new, "spec.parameters", new["spec"].get("parameters"))
    content = orjson.dumps(new["spec"], option=orjson.OPT_SORT_KEYS)
    revision = hashlib.sha256(content).hexdigest()[:16]
    context.also(
        "INSERT INTO revisions (namespace, hash, content) VALUES ($1, $2, $3) "
        "ON CONFLICT (namespace, hash) DO UPDATE SET made = clock_timestamp()",
        (new["metadata"]["namespace"], revision, columns.dump(new["spec"]).decode()),
    )
    return {**new, "status": {**(new.get("status") or {}), "revision": revision}}


def _check_schema(kind: str, obj: Object, field: str, schema: Object | None) -> None:
    found = parameters.problem_of(schema) if schema else None
    if found:
        path, why = found
        raise _invalid(kind, obj, f"{field}.{path}" if path else field, f"Invalid value: {why}")


def _schedule(old: Object | None, new: Object, context: Context) -> Object:
    """A new or changed rule says anew when it fires next."""
    if old is not None and old["spec"] == new["spec"]:
        return new
    meta = new["metadata"]
    made = meta.get("creationTimestamp")
    anchor = times.from_text(made) if made else context.now.replace(microsecond=0)
    plan = schedule.plan_fires(new["spec"], None, context.now, anchor=anchor, uid=meta.get("uid", ""))
    status = {key: value for key, value in (new.get("status") or {}).items() if key not in ("nextFireTime", "wakeTime")}
    if plan.next is not None and not new["spec"].get("suspend"):
        status |= {"nextFireTime": times.to_text(plan.next), "wakeTime": times.to_text(plan.wake or plan.next)}
    return {**new, "status": status}


def _apikey(old: Object | None, new: Object, context: Context) -> Object:
    spec = new["spec"]
    expires = spec.get("expiresAt")
    expired = bool(expires) and times.from_text(expires) <= context.now
    phase = "Revoked" if spec.get("revoked") else "Expired" if expired else "Active"
    return {**new, "status": {**(new.get("status") or {}), "phase": phase}}


def _namespace(old: Object | None, new: Object, context: Context) -> Object:
    return {**new, "status": {"phase": "Active"}} if old is None else new


_SETTLE: dict[str, Callable[[Object | None, Object, Context], Object]] = {
    "Job": _job,
    "Workflow": _workflow,
    "Schedule": _schedule,
    "ApiKey": _apikey,
    "Namespace": _namespace,
}


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
        raise _invalid("Job", new, "status.phase", f'Unsupported value: "{said}"') from None
    if before in FINAL or (after is not before and after not in TRANSITIONS[before]):
        raise _invalid("Job", new, "status.phase", f"Forbidden: a job does not go from {before} to {after}")


def _check_finalizers(kind: Kind, current: Object, new: Object) -> None:
    if not current["metadata"].get("deletionTimestamp"):
        return
    added = set(new["metadata"].get("finalizers") or ()) - set(current["metadata"].get("finalizers") or ())
    if added:
        listed = ", ".join(f'"{item}"' for item in sorted(added))
        raise _invalid(
            kind.kind,
            new,
            "metadata.finalizers",
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
            f"[]string{{{listed}}}",
        )


def _invalid(kind: str, obj: Object, field: str, message: str) -> ApiError:
    reason = "FieldValueForbidden" if message.startswith("Forbidden") else "FieldValueInvalid"
    return ApiError.invalid(KINDS[kind], obj["metadata"].get("name") or "", [Cause(field, reason, message)])


def mutate_with(function: Callable[[Object, Context], Object | None]) -> Mutate:
    """A mutation for the system's own changes: skips objects that are gone instead of failing."""

    def mutate(current: Object | None, context: Context) -> Object | None:
        return None if current is None else function(current, context)

    return mutate


def system(kind: Kind, obj: Object, function: Callable[[Object, Context], Any]) -> Operation:
    """An operation by which a duty or a report changes an object it read before."""
    meta = obj["metadata"]
    return Operation(kind, meta.get("namespace") or "", meta["name"], mutate_with(function))
