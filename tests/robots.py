"""An agent without processes: what real agents decide and say, and nothing of how they run things.

It plans with the agent's own pure function and moves its attempts along the same stages (`casare_agent.attempt`); a
process starts when the server has acknowledged Running. What it does is noted in the book.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from casare_agent.assignment import Assignment
from casare_agent.fence import Contact, limits
from casare_agent.plan import LIVE, Begin, Cancel, Forget, Held, Intake, Return, Settle, Stage, Withdraw, plan
from casare_api.kinds import Object, dig
from casare_api.machinery.durations import parse_duration

from .invariants import Book

_OVER = frozenset({404, 409})


@dataclass
class Attempt:
    """One attempt as an agent holds it; `result` is what it says at its end."""

    assignment: Assignment
    stage: Stage = Stage.ANNOUNCED
    result: Object = field(default_factory=dict)

    @property
    def is_fenced(self) -> bool:
        return bool(dig(self.assignment.spec or {}, "retry", "selfFence"))

    def is_forbidden(self, contact: Contact) -> bool:
        """Whether it must not run any more, nobody hearing of its robot; its grace is over by then."""
        spec = self.assignment.spec or {}
        lost_after, grace = (parse_duration(spec[key]).total_seconds() for key in ("lostAfter", "gracePeriod"))
        return self.is_fenced and contact.silence() >= sum(limits(lost_after, grace, contact.lease))

    def identity(self) -> Object:
        about = self.assignment
        return {"namespace": about.namespace, "name": about.name, "uid": about.uid, "attempt": about.attempt}


@dataclass
class Agent:
    """One life of a robot's program. `journal` is its disk: results that were not delivered outlive it there."""

    book: Book
    journal: dict[str, Attempt] = field(default_factory=dict)
    robot_uid: str | None = None  # of the Robot that it was started for
    held: dict[str, Attempt] = field(init=False)

    def __post_init__(self) -> None:
        self.held = dict(self.journal)

    def see(self, wanted: Mapping[str, Assignment], intake: Intake = Intake.OPEN) -> None:
        """Moves on what it holds, given the jobs that the server wants here."""
        held = {uid: Held(one.assignment.attempt, one.stage) for uid, one in self.held.items()}
        for action in plan(wanted, held, intake):
            match action:
                case Begin(assignment):
                    self.held[assignment.uid] = Attempt(assignment)
                case Settle(assignment, phase, reason, message):
                    self.held[assignment.uid] = Attempt(assignment)
                    self.end(assignment.uid, phase, reason=reason, message=message)
                case Cancel(uid):
                    self.end(uid, "Cancelled")
                case Return(uid):
                    self.end(uid, "Drained", reason="RobotDrained")
                case Withdraw(uid):
                    self.held[uid].stage = Stage.DELIVERED
                    self._over(uid)
                case Forget(uid):
                    del self.held[uid]

    def running(self) -> list[str]:
        """The jobs whose processes run, by uid."""
        return [uid for uid, one in self.held.items() if one.stage is Stage.RUNNING]

    def end(self, uid: str, phase: str, **facts: Any) -> None:
        """An attempt is over: its process ended, or was ended, or never began."""
        one = self.held[uid]
        assert one.stage in LIVE
        one.stage, one.result = Stage.ENDED, {"phase": phase, **facts}
        self.journal[uid] = one
        self._over(uid)

    def fence(self, contact: Contact) -> None:
        """Ends what the server is about to give to another robot, at the very last moment."""
        for uid in self.running():
            if self.held[uid].is_forbidden(contact):
                self.end(uid, "Lost", reason="SelfFenced")

    def let_go(self, *, but_fenced: bool = False) -> None:
        """Nobody minds its processes any more: they are killed with it, or its robot was deleted.

        Of what fences itself (`but_fenced`) no second one runs beside the first also then.
        """
        for uid in self.running():
            if not (but_fenced and self.held[uid].is_fenced):
                self._over(uid)

    def _over(self, uid: str) -> None:
        self.book.over(uid, self.held[uid].assignment.attempt)

    def leave(self, wanted: Mapping[str, Assignment]) -> None:
        """It was told to end and waits no longer: it gives back what it has."""
        for uid, one in self.held.items():
            if one.stage in LIVE:
                self.end(uid, "Drained", reason="AgentStopped")
        self.see(wanted, Intake.RETURNED)

    def news(self) -> list[Object]:
        """What the server has to hear."""
        said = {Stage.ANNOUNCED: {"phase": "Running"}}
        entries = ((one, one.result if one.stage is Stage.ENDED else said.get(one.stage)) for one in self.held.values())
        news = [{**one.identity(), **words} for one, words in entries if words]
        self.book.said.update((one["uid"], one["attempt"], one["phase"]) for one in news)
        return news

    def answered(self, entry: Object, code: int) -> None:
        """What the server said to an entry."""
        if code == 200 and entry["phase"] != "Running":
            self.book.heard[entry["uid"], entry["attempt"]] = entry["phase"]
        one = self.held.get(entry["uid"])
        if one is None or one.assignment.attempt != entry["attempt"]:
            return
        if entry["phase"] == "Running":
            if code == 200 and one.stage is Stage.ANNOUNCED:
                one.stage = Stage.RUNNING
                self.book.start(entry["uid"], entry["attempt"], alone=one.is_fenced)
            elif code in _OVER and one.stage in LIVE:
                one.stage = Stage.DELIVERED
        elif one.stage is Stage.ENDED and (code in (200, 422) or code in _OVER):
            one.stage = Stage.DELIVERED
            self.journal.pop(entry["uid"], None)
