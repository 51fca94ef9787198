"""What does a person want to see of a job? Pure functions from resources to plain rows and texts.

Rows hold texts, numbers and seconds; `uid` says which job a row is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from casare_api.kinds import Object, dig
from casare_api.kinds.job import FINAL, JobPhase
from casare_dashboard import words

PHASES = tuple(phase.value for phase in JobPhase)
MOST = 500  # rows at a time; a person who needs more filters
INLINE = "(inline)"


def phase(job: Object) -> str:
    """Where the job stands; a job that nobody has looked at yet is Queued."""
    return str(dig(job, "status", "phase") or JobPhase.QUEUED.value)


def is_final(job: Object) -> bool:
    """Whether nothing will change any more."""
    return phase(job) in {one.value for one in FINAL}


def is_being_cancelled(job: Object) -> bool:
    """Whether somebody asked for its end, which has not come yet."""
    return not is_final(job) and bool(dig(job, "spec", "cancel"))


def workflow(job: Object) -> str:
    """The workflow's name."""
    return str(dig(job, "spec", "workflowRef", "name") or INLINE)


def workflows(jobs: Iterable[Object]) -> list[str]:
    """All workflows that jobs ran, by name."""
    return sorted({workflow(job) for job in jobs})


def matching(jobs: Iterable[Object], text: str, phases: Sequence[str], of: Sequence[str]) -> list[Object]:
    """The jobs that hold all words of the text, are in one of the phases and of one of the workflows; newest first.

    An empty selection asks for nothing, so it leaves all.
    """
    wanted = text.casefold().split()
    found = [
        job
        for job in jobs
        if (not phases or phase(job) in phases)
        and (not of or workflow(job) in of)
        and (not wanted or _has(job, wanted))
    ]
    return sorted(found, key=_newness, reverse=True)


def rows(jobs: Iterable[Object], now: datetime) -> list[dict[str, Any]]:
    """One row a job; Duration and Age are seconds."""
    return [
        {
            "uid": dig(job, "metadata", "uid"),
            "Name": dig(job, "metadata", "name"),
            "Namespace": dig(job, "metadata", "namespace"),
            "Status": [phase(job)],
            "Workflow": workflow(job),
            "Robot": dig(job, "status", "robotName") or "",
            "Attempt": dig(job, "status", "attempt") or None,
            "Duration": seconds_running(job, now),
            "Age": words.seconds_since(job, now, "metadata", "creationTimestamp"),
            "Says": says(job),
        }
        for job in jobs
    ]


def says(job: Object) -> str:
    """The one line that matters now: why it waits, how far it is, or how it ended."""
    status = job.get("status") or {}
    if is_being_cancelled(job):
        return "is being cancelled"
    if phase(job) == JobPhase.QUEUED:
        return "; ".join(waiting(job))
    if phase(job) in (JobPhase.RUNNING, JobPhase.ASSIGNED):
        percent, message = progress(job)
        return " ".join(part for part in (f"{percent:g} %" if percent is not None else "", message) if part)
    reason = status.get("reason") if phase(job) != JobPhase.SUCCEEDED else ""
    return str(status.get("message") or reason or "")


def waiting(job: Object) -> list[str]:
    """Why a queued job is not running, one line a reason."""
    reasons = dig(job, "status", "reasons") or []
    return [str(reason.get("message") or reason.get("rule")) for reason in reasons if isinstance(reason, dict)]


def progress(job: Object) -> tuple[float | None, str]:
    """How far it says it is: percent 0 to 100 (None: it does not say) and in words."""
    said = dig(job, "status", "progress") or {}
    percent = said.get("percent")
    if not isinstance(percent, int | float) or isinstance(percent, bool):
        return None, str(said.get("message") or "")
    return min(100.0, max(0.0, float(percent))), str(said.get("message") or "")


def seconds_running(job: Object, now: datetime) -> float | None:
    """From its start to its end, or to now."""
    started = words.moment(job, "status", "startedTime")
    if started is None:
        return None
    end = words.moment(job, "status", "finishedTime") or now
    return max(0.0, (end - started).total_seconds())


def tally(jobs: Iterable[Object]) -> list[tuple[str, int]]:
    """How many jobs there are in each phase, in the phases' order, without those nobody is in."""
    counted = Counter(phase(job) for job in jobs)
    return [(one, counted[one]) for one in PHASES if counted[one]]


def details(job: Object, now: datetime) -> list[tuple[str, str]]:
    """What there is to know about one job, as pairs of name and text; what it lacks is left out."""
    metadata, spec, status = job.get("metadata") or {}, job.get("spec") or {}, job.get("status") or {}
    running = seconds_running(job, now)
    return words.facts(
        [
            ("Workflow", workflow(job)),
            ("Revision", (dig(spec, "workflowRef", "revision") or "")[:12]),
            ("Namespace", metadata.get("namespace")),
            ("Robot", status.get("robotName")),
            ("Attempt", status.get("attempt") or None),
            ("Priority", spec.get("priority")),
            ("Queued", words.clock(words.moment(job, "status", "queuedTime"))),
            ("Not before", words.clock(words.moment(job, "spec", "notBefore"))),
            ("Started", words.clock(words.moment(job, "status", "startedTime"))),
            ("Finished", words.clock(words.moment(job, "status", "finishedTime"))),
            ("Duration", words.span(running) if running is not None else None),
            ("Exit code", status.get("exitCode")),
            ("Requires", words.plain(spec.get("requirements"))),
            ("Labels", metadata.get("labels")),
            ("Submitted", words.ago(job, now, "metadata", "creationTimestamp")),
        ]
    )


def attempts(job: Object) -> list[dict[str, Any]]:
    """The attempts so far, the first one first."""
    return [
        {
            "Attempt": one.get("number"),
            "Robot": str(one.get("robotName") or ""),
            "Ended": str(one.get("phase") or ""),
            "Reason": str(one.get("reason") or ""),
            "Started": words.clock(words.moment(one, "startedTime")),
            "Finished": words.clock(words.moment(one, "finishedTime")),
        }
        for one in dig(job, "status", "attempts") or []
        if isinstance(one, dict)
    ]


def values(found: Any) -> list[tuple[str, str]]:
    """Parameters or outputs as pairs of name and text."""
    return [(str(name), words.plain(value)) for name, value in found.items()] if isinstance(found, dict) else []


def _newness(job: Object) -> tuple[str, str]:
    return str(dig(job, "metadata", "creationTimestamp") or ""), str(dig(job, "metadata", "name") or "")


def _has(job: Object, wanted: list[str]) -> bool:
    fields = (
        dig(job, "metadata", "name"), dig(job, "metadata", "namespace"), dig(job, "status", "robotName"),
        workflow(job), phase(job), dig(job, "status", "message"), dig(job, "metadata", "labels"),
        dig(job, "spec", "parameters"),
    )  # fmt: skip
    haystack = " ".join(words.plain(field) for field in fields).casefold()
    return all(word in haystack for word in wanted)
