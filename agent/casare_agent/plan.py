"""What is to be done? From the jobs the server wants here and the attempts this process holds, to a list of actions.

Pure, and level-triggered: it looks at how things stand, never at what happened. An action that is lost is planned
again next time; an action that was done is not planned twice. Always holds: an attempt is begun at most once; an
attempt that the server does not want here (any more) is stopped; while such a process is still on its way out, one
job less is begun, so that a robot with one slot never runs two at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from casare_agent.assignment import Assignment


class Stage(StrEnum):
    """How far this process is with an attempt; it only moves down this list."""

    ANNOUNCED = "Announced"  # nothing runs until the server has recorded Running; to RUNNING, ENDED, DELIVERED
    RUNNING = "Running"  # to ENDED; to DELIVERED when it was withdrawn
    ENDED = "Ended"  # the result waits until the server has it; to DELIVERED
    DELIVERED = "Delivered"  # only remembered until the watch shows it no more


LIVE = frozenset({Stage.ANNOUNCED, Stage.RUNNING})


class Intake(StrEnum):
    """What becomes of a job that is assigned and not begun."""

    OPEN = "Open"  # it is begun
    CLOSED = "Closed"  # it is left alone: the agent is finishing what runs
    RETURNED = "Returned"  # it goes back to the queue: the agent is about to end


@dataclass(frozen=True, slots=True)
class Held:
    """What this process has of an attempt. `stopping`: it was told to end already."""

    attempt: int
    stage: Stage
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """Say Running to the server, then run it."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Settle:
    """Report an outcome for an attempt that never runs in this process."""

    assignment: Assignment
    phase: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody cancelled the job: end its process, report Cancelled."""

    uid: str


@dataclass(frozen=True, slots=True)
class Return:
    """The robot is drained: end the job's process, report Drained."""

    uid: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The attempt is not ours any more: end its process, report nothing."""

    uid: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing is left to do for it."""

    uid: str


Action = Begin | Settle | Cancel | Return | Withdraw | Forget


def plan(wanted: Mapping[str, Assignment], held: Mapping[str, Held], intake: Intake = Intake.OPEN) -> list[Action]:
    """The actions that bring what this process holds to what the server wants; both are keyed by job uid."""
    unwanted = {uid: one for uid, one in held.items() if uid not in wanted or wanted[uid].attempt != one.attempt}
    known = {uid: one for uid, one in held.items() if uid not in unwanted}
    actions: list[Action] = [action for uid, one in unwanted.items() for action in _let_go(uid, one)]
    actions += [Cancel(uid) for uid, one in known.items() if wanted[uid].cancel and _can_be_stopped(one)]
    actions += [
        Return(uid)
        for uid, one in known.items()
        if wanted[uid].drain and not wanted[uid].cancel and _can_be_stopped(one)
    ]
    free = [one for uid, one in wanted.items() if uid not in held or Forget(uid) in actions]
    lingering = sum(1 for one in unwanted.values() if one.stage is Stage.RUNNING)
    return actions + _take(free, lingering, intake)


def _let_go(uid: str, one: Held) -> list[Action]:
    if one.stage is Stage.RUNNING:
        return [] if one.stopping else [Withdraw(uid)]
    if one.stage is Stage.ENDED:
        return []  # the result is delivered all the same: the server decides whether it still counts
    return [Forget(uid)]


def _can_be_stopped(one: Held) -> bool:
    return one.stage in LIVE and not one.stopping


def _take(free: list[Assignment], lingering: int, intake: Intake) -> list[Action]:
    """What becomes of the jobs this process does not hold."""
    settled = [action for one in free if (action := _settled(one, intake)) is not None]
    startable = [one for one in free if one.phase == "Assigned" and not one.cancel]
    begun = startable[: max(0, len(startable) - lingering)] if intake is Intake.OPEN else []
    return [*settled, *(Begin(one) for one in begun)]


def _settled(one: Assignment, intake: Intake) -> Settle | None:
    """The outcome of a job that needs no process."""
    if one.phase == "Running":
        return Settle(one, "Lost", "AgentRestarted", "the agent that ran it was restarted")
    if one.phase == "Assigned" and one.cancel:
        return Settle(one, "Cancelled", "Cancelled", "cancelled before it started")
    if one.phase == "Assigned" and intake is Intake.RETURNED:
        return Settle(one, "Drained", "AgentStopped", "its agent stopped before it started")
    return None
