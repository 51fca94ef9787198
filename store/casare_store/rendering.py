"""How is an object read? SQL that concatenates its stored text with what is observed; nothing is parsed to be sent."""

from __future__ import annotations

from functools import cache

from casare_api.kinds import Kind
from casare_store.columns import table

# A robot's phase, slots and last sign of life: from its lease and its live jobs, at the moment of reading. And what
# people call it, told apart from others of its namespace by the end of its uid: the beginning is the time, which is the
# same for robots that were made together.
# One that was never there and is now stays Pending until presence has seen it.
ROBOT_PHASE = """CASE WHEN l.robot_uid IS NULL THEN 'Pending'
    WHEN NOT l.online AND t.phase = 'Pending' AND l.expires_at > clock_timestamp() THEN 'Pending'
    WHEN NOT l.online THEN 'Offline' WHEN coalesce(u.used, 0) > 0 THEN 'Busy' ELSE 'Idle' END"""
_ROBOT_SEEN = f"""t.head || '"phase":"' || {ROBOT_PHASE}""" + """
 || '","slots":{"total":' || t.slots || ',"used":' || coalesce(u.used, 0) || '},'
 || CASE WHEN l.robot_uid IS NULL THEN ''
         ELSE '"lastSeenTime":"' || to_char(l.last_seen, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || '",' END
 || coalesce('"displayName":"' || t.display || CASE WHEN d.shared
        THEN ' (' || right(t.uid::text, 8) || ')' ELSE '' END || '",', '')
 || """
_ROBOT_STORED = _ROBOT_SEEN + "t.tail"
# What it measured changes all the time, and no history is made of it. It is for readers, and for whoever writes a robot
# and gets it as the answer; duties, which look at many, have no use for it.
_ROBOT = _ROBOT_SEEN + """coalesce('"telemetry":' || l.telemetry || ',', '') || t.tail"""
_ROBOT_FROM = """robots t LEFT JOIN leases l ON l.robot_uid = t.uid
 CROSS JOIN LATERAL (SELECT count(*) AS used FROM jobs j
                     WHERE j.robot_uid = t.uid AND j.phase IN ('Assigned', 'Running')) u
 CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM robots o WHERE o.namespace = t.namespace AND o.display = t.display
                                    AND o.uid <> t.uid) AS shared) d"""
# The same for very many robots: one look at all live jobs costs less than one a robot.
_ROBOTS_FROM = """robots t LEFT JOIN leases l ON l.robot_uid = t.uid
 LEFT JOIN (SELECT robot_uid, count(*) AS used FROM jobs WHERE phase IN ('Assigned', 'Running')
            GROUP BY robot_uid) u ON u.robot_uid = t.uid
 LEFT JOIN (SELECT namespace, display, true AS shared FROM robots WHERE display IS NOT NULL
            GROUP BY namespace, display HAVING count(*) > 1) d ON d.namespace = t.namespace AND d.display = t.display"""

# Why a queued job waits: for a time, for its turn at a concurrency key, or what is kept of its queue. The time is a
# retry's where an attempt was made; what people wrote can't look like these keys, as its quotes have a \ before them.
_UNTIL = """' at ' || translate(left(substring(t.tail FROM '"heldUntil":"([^"]+)"'), 19), 'T', ' ') || ' UTC'"""
_HELD = f"""CASE WHEN position('"attempts":[' IN t.tail) > 0
    THEN '{{"rule":"backoff","message":"attempt ' || coalesce(substring(t.tail FROM '"attempt":([0-9]+)'), '')
         || ' did not succeed; it is tried again' || coalesce({_UNTIL}, ' soon')
    ELSE '{{"rule":"notBefore","message":"it waits for its notBefore and is placed'
         || coalesce({_UNTIL}, ' soon') || ' at the earliest' END || '","robots":0}}'"""
_PARKED = """'{"rule":"concurrency","message":' || to_json('it waits for its turn at the concurrency key "' || t.ckey
    || '", which ' || t.climit || ' may have at a time' || coalesce((SELECT '; ' || j.name || ' has it' FROM jobs j
        WHERE j.namespace = t.namespace AND j.ckey = t.ckey AND j.phase IN ('Assigned', 'Running') LIMIT 1), ''))::text
    || ',"robots":0}'"""
# What is said in place of what is kept, which is old, once nobody has looked after waiting jobs for so long: placement
# tells of itself every 5 s, after a run that takes 5 s and a tick. A list finds it out once, as no job is asked for it.
NOBODY_FOR = "20 seconds"
UNATTENDED = f"""(SELECT '{{"rule":"controller","message":"no controller has looked after waiting jobs since '
    || to_char(d.at, 'YYYY-MM-DD HH24:MI:SS') || ' UTC: is one running, and what does its log say?","robots":0}}'
    FROM duty_runs d WHERE d.name = 'placement' AND d.at < clock_timestamp() - interval '{NOBODY_FOR}')"""
_NEW = '\'"reasons":[{"rule":"placement","message":"placement looks at it in a moment","robots":0}],\''
_JOB = f"""t.head
 || CASE WHEN t.phase <> 'Queued' THEN ''
         WHEN NOT t.ready THEN '"reasons":[' || coalesce({UNATTENDED} || ',', '')
             || CASE WHEN t.parked THEN {_PARKED} ELSE {_HELD} END || '],'
         ELSE coalesce('"reasons":[' || {UNATTENDED} || '],', (SELECT q.reasons FROM queue_reasons q
                        WHERE q.namespace = t.namespace AND q.class = t.class), {_NEW}) END
 || t.tail"""

# How much of a quota is used: counted, never kept.
_QUOTA = """t.head
 || '"used":{"running":' || (SELECT count(*) FROM (SELECT j.namespace FROM jobs j
        WHERE j.robot_uid IS NOT NULL AND j.phase IN ('Assigned', 'Running') OFFSET 0) u
    WHERE u.namespace = t.namespace)
 || ',"queued":' || (SELECT count(*) FROM jobs j WHERE j.namespace = t.namespace AND j.ready)
        + (SELECT count(*) FROM jobs j WHERE j.namespace = t.namespace AND j.phase = 'Queued' AND NOT j.ready)
 || '},' || t.tail"""

# When a key was last used: behind all else in its status, which is never empty and ends its text. The text itself stays
# whole in the row, where a release before this one looks for it.
_APIKEY = """CASE WHEN u.key_uid IS NULL THEN t.head ELSE left(t.head, -2)
    || ',"lastUsedTime":"' || to_char(u.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    || '","lastUsedIP":' || to_json(u.address) || '}}' END"""
_APIKEY_FROM = "apikeys t LEFT JOIN key_uses u ON u.key_uid = t.uid"

_EXPRESSIONS = {
    "Robot": (_ROBOT, _ROBOT_FROM), "Job": (_JOB, "jobs t"), "Quota": (_QUOTA, "quotas t"),
    "ApiKey": (_APIKEY, _APIKEY_FROM),
}  # fmt: skip
_SHOWN_ONLY = ("Job", "Quota", "ApiKey")  # whose observed fields are for readers alone: no write needs them


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
    """The expression for a read of many that is followed by a write: without what is only shown to readers."""
    if kind.kind == "Robot":
        return _ROBOT_STORED
    return "t.head || t.tail" if kind.kind in _SHOWN_ONLY else expression(kind)


# Rows (namespace, key, text) of the jobs of two arrays of namespaces and idempotency keys, for writing.
BY_IDEMPOTENCY = (
    "SELECT t.namespace, t.idempotency, t.head || t.tail FROM jobs t WHERE t.idempotency IS NOT NULL "
    "AND (t.namespace, t.idempotency) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
)


@cache
def by_names(kind: Kind) -> str:
    """Rows (namespace, name, text) of the objects at two arrays of namespaces and names, for writing."""
    text = expression(kind) if kind.unlogged else stored(kind)
    return (
        f"SELECT t.namespace, t.name, {text} FROM {source(kind)} WHERE (t.namespace, t.name) IN "
        "(SELECT * FROM unnest($1::text[], $2::text[]))"
    )


@cache
def where(kind: Kind, condition: str) -> str:
    """Rows (text,) of the objects that a condition selects, for writing."""
    return f"SELECT {stored(kind)} FROM {source(kind)} WHERE {condition}"
