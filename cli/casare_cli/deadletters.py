"""Which jobs are over without having done their work? The Failed and the Expired ones: the dead letters.

They keep what they said last until their ttl is over. One that was retried has a job that names it; `waiting` leaves
those out, so that retrying all of them twice does not do their work twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from casare_api.decisions.retrying import RETRY_OF
from casare_api.kinds import Object, dig
from casare_api.kinds.job import JOB, JobPhase
from casare_api.kinds.kind import AGE, NAME, Cell, Column, column, since
from casare_cli.failures import Misuse
from casare_cli.targets import Target
from casare_client import Client

PHASES = (JobPhase.FAILED, JobPhase.EXPIRED)
FIELDS = ",".join(f"status.phase!={phase}" for phase in JobPhase if phase not in PHASES)


def _reason(job: Object, now: datetime) -> Cell:
    """Why, in a word and in a sentence."""
    word, sentence = dig(job, "status", "reason"), dig(job, "status", "message")
    said = [str(part) for part in (word, sentence) if part]
    return ": ".join(said) or None


# A job as a dead letter is shown: what matters is why, after how many attempts, and since when.
_SHOWN = replace(
    JOB,
    columns=(
        NAME,
        column("Status", "status", "phase"),
        column("Workflow", "spec", "workflowRef", "name"),
        column("Robot", "status", "robotName"),
        column("Attempts", "status", "attempt"),
        column("Exit", "status", "exitCode"),
        since("Ended", "status", "finishedTime"),
        AGE,
        Column("Reason", _reason),
    ),
)


def only(targets: Sequence[Target], fields: str) -> tuple[list[Target], str]:
    """The targets and the field selector that mean dead letters. Raises Misuse for anything but all jobs."""
    if [target.kind for target in targets] != [JOB]:
        raise Misuse("--failed is for jobs: casare get jobs --failed")
    if targets[0].names:
        raise Misuse("--failed finds jobs by itself: leave out the names")
    return [Target(_SHOWN)], ",".join(part for part in (fields, FIELDS) if part)


@dataclass(frozen=True, slots=True)
class Found:
    """Dead letters that wait to be retried, oldest first, and how many were retried before."""

    names: list[str]
    retried: int


def waiting(client: Client, labels: str = "", workflow: str = "") -> Found:
    """The dead letters that these selectors mean."""
    fields = f"{FIELDS},spec.workflowRef.name={workflow}" if workflow else FIELDS
    found = [
        (str(dig(job, "status", "queuedTime")), job["metadata"]["name"], job["metadata"]["uid"])
        for page in client.pages(JOB, labels=labels, fields=fields)
        for job in page["items"]
    ]
    done = _retried(client) if found else set()
    return Found([name for _, name, uid in sorted(found) if uid not in done], sum(uid in done for *_, uid in found))


def _retried(client: Client) -> set[str]:
    """The uids of jobs that have a retry."""
    return {
        str(dig(job, "spec", "retryOf", "uid"))
        for page in client.pages(JOB, labels=RETRY_OF)
        for job in page["items"]
    }
