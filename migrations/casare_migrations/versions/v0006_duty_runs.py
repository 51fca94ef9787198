"""When placement last looked after waiting jobs, so that they can say when nobody does.

A trigger notes it, whoever writes what placement found: a controller of the previous release, too, which writes that
every few seconds as it always did. So it runs with that release up, and nobody is told that none is there.

Revision ID: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Of a database that no controller has looked at yet, it is the time of this migration.
_RUNS = """
CREATE TABLE duty_runs (name text COLLATE "C" PRIMARY KEY, at timestamptz NOT NULL);
INSERT INTO duty_runs VALUES ('placement', clock_timestamp());
"""

# For each statement: it counts that placement was there, even where it had nothing to say.
_NOTE = """
CREATE FUNCTION note_placement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE duty_runs SET at = clock_timestamp() WHERE name = 'placement';
    RETURN NULL;
END $$;
CREATE TRIGGER note_placement AFTER INSERT ON queue_reasons
    FOR EACH STATEMENT EXECUTE FUNCTION note_placement();
"""


def upgrade() -> None:
    # Rather give up and be run again than let a controller queue behind a lock that somebody's transaction holds up.
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.execute(_RUNS)
    op.execute(_NOTE)


def downgrade() -> None:
    raise NotImplementedError("the release before runs under this schema, too")
