"""`casare up`, `down` and `status`: the whole system on one computer.

Belongs here: starting the parts in the right order, restarting one that crashes, telling people how it stands. Never:
what the parts do, SQL, and imports of SQLAlchemy, FastAPI or Streamlit; the parts are other processes.
"""

from casare_cli.up.commands import register

__all__ = ["register"]
