"""The schema, as Alembic migrations; runnable as `casare migrate` from a checkout and from a wheel alike.

Belongs here: numbered, frozen steps that run while the previous release is still up. Never: imports of the store's
code (a migration must mean the same in ten years).
"""
