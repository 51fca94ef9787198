"""One synchronous client for everything that talks to the apiserver: command line, agent, dashboard.

Belongs here: building requests (pure), sending them, watching, applying, finding the server.
Never: rules about what a resource means, printing, settings of one program.
"""

from casare_client.client import Client
from casare_client.config import Config
from casare_client.errors import NoServer, Unreachable
from casare_client.watch import RELIST, WatchEvent

__all__ = ["RELIST", "Client", "Config", "NoServer", "Unreachable", "WatchEvent"]
