"""Do an agent and a server of different releases understand each other?

A report says the number of the protocol that its agent speaks, in what it says of itself; an agent of a release before
there was a number speaks 1. A server states from which to which it goes; an agent outside of that is refused as a
whole, and told what to upgrade. Other versions within the range work together, and are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SPOKEN = 2  # what this release's agents speak: 2 can restart, and gives a job back when its robot is drained
_MOST = 40  # characters of a version that are shown
OLDEST, NEWEST = 1, 2  # what this release's servers take


def protocol(agent: Mapping[str, Any] | None) -> int:
    """The number that an agent says, 1 where it says none."""
    said = (agent or {}).get("protocol")
    return said if isinstance(said, int) and not isinstance(said, bool) else 1


def refusal(agent: Mapping[str, Any] | None) -> str | None:
    """Why an agent is not taken, and what to upgrade; None where it is."""
    said = protocol(agent)
    if OLDEST <= said <= NEWEST:
        return None
    who = f"the agent ({_version(agent)}) speaks protocol {said}"
    what = "the agent" if said < OLDEST else "the server"
    return f"{who}, this server takes {OLDEST} to {NEWEST}: upgrade {what}"


def difference(agent: Mapping[str, Any] | None, server: str) -> tuple[str, str] | None:
    """A word and a sentence about an agent of another release than the server; None where there is nothing to say."""
    if not agent:
        return None
    refused = refusal(agent)
    if refused is not None:
        return ("TooOld" if protocol(agent) < OLDEST else "TooNew"), refused
    if agent.get("version") in (None, server):
        return None
    return "OtherVersion", f"its agent is {_version(agent)}, the server is version {server}"


def restarts(agent: Mapping[str, Any] | None) -> bool:
    """Whether an agent restarts when it is asked to."""
    return protocol(agent) >= 2


def is_restarting(wanted: str | None, agent: Mapping[str, Any] | None) -> bool:
    """Whether an agent has still to restart for this `spec.restartRequestedAt`."""
    return bool(wanted) and restarts(agent) and (agent or {}).get("restartedFor") != wanted


def _version(agent: Mapping[str, Any] | None) -> str:
    said = " ".join(str((agent or {}).get("version") or "unknown").split())
    return f"version {said[:_MOST]}"
