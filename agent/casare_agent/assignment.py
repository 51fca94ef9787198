"""What does the server want of this robot? One job, one attempt, as the watch shows it."""

from __future__ import annotations

from dataclasses import dataclass

from casare_api.kinds import Object


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job that is placed on this robot. `uid` and `attempt` together name the one run that is meant.

    `drain`: it is to be ended and given back, for the robot is drained.
    """

    namespace: str
    name: str
    uid: str
    attempt: int
    phase: str = "Assigned"
    cancel: bool = False
    drain: bool = False
    spec: Object | None = None

    @classmethod
    def of(cls, job: Object) -> Assignment:
        """From a Job object."""
        metadata, spec, status = job["metadata"], job.get("spec") or {}, job.get("status") or {}
        return cls(
            namespace=metadata.get("namespace") or "default",
            name=metadata["name"],
            uid=metadata["uid"],
            attempt=int(status.get("attempt") or 0),
            phase=str(status.get("phase") or ""),
            cancel=bool(spec.get("cancel")),
            drain=bool(status.get("drainTime")),
            spec=spec,
        )

    @property
    def path(self) -> str:
        """As people name it: `namespace/name`."""
        return f"{self.namespace}/{self.name}"
