"""How does the embedded Postgres look to the supervisor? Like every other child, started through the store."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from casare_cli.up.child import KILL
from casare_store.embedded import EmbeddedError, Server


class Postgres:
    """The server of a data directory; the last of all to be ended."""

    name = "postgres"
    stage = 0
    grace = 40.0
    finished = False

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._server: Server | None = None
        self._problem = ""

    @property
    def url(self) -> str:
        """Of the server, which has been started; it stays the same over restarts. Holds no password."""
        assert self._server is not None
        return self._server.url

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server is not None and self._server.alive() else None

    def start(self) -> None:
        try:
            self._server = Server.start(self._data_dir)
        except EmbeddedError as error:
            self._problem = str(error)
            raise

    def ready(self) -> bool:
        return self._server is not None and self._server.ready()

    def last_words(self) -> str:
        return self._problem

    def end(self) -> None:
        if self._server is not None:
            with contextlib.suppress(EmbeddedError):  # it does not want to: it will be killed
                self._server.stop()

    def kill(self) -> None:
        if self.pid is not None:
            os.kill(self.pid, KILL)
