"""How is an object read? SQL that concatenates its stored text with what is observed; nothing is parsed to be sent."""

from __future__ import annotations

from functools import cache

from casare_api.kinds import Kind
from casare_store.columns import table

# A robot's phase, slots and last sign of life: from its lease and its live jobs, at the moment of reading.
_ROBOT = """t.head
 || '"phase":"' || CASE WHEN l.robot_uid IS NULL THEN 'Pending' WHEN NOT l.online THEN 'Offline'
                        WHEN coalesce(u.used, 0) > 0 THEN 'Busy' ELSE 'Idle' END
 || '","slots":{"total":' || t.slots || ',"used":' || coalesce(u.used, 0) || '},'
 || CASE WHEN l.robot_uid IS NULL THEN ''
         ELSE '"lastSeenTime":"' || to_char(l.last_seen, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || '",' END
 || t.tail"""
_ROBOT_FROM = """robots t LEFT JOIN leases l ON l.robot_uid = t.uid
 CROSS JOIN LATERAL (SELECT count(*) AS used FROM jobs j
                     WHERE j.robot_uid = t.uid AND j.phase IN ('Assigned', 'Running')) u"""
# The same for very many robots: one look at all live jobs costs less than one a robot.
_ROBOTS_FROM = """robots t LEFT JOIN leases l ON l.robot_uid = t.uid
 LEFT JOIN (SELECT robot_uid, count(*) AS used FROM jobs WHERE phase IN ('Assigned', 'Running')
            GROUP BY robot_uid) u ON u.robot_uid = t.uid"""

# Why a queued job waits: kept once per class, or told from the time it is held back to.
_JOB = """t.head
 || CASE WHEN t.phase <> 'Queued' THEN ''
         WHEN NOT t.ready THEN '"reasons":[{"rule":"notBefore","message":"waits until '
              || coalesce(to_char(t.due, 'YYYY-MM-DD HH24:MI:SS'), 'its time') || ' UTC","robots":0}],'
         ELSE coalesce((SELECT q.reasons FROM queue_reasons q
                        WHERE q.namespace = t.namespace AND q.class = t.class), '') END
 || t.tail"""

_EXPRESSIONS = {"Robot": (_ROBOT, _ROBOT_FROM), "Job": (_JOB, "jobs t")}


def expression(kind: Kind) -> str:
    """The SQL expression of an object's text; the table is `t`."""
    return _EXPRESSIONS[kind.kind][0] if kind.kind in _EXPRESSIONS else "t.head"


def source(kind: Kind) -> str:
    """The FROM clause that `expression` needs."""
    return _EXPRESSIONS[kind.kind][1] if kind.kind in _EXPRESSIONS else f"{table(kind)} t"


def source_of_all(kind: Kind) -> str:
    """The same as `source`, for a read of most of a kind's objects."""
    return _ROBOTS_FROM if kind.kind == "Robot" else source(kind)


def stored(kind: Kind) -> str:
    """The expression for a read that is followed by a write: without what is only shown to readers (reasons)."""
    return "t.head || t.tail" if kind.kind == "Job" else expression(kind)


@cache
def by_names(kind: Kind) -> str:
    """Rows (text,) of the objects at two arrays of namespaces and names, for writing."""
    return (
        f"SELECT {stored(kind)} FROM {source(kind)} WHERE (t.namespace, t.name) IN "
        "(SELECT * FROM unnest($1::text[], $2::text[]))"
    )


@cache
def where(kind: Kind, condition: str) -> str:
    """Rows (text,) of the objects that a condition selects, for writing."""
    return f"SELECT {stored(kind)} FROM {source(kind)} WHERE {condition}"
