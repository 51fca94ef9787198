"""What becomes of many jobs, until all of them are over? One watch for all; it survives a restart of the server.

Ctrl-C ends the looking, never the jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from casare_api.kinds import Object, dig
from casare_api.kinds.job import FINAL, JobPhase
from casare_cli.following import headline
from casare_cli.pump import interruptible
from casare_client import RELIST, WatchEvent

GONE = "Deleted"  # before anybody saw how it ended
SHOWN = 5  # jobs that did not succeed, and why
ORDER = (*(phase.value for phase in JobPhase), GONE)
_OVER = frozenset({*FINAL, GONE})


@dataclass(slots=True)
class Gathering:
    """The jobs that are waited for (uid to name), the phases that were seen, and the first ones that went wrong."""

    names: Mapping[str, str]
    wrong: list[str] = field(default_factory=list)
    _phases: dict[str, str] = field(init=False)
    _counts: Counter[str] = field(init=False)  # kept beside: there may be 100,000 of them, and a change of each

    def __post_init__(self) -> None:
        self._phases = dict.fromkeys(self.names, JobPhase.QUEUED.value)
        self._counts = Counter(self._phases.values())

    def see(self, event: WatchEvent) -> None:
        """Takes in what changed."""
        if event.type == RELIST:
            listed = {job["metadata"]["uid"]: job for job in event.object["items"]}
            for uid in self.names:
                if uid in listed:
                    self._saw(listed[uid])
                else:
                    self._gone(uid)
        elif event.type == "DELETED":
            self._saw(event.object)
            self._gone(event.object["metadata"]["uid"])
        else:
            self._saw(event.object)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each phase that some are in, in the order of a job's life."""
        return {phase: self._counts[phase] for phase in ORDER if self._counts[phase]}

    @property
    def over(self) -> int:
        """How many of them are over."""
        return sum(self._counts[phase] for phase in _OVER)

    @property
    def succeeded(self) -> bool:
        """Whether all have, so far."""
        return self._counts[JobPhase.SUCCEEDED.value] == len(self.names)

    def summary(self) -> str:
        """`3 Queued, 1 Running, 8 Succeeded`."""
        return ", ".join(f"{count} {phase}" for phase, count in self.counts().items())

    def _saw(self, job: Object) -> None:
        uid, phase = job["metadata"]["uid"], str(dig(job, "status", "phase") or JobPhase.QUEUED)
        if self._moved(uid, phase) and phase in FINAL and phase != JobPhase.SUCCEEDED and len(self.wrong) < SHOWN:
            self.wrong.append(headline(job))

    def _gone(self, uid: str) -> None:
        if self._moved(uid, GONE) and len(self.wrong) < SHOWN:
            self.wrong.append(f"job/{self.names[uid]} was deleted before it ended")

    def _moved(self, uid: str, phase: str) -> bool:
        """Puts one of ours that is not over into a phase."""
        before = self._phases.get(uid, GONE)
        if before in _OVER:
            return False
        self._phases[uid] = phase
        self._counts[before] -= 1
        self._counts[phase] += 1
        return True


def wait(events: Iterator[WatchEvent], gathering: Gathering, on_change: Callable[[Gathering], None]) -> None:
    """Returns once all of the jobs are over."""
    for event in interruptible(events):
        gathering.see(event)
        on_change(gathering)
        if gathering.over == len(gathering.names):
            return
