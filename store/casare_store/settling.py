"""What does the server fill in for an object of this kind, and what does the kind forbid?

Runs inside the writer, under the history lock: what a rule reads there is true when the change commits. A rule takes
the old object (None for a new one), the new one and the context, and gives the object that is stored; it raises
ApiError where it does not allow it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import orjson

from casare_api.decisions import approval, config, draining, enrolment, keys, lifecycle, schedule
from casare_api.decisions.requirements import class_of
from casare_api.decisions.retrying import POLICY
from casare_api.decisions.roles import BUILT_IN
from casare_api.kinds import KINDS, Kind, Object, dig
from casare_api.kinds.job import MUTABLE
from casare_api.kinds.quota import ONLY
from casare_api.machinery import templates, times
from casare_api.machinery.errors import ApiError, Cause
from casare_api.machinery.patches import json_equal
from casare_store import columns, parameters
from casare_store.headroom import quota_of
from casare_store.operations import Context

INLINE = "inline"  # in place of a revision: the job brings its workflow along
NAME_LABEL = "kubernetes.io/metadata.name"  # of a namespace, so that selectors can name it
EMPTY = "kubernetes"  # in a namespace's spec.finalizers: its content goes before it
DECLARED = "fleet.casare.net/declared"  # annotation: the hash of a declared job's content
LONGEST_KEY = 253  # characters of a concurrency key
_STAYING = ("priority", "ttlAfterFinished")  # of a submitted job: left out, they are what they were
_NARROWED = ("capabilities", "tags", "robotSelector", "tolerations", "prefer")


def settle(kind: Kind, old: Object | None, new: Object, context: Context) -> Object:
    """The object with what the server fills in for its kind; raises ApiError where a rule of the kind forbids it."""
    rule = _SETTLE.get(kind.kind)
    return rule(old, new, context) if rule else new


def _job(old: Object | None, new: Object, context: Context) -> Object:
    if old is not None:
        return _changed_job(old, new, context)
    if new["spec"].get("retryOf"):
        why = "Forbidden: only the server says this, of jobs that POST .../jobs/NAME/retry makes: leave it out"
        raise invalid("Job", new, "spec.retryOf", why)
    namespace = new["metadata"]["namespace"]
    if context.room is not None and not context.dry_run:
        context.room.check(namespace)
    spec = _with_key(new, _resolved(new, context))
    quota = context.reads.get(quota_of(namespace))
    aging = quota["spec"].get("agingInterval") if quota else None
    job = lifecycle.queue({**new, "spec": spec}, context.now, aging)
    number, text = class_of(spec.get("requirements") or {})
    context.also(
        "INSERT INTO classes (class, requirements) VALUES ($1::bigint, $2) ON CONFLICT DO NOTHING", (str(number), text)
    )
    declared = (new["metadata"].get("annotations") or {}).get(DECLARED)
    if declared:
        context.also(
            "INSERT INTO declared (namespace, name, hash) VALUES ($1, $2, $3) "
            "ON CONFLICT (namespace, name) DO UPDATE SET hash = excluded.hash, at = clock_timestamp()",
            (new["metadata"]["namespace"], new["metadata"]["name"], declared),
        )
    return job


def _with_key(job: Object, spec: Object) -> Object:
    """The spec with the places in its concurrency key filled in. Raises ApiError 422."""
    key = dig(spec, "concurrency", "key")
    if key is None or "{{" not in key:
        return spec
    try:
        filled = templates.render(key, {"parameters": spec.get("parameters") or {}})
    except ValueError as problem:
        raise invalid("Job", job, "spec.concurrency.key", f"Invalid value: {problem}") from None
    if not 0 < len(filled) <= LONGEST_KEY:
        why = f"Invalid value: filled in, it has {len(filled)} characters: it must have 1 to {LONGEST_KEY}"
        raise invalid("Job", job, "spec.concurrency.key", why)
    return {**spec, "concurrency": {**spec["concurrency"], "key": filled}}


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
    left_out = {key: before[key] for key in _STAYING if key in before and key not in after}
    if left_out:
        new = {**new, "spec": {**after, **left_out}}
        after = new["spec"]
    if before.get("cancel") and not after.get("cancel"):
        raise invalid("Job", new, "spec.cancel", "Forbidden: a job that was asked to cancel can't be taken back")
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
        if workflow is None and context.dry_run:
            return dict(spec)  # in a directory that is tried or compared, the workflow may be the file behind it
        if workflow is None:
            raise invalid(
                "Job",
                job,
                "spec.workflowRef.name",
                f'Not found: there is no workflow "{ref["name"]}" in namespace {namespace}',
            )
        content, revision = workflow["spec"], dig(workflow, "status", "revision")
        if ref.get("revision") not in (None, revision):
            why = f"Forbidden: the workflow's revision is {revision} now, and jobs run that one: leave this out"
            raise invalid("Job", job, "spec.workflowRef.revision", why)
        spec = {**spec, "workflowRef": {"name": ref["name"], "revision": revision}}
    fitting = _fitting(job, content.get("parameters"), context.checked == revision)
    if fitting is not None:
        spec = {**spec, "parameters": fitting}
    requirements = _narrowed(content.get("requirements") or {}, spec.get("requirements") or {})
    spec = {**spec, **{key: content[key] for key in POLICY if key in content and key not in spec}}
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
        raise invalid("Job", job, "spec.parameters", text) from None
    if causes:
        raise ApiError.invalid(KINDS["Job"], job["metadata"].get("name") or "", causes)
    return filled or given


def _narrowed(workflow: Object, job: Object) -> Object:
    """Requirements of both: lists add up, single words of the job win, and what it prefers comes first."""
    if not workflow or not job:
        return workflow or job
    merged = {**workflow, **job}
    for key in _NARROWED:
        first, second = (job, workflow) if key == "prefer" else (workflow, job)
        before = first.get(key) or []
        if both := [*before, *(item for item in second.get(key) or [] if item not in before)]:
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
        raise invalid(kind, obj, f"{field}.{path}" if path else field, f"Invalid value: {why}")


def _quota(old: Object | None, new: Object, context: Context) -> Object:
    if old is None and new["metadata"]["name"] != ONLY:
        raise invalid("Quota", new, "metadata.name", f'Invalid value: a namespace has one Quota, named "{ONLY}"')
    return new


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
    """Whether it is good follows from what people wrote, and the time."""
    return {**new, "status": keys.settled(old, new, context.now)}


def _jointoken(old: Object | None, new: Object, context: Context) -> Object:
    """How long it is good counts from its creation, and whether it still is follows from what people allow now."""
    made = old["metadata"]["creationTimestamp"] if old is not None else times.to_text(context.now)
    return enrolment.settled(new, times.from_text(made), context.now)


def _robot(old: Object | None, new: Object, context: Context) -> Object:
    return draining.settled(old, approval.with_condition(new, context.now), context.now)


def _namespace(old: Object | None, new: Object, context: Context) -> Object:
    """A namespace says its name in a label, and that it goes once it is empty: nobody can take either away."""
    meta = new["metadata"]
    labels = {**(meta.get("labels") or {}), NAME_LABEL: meta["name"]}
    finalizers = dig(old, "spec", "finalizers") if old is not None else None
    if finalizers is None:  # a new one, or one that an older release made
        finalizers = [] if meta.get("deletionTimestamp") else [EMPTY]
    status = {"phase": "Active"} if old is None else new.get("status") or {}
    return {**new, "metadata": {**meta, "labels": labels}, "spec": {"finalizers": finalizers}, "status": status}


def invalid(kind: str, obj: Object, field: str, message: str) -> ApiError:
    """422 for one field."""
    reason = "FieldValueForbidden" if message.startswith("Forbidden") else "FieldValueInvalid"
    return ApiError.invalid(KINDS[kind], obj["metadata"].get("name") or "", [Cause(field, reason, message)])


def _built_in(old: Object | None, new: Object, context: Context) -> Object:
    """The roles that are always there say what decides: nobody makes them say anything else."""
    if new["metadata"]["name"] in BUILT_IN:
        why = "it is built in and can't be changed; make a ClusterRole of another name"
        raise ApiError.refused(KINDS["ClusterRole"], new["metadata"]["name"], why)
    return new


def _binding(old: Object | None, new: Object, context: Context) -> Object:
    """What a binding gives stays the same: whoever may change whom it is given to does not change what."""
    if old is not None and old.get("roleRef") != new.get("roleRef"):
        why = "Invalid value: cannot change roleRef: delete the binding and make another one"
        raise invalid(new["kind"], new, "roleRef", why)
    return new


_SETTLE: dict[str, Callable[[Object | None, Object, Context], Object]] = {
    "Job": _job,
    "Workflow": _workflow,
    "Schedule": _schedule,
    "Quota": _quota,
    "ApiKey": _apikey,
    "JoinToken": _jointoken,
    "Robot": _robot,
    "Namespace": _namespace,
    "ClusterRole": _built_in,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "ConfigMap": lambda old, new, context: config.configmap(old, new),
    "Secret": lambda old, new, context: config.secret(old, new),
}
