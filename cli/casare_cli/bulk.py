"""`casare run` for many jobs: where do they come from, and what is said of them?

Every row is read before the first job is sent: with a wrong cell in it nothing is submitted. What a script wants is on
standard output, what a person looks at meanwhile on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from casare_api.kinds import Object
from casare_cli import gathering, progress, rows, styles, submitting
from casare_cli.failures import Failure, Misuse
from casare_cli.gathering import Gathering
from casare_cli.submitting import Plan, Submitted, Wanted
from casare_client import Client

MAX_KEY = 253  # characters, as the server has it


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for beside the workflow and its parameters; `form` is "" or "name"."""

    count: int | None = None
    file: str | None = None
    prefix: str | None = None
    wait: bool = False
    priority: int | None = None
    form: str = ""

    @property
    def is_many(self) -> bool:
        """Whether it is the way of many jobs, be it one."""
        return self.count is not None or self.file is not None or self.prefix is not None


def check(wishes: Wishes, follow: bool) -> None:
    """Raises Misuse for wishes that do not go together."""
    if wishes.count is not None and wishes.file is not None:
        raise Misuse("--count and --from exclude each other: the file has a job for each row")
    if follow and wishes.is_many:
        raise Misuse("--follow shows one job's log: for many there is --wait")
    if follow and wishes.wait:
        raise Misuse("--follow waits by itself: leave out --wait")
    if wishes.form not in ("", "name"):
        raise Misuse(f'there is no output format "{wishes.form}" here; allowed: name')
    if wishes.prefix is not None and not 1 <= len(wishes.prefix) <= MAX_KEY - 9:
        raise Misuse(f"--idempotency-prefix must have 1 to {MAX_KEY - 9} characters")


def run(client: Client, workflow: str, schema: Any, given: Object, wishes: Wishes) -> int:
    """Submits all jobs, says what became of that, and waits for them if wanted; the exit code."""
    plan = Plan(workflow, client.config.namespace, wishes.priority, wishes.prefix)
    total, wanted = _jobs(plan, schema, given, wishes)
    try:
        with progress.bar("submitting", total) as shown:
            submitted = submitting.submit(
                client, wanted, lambda so_far: shown(so_far.done, so_far.summary()), on_outage=_outage
            )
    except KeyboardInterrupt:
        print(f"stopped; {_find(plan)}", file=sys.stderr)
        return 130
    _tell(submitted, wishes)
    code = 1 if submitted.failed else 0
    if not submitted.jobs:
        return code
    if not wishes.wait:
        print(_find(plan), file=sys.stderr)
        return code
    # Jobs that were there before may have come another way, and not have our label.
    label = f"{submitting.BATCH}={plan.label}" if not submitted.existing else ""
    return max(code, wait_for(client, workflow, submitted.jobs, label))


def wait_for(client: Client, workflow: str, jobs: Mapping[str, str], label: str) -> int:
    """Looks on until all jobs (uid to name) are over; 0 where all succeeded, 1 otherwise, 130 after Ctrl-C.

    They are found by their label, or where they have none among all jobs of the workflow.
    """
    among = f"metadata.name={next(iter(jobs.values()))}" if len(jobs) == 1 else f"spec.workflowRef.name={workflow}"
    fields = "" if label else among
    found = Gathering(jobs)
    events = client.follow("Job", labels=label, fields=fields, on_outage=_outage)
    try:
        with progress.bar("waiting", len(jobs)) as shown:
            gathering.wait(events, found, lambda now: shown(now.over, now.summary()))
    except KeyboardInterrupt:
        print(f"the jobs go on: {found.summary()}", file=sys.stderr)
        return 130
    print(found.summary())
    for line in found.wrong:
        print(line, file=sys.stderr)
    return 0 if found.succeeded else 1


# -- parts -------------------------------------------------------------------------------------------------------


def _jobs(plan: Plan, schema: Any, given: Object, wishes: Wishes) -> tuple[int, Iterator[Wanted]]:
    """How many jobs there are, and the jobs. Raises Failure where a row is wrong."""
    if wishes.file is None:
        count = wishes.count or 1
        return count, (plan.wanted(number, f"job {number}", given) for number in range(1, count + 1))
    sheet = rows.Sheet(*rows.read(wishes.file), schema)
    try:
        total = sheet.checked()
    except Failure as error:
        raise Failure(f"{error}; nothing was submitted") from None
    for column in sheet.unknown():
        print(f'warning: {sheet.name}: the workflow has no parameter "{styles.plain(column)}"', file=sys.stderr)
    return total, (
        plan.wanted(row.number, f"row {row.number} (line {row.line})", {**given, **row.parameters})
        for row in sheet.rows()
    )


def _tell(submitted: Submitted, wishes: Wishes) -> None:
    if wishes.form == "name":
        for name in submitted.jobs.values():
            print(f"job/{name}")
    else:
        print(submitted.summary(), flush=True)
    for line in submitted.refusals:
        print(f"error: {styles.plain(line)}", file=sys.stderr)
    more = submitted.failed - len(submitted.refusals)
    if more:
        print(f"error: and {more} more", file=sys.stderr)
    if advice := submitted.advice(wishes.prefix is not None):
        print(advice, file=sys.stderr)


def _find(plan: Plan) -> str:
    return f"'casare get jobs -l {submitting.BATCH}={plan.label}' shows the jobs"


def _outage(error: Exception) -> None:
    print(f"warning: {error}; trying again", file=sys.stderr, flush=True)
