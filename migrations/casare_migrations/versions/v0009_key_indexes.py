"""Robots' keys are found by their robot, and keys by the hash that they had before.

Runs with the previous release up: both indexes follow from what it writes, and only save time. While they are made
(a second or two for 100,000 keys) whoever writes keys waits. Not CREATE INDEX CONCURRENTLY: see 0004.

Revision ID: 0009
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_INDEXES = """
-- Names of robots are compared by their bytes, as the table of robots has them; this column is of the first schema.
CREATE INDEX apikeys_robot ON apikeys (namespace, robot_name COLLATE "C") WHERE role = 'robot';
-- Of the text itself, so that it is true of every row, whoever wrote it.
CREATE INDEX apikeys_previous ON apikeys (((head || tail)::jsonb #>> '{status,previousHash}'));
"""


def upgrade() -> None:
    # Rather give up and be run again than let every writer queue behind a lock that somebody's transaction holds up.
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.execute(_INDEXES)


def downgrade() -> None:
    raise NotImplementedError("the release before runs under this schema, too")
