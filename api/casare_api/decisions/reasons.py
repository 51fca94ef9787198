"""Why does a job still wait? In plain sentences, by the very rules that placement goes by.

Each robot that could serve the job's namespace counts under the first rule it fails, so that the numbers add up. What
is said holds for all jobs of the same requirements: it is worked out once for them and joined on read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from math import ceil
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypedDict

from casare_api.decisions.requirements import Requirements, Robot, likeness, matches, serves, tolerated
from casare_api.machinery.durations import format_duration
from casare_api.machinery.selectors import LabelSelector

Asked = tuple[str, Requirements]  # a queue: its namespace, and what its jobs ask for


class Reason(TypedDict):
    """One rule that keeps robots from a job: the rule's word, a sentence, how many robots it excludes."""

    rule: str
    message: str
    robots: int


class Share(Protocol):
    """What a namespace's Quota gives it, and how many of its jobs robots have now."""

    @property
    def weight(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def max_running(self) -> int | None: ...


class Alone(NamedTuple):
    """The share of a namespace that has no Quota and runs nothing."""

    weight: int = 1
    running: int = 0
    max_running: int | None = None


Shares = Mapping[str, Share]  # by namespace; of one that is not there, `Alone`


class Crowd(NamedTuple):
    """Robots that are all alike to what is asked, ``robot`` one of them; the obstacle of one is that of each."""

    robot: Robot
    members: list[Robot]


NOTHING_SPECIAL: Mapping[str, Any] = MappingProxyType({})
ABLE = ("", "slots")  # the obstacles of a robot that only needs room


def reasons(requirements: Requirements, namespace: str, robots: Iterable[Robot]) -> list[Reason]:
    """What keeps a job waiting, in plain sentences; each robot counts under the first rule it fails.

    In order: namespace, robotName, environment, capabilities, tags, selector, taints, offline, other states, slots.
    Empty if a robot could take it at once.
    """
    return reasons_for([(namespace, requirements)], robots)[0]


def reasons_for(asked: Sequence[Asked], robots: Iterable[Robot]) -> list[list[Reason]]:
    """The reasons of many queues, (namespace, requirements) each, in their order; the robots are looked at once."""
    found = crowds(asked, robots)
    return [by_robots(each, found, obstacles(each, found)) for each in asked]


def told(
    asked: Sequence[Asked],
    robots: Iterable[Robot],
    shares: Shares = NOTHING_SPECIAL,
    ends: Mapping[str, timedelta] = NOTHING_SPECIAL,
) -> list[list[Reason]]:
    """What the jobs of each queue are told: their robots' reasons and those that are not of robots; never nothing.

    ``shares`` by namespace: what is not there has no Quota and runs nothing. ``ends``: in how long a full robot usually
    has room, by its uid, where that is known.
    """
    found = crowds(asked, robots)
    kept = [obstacles(each, found) for each in asked]
    wanted: dict[str, int] = defaultdict(int)  # the crowds that a namespace would have, one bit each
    for (namespace, _), rules in zip(asked, kept, strict=True):
        wanted[namespace] |= _able(rules)
    return [
        [*_apart(each[0], rules, found, wanted, shares), *by_robots(each, found, rules, ends)]
        for each, rules in zip(asked, kept, strict=True)
    ]


def with_less_room(robots: Iterable[Robot], taken: Mapping[str, int]) -> list[Robot]:
    """The robots after so many of their free slots were given away, by uid."""
    return [
        replace(each, free_slots=max(each.free_slots - taken[each.uid], 0)) if each.uid in taken else each
        for each in robots
    ]


# -- the rules ---------------------------------------------------------------------------------------------------------


def crowds(asked: Iterable[Asked], robots: Iterable[Robot]) -> list[Crowd]:
    """The robots in crowds that all of what is asked can't tell apart."""
    wanted = [each for _, each in asked]
    keys = sorted({term.key for each in wanted for term in each.selector})
    names = {each.robot_name for each in wanted}
    found: dict[Any, Crowd] = {}
    for robot in robots:
        mark = (likeness(robot, keys, names), robot.schedulable, robot.why_not, robot.free_slots > 0)
        crowd = found.get(mark)
        if crowd is None:
            crowd = found[mark] = Crowd(robot, [])
        crowd.members.append(robot)
    return list(found.values())


def obstacles(asked: Asked, found: Iterable[Crowd]) -> list[str]:
    """The obstacle of each crowd, in their order."""
    return [obstacle(*asked, crowd.robot) for crowd in found]


def obstacle(namespace: str, requirements: Requirements, robot: Robot) -> str:
    """The word of the first rule, of all there are, that keeps the job from the robot now; empty: none."""
    if not serves(robot, namespace):
        return "namespace"
    if rule := matches(requirements, robot):
        return rule
    if not robot.schedulable:
        return robot.why_not or "unschedulable"
    return "" if robot.free_slots > 0 else "slots"


def _able(rules: Iterable[str]) -> int:
    """The crowds that would do but for room, one bit each."""
    return sum(1 << number for number, rule in enumerate(rules) if rule in ABLE)


# -- what is not about robots ----------------------------------------------------------------------------------------


def _apart(
    namespace: str, rules: Sequence[str], found: Sequence[Crowd], wanted: Mapping[str, int], shares: Shares
) -> list[Reason]:
    share = shares.get(namespace, Alone())
    if is_used_up(share):
        return [used_up(namespace, share)]
    if "" in rules:
        return [soon([crowd for crowd, rule in zip(found, rules, strict=True) if not rule])]
    mine = _able(rules)
    first = next_in_turn(namespace, (other for other, theirs in wanted.items() if mine & theirs), shares)
    return [anothers_turn(share, shares.get(first, Alone()))] if first else []


def is_used_up(share: Share) -> bool:
    """Whether the namespace may run no more jobs."""
    return share.max_running is not None and share.running >= share.max_running


def used_up(namespace: str, share: Share) -> Reason:
    """The Quota of a namespace lets none of its jobs begin."""
    jobs = "1 job" if share.running == 1 else f"{share.running} jobs"
    what = f"namespace {namespace} runs {jobs}, as many as its quota allows (maxRunning {share.max_running})"
    return Reason(rule="quota", message=what, robots=0)


def soon(free: Sequence[Crowd]) -> Reason:
    """A robot is free, and nothing else is known to be in the way."""
    count = _count(free)
    who = f"{free[0].robot.name} is free" if count == 1 else f"{count} robots are free"
    return Reason(rule="placement", message=f"{who}: it will be placed in a moment", robots=0)


def next_in_turn(namespace: str, rivals: Iterable[str], shares: Shares) -> str | None:
    """Of the namespaces that want the same robots, the one that comes first as it runs less for its weight."""
    mine = _load(shares.get(namespace, Alone()))
    if not mine:
        return None
    others = ((shares.get(each, Alone()), each) for each in rivals if each != namespace)
    less = [(_load(share), each) for share, each in others if _load(share) < mine and not is_used_up(share)]
    return min(less)[1] if less else None


def _load(share: Share) -> float:
    return share.running / share.weight


def anothers_turn(mine: Share, first: Share, name: str | None = None) -> Reason:
    """Fair share: another namespace, named where the reader may know it, is served before."""
    who = f"namespace {name}" if name else "another namespace"
    theirs, ours = (f"{each.running} at weight {each.weight}" for each in (first, mine))
    what = f"the next turn is that of {who}, which wants the same robots and has fewer jobs on robots"
    return Reason(rule="fairShare", message=f"{what}: {theirs}, against {ours} here", robots=0)


# -- what is about robots ---------------------------------------------------------------------------------------------


def by_robots(
    asked: Asked, found: Sequence[Crowd], rules: Sequence[str], ends: Mapping[str, timedelta] = NOTHING_SPECIAL
) -> list[Reason]:
    """What keeps the robots that serve the namespace from the jobs; empty if one could take them now."""
    return [] if "" in rules else excluding(asked, found, rules, ends)


def excluding(
    asked: Asked, found: Sequence[Crowd], rules: Sequence[str], ends: Mapping[str, timedelta] = NOTHING_SPECIAL
) -> list[Reason]:
    """What keeps robots that serve the namespace from the jobs, be there others that are free or not."""
    namespace, wanted = asked
    by_rule: dict[str, list[Crowd]] = defaultdict(list)
    for crowd, rule in zip(found, rules, strict=True):
        by_rule[rule].append(crowd)
    by_rule.pop("namespace", None)
    serving = [crowd for crowds in by_rule.values() for crowd in crowds]
    if not serving:
        return [_nobody_serves(namespace, _count(found))]
    by_rule.pop("", None)
    return [_reason(rule, wanted, by_rule[rule], serving, ends) for rule in sorted(by_rule, key=_order)]


def elsewhere(namespace: str, found: Sequence[Crowd], rules: Sequence[str]) -> list[Reason]:
    """How many robots do not serve the namespace while others do."""
    away = [crowd for crowd, rule in zip(found, rules, strict=True) if rule == "namespace"]
    total, count = _count(found), _count(away)
    if count in (0, total):
        return []
    verb = "does" if count == 1 else "do"
    message = f"{count} of {total} robots {verb} not serve namespace {namespace}"
    return [Reason(rule="namespace", message=message, robots=count)]


def in_words(span: timedelta) -> str:
    """About how long from now, so coarse that it stays the same for a while: ``under a minute``, ``4m``, ``2h30m``."""
    minutes = ceil(span / timedelta(minutes=1))
    if minutes <= 1:
        return "under a minute"
    step = 1 if minutes <= 10 else 5 if minutes <= 120 else 30
    return format_duration(timedelta(minutes=ceil(minutes / step) * step))


def _nobody_serves(namespace: str, total: int) -> Reason:
    message = f"no robot serves namespace {namespace}" if total else "no robot has registered yet"
    return Reason(rule="namespace", message=message, robots=total)


def _count(found: Iterable[Crowd]) -> int:
    return sum(len(crowd.members) for crowd in found)


_ORDER = (
    "robotName", "environment", "capabilities", "tags", "selector", "taints", "unapproved", "offline", "refused",
    "paused", "drained", "draining", "maintenance", "restarting",
)  # fmt: skip
_STATES = {  # as they are said of robots, where the word alone is no sentence
    "maintenance": "in maintenance",
    "refused": "refused, for the server does not take agents of that release",
}


def _order(rule: str) -> tuple[int, str]:
    if rule == "slots":
        return len(_ORDER) + 1, ""
    return (_ORDER.index(rule) if rule in _ORDER else len(_ORDER)), rule


def _reason(
    rule: str,
    wanted: Requirements,
    excluded: Sequence[Crowd],
    serving: Sequence[Crowd],
    ends: Mapping[str, timedelta],
) -> Reason:
    count = _count(excluded)
    if rule == "robotName":
        return Reason(rule=rule, message=_name_message(wanted, serving), robots=count)
    said = _said(rule, wanted, [crowd.robot for crowd in excluded], count == 1)
    until = _until(excluded, ends) if rule == "slots" else _ends(excluded)
    return Reason(rule=rule, message=f"{_subject(count, serving)} {said}{until}", robots=count)


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
            return f"{is_} {state_words(rule)}"


def state_words(rule: str) -> str:
    """A state in which robots take no jobs, as after "is"."""
    return _STATES.get(rule, rule)


def clock(text: str) -> str:
    """A time of a robot's status, as people read it."""
    return f"{text[:19].replace('T', ' ')} UTC"


def _ends(excluded: Sequence[Crowd]) -> str:
    """When the state of robots ends by itself, where that is known: of several, the first."""
    known = [each.until for crowd in excluded for each in crowd.members if each.until]
    if not known:
        return ""
    return f" until {clock(known[0])}" if _count(excluded) == 1 else f", the first until {clock(min(known))}"


def _until(full: Sequence[Crowd], ends: Mapping[str, timedelta]) -> str:
    """In how long one of the full robots usually has room, where that is known."""
    known = [ends[each.uid] for crowd in full for each in crowd.members if each.uid in ends] if ends else []
    if not known:
        return ""
    who = "its jobs usually end" if _count(full) == 1 else "the next slot is usually free"
    return f"; {who} in {in_words(min(known))}"


def _subject(count: int, serving: Sequence[Crowd]) -> str:
    total = _count(serving)
    if total == 1:
        return f"the only robot, {serving[0].robot.name},"
    return f"all {total} robots" if count == total else f"{count} of {total} robots"


def _name_message(wanted: Requirements, serving: Sequence[Crowd]) -> str:
    """Whether a robot of that name works for others is nothing that everybody may find out."""
    if any(crowd.robot.name == wanted.robot_name for crowd in serving):
        return f"the job asks for {wanted.robot_name} and no other robot"
    return f"no robot named {wanted.robot_name} serves this namespace"


def _missing(wanted: frozenset[str], had: Iterable[frozenset[str]]) -> str:
    return " or ".join(sorted(frozenset().union(*(wanted - each for each in had))))


def _untolerated(wanted: Requirements, excluded: Sequence[Robot]) -> str:
    found = {taint for robot in excluded for taint in robot.taints if not tolerated(wanted.tolerations, [taint])}
    return ", ".join(map(str, sorted(found)[:3])) + (", ..." if len(found) > 3 else "")
