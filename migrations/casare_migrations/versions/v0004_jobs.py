"""What placement needs of jobs: concurrency keys, idempotency keys, the robot of the last attempt; Quotas.

Runs with the previous release up: what it submits has no key in the index, and counts against none until it moves. It
knows nothing of `parked` and leaves it as it is, so that this says something only of rows that are Queued and not
ready; no constraint may say so.

The columns cost no rewrite; while the indexes are made and the jobs that have not ended are looked through, whoever
reads or writes jobs waits. Not CREATE INDEX CONCURRENTLY: it waits for every statement that runs, also for that of a
second process that waits for the lock of the migrations, which is a deadlock.

Revision ID: 0004
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_QUOTAS = """
CREATE TABLE quotas (
    uid uuid PRIMARY KEY,
    namespace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    rv bigint NOT NULL,
    labels jsonb,
    owners uuid[],
    head text NOT NULL,
    tail text NOT NULL,
    weight int NOT NULL DEFAULT 1,
    max_running int,
    UNIQUE (namespace, name)
);
CREATE INDEX quotas_owners ON quotas USING gin (owners) WHERE owners IS NOT NULL;
"""

_JOBS = """
-- ckey, climit: the concurrency key with its places filled in, and how many jobs of it may run in the namespace.
-- parked: outside the queue until its key has room; it says something only while the job is Queued and not ready.
-- idempotency: the job that a second one with this key gets instead; it is not changed after the job was made.
ALTER TABLE jobs
    ADD COLUMN ckey text COLLATE "C",
    ADD COLUMN climit int,
    ADD COLUMN parked boolean NOT NULL DEFAULT false,
    ADD COLUMN idempotency text COLLATE "C",
    ADD COLUMN last_robot uuid;
CREATE INDEX jobs_parked ON jobs (namespace, ckey, class, climit, rank)
    WHERE parked AND NOT ready AND phase = 'Queued';
CREATE INDEX jobs_promoted ON jobs (namespace, ckey, class, climit, rank) WHERE ready AND ckey IS NOT NULL;
CREATE INDEX jobs_keyed ON jobs (namespace, ckey) WHERE phase IN ('Assigned', 'Running') AND ckey IS NOT NULL;
CREATE INDEX jobs_held ON jobs (namespace) WHERE phase = 'Queued' AND NOT ready;
CREATE UNIQUE INDEX jobs_idempotency ON jobs (namespace, idempotency) WHERE idempotency IS NOT NULL;

-- Which robot had the latest job of a workflow, for jobs that prefer to go where the last one went.
CREATE TABLE last_robots (
    namespace text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    robot_uid uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, workflow)
) WITH (fillfactor = 70);
"""

# Jobs that have not ended and say something of a key, a page at a time; whether they really do, their text tells.
_PAGE = sa.text("""
SELECT uid, namespace, head || tail FROM jobs
WHERE phase IN ('Queued', 'Assigned', 'Running') AND uid > CAST(:after AS uuid)
  AND (strpos(head, '"concurrency":') > 0 OR strpos(head, '"idempotencyKey":') > 0) ORDER BY uid LIMIT 1000""")
_KEYED = sa.text("UPDATE jobs SET ckey = :key, climit = :limit WHERE uid = :uid")
_ONCE = sa.text("UPDATE jobs SET idempotency = :key WHERE uid = :uid")


def upgrade() -> None:
    # Rather give up and be run again than let every writer queue behind a lock that somebody's transaction holds up.
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.execute(_QUOTAS)
    op.execute(_JOBS)
    _fill()


def _fill() -> None:
    """Reads the keys of the previous release's jobs. Of those with one idempotencyKey the oldest gets it."""
    connection, after = op.get_bind(), "00000000-0000-0000-0000-000000000000"
    oldest: dict[tuple[str, str], tuple[str, str]] = {}
    while page := connection.execute(_PAGE, {"after": after}).fetchall():
        keyed = []
        for uid, namespace, text in page:
            job = json.loads(text)
            shared, once = job["spec"].get("concurrency") or {}, job["spec"].get("idempotencyKey")
            if shared.get("key") is not None:
                keyed.append({"uid": uid, "key": shared["key"], "limit": shared.get("limit", 1)})
            if once is not None:
                age = job["metadata"]["creationTimestamp"], str(uid)
                oldest[namespace, once] = min(age, oldest.get((namespace, once), age))
        _run(_KEYED, keyed)
        after = str(page[-1][0])
    _run(_ONCE, [{"uid": uid, "key": once} for (_, once), (_, uid) in oldest.items()])


def _run(statement: sa.TextClause, rows: list[dict[str, Any]]) -> None:
    if rows:
        op.get_bind().execute(statement, rows)


def downgrade() -> None:
    raise NotImplementedError("what is kept in the new tables would be lost")
