"""What goes wrong before the server can answer? (What it answers itself is an ApiError.)

Every message is one line for a person, names the server and never holds a key.
"""

from __future__ import annotations


class Unreachable(Exception):
    """The server could not be reached, or the connection broke; nothing is known about what it did.

    `refused` means that nothing listens at its address.
    """

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class NoServer(Exception):
    """Nothing names a server, or what names it is unusable."""
