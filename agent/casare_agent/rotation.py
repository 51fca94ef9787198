"""How does a robot's key get younger? The server says in its answer to a report that it is due; then it is replaced.

Always holds: a new key is used once it is on the disk. Whatever goes wrong before that, the old one is good for the
overlap, and the server, which sees that it is still used, says again that it is due. Of the key that was kept and the
one that was configured, the other is tried where one is not accepted; a join token, which is no key, never is.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from casare_agent import keyring
from casare_agent.config import Settings
from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_client import Client, Unreachable

_log = logging.getLogger("casare.agent")
AGAIN = 60.0  # seconds after a try that failed
Send = Callable[[Object], Object]


class Rotation:
    """Rotates the key of one robot. `configured` is the secret that the agent was started with, a key or a token."""

    def __init__(
        self, client: Client, namespace: str, directory: Path, configured: str, is_key: bool = True
    ) -> None:
        self._client, self._namespace = client, namespace
        self._directory, self._configured, self._is_key = directory, configured, is_key
        self._earliest = 0.0

    @classmethod
    def of(cls, client: Client, settings: Settings) -> Rotation:
        """What an agent of these settings needs."""
        is_key = settings.api_key is not None
        return cls(client, settings.namespace, settings.directory, settings.secret, is_key)

    def after(self, send: Send) -> Send:
        """The same `send`, which has an eye on what the server answers."""

        def sending(body: Object) -> Object:
            try:
                answer = send(body)
            except ApiError as error:
                self.refused(error)
                raise
            name = answer.get("rotateKey")
            if name and time.monotonic() >= self._earliest:
                self._rotate(str(name))
            return answer

        return sending

    def refused(self, error: Exception) -> None:
        """After a 401 the other key is tried next: the one that was kept, or the one that was configured.

        A server that was restored from a backup, or whose manifest names the first hash again, knows only that one.
        """
        if not isinstance(error, ApiError) or error.status != 401 or not self._is_key:
            return
        with contextlib.suppress(OSError):
            kept = keyring.load(self._directory, self._configured)
            if kept != self._configured:
                self._client.use_key(self._configured if self._client.config.key == kept else kept)

    def _rotate(self, name: str) -> None:
        try:
            key = str(self._client.rotate_key(name, self._namespace)["key"])
            keyring.save(self._directory, self._configured, key)
        except (ApiError, Unreachable, OSError) as error:
            self._earliest = time.monotonic() + AGAIN
            _log.warning("the key could not be rotated, the old one is used on: %s", error)
            return
        self._client.use_key(key)
        _log.info("apikey %s: rotated; the new key is in %s", name, self._directory / keyring.FILE)
