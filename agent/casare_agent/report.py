"""What does a report say? The heartbeat, and what the server has not yet taken of our attempts."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from casare_agent.attempt import Attempt
from casare_api.kinds import Object

MOST_BYTES = 1024 * 1024  # of entries in one report; the rest goes with the next


def entries(attempts: Iterable[Attempt]) -> list[Object]:
    """What is to be said of each attempt, as much as one report carries and at least one entry."""
    chosen: list[Object] = []
    room = MOST_BYTES
    for attempt in attempts:
        entry = attempt.entry()
        if entry is None:
            continue
        room -= len(orjson.dumps(entry))
        if room < 0 and chosen:
            break
        chosen.append(entry)
    return chosen


def body(jobs: list[Object], telemetry: Object, agent: Object | None, leaving: bool = False) -> Object:
    """The body of a report; `agent` says what runs here, in the first report that gets through.

    An agent that is `leaving` gets no more jobs, while it may still run some.
    """
    about: Object = {"agent": agent} if agent is not None else {}
    return {**about, **({"leaving": True} if leaving else {}), "telemetry": telemetry, "jobs": jobs}
