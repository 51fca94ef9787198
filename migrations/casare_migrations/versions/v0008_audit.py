"""The audit log: who did what, in rows that are chained by their hashes.

Runs with the previous release up: it knows neither the table nor the new columns of `heads`, and what is done through
it is not in the log. The end of the chain stands in `heads`, which every writer reads and updates under the history
lock anyway.

Revision ID: 0008
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NOTHING = "0" * 64

_UP = f"""
-- `entry` is what is hashed; what rows are searched by follows from it, and is checked with it.
CREATE TABLE audit (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    entry text NOT NULL,
    hash text COLLATE "C" NOT NULL
);
CREATE INDEX audit_actor ON audit (actor, seq);
CREATE INDEX audit_object ON audit (object, seq);
CREATE INDEX audit_at ON audit USING brin (at);

-- The last row, and the last of those that were dropped by their age: the chain goes from one to the other.
ALTER TABLE heads
    ADD COLUMN audit_seq bigint NOT NULL DEFAULT 0,
    ADD COLUMN audit_hash text COLLATE "C" NOT NULL DEFAULT '{_NOTHING}',
    ADD COLUMN audit_from_seq bigint NOT NULL DEFAULT 0,
    ADD COLUMN audit_from_hash text COLLATE "C" NOT NULL DEFAULT '{_NOTHING}';
"""


def upgrade() -> None:
    # Rather give up and be run again than let every writer queue behind a lock that somebody's transaction holds up.
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.execute(_UP)


def downgrade() -> None:
    raise NotImplementedError("the log of who did what would be lost")
