"""What is written when a job moves? Its status and what is indexed of it; the rest of its text stays where it is.

A job is written once and moved three times or more. Of a move only the status travels to Postgres, which puts the new
resourceVersion into the stored text and tells the log the whole of it: the same rows come out as of any other change,
with half of the work on both sides.
"""

from __future__ import annotations

from typing import Any

from casare_api.kinds import Kind, Object
from casare_api.kinds.job import JOB
from casare_store import columns

TYPE = "MOVED"  # of a change, on its way to the rows; the log calls it MODIFIED
_RV = '"resourceVersion":"'  # the first one in an object's text is that of its metadata: see `objects.born`
INDEXED = ("phase", "robot_uid", "ready", "due", "robot_name", "parked", "last_robot", "ckey", "climit")
_TYPES = dict(columns.columns(JOB))
_OBSERVED = frozenset(JOB.observed)
COLUMNS: tuple[tuple[str, str], ...] = (
    ("uid", "uuid"),
    ("rv", "int8"),
    ("tail", "text"),
    *((name, _TYPES[name]) for name in INDEXED),
    ("fields", "text"),
    ("old_fields", "text"),
    ("prev_rv", "int8"),
)


def is_move(kind: Kind, old: Object | None, new: Object | None) -> bool:
    """Whether nothing but a job's status changes; what is the same must be the very same objects."""
    if kind is not JOB or old is None or new is None:
        return False
    is_same = new["metadata"] is old["metadata"] and new.get("spec") is old.get("spec") and len(new) == len(old)
    return is_same and "status" in old and _OBSERVED.isdisjoint(new["status"])


def encode(old: Object, job: Object, prev_rv: int) -> tuple[Any, ...]:
    """The values of `COLUMNS` for a job that has its new resourceVersion."""
    meta = job["metadata"]
    fields, was = columns.field_values(JOB, job), columns.field_values(JOB, old)
    return (
        meta["uid"],
        int(meta["resourceVersion"]),
        columns.dump(job["status"])[1:] + b"}",
        *columns.placing(job),
        columns.dump(fields),
        columns.dump(was) if was != fields else None,
        prev_rv,
    )


def statement() -> str:
    """Moves the rows and tells the log."""
    parameters = ", ".join(f"${n}{'::uuid[]' if of == 'uuid' else ''}" for n, (_, of) in enumerate(COLUMNS, 1))
    names = ", ".join(name for name, _ in COLUMNS)
    indexed = ", ".join(f"{name} = n.{name}" for name in INDEXED)
    numbered = f"overlay(t.head PLACING n.rv::text FROM strpos(t.head, '{_RV}') + {len(_RV)} FOR length(t.rv::text))"
    # All comes out of the one UPDATE: batches join by nested loops alone, and two sets of 500 would be 250,000 pairs.
    return (
        f"WITH n AS (SELECT * FROM unnest({parameters}) AS n({names})), "
        f"w AS (UPDATE jobs AS t SET rv = n.rv, head = {numbered}, tail = n.tail, {indexed} FROM n WHERE t.uid = n.uid "
        "RETURNING n.rv, t.namespace, t.name, t.uid, t.head || t.tail AS object, t.labels::text AS labels, n.fields, "
        "n.old_fields, n.prev_rv) "
        "INSERT INTO changes (rv, kind, type, namespace, name, uid, object, labels, fields, old_fields, prev_rv) "
        "SELECT rv, 'Job', 'MODIFIED', namespace, name, uid, object, labels, fields, old_fields, prev_rv FROM w"
    )
