"""Why does a job still wait? In plain sentences, by the very rules that placement goes by.

Each robot that could serve the job's namespace counts under the first rule it fails, so that the numbers add up. What
is said holds for all jobs of the same requirements: it is worked out once for them and joined on read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypedDict

from casare_api.decisions.requirements import Requirements, Robot, likeness, matches, serves, tolerated
from casare_api.machinery.selectors import LabelSelector


class Reason(TypedDict):
    """One rule that keeps robots from a job: the rule's word, a sentence, how many robots it excludes."""

    rule: str
    message: str
    robots: int


def reasons(requirements: Requirements, namespace: str, robots: Iterable[Robot]) -> list[Reason]:
    """What keeps a job waiting, in plain sentences; each robot counts under the first rule it fails.

    In order: namespace, robotName, environment, capabilities, tags, selector, taints, offline, other states, slots.
    Empty if a robot could take it at once.
    """
    return reasons_for([(namespace, requirements)], robots)[0]


def reasons_for(asked: Sequence[tuple[str, Requirements]], robots: Iterable[Robot]) -> list[list[Reason]]:
    """The reasons of many queues, (namespace, requirements) each, in their order; the robots are looked at once."""
    crowds = _crowds([wanted for _, wanted in asked], robots)
    return [_explain(wanted, namespace, crowds) for namespace, wanted in asked]


class _Crowd(NamedTuple):
    """So many robots like this one, to all that is asked."""

    robot: Robot
    size: int


def _crowds(asked: Sequence[Requirements], robots: Iterable[Robot]) -> list[_Crowd]:
    keys = sorted({term.key for wanted in asked for term in wanted.selector})
    names = {wanted.robot_name for wanted in asked}
    models: dict[Any, Robot] = {}
    counts: Counter[Any] = Counter()
    for robot in robots:
        mark = (likeness(robot, keys, names), robot.schedulable, robot.why_not, robot.free_slots > 0)
        models.setdefault(mark, robot)
        counts[mark] += 1
    return [_Crowd(models[mark], count) for mark, count in counts.items()]


def _explain(wanted: Requirements, namespace: str, crowds: Sequence[_Crowd]) -> list[Reason]:
    serving = [crowd for crowd in crowds if serves(crowd.robot, namespace)]
    if not serving:
        return [Reason(rule="namespace", message=f"no robot serves namespace {namespace}", robots=_count(crowds))]
    excluded: dict[str, list[_Crowd]] = defaultdict(list)
    for crowd in serving:
        excluded[_obstacle(wanted, crowd.robot)].append(crowd)
    if "" in excluded:
        return []
    return [_reason(rule, wanted, excluded[rule], serving, crowds) for rule in sorted(excluded, key=_order)]


def _count(crowds: Iterable[_Crowd]) -> int:
    return sum(crowd.size for crowd in crowds)


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
    rule: str, wanted: Requirements, excluded: Sequence[_Crowd], serving: Sequence[_Crowd], crowds: Sequence[_Crowd]
) -> Reason:
    count = _count(excluded)
    if rule == "robotName":
        return Reason(rule=rule, message=_name_message(wanted, serving, crowds), robots=count)
    said = _said(rule, wanted, [crowd.robot for crowd in excluded], count == 1)
    return Reason(rule=rule, message=f"{_subject(count, serving)} {said}", robots=count)


def _said(rule: str, wanted: Requirements, excluded: Sequence[Robot], one: bool) -> str:
    """What is so of the robots a rule excludes; ``one`` of them or several."""
    is_, has, lacks, does = ("is", "has", "lacks", "does") if one else ("are", "have", "lack", "do")
    match rule:
        case "environment":
            return f"{is_} not in environment {wanted.environment}"
        case "capabilities":
            return f"{lacks} {_missing(wanted.capabilities, (each.capabilities for each in excluded))}"
        case "tags":
            return f"{lacks} tag {_missing(wanted.tags, (each.tags for each in excluded))}"
        case "selector":
            return f"{does} not match {LabelSelector(wanted.selector)}"
        case "taints":
            return f"{has} a taint the job does not tolerate ({_untolerated(wanted, excluded)})"
        case "slots":
            return f"{is_} full"
        case _:
            return f"{is_} {rule}"


def _subject(count: int, serving: Sequence[_Crowd]) -> str:
    total = _count(serving)
    if total == 1:
        return f"the only robot, {serving[0].robot.name},"
    return f"all {total} robots" if count == total else f"{count} of {total} robots"


def _name_message(wanted: Requirements, serving: Sequence[_Crowd], crowds: Sequence[_Crowd]) -> str:
    if any(crowd.robot.name == wanted.robot_name for crowd in serving):
        return f"the job asks for {wanted.robot_name} and no other robot"
    if any(crowd.robot.name == wanted.robot_name for crowd in crowds):
        return f"robot {wanted.robot_name} does not serve this namespace"
    return f"no robot is named {wanted.robot_name}"


def _missing(wanted: frozenset[str], had: Iterable[frozenset[str]]) -> str:
    return " or ".join(sorted(frozenset().union(*(wanted - each for each in had))))


def _untolerated(wanted: Requirements, excluded: Sequence[Robot]) -> str:
    found = {taint for robot in excluded for taint in robot.taints if not tolerated(wanted.tolerations, [taint])}
    return ", ".join(map(str, sorted(found)[:3])) + (", ..." if len(found) > 3 else "")
