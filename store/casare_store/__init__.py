"""Resources in Postgres: the one place that makes and reads history.

Belongs here: tables' columns, the writer, the change log, admission that needs other rows, hot-path SQL, the embedded
server. Never: HTTP, rules that a pure function in `casare_api` could hold, truth kept in memory.
"""
