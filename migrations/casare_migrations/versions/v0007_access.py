"""Join tokens, access rules, robots' display names, and when a key was last used.

Runs with the previous release up: what is new stands in tables and columns that it does not know and leaves alone. A
robot that it writes keeps the display name that it had.

Revision ID: 0007
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
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
    "jointokens": "hash text, due timestamptz,",
    "roles": "",
    "rolebindings": "",
    "clusterroles": "",
    "clusterrolebindings": "",
}

_REST = """
CREATE UNIQUE INDEX jointokens_hash ON jointokens (hash) WHERE hash IS NOT NULL;
CREATE INDEX jointokens_due ON jointokens (due) WHERE due IS NOT NULL;

ALTER TABLE robots ADD COLUMN display text COLLATE "C";
CREATE INDEX robots_display ON robots (namespace, display) WHERE display IS NOT NULL;

-- When a key was last used and from where: no part of history, at most one write a minute and key.
CREATE TABLE key_uses (
    key_uid uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    address text NOT NULL
) WITH (fillfactor = 70);
"""


def upgrade() -> None:
    # Rather give up and be run again than let every writer queue behind a lock that somebody's transaction holds up.
    op.execute("SET LOCAL lock_timeout = '10s'")
    for table, columns in _KINDS.items():
        op.execute(f"CREATE TABLE {table} ({_COMMON} {columns} UNIQUE (namespace, name))")
        op.execute(f"CREATE INDEX {table}_owners ON {table} USING gin (owners) WHERE owners IS NOT NULL")
    op.execute(_REST)


def downgrade() -> None:
    raise NotImplementedError("what is kept in the new tables would be lost")
