"""Does something answer on this computer? Asked with the standard library alone, within two seconds."""

from __future__ import annotations

import errno
import http.client
import os
import socket
from urllib.parse import urlsplit

from casare_cli.failures import Failure
from casare_cli.up.settings import Settings

TIMEOUT = 2.0


def answers(url: str | None) -> bool:
    """Whether a GET is answered with 200."""
    return status(url) == 200


def status(url: str | None) -> int | None:
    """The status code of a GET, None where nobody answers."""
    if url is None:
        return None
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def check_ports(settings: Settings) -> None:
    """Raises Failure, naming the option to use, where a port is taken."""
    for option, port in settings.ports.items():
        problem = _problem(port) if port else None
        if problem:
            raise Failure(f"port {port} on 127.0.0.1 {problem}: choose another with {option}")


def _problem(port: int) -> str | None:
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return "needs privileges"
        except OSError as error:
            return "is taken" if error.errno in _TAKEN else f"can't be used ({error.strerror})"
    return None


_TAKEN = (errno.EADDRINUSE, 10048)  # the second is Windows'
