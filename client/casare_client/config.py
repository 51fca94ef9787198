"""Which server, with which key? One frozen value; the key never shows in its repr."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from casare_client.errors import NoServer


@dataclass(frozen=True, slots=True)
class Config:
    """How to reach a server.

    `ca_file` names, or `ca_data` holds, PEM certificates to trust instead of the system's. `namespace` is used where
    a call names none. `timeout` is in seconds, for connecting and for each answer.
    """

    server: str
    key: str = field(default="", repr=False)
    ca_file: str | None = None
    namespace: str = "default"
    timeout: float = 30.0
    ca_data: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "server", server_url(self.server))
        object.__setattr__(self, "key", self.key.strip())
        if any(not "!" <= char <= "~" for char in self.key):
            raise NoServer("the API key holds characters that no key has (spaces, line ends or letters beyond ASCII)")

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.server.startswith("https:")

    @property
    def local(self) -> bool:
        """Whether the server is this machine: no proxy is asked for it."""
        host = urlsplit(self.server).hostname or ""
        return host == "localhost" or host == "::1" or host.startswith("127.")


def server_url(text: str) -> str:
    """`http(s)://host[:port][/prefix]` without user, query and trailing slash.

    Raises NoServer for anything else.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host:
        raise NoServer(f'"{_shown(text)}" is no server: give a URL such as http://127.0.0.1:8000')
    netloc = f"[{host}]" if ":" in host else host
    netloc += f":{port}" if port is not None else ""
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


def _shown(text: str) -> str:
    """The URL as far as it can be shown: a password before the @ is not."""
    return text.strip().rpartition("@")[2][:200]
