"""What does a robot lack for a job, and what would have to change?

Where ``matches`` stops at the first rule that fails, this goes through all of them: a robot that lacks nothing here is
one that matches, serves the namespace and may take work; with every change carried out, each robot is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from casare_api.decisions.reasons import clock
from casare_api.decisions.requirements import Requirements, Robot, serves, tolerated
from casare_api.machinery.selectors import LabelSelector, Requirement

_STATES = {  # what it needs, and what has to be done
    "offline": ("a sign of life (it is offline)", "start the agent of robot {}"),
    "paused": ("desiredState Active (it is paused)", "resume robot {}"),
    "drained": ("desiredState Active (it is drained)", "resume robot {}"),
    "draining": ("desiredState Active (it is being drained)", "resume robot {}"),
    "maintenance": ("the end of its maintenance", "wait for it, or change maintenanceWindows of robot {}"),
    "restarting": ("the restart of its agent", "wait for it"),
    "refused": ("an agent of a release that the server takes", "upgrade the agent of robot {}, or the server"),
}


class Lack(NamedTuple):
    """One thing: the word of its rule, what is lacking, as after "lacks", and what would have to be done."""

    rule: str
    what: str
    change: str


def lacks(namespace: str, wanted: Requirements, robot: Robot) -> list[Lack]:
    """All that keeps the robot from jobs of the namespace that ask for this, but for room; empty: nothing."""
    return [
        *_place(namespace, robot),
        *_name(wanted, robot),
        *_words(wanted, robot),
        *_labels(wanted.selector, robot),
        *_taints(wanted, robot),
        *state(robot),
    ]


def _place(namespace: str, robot: Robot) -> Iterator[Lack]:
    if not serves(robot, namespace):
        served = ", ".join([*(robot.serves or (robot.namespace,)), namespace])
        change = f"set serves of robot {robot.name} to [{served}]"
        yield Lack("namespace", f"namespace {namespace} among those it serves", change)


def _name(wanted: Requirements, robot: Robot) -> Iterator[Lack]:
    if wanted.robot_name not in (None, robot.name):
        change = f"submit the job without robotName, or with {robot.name} as its robotName"
        yield Lack("robotName", f"the name {wanted.robot_name}", change)


def _words(wanted: Requirements, robot: Robot) -> Iterator[Lack]:
    if wanted.environment not in (None, robot.environment):
        change = f"set environment of robot {robot.name} to {wanted.environment}"
        yield Lack("environment", f"environment {wanted.environment}", change)
    for word in sorted(wanted.capabilities - robot.capabilities):
        yield Lack("capabilities", f"capability {word}", f"add capability {word} to robot {robot.name}")
    for word in sorted(wanted.tags - robot.tags):
        yield Lack("tags", f"tag {word}", f"add tag {word} to robot {robot.name}")


def _labels(selector: Sequence[Requirement], robot: Robot) -> Iterator[Lack]:
    """What is asked of one label is one thing, however many expressions say it."""
    by_key: dict[str, list[Requirement]] = defaultdict(list)
    for term in selector:
        by_key[term.key].append(term)
    for key, terms in sorted(by_key.items()):
        if not all(term.matches(robot.labels) for term in terms):
            yield Lack("selector", f"label {LabelSelector(tuple(terms))}", _relabelling(key, terms, robot.name))


def _relabelling(key: str, terms: Sequence[Requirement], name: str) -> str:
    if all(term.matches({}) for term in terms):
        return f"remove label {key} from robot {name}"
    value = next((each for each in _candidates(terms) if all(term.matches({key: each}) for term in terms)), None)
    if value is None:
        return f"submit the job without {LabelSelector(tuple(terms))}: no robot can be like that"
    return f"set label {key} of robot {name} to {value}"


def _candidates(terms: Sequence[Requirement]) -> Iterator[str]:
    """Values of a label among which there is one that all expressions hold of, if there is any at all."""
    yield from (value for term in terms if term.operator == "In" for value in term.values)
    steps = range(1, sum(len(term.values) for term in terms if term.operator == "NotIn") + 2)
    limits = [int(term.values[0]) for term in terms if term.operator in ("Gt", "Lt")]
    near = (limit + sign * step for limit in limits for sign in (1, -1) for step in steps)
    yield from (str(number) for number in near if number >= 0)  # a label's value begins with a letter or a digit
    yield "true"
    yield from (f"true-{step}" for step in steps)


def _taints(wanted: Requirements, robot: Robot) -> Iterator[Lack]:
    for taint in _untolerated(wanted, robot):
        what, change = f"toleration of its taint {taint}", f"remove taint {taint} from robot {robot.name}"
        yield Lack("taints", what, f"{change}, or submit the job with a toleration of it")


def _untolerated(wanted: Requirements, robot: Robot) -> Iterable[object]:
    return sorted({taint for taint in robot.taints if not tolerated(wanted.tolerations, [taint])})


def state(robot: Robot) -> Iterator[Lack]:
    """What it lacks to take any job at all; at most one thing."""
    if not robot.schedulable:
        rule = robot.why_not or "unschedulable"
        otherwise = f"a state in which it takes jobs (it is {rule})", f"make robot {robot.name} take jobs again"
        what, change = _STATES.get(rule, otherwise)
        ends = f", {clock(robot.until)}" if robot.until else ""
        yield Lack(rule, what + ends, change.format(robot.name))
