"""One key a secret, robot ids that are unique in their namespace, and room on the pages of kinds that change in place.

Runs with the previous release up: it goes on writing keys without the new column, which then holds their old secret
or none until this release writes them.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Room for the next version of a row, where changes seldom touch an indexed column: such an update stays on its page
# and writes no index. Pages that are full already get it as their rows are written anew.
_ROOM = ("robots", "workflows", "schedules", "apikeys")

_HASHES = """
ALTER TABLE apikeys ADD COLUMN IF NOT EXISTS hash text;
-- Of keys that share a secret the first keeps it; the others say so when they are next written.
UPDATE apikeys SET hash = first.hash FROM (
    SELECT DISTINCT ON (hash) uid, hash
    FROM (SELECT uid, rv, (head || tail)::jsonb #>> '{spec,hash}' AS hash FROM apikeys) keys
    WHERE hash IS NOT NULL ORDER BY hash, rv
) first WHERE first.uid = apikeys.uid;
CREATE UNIQUE INDEX IF NOT EXISTS apikeys_hash ON apikeys (hash);
"""

_INDEXES = """
-- The id first: with the namespace first the planner could take it for look-ups by namespace and name.
CREATE UNIQUE INDEX robots_robot_id_new ON robots (robot_id, namespace);
DROP INDEX robots_robot_id;
ALTER INDEX robots_robot_id_new RENAME TO robots_robot_id;
CREATE INDEX fires_schedule_new ON fires (schedule, namespace);
DROP INDEX fires_schedule;
ALTER INDEX fires_schedule_new RENAME TO fires_schedule;
"""


def upgrade() -> None:
    # Rather give up and be run again than let every writer queue behind a lock that somebody's transaction holds up.
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.execute(_HASHES)
    op.execute(_INDEXES)
    for table in _ROOM:
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 70)")


def downgrade() -> None:
    raise NotImplementedError("two robots may share an id by now")
