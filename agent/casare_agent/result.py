"""How did an attempt end, and how does that survive the agent's own death?

A result is written to the attempt's directory before it is reported and removed when the server has it: a crash in
between loses nothing, and the next agent delivers it.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from casare_agent.assignment import Assignment
from casare_agent.files import write_whole
from casare_api.kinds import Object
from casare_api.machinery import times

FILE = "result.json"
_MOST_MESSAGE = 2000  # characters


def now_text() -> str:
    """This computer's time, to the microsecond; the server's clock decides wherever times are compared."""
    return times.to_text(datetime.now(UTC), micro=True)


@dataclass(frozen=True, slots=True)
class Result:
    """The end of an attempt. `phase` is Succeeded, Failed, Cancelled, Lost or Drained."""

    phase: str
    reason: str
    message: str = ""
    exit_code: int | None = None
    outputs: dict[str, Any] | None = None
    finished: str | None = None

    def entry(self) -> Object:
        """As a report carries it, without saying whose it is."""
        named = {
            "phase": self.phase,
            "reason": self.reason,
            "message": clean(self.message)[:_MOST_MESSAGE] or None,
            "exitCode": self.exit_code,
            "outputs": self.outputs,
            "finishedTime": self.finished,
        }
        return {key: value for key, value in named.items() if value is not None}


def clean(text: str) -> str:
    """The text without what the server can't keep: NUL and lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def save(directory: Path, assignment: Assignment, result: Result) -> None:
    """Writes the result where the next agent would find it."""
    about = {"namespace": assignment.namespace, "name": assignment.name, "uid": assignment.uid}
    kept = {**about, "attempt": assignment.attempt, "result": asdict(result)}
    write_whole(directory / FILE, orjson.dumps(kept))


def load(directory: Path) -> tuple[Assignment, Result] | None:
    """The result that was not delivered, None where there is none (or half of one)."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = orjson.loads((directory / FILE).read_bytes())
        assignment = Assignment(kept["namespace"], kept["name"], kept["uid"], int(kept["attempt"]))
        return assignment, Result(**kept["result"])
    return None


def discard(directory: Path) -> None:
    """Forgets the result: the server has it."""
    with contextlib.suppress(OSError):
        (directory / FILE).unlink()
