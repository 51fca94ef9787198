"""What serves the resource API? Each part of it once, and which of its functions serves which verb.

A new part is a field here, its routes below, and where it is made (`app.serving`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from casare_api.decisions.access import Verb
from casare_apiserver.agents import Agents
from casare_apiserver.artifacts import Artifacts
from casare_apiserver.auditing import AuditLog
from casare_apiserver.describing import Describing
from casare_apiserver.enrolling import Enrolling
from casare_apiserver.files import Files
from casare_apiserver.issuing import Issuing
from casare_apiserver.reading import Reading
from casare_apiserver.resealing import Resealing
from casare_apiserver.retrying import Retrying
from casare_apiserver.targets import Target
from casare_apiserver.why import Why
from casare_apiserver.wire import Request
from casare_apiserver.writing import Writing

Handler = Callable[[Request, Target], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Handlers:
    """All of them, of one process."""

    describing: Describing
    reading: Reading
    writing: Writing
    retrying: Retrying
    agents: Agents
    files: Files
    artifacts: Artifacts
    issuing: Issuing
    enrolling: Enrolling
    why: Why
    audit: AuditLog
    resealing: Resealing

    def verbs(self) -> dict[Verb, Handler]:
        """What is the same for every kind."""
        return {
            "get": self.reading.get, "list": self.reading.list, "watch": self.reading.watch,
            "create": self.writing.create, "update": self.writing.replace, "patch": self.writing.patch,
            "delete": self.writing.delete, "deletecollection": self.writing.delete_collection,
        }  # fmt: skip

    def specials(self) -> dict[tuple[str, str | None, Verb], Handler]:
        """Subresources of single kinds: plural, subresource, verb."""
        return {
            ("robots", "report", "create"): self.agents.report,
            ("jobs", "log", "create"): self.agents.add_log,
            ("jobs", "log", "get"): self.agents.read_log,
            ("jobs", "artifacts", "get"): self.artifacts.list,
            ("jobs", "retry", "create"): self.retrying.retry,
            ("jobs", "why", "get"): self.why.of_job,
            ("apikeys", "token", "create"): self.issuing.token,
            ("apikeys", "rotate", "create"): self.issuing.rotate,
            ("jointokens", "token", "create"): self.enrolling.token,
        }
