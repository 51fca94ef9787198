"""What does a person want to see of a robot? Pure functions from resources to plain rows and texts.

Rows hold texts, lists of texts and seconds; `uid` says which robot a row is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from casare_api.kinds import Object, dig
from casare_api.kinds.job import LIVE
from casare_api.kinds.robot import RobotPhase, load, shown
from casare_api.kinds.robot import words as states
from casare_dashboard import words

STATUSES = (
    *(phase.value for phase in RobotPhase), "Paused", "Draining", "Drained", "Maintenance", "Restarting", "Refused",
)  # fmt: skip
MOST = 1000  # rows at a time; a person who needs more filters


def statuses(robot: Object) -> list[str]:
    """Its phase, and in another word what keeps it from new jobs, where there is anything."""
    return states(robot)


def slots(robot: Object) -> str:
    """`1 of 2`: how many jobs it runs and how many it takes at once."""
    total = dig(robot, "status", "slots", "total") or dig(robot, "spec", "maxConcurrentJobs") or 1
    return f"{dig(robot, 'status', 'slots', 'used') or 0} of {total}"


def matching(robots: Iterable[Object], text: str, wanted: Sequence[str]) -> list[Object]:
    """The robots that hold all words of the text somewhere and have one of the statuses (none: any), by name."""
    found = [robot for robot in robots if _has(robot, text) and (not wanted or set(wanted) & set(statuses(robot)))]
    return sorted(found, key=lambda robot: (dig(robot, "metadata", "name"), dig(robot, "metadata", "namespace")))


def rows(robots: Iterable[Object], now: datetime) -> list[dict[str, Any]]:
    """One row a robot; times are seconds ago."""
    return [
        {
            "uid": dig(robot, "metadata", "uid"),
            "Name": dig(robot, "metadata", "name"),
            "Namespace": dig(robot, "metadata", "namespace"),
            "Status": statuses(robot),
            "Slots": slots(robot),
            "Environment": dig(robot, "spec", "environment") or "default",
            "Capabilities": list(dig(robot, "spec", "capabilities") or []),
            "Last seen": words.seconds_since(robot, now, "status", "lastSeenTime"),
            "Age": words.seconds_since(robot, now, "metadata", "creationTimestamp"),
        }
        for robot in robots
    ]


def tally(robots: Iterable[Object]) -> list[tuple[str, int]]:
    """How many robots there are in each status, in the order of STATUSES, without those nobody is in."""
    counted = Counter(status for robot in robots for status in statuses(robot))
    return [(status, counted[status]) for status in STATUSES if counted[status]]


def details(robot: Object, now: datetime) -> list[tuple[str, str]]:
    """What there is to know about one robot, as pairs of name and text; what it lacks is left out."""
    metadata, spec, status = robot.get("metadata") or {}, robot.get("spec") or {}, robot.get("status") or {}
    agent = status.get("agent") or {}
    return words.facts(
        [
            ("Robot id", spec.get("robotId") or metadata.get("name")),
            ("Namespace", metadata.get("namespace")),
            ("Environment", spec.get("environment") or "default"),
            ("Slots", slots(robot)),
            ("Capabilities", spec.get("capabilities")),
            ("Tags", spec.get("tags")),
            ("Labels", metadata.get("labels")),
            ("Serves namespaces", spec.get("serves")),
            ("Last seen", words.ago(robot, now, "status", "lastSeenTime") or "never"),
            ("Load", load(robot)),
            ("Host", agent.get("hostname")),
            ("System", agent.get("os")),
            ("Agent", _agent(agent)),
            ("Agent started", words.ago(agent, now, "startedTime")),
            ("Declared", words.ago(robot, now, "metadata", "creationTimestamp")),
        ]
    )


def title(robot: Object) -> str:
    """The name that people gave it."""
    return shown(robot)


def conditions(robot: Object, now: datetime) -> list[dict[str, str]]:
    """Its conditions, one row each."""
    return [
        {
            "Condition": str(one.get("type") or ""),
            "Holds": str(one.get("status") or ""),
            "Since": words.ago(one, now, "lastTransitionTime"),
            "Reason": str(one.get("reason") or ""),
            "Message": str(one.get("message") or ""),
        }
        for one in dig(robot, "status", "conditions") or []
    ]


def jobs_on(robot: Object, jobs: Iterable[Object]) -> list[Object]:
    """The jobs that this robot has in hand."""
    uid, live = dig(robot, "metadata", "uid"), {phase.value for phase in LIVE}
    return [job for job in jobs if dig(job, "status", "robotUID") == uid and dig(job, "status", "phase") in live]


def _agent(agent: Object) -> str:
    version, pid = agent.get("version"), agent.get("pid")
    return " ".join(part for part in (f"version {version}" if version else "", f"pid {pid}" if pid else "") if part)


def _has(robot: Object, text: str) -> bool:
    spec = robot.get("spec") or {}
    fields = (
        dig(robot, "metadata", "name"), dig(robot, "metadata", "namespace"), dig(robot, "metadata", "labels"),
        dig(robot, "status", "agent", "hostname"), spec.get("robotId"), spec.get("displayName"),
        spec.get("environment") or "default", spec.get("capabilities"), spec.get("tags"),
    )  # fmt: skip
    haystack = " ".join(words.plain(field) for field in fields).casefold()
    return all(word in haystack for word in text.casefold().split())
