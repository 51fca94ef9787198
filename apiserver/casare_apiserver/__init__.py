"""The API server: resources over HTTP, watches, authentication, what agents report.

Belongs here: routes, authentication, the fan-out of watches. Never: a business rule that a duty or a pure decision
should own, SQL, truth kept in memory (the caches here are fed by the change log and may be dropped at any time).
"""
