"""Is the schema the one this release needs, and if not, how does it become so?

`is_current` is cheap (no SQLAlchemy, no Alembic), so that a warm start pays nothing. Two that migrate at once wait
for each other.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import psycopg

HEAD = "0009"
_LOCK = 0x0CA5A5E1


def current(url: str) -> str | None:
    """The revision of the database, None where nothing has been migrated. Raises psycopg.OperationalError."""
    with psycopg.connect(url, connect_timeout=10) as connection:
        found = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
        if not found or not found[0]:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None


def is_current(url: str) -> bool:
    """Whether the database has exactly this release's schema."""
    return current(url) == HEAD


def migrate(url: str, to: str = HEAD) -> str:
    """Brings the schema to a revision; returns what was done in words. Raises psycopg.Error."""
    before = current(url)
    if before == to:
        return f"the schema is at {to} already"
    _upgrade(url, to)
    return f"the schema went from {before or 'nothing'} to {to}"


def _upgrade(url: str, to: str) -> None:
    import sqlalchemy as sa
    from alembic import command
    from alembic.config import Config

    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=sa.NullPool)
    config = Config()
    spec = importlib.util.find_spec("casare_migrations")
    assert spec is not None and spec.origin is not None
    config.set_main_option("script_location", str(Path(spec.origin).parent).replace("%", "%%"))
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        connection.commit()
        try:
            config.attributes["connection"] = connection
            command.upgrade(config, to)
        except sa.exc.DBAPIError as error:
            raise error.orig or error from None
        finally:
            connection.rollback()
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()
