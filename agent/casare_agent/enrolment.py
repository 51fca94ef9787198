"""How does an agent that has only a join token get a key? It makes one, and says its hash when it joins.

The key is on disk before the server hears of it: however often this is interrupted, the same key is said again, the
server knows it again, and no use of the token is spent twice. Once it is known there, it is kept in place of the token
(`keyring`), and the token is not shown any more.
"""

from __future__ import annotations

import logging

from casare_agent import keyring, memory, telemetry
from casare_agent.config import Settings
from casare_agent.memory import Memory
from casare_agent.outage import Outage
from casare_agent.wake import Wake
from casare_api.kinds import Object
from casare_api.machinery import credentials
from casare_api.machinery.errors import ApiError
from casare_client import Client, Unreachable
from casare_client.watch import passing

_log = logging.getLogger("casare.agent")
PENDING = "joining.json"  # the key that was made, until the server knows it


def applicant(settings: Settings, capabilities: list[str], key: str) -> Object:
    """What the agent says of this computer."""
    return {
        "robotId": settings.robot_id,
        "displayName": settings.display_name,
        "environment": settings.environment,
        "capabilities": capabilities,
        "tags": list(settings.tags),
        "slots": settings.max_concurrent_jobs,
        "agent": telemetry.about(capabilities),
        "keyHash": credentials.digest(key),
    }


class Enrolment:
    """One try to join, for as long as it takes. `run` is called once; `end` by anybody, from signal handlers too."""

    def __init__(self, settings: Settings, client: Client, capabilities: list[str]) -> None:
        """`client` shows the token."""
        self._settings, self._client, self._capabilities = settings, client, capabilities
        self._wake, self._is_over = Wake(), False

    def end(self) -> None:
        """Asks it to give up."""
        self._is_over = True
        self._wake.set()

    def run(self) -> str | None:
        """The key, None where it was told to end. Raises ApiError for what the server refuses, OSError."""
        directory, token = self._settings.directory, self._settings.secret
        key = keyring.load(directory, token, PENDING)
        if key == token:
            key = credentials.new()
            keyring.save(directory, token, key, PENDING)
        answer = self._joined(applicant(self._settings, self._capabilities, key))
        if answer is None:
            return None
        memory.save(directory, Memory(answer["robotUID"], answer["namespace"]))
        keyring.save(directory, token, key)
        (directory / PENDING).unlink(missing_ok=True)
        _log.info("robot %s has joined the fleet at %s", answer["robotName"], self._client.config.server)
        return key

    def _joined(self, wish: Object) -> Object | None:
        outage = Outage()
        while not self._is_over:
            try:
                return self._client.enrol(wish)
            except (ApiError, Unreachable) as error:
                if not passing(error):
                    raise
                self._wake.wait(outage.failed(error))
        return None
