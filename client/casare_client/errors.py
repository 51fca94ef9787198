"""What goes wrong before the server can answer? (What it answers itself is an ApiError.)

Every message is one line for a person, names the server and never holds a key.
"""

from __future__ import annotations


class Unreachable(Exception):
    """The server could not be reached, or the connection broke; nothing is known about what it did."""


class NoServer(Exception):
    """Nothing names a server, or what names it is unusable."""
