"""Artifacts: the files that jobs leave behind, in parts, so that nobody has to hold one whole.

Runs with the previous release up, which knows nothing of them.

Revision ID: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ARTIFACTS = """
-- A file that came whole. id names its parts: a file that replaces another one has parts of its own.
CREATE TABLE artifacts (
    job_uid uuid NOT NULL,
    attempt int NOT NULL CHECK (attempt >= 0),
    name text COLLATE "C" NOT NULL,
    id uuid NOT NULL UNIQUE,
    size bigint NOT NULL CHECK (size >= 0),
    sha256 text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (job_uid, attempt, name)
);

-- Parts without a file are of one that is on its way, or that never came whole: the sweep takes them.
CREATE TABLE artifact_parts (
    id uuid NOT NULL,
    part int NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    data bytea NOT NULL CHECK (length(data) <= 1048576),
    PRIMARY KEY (id, part)
);
ALTER TABLE artifact_parts ALTER COLUMN data SET STORAGE EXTERNAL;
"""


def upgrade() -> None:
    # Rather give up and be run again than let every writer queue behind a lock that somebody's transaction holds up.
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.execute(_ARTIFACTS)


def downgrade() -> None:
    raise NotImplementedError("the files in the new tables would be lost")
