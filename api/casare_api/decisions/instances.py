"""Which agent is the robot? One process at a time, whatever computers have the same key (a copied disk, say).

Each process of an agent has an id of its own, the instance, and says it with each report; the place is the same for
every process on one computer and directory, of which a lock lets only one run. Always holds: the instance that the
Robot names is the only one that is believed, and another one gets there under the history lock alone. Agents of a
release that says no instance are believed as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from casare_api.machinery import times
from casare_api.machinery.errors import ApiError, Cause

Object = dict[str, Any]
FRESH = timedelta(seconds=5)  # so long its first heartbeat may be on its way
UNKNOWN = "AgentUnknown"  # a cause: the agent has to say who it is


def is_holder(robot: Mapping[str, Any], instance: str) -> bool:
    """Whether this instance is the one that the Robot names."""
    return _agent(robot).get("instance") == instance


def is_told(robot: Mapping[str, Any], agent: Mapping[str, Any] | None) -> bool:
    """Whether the Robot says all of this agent already."""
    return agent is None or {key: value for key, value in _agent(robot).items() if key != "since"} == agent


def is_near(robot: Mapping[str, Any], agent: Mapping[str, Any]) -> bool:
    """Whether this agent needs nobody else to be gone: there was none, or it was on this very place before it."""
    before = _agent(robot)
    return not before.get("instance") or (bool(before.get("place")) and before["place"] == agent.get("place"))


def claimed(robot: Object, agent: Object, is_alive: bool, now: datetime) -> Object:
    """The Robot with this agent as its own; `is_alive`: signs of life come from somebody. Raises ApiError 409."""
    before = _agent(robot)
    if before.get("instance") == agent.get("instance"):
        noted = {**agent, **({"since": before["since"]} if "since" in before else {})}
    elif is_near(robot, agent) or not (is_alive or _is_fresh(before, now)):
        noted = {**agent, "since": times.to_text(now)}
    else:
        raise taken(robot)
    return robot if noted == before else {**robot, "status": {**(robot.get("status") or {}), "agent": noted}}


def taken(robot: Mapping[str, Any]) -> ApiError:
    """Another agent is this robot."""
    by, name = _agent(robot), robot["metadata"]["name"]
    who = f"on {str(by.get('hostname'))[:253]} (pid {by.get('pid')}, started {by.get('startedTime')})"
    why = f'robot "{name}" is run by another agent {who}: each computer needs a robot id and a key of its own; '
    return ApiError(409, "Conflict", f"{why}this one takes over when that one ends")


def unknown() -> ApiError:
    """The agent was not heard of for long, or somebody else was in between: it says again who it is."""
    why = "the robot is not this agent's at the moment: it has to say who it is"
    return ApiError(409, "Conflict", why, {"causes": [Cause("agent", UNKNOWN, why).body()]})


def _agent(robot: Mapping[str, Any]) -> Mapping[str, Any]:
    found = (robot.get("status") or {}).get("agent")
    return found if isinstance(found, Mapping) else {}


def _is_fresh(agent: Mapping[str, Any], now: datetime) -> bool:
    try:
        return now - times.from_text(agent["since"]) < FRESH
    except (KeyError, ValueError):
        return False
