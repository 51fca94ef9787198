"""The controller: duties that drive what is toward what is wanted.

Belongs here: the manager and one duty a file; each reads a set, decides in a pure function of `casare_api.decisions`
and writes a set. Never: HTTP, SQL (that is the store's), memory that a restart would miss.
"""
