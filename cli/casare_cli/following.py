"""What does a job do, until it ends? Its log goes to standard output, how it stands to standard error.

State and log are two streams, and each attempt has a log of its own. Both survive a restart of the server. Ctrl-C
ends the looking, never the job.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from casare_api.kinds import Object, dig
from casare_api.kinds.job import FINAL
from casare_api.machinery import durations, times
from casare_api.machinery.errors import ApiError
from casare_cli import styles
from casare_cli.failures import Failure
from casare_cli.pump import END, Pump
from casare_client import RELIST, Client, WatchEvent

LOG_GRACE = 5.0  # seconds that the rest of a log gets after the job's end
_STATE = "state"


def exit_code(job: Object) -> int:
    """What a script learns of an ended job: 0 for Succeeded, its own code for Failed (1 if it had none), else 1.

    A signal is 128 + its number, as in a shell; codes that no shell has (Windows' large ones) are 1.
    """
    phase, code = dig(job, "status", "phase"), dig(job, "status", "exitCode")
    if phase == "Succeeded":
        return 0
    if phase != "Failed" or not isinstance(code, int) or code == 0:
        return 1
    code = 128 - code if code < 0 else code
    return code if code <= 255 else 1


def headline(job: Object) -> str:
    """How a job stands, in a line: `job/a Running on pc-01 (attempt 2)`."""
    status, name = job.get("status") or {}, job["metadata"]["name"]
    phase = str(status.get("phase") or "Queued")
    said = f"job/{name} {phase}"
    if phase in ("Assigned", "Running"):
        said += f" on {status.get('robotName')}" if status.get("robotName") else ""
        said += f" (attempt {status['attempt']})" if (status.get("attempt") or 1) > 1 else ""
    if phase in FINAL:
        said += _ending(status)
    why = _why(status, phase)
    return styles.plain(f"{said}: {why}" if why else said)


def _ending(status: Object) -> str:
    code = status.get("exitCode")
    said = f" with exit code {code}" if code and f"code {code}" not in str(status.get("message")) else ""
    if status.get("startedTime") and status.get("finishedTime"):
        span = times.from_text(status["finishedTime"]) - times.from_text(status["startedTime"])
        said += f" after {durations.human(span)}"
    return said


def _why(status: Object, phase: str) -> str:
    if phase == "Queued":
        return "; ".join(str(reason.get("message")) for reason in status.get("reasons") or ())
    if phase == "Running" and isinstance(status.get("progress"), dict):
        progress = status["progress"]
        percent = f"{progress['percent']} % " if progress.get("percent") is not None else ""
        return (percent + str(progress.get("message") or "")).strip()
    if phase in FINAL:
        return str(status.get("message") or status.get("reason") or "").removeprefix("Completed")
    return ""


def follow(client: Client, namespace: str, name: str, tell: Callable[[str], None]) -> Object:
    """Copies the job's log to standard output until the job has ended, and returns it as it ended.

    `tell` gets a line whenever the job stands differently. Raises Failure where the job is deleted meanwhile.
    """
    pump, view = Pump(), _View(client, namespace, name)
    pump.add(_STATE, client.follow("Job", namespace, fields=f"metadata.name={name}"))
    for tag, item in pump:
        if tag == _STATE:
            view.see(item, tell, pump)
        elif item is END:
            view.open_logs.discard(tag)
        elif isinstance(item, str):
            _write(item)
        if view.ended is not None and view.log_is_over():
            tell(headline(view.ended))
            return view.ended
    raise Failure(f"lost sight of job/{name}")


@dataclass(slots=True)
class _View:
    """What is known of the job so far."""

    client: Client
    namespace: str
    name: str
    open_logs: set[str] = field(default_factory=set)
    ended: Object | None = None
    _uid: str = ""
    _said: str = ""
    _attempts: set[int] = field(default_factory=set)
    _deadline: float = 0.0

    def see(self, event: WatchEvent, tell: Callable[[str], None], pump: Pump) -> None:
        job = _job_in(event, self._uid)
        if job is None:
            raise Failure(f"job/{self.name} was deleted")
        self._uid = job["metadata"]["uid"]
        self._open_log(job, pump)
        if dig(job, "status", "phase") in FINAL:
            self.ended, self._deadline = job, self._deadline or time.monotonic() + LOG_GRACE
        elif (said := headline(job)) != self._said:
            self._said = said
            tell(said)

    def log_is_over(self) -> bool:
        return not self.open_logs or time.monotonic() > self._deadline

    def _open_log(self, job: Object, pump: Pump) -> None:
        """Each attempt's log is opened once, when the attempt runs (or has run: short jobs end in one step)."""
        attempt, started = dig(job, "status", "attempt"), dig(job, "status", "startedTime")
        if not isinstance(attempt, int) or not started or attempt in self._attempts:
            return
        if dig(job, "status", "phase") in ("Queued", "Assigned"):
            return
        self._attempts.add(attempt)
        tag = f"log-{attempt}"
        self.open_logs = {tag}
        pump.add(tag, _log(self.client, self.namespace, self.name, attempt))


def _job_in(event: WatchEvent, uid: str) -> Object | None:
    """The job in an event; None where it is gone, or another one has taken its name."""
    if event.type == "DELETED":
        return None
    jobs = event.object["items"] if event.type == RELIST else [event.object]
    return next((job for job in jobs if not uid or job["metadata"]["uid"] == uid), None)


def _log(client: Client, namespace: str, name: str, attempt: int) -> Iterator[str]:
    try:
        yield from client.read_log(namespace, name, attempt, follow=True)
    except ApiError as error:
        if error.status != 404:  # nothing was printed, or it has been cleaned up
            raise


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
