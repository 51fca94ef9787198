"""ConfigMaps, Secrets and Leases; where the log has an object's state before a change; deletions that wait.

Runs with the previous release up: what it writes has no `prev_rv`, and lists that need one say that they can't go on.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
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

# Leases change in place, every few seconds: such an update stays on its page and writes no index.
_KINDS = {
    "configmaps": ("", ""),
    "secrets": ("type text,", ""),
    "coordination_leases": ("", "WITH (fillfactor = 70)"),
}

_BESIDE = """
-- The resourceVersion of the object before this change: there the log has its state. NULL where there was none before,
-- and in what the previous release writes.
ALTER TABLE changes ADD COLUMN prev_rv bigint;

-- Objects whose deletion waits for a duty: what hangs on them goes first, or lets go of them.
CREATE TABLE deletions (uid uuid PRIMARY KEY, kind text NOT NULL, namespace text NOT NULL, name text NOT NULL);
"""


def upgrade() -> None:
    # Rather give up and be run again than let every writer queue behind a lock that somebody's transaction holds up.
    op.execute("SET LOCAL lock_timeout = '10s'")
    for table, (columns, storage) in _KINDS.items():
        op.execute(f"CREATE TABLE {table} ({_COMMON} {columns} UNIQUE (namespace, name)) {storage}")
        op.execute(f"CREATE INDEX {table}_owners ON {table} USING gin (owners) WHERE owners IS NOT NULL")
    op.execute(_BESIDE)


def downgrade() -> None:
    raise NotImplementedError("what is kept in the new tables would be lost")
