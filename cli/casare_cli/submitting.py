"""How do thousands of jobs get to the server? In parts of a few thousand; each job has its own answer.

Where each job has an idempotency key, a part whose answer was lost is sent again, and running the whole command again
makes only what is missing. Without keys nothing is ever sent twice.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_api.machinery.names import check_label_value
from casare_cli.failures import Failure
from casare_client import Client, Unreachable
from casare_client.backoff import Backoff

PART = 2_000  # jobs in a request: often enough for a bar that moves, and few enough for a busy server's 30 s
PART_BYTES = 7 * 2**20  # of their JSON: the server takes 8 MiB, with what stands around them
TRIES = 10  # of a part with keys: about half a minute, in which a server starts again
SHOWN = 5  # refusals that are told
BATCH = "fleet.casare.net/batch"  # label: the jobs that one command submitted


@dataclass(frozen=True, slots=True)
class Wanted:
    """One job to submit, and what to call it in messages (`row 17 (line 18)`)."""

    called: str
    job: Object


@dataclass(frozen=True, slots=True)
class Plan:
    """What all jobs of one command have in common; `prefix` is that of their idempotency keys."""

    workflow: str
    namespace: str
    priority: int | None = None
    prefix: str | None = None
    batch: str = field(default_factory=lambda: secrets.token_hex(5))

    def wanted(self, number: int, called: str, parameters: Object) -> Wanted:
        """The job of a number, from 1."""
        spec: Object = {"workflowRef": {"name": self.workflow}}
        if parameters:
            spec["parameters"] = parameters
        if self.priority is not None:
            spec["priority"] = self.priority
        if self.prefix:
            spec["idempotencyKey"] = f"{self.prefix}-{number}"
        meta = {"generateName": f"{self.workflow}-", "namespace": self.namespace, "labels": {BATCH: self.label}}
        return Wanted(called, {"apiVersion": "fleet.casare.net/v1", "kind": "Job", "metadata": meta, "spec": spec})

    @property
    def label(self) -> str:
        """The value of the label that all jobs get: of one prefix it is always the same."""
        if not self.prefix:
            return self.batch
        if check_label_value(self.prefix) is None:
            return self.prefix
        return hashlib.sha256(self.prefix.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(slots=True)
class Submitted:
    """What became of the jobs so far: uid to name of those that are there, and the first refusals.

    `busy` are those of the failed ones that were refused with 429: nothing is wrong with them, and none was made.
    """

    created: int = 0
    existing: int = 0
    failed: int = 0
    busy: int = 0
    jobs: dict[str, str] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        return self.created + self.existing + self.failed

    def take(self, part: list[Wanted], answer: Object) -> None:
        """Adds the answer to a part."""
        for one, item in zip(part, answer["items"], strict=True):
            if item["code"] >= 300:
                self.failed += 1
                self.busy += item["code"] == 429
                if len(self.refusals) < SHOWN:
                    self.refusals.append(f"{one.called}: {reason(item)}")
                continue
            self.jobs[item["uid"]] = item["name"]
            if item["code"] == 201:
                self.created += 1
            else:
                self.existing += 1

    def advice(self, has_keys: bool) -> str:
        """What can be done about those that came when there was no room for them; empty where there are none."""
        if not self.busy:
            return ""
        how = (
            "run the same command again later, and it makes only what is missing"
            if has_keys
            else "submit these again later; the same command would make all the others twice"
        )
        return f"{self.busy} of the failed ones were not made because too much waits already: {how}"

    def summary(self) -> str:
        """`998 created, 0 existing, 2 failed`."""
        return f"{self.created} created, {self.existing} existing, {self.failed} failed"


def submit(
    client: Client,
    wanted: Iterable[Wanted],
    on_part: Callable[[Submitted], None],
    on_outage: Callable[[Exception], None] = lambda error: None,
) -> Submitted:
    """Sends all jobs; `on_part` sees how far it is after each part. Raises Failure where the server is lost.

    `on_outage` hears why a part is sent again, once for each.
    """
    submitted = Submitted()
    for part in parts(wanted):
        try:
            answer = _send(client, part, on_outage)
        except (Unreachable, ApiError) as error:
            if not submitted.done and (isinstance(error, ApiError) or error.refused):
                raise  # nothing was made: the usual words say it all
            raise Failure(_stopped(error, submitted, part)) from None
        submitted.take(part, answer)
        on_part(submitted)
    return submitted


def parts(wanted: Iterable[Wanted], most: int = PART, most_bytes: int = PART_BYTES) -> Iterator[list[Wanted]]:
    """The jobs in requests, none too large for the server."""
    part: list[Wanted] = []
    size = 0
    for one in wanted:
        length = len(json.dumps(one.job))
        if part and (len(part) >= most or size + length > most_bytes):
            yield part
            part, size = [], 0
        part.append(one)
        size += length
    if part:
        yield part


def reason(item: Object) -> str:
    """Why the server refused a job, without the name that it made up for it."""
    said = " ".join(str(item.get("message") or item.get("reason") or item.get("code")).split())
    return said.partition(" is invalid: ")[2] or said


# -- parts -------------------------------------------------------------------------------------------------------


def _send(client: Client, part: list[Wanted], on_outage: Callable[[Exception], None]) -> Object:
    """A part's answer; one with keys is sent again where its answer is lost, or the server is busy."""
    is_safe = all("idempotencyKey" in one.job["spec"] for one in part)
    backoff = Backoff()
    for attempt in range(1, TRIES + 1):
        try:
            return client.submit([one.job for one in part])
        except (Unreachable, ApiError) as error:
            if not is_safe or attempt == TRIES or not _passes(error):
                raise
            if attempt == 1:
                on_outage(error)
            time.sleep(backoff.next())
    raise AssertionError("unreachable")


def _passes(error: Exception) -> bool:
    return isinstance(error, Unreachable) or getattr(error, "status", 0) in (429, 503)


def _stopped(error: Exception, submitted: Submitted, part: list[Wanted]) -> str:
    """How far it came, and what can be done."""
    said = f"{error}; {submitted.summary()} before {part[0].called}"
    if "idempotencyKey" in part[0].job["spec"]:
        return f"{said}: run the same command again, and it makes only what is missing"
    if isinstance(error, ApiError) and error.status < 500:
        return f"{said}, and none from there on"
    return (
        f"{said}; whether the {len(part)} from there on were made is not known: "
        "with --idempotency-prefix it is safe to run a command again"
    )
