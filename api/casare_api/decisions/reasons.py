"""Why does a job still wait? In plain sentences, by the very rules that placement goes by.

Each robot that could serve the job's namespace counts under the first rule it fails, so that the numbers add up. What
is said holds for all jobs of the same requirements: it is worked out once for them and joined on read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypedDict

from casare_api.decisions.requirements import Requirements, Robot, matches, serves, tolerated
from casare_api.machinery.selectors import LabelSelector


class Reason(TypedDict):
    """One rule that keeps robots from a job: the rule's word, a sentence, how many robots it excludes."""

    rule: str
    message: str
    robots: int


def reasons(requirements: Requirements, namespace: str, robots: Sequence[Robot]) -> list[Reason]:
    """What keeps a job waiting, in plain sentences; each robot counts under the first rule it fails.

    In order: namespace, robotName, environment, capabilities, tags, selector, taints, offline, other states, slots.
    Empty if a robot could take it at once.
    """
    serving = [each for each in robots if serves(each, namespace)]
    if not serving:
        return [Reason(rule="namespace", message=f"no robot serves namespace {namespace}", robots=len(robots))]
    excluded: dict[str, list[Robot]] = defaultdict(list)
    for robot in serving:
        excluded[_obstacle(requirements, robot)].append(robot)
    if excluded.pop("", None):
        return []
    return [_reason(rule, requirements, excluded[rule], serving, robots) for rule in sorted(excluded, key=_order)]


def _obstacle(requirements: Requirements, robot: Robot) -> str:
    """The word of the first rule, of all there are, that keeps the job from the robot now; empty: none."""
    if rule := matches(requirements, robot):
        return rule
    if not robot.schedulable:
        return robot.why_not or "unschedulable"
    return "" if robot.free_slots > 0 else "slots"


_ORDER = ("robotName", "environment", "capabilities", "tags", "selector", "taints", "offline", "paused", "drained")


def _order(rule: str) -> tuple[int, str]:
    if rule == "slots":
        return len(_ORDER) + 1, ""
    return (_ORDER.index(rule) if rule in _ORDER else len(_ORDER)), rule


def _reason(
    rule: str, wanted: Requirements, excluded: Sequence[Robot], serving: Sequence[Robot], robots: Sequence[Robot]
) -> Reason:
    if rule == "robotName":
        return Reason(rule=rule, message=_name_message(wanted, excluded, serving, robots), robots=len(excluded))
    one = len(excluded) == 1
    is_, has, lacks = ("is", "has", "lacks") if one else ("are", "have", "lack")
    match rule:
        case "environment":
            said = f"{is_} not in environment {wanted.environment}"
        case "capabilities":
            said = f"{lacks} {_missing(wanted.capabilities, (each.capabilities for each in excluded))}"
        case "tags":
            said = f"{lacks} tag {_missing(wanted.tags, (each.tags for each in excluded))}"
        case "selector":
            said = f"{'does' if one else 'do'} not match {LabelSelector(wanted.selector)}"
        case "taints":
            said = f"{has} a taint the job does not tolerate ({_untolerated(wanted, excluded)})"
        case "slots":
            said = f"{is_} full"
        case _:
            said = f"{is_} {rule}"
    return Reason(rule=rule, message=f"{_subject(excluded, serving)} {said}", robots=len(excluded))


def _subject(excluded: Sequence[Robot], serving: Sequence[Robot]) -> str:
    if len(serving) == 1:
        return f"the only robot, {serving[0].name},"
    if len(excluded) == len(serving):
        return f"all {len(serving)} robots"
    return f"{len(excluded)} of {len(serving)} robots"


def _name_message(
    wanted: Requirements, excluded: Sequence[Robot], serving: Sequence[Robot], robots: Sequence[Robot]
) -> str:
    if any(each.name == wanted.robot_name for each in serving):
        return f"the job asks for {wanted.robot_name} and no other robot"
    if any(each.name == wanted.robot_name for each in robots):
        return f"robot {wanted.robot_name} does not serve this namespace"
    return f"no robot is named {wanted.robot_name}"


def _missing(wanted: frozenset[str], had: Iterable[frozenset[str]]) -> str:
    return " or ".join(sorted(frozenset().union(*(wanted - each for each in had))))


def _untolerated(wanted: Requirements, excluded: Sequence[Robot]) -> str:
    found = {taint for robot in excluded for taint in robot.taints if not tolerated(wanted.tolerations, [taint])}
    return ", ".join(map(str, sorted(found)[:3])) + (", ..." if len(found) > 3 else "")
