"""The first schema: one table a kind, the ordered change log, leases, and what lies beside the rows.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_COMMON = """
    uid uuid PRIMARY KEY,
    namespace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    rv bigint NOT NULL,
    labels jsonb,
    owners uuid[],
    head text NOT NULL,
    tail text NOT NULL,"""

_KINDS = {
    "namespaces": "phase text,",
    "apikeys": "robot_name text, role text, due timestamptz,",
    "robots": """
        phase text NOT NULL CHECK (phase IN ('Pending', 'Idle', 'Busy', 'Offline')),
        used int NOT NULL,
        slots int NOT NULL CHECK (slots BETWEEN 1 AND 100),
        robot_id text COLLATE "C" NOT NULL,
        environment text,""",
    "workflows": "",
    "schedules": "due timestamptz,",
    "jobs": """
        phase text NOT NULL CHECK (phase IN
            ('Queued', 'Assigned', 'Running', 'Succeeded', 'Failed', 'Cancelled', 'Expired')),
        robot_uid uuid,
        class bigint NOT NULL,
        rank timestamptz NOT NULL,
        ready boolean NOT NULL,
        due timestamptz,
        workflow text,
        robot_name text,
        CHECK (phase NOT IN ('Assigned', 'Running') OR robot_uid IS NOT NULL),
        CHECK (NOT ready OR phase = 'Queued'),""",
    "fires": "schedule text, outcome text,",
    "events": """
        due timestamptz,
        involved_kind text, involved_namespace text, involved_name text, involved_uid text, involved_version text,
        reason text, type text,""",
}

_INDEXES = """
CREATE UNIQUE INDEX robots_robot_id ON robots (robot_id);
CREATE INDEX jobs_queue ON jobs (namespace, class, rank) WHERE ready;
CREATE INDEX jobs_live ON jobs (robot_uid) WHERE phase IN ('Assigned', 'Running');
CREATE INDEX jobs_due ON jobs (due) WHERE due IS NOT NULL;
CREATE INDEX schedules_due ON schedules (due) WHERE due IS NOT NULL;
CREATE INDEX apikeys_due ON apikeys (due) WHERE due IS NOT NULL;
CREATE INDEX events_due ON events (due);
CREATE INDEX events_involved ON events (involved_uid);
CREATE INDEX fires_schedule ON fires (namespace, schedule);
"""

_BESIDE = """
-- The head of history: one row, written by each batch under the history lock. epoch names this store for ever.
CREATE TABLE heads (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    rv bigint NOT NULL,
    compacted_rv bigint NOT NULL,
    epoch uuid NOT NULL
);
INSERT INTO heads (rv, compacted_rv, epoch) VALUES (0, 0, gen_random_uuid());

-- Every change of every resource, in commit order. Old labels and fields only where they differ from the new ones.
CREATE TABLE changes (
    rv bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    type text NOT NULL CHECK (type IN ('ADDED', 'MODIFIED', 'DELETED')),
    namespace text NOT NULL,
    name text NOT NULL,
    uid uuid NOT NULL,
    object text NOT NULL,
    labels text,
    fields text NOT NULL,
    old_labels text,
    old_fields text,
    PRIMARY KEY (rv)
) PARTITION BY RANGE (rv);

-- Signs of life: no index but the key, so that every update stays on its page.
CREATE TABLE leases (
    robot_uid uuid PRIMARY KEY,
    last_seen timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    online boolean NOT NULL,
    telemetry text
) WITH (fillfactor = 70);

-- The time that apiservers were there to hear heartbeats; presence judges robots over covered time only.
CREATE TABLE coverage (
    apiserver uuid PRIMARY KEY,
    since timestamptz NOT NULL,
    last timestamptz NOT NULL
);

-- What a class of requirements is, and why its queue waits.
CREATE TABLE classes (class bigint PRIMARY KEY, requirements text NOT NULL);
CREATE TABLE queue_reasons (
    namespace text COLLATE "C" NOT NULL,
    class bigint NOT NULL,
    reasons text NOT NULL,
    PRIMARY KEY (namespace, class)
);

CREATE TABLE revisions (
    namespace text COLLATE "C" NOT NULL,
    hash text COLLATE "C" NOT NULL,
    content text NOT NULL,
    made timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, hash)
);
CREATE TABLE blobs (
    namespace text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    made timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, sha256)
);
ALTER TABLE blobs ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE job_logs (
    job_uid uuid NOT NULL,
    attempt int NOT NULL,
    seq int NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    data text NOT NULL,
    PRIMARY KEY (job_uid, attempt, seq)
);
CREATE INDEX job_logs_at ON job_logs USING brin (at);

-- Jobs that were declared by a manifest and ran: they are not run again because their time to live removed them.
CREATE TABLE declared (
    namespace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    hash text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, name)
);
"""


def upgrade() -> None:
    for table, columns in _KINDS.items():
        op.execute(f"CREATE TABLE {table} ({_COMMON} {columns} UNIQUE (namespace, name))")
        op.execute(f"CREATE INDEX {table}_owners ON {table} USING gin (owners) WHERE owners IS NOT NULL")
    op.execute(_INDEXES)
    op.execute(_BESIDE)


def downgrade() -> None:
    raise NotImplementedError("the first schema has nothing to go back to")
