"""One step of the schema a file; the newest is `casare_migrations.runner.HEAD`."""
