"""`python -m casare_migrations`: brings the schema of DATABASE_URL to this release's."""

from __future__ import annotations

import os
import sys

import psycopg

from casare_migrations import runner


def main() -> int:
    """Exit code 0 when the schema is current, 1 with one line that says why not."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        print("error: DATABASE_URL is not set: name the database to migrate", file=sys.stderr)
        return 1
    try:
        print(runner.migrate(url))
    except psycopg.OperationalError as error:
        print(f"error: the database can't be used: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
