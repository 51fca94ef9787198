"""What placement needs of jobs: concurrency keys, idempotency keys, the robot of the last attempt; Quotas.

Runs with the previous release up: its jobs have no key and are placed as before.

Revision ID: 0004
"""

from __future__ import annotations

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
    UNIQUE (namespace, name)
);
CREATE INDEX quotas_owners ON quotas USING gin (owners) WHERE owners IS NOT NULL;
"""

_JOBS = """
-- ckey, climit: the concurrency key with its places filled in, and how many jobs of it may run in the namespace.
-- parked: queued, and outside the queue until its key has room. ready and parked are never both true.
ALTER TABLE jobs
    ADD COLUMN ckey text COLLATE "C",
    ADD COLUMN climit int,
    ADD COLUMN parked boolean NOT NULL DEFAULT false,
    ADD COLUMN idempotency text COLLATE "C",
    ADD COLUMN last_robot uuid,
    ADD CONSTRAINT jobs_parked_queued CHECK (NOT parked OR phase = 'Queued' AND NOT ready AND ckey IS NOT NULL);
CREATE INDEX jobs_parked ON jobs (namespace, ckey, class, climit, rank) WHERE parked;
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


def upgrade() -> None:
    # Rather give up and be run again than let every writer queue behind a lock that somebody's transaction holds up.
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.execute(_QUOTAS)
    op.execute(_JOBS)


def downgrade() -> None:
    raise NotImplementedError("what is kept in the new tables would be lost")
