"""What does a job ask of a robot, and does this robot have it?

Requirements are one value object, compared as sets of words: equal ones are one class of jobs, wherever and however
they were written. ``matches`` is the whole of the rules, in the order in which they are explained to people. It looks
at what a robot is, never at how it fares: whether it is online and has room is ``placement``'s to ask.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import orjson

from casare_api.decisions import approval, draining
from casare_api.machinery.selectors import LabelSelector, Requirement

EVERYWHERE = "*"
Rule = Literal["robotName", "environment", "capabilities", "tags", "selector", "taints"]


@dataclass(frozen=True, slots=True, order=True)
class Taint:
    """A mark that keeps jobs away from a robot unless they tolerate it."""

    key: str
    value: str = ""
    effect: str = "NoPlace"

    def __str__(self) -> str:
        return f"{self.key}={self.value}" if self.value else self.key


@dataclass(frozen=True, slots=True, order=True)
class Toleration:
    """What a job puts up with. Without a key, ``Exists`` puts up with every taint."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""

    def tolerates(self, taint: Taint) -> bool:
        if self.operator == "Exists":
            return self.key in ("", taint.key)
        return self.key == taint.key and self.value == taint.value


@dataclass(frozen=True, slots=True, order=True)
class Preference:
    """What a job would like and can do without: labels that the robot has, or else the robot it was with last."""

    labels: tuple[tuple[str, str], ...] = ()
    same_robot: bool = False


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a job asks of a robot; equal when it asks the same, however it was written.

    No environment: any will do. Words are compared as they are written, capitals included. `prefer`, the most important
    first, keeps the job from no robot: it chooses among those that have a free slot.
    """

    environment: str | None = None
    capabilities: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    selector: tuple[Requirement, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    robot_name: str | None = None
    prefer: tuple[Preference, ...] = ()

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> Requirements:
        """From ``requirements`` as a manifest has it. ApiError 400 for a selector that admission let through."""
        if not spec:
            return _NONE
        try:
            return _parsed(orjson.dumps(spec))
        except TypeError:  # half of a surrogate pair, which has no UTF-8
            return _read(spec)

    @property
    def prefers_same_robot(self) -> bool:
        return any(each.same_robot for each in self.prefer)

    def to_dict(self) -> dict[str, Any]:
        """The manifest's form again, without what is not asked for."""
        spec = {
            "environment": self.environment,
            "capabilities": sorted(self.capabilities),
            "tags": sorted(self.tags),
            "robotSelector": [_expression(each) for each in self.selector],
            "tolerations": [_members(each) for each in self.tolerations],
            "robotName": self.robot_name,
            "prefer": [_preference(each) for each in self.prefer],
        }
        return {key: value for key, value in spec.items() if value}

    def canonical(self) -> str:
        """The one JSON text of these requirements; ``from_dict`` of it gives them back."""
        return _canonical(self)

    def digest(self) -> int:
        """A signed 64-bit number that stands for them in an index: the first bytes of the text's SHA-256."""
        return _digest(self)


def class_of(spec: Mapping[str, Any]) -> tuple[int, str]:
    """The digest and the canonical text of ``requirements`` as a manifest has it, found once for the same words.

    ApiError 400 for a selector that admission let through.
    """
    try:
        return _class_of(orjson.dumps(spec))
    except TypeError:  # as in `from_dict`
        found = Requirements.from_dict(spec)
        return found.digest(), found.canonical()


@dataclass(frozen=True, slots=True)
class Robot:
    """A robot as placement sees it. ``why_not`` is a word (``offline``, ``paused``, ``drained``) if not schedulable.

    ``until``: when that ends by itself, as the robot's status writes it, where that is known.
    """

    uid: str
    name: str
    namespace: str
    serves: tuple[str, ...] = ()
    environment: str = "default"
    capabilities: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    taints: tuple[Taint, ...] = ()
    free_slots: int = 1
    total_slots: int = 1
    schedulable: bool = True
    why_not: str = ""
    until: str = ""

    @classmethod
    def from_object(cls, obj: Mapping[str, Any], *, used_slots: int = 0, online: bool = True) -> Robot:
        """From a Robot resource and what is observed beside it."""
        meta, spec = obj["metadata"], obj.get("spec") or {}
        total = int(spec.get("maxConcurrentJobs") or 1)
        why_not, until = draining.state(obj)
        made = cls(
            uid=meta["uid"],
            name=meta["name"],
            namespace=meta["namespace"],
            serves=tuple(spec.get("serves") or ()),
            environment=spec.get("environment") or "default",
            capabilities=frozenset(spec.get("capabilities") or ()),
            tags=frozenset(spec.get("tags") or ()),
            labels=meta.get("labels") or {},
            taints=tuple(_taint(each) for each in spec.get("taints") or ()),
            free_slots=total,
            total_slots=total,
            schedulable=not why_not,
            why_not=why_not,
            until=until,
        )
        return made.observed(used_slots, online)

    def observed(self, used_slots: int, online: bool) -> Robot:
        """A robot that is online and idle, as it is with this observed beside it."""
        if online and not used_slots:
            return self
        seen = self.with_room(max(self.total_slots - used_slots, 0))
        if not online and seen.why_not != approval.WHY_NOT:
            return replace(seen, schedulable=False, why_not="offline", until="")
        return replace(seen, why_not="draining") if seen.why_not == "drained" and used_slots else seen

    def with_room(self, free_slots: int) -> Robot:
        """The same robot with so many free slots: `replace`, in a third of its time."""
        return Robot(
            self.uid, self.name, self.namespace, self.serves, self.environment, self.capabilities, self.tags,
            self.labels, self.taints, free_slots, self.total_slots, self.schedulable, self.why_not,
            self.until,
        )  # fmt: skip


def serves(robot: Robot, namespace: str) -> bool:
    """Whether the robot takes jobs of that namespace: those in ``serves``, or its own where that is empty."""
    return namespace in robot.serves or EVERYWHERE in robot.serves if robot.serves else namespace == robot.namespace


def matches(requirements: Requirements, robot: Robot) -> Rule | None:
    """The first rule by which the robot is not what is asked for, or None. Free slots and state are no part of it."""
    if requirements.robot_name not in (None, robot.name):
        return "robotName"
    if requirements.environment not in (None, robot.environment):
        return "environment"
    if not requirements.capabilities <= robot.capabilities:
        return "capabilities"
    if not requirements.tags <= robot.tags:
        return "tags"
    if not all(each.matches(robot.labels) for each in requirements.selector):
        return "selector"
    return None if tolerated(requirements.tolerations, robot.taints) else "taints"


def tolerated(tolerations: Iterable[Toleration], taints: Iterable[Taint]) -> bool:
    """Whether each of the taints is put up with."""
    return all(any(each.tolerates(taint) for each in tolerations) for taint in taints)


def likeness(robot: Robot, keys: Sequence[str], names: Container[str | None]) -> tuple[Any, ...]:
    """Robots with the same one are the same to every rule, as long as no other labels and names are asked about."""
    return (
        robot.serves or robot.namespace,
        robot.environment,
        robot.capabilities,
        robot.tags,
        robot.taints,
        robot.name if robot.name in names else None,
        tuple(map(robot.labels.get, keys)) if keys else (),
    )


# -- between values and manifests ------------------------------------------------------------------------------------

_NONE = Requirements()


@lru_cache(maxsize=4096)
def _class_of(text: bytes) -> tuple[int, str]:
    found = _parsed(text)
    return found.digest(), found.canonical()


@lru_cache(maxsize=16_384)
def _parsed(text: bytes) -> Requirements:
    return _read(orjson.loads(text))


def _read(spec: Mapping[str, Any]) -> Requirements:
    expressions = LabelSelector.from_expressions(spec.get("robotSelector") or ())
    return Requirements(
        environment=spec.get("environment") or None,
        capabilities=frozenset(spec.get("capabilities") or ()),
        tags=frozenset(spec.get("tags") or ()),
        selector=tuple(sorted(set(expressions.requirements), key=str)),
        tolerations=tuple(sorted({_toleration(each) for each in spec.get("tolerations") or ()})),
        robot_name=spec.get("robotName") or None,
        prefer=tuple(dict.fromkeys(one for each in spec.get("prefer") or () for one in _preferences(each))),
    )


@lru_cache(maxsize=16_384)
def _canonical(requirements: Requirements) -> str:
    return json.dumps(requirements.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@lru_cache(maxsize=16_384)
def _digest(requirements: Requirements) -> int:
    text = requirements.canonical().encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)


def _taint(spec: Mapping[str, Any]) -> Taint:
    return Taint(spec["key"], spec.get("value") or "", spec.get("effect") or "NoPlace")


def _toleration(spec: Mapping[str, Any]) -> Toleration:
    return Toleration(spec.get("key") or "", spec.get("operator") or "Equal", spec.get("value") or "")


def _preferences(spec: Mapping[str, Any]) -> Iterable[Preference]:
    """One that names both counts as two: labels first."""
    if spec.get("labels"):
        yield Preference(labels=tuple(sorted(spec["labels"].items())))
    if spec.get("sameRobot"):
        yield Preference(same_robot=True)


def _preference(preference: Preference) -> dict[str, Any]:
    return {"sameRobot": True} if preference.same_robot else {"labels": dict(preference.labels)}


def _members(toleration: Toleration) -> dict[str, str]:
    written = {"key": toleration.key, "operator": toleration.operator, "value": toleration.value}
    return {key: value for key, value in written.items() if value}


def _expression(requirement: Requirement) -> dict[str, Any]:
    expression: dict[str, Any] = {"key": requirement.key, "operator": requirement.operator}
    return expression | ({"values": list(requirement.values)} if requirement.values else {})
