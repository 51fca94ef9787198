"""The `casare` command: what a person types, and what a person reads.

Belongs here: arguments, manifests on disk, tables, messages. Never: rules about resources (casare_api), HTTP
(casare_client), and nothing at import time that `casare get` has no use for: no SQLAlchemy, FastAPI or Streamlit.
"""
