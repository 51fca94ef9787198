"""Where does one attempt stand, what is to be reported of it, and what does the server's answer change?

The stages and their order are in `plan.Stage`. Always holds: no process runs before the server has recorded Running;
a result is on disk before it is reported and is reported until the server has it; a result never changes but where the
server refuses it as malformed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from casare_agent import artifacts, environment, leftovers
from casare_agent import result as results
from casare_agent.assignment import Assignment
from casare_agent.execution import Run, execute
from casare_agent.fence import Fence
from casare_agent.logs import JobLog, LogShipper
from casare_agent.plan import LIVE, Held, Stage
from casare_agent.process import Child
from casare_agent.progress import read_progress
from casare_agent.result import Result
from casare_agent.supervisor import StopReason, Supervisor
from casare_agent.timer import Timer
from casare_agent.workshop import Workshop, remove
from casare_api.decisions import artifacts as rules
from casare_api.kinds import Object
from casare_api.machinery.durations import parse_duration
from casare_api.machinery.errors import ApiError
from casare_client import Unreachable

LOG_WAIT = 3.0  # seconds a result waits for the last of its log to be sent
DEFAULT_GRACE = "20s"
_OVER = frozenset({404, 409})  # the attempt is not ours any more
_log = logging.getLogger("casare.agent")


class Attempt:
    """One run of one job on this robot."""

    def __init__(self, assignment: Assignment, workshop: Workshop, changed: Callable[[], None]) -> None:
        """`changed` is called, from any thread, when there is something new to report or to plan."""
        self.assignment = assignment
        self._workshop, self._changed = workshop, changed
        self._directory = workshop.attempt(assignment.uid, assignment.attempt)
        self._lock = threading.RLock()
        self._stage = Stage.ANNOUNCED
        self._result: Result | None = None
        self._progress: Object | None = None
        self._forgotten = threading.Event()
        self._working = False
        mark = leftovers.Mark(assignment.uid, assignment.attempt)
        self._supervisor = Supervisor(mark, self._print, _seconds(assignment, "gracePeriod", DEFAULT_GRACE), self._note)

    @classmethod
    def settled(
        cls, assignment: Assignment, result: Result, workshop: Workshop, changed: Callable[[], None]
    ) -> Attempt:
        """An attempt that has nothing left but to be reported."""
        attempt = cls(assignment, workshop, changed)
        attempt._stage, attempt._result = Stage.ENDED, result
        return attempt

    # -- for the plan ----------------------------------------------------------------------------------------------

    def held(self) -> Held:
        """As the plan sees it."""
        with self._lock:
            return Held(self.assignment.attempt, self._stage, self._supervisor.reason is not None)

    @property
    def live(self) -> bool:
        """Whether it runs or is about to."""
        return self._stage in LIVE

    @property
    def urgent(self) -> bool:
        """Whether the server must hear of it at once."""
        return self._stage in (Stage.ANNOUNCED, Stage.ENDED)

    def stop(self, reason: StopReason, grace: float | None = None) -> None:
        """Ends it, within `grace` seconds (the job's own grace period where none is given)."""
        with self._lock:
            if self._stage not in LIVE:
                return
            started = self._stage is Stage.RUNNING
        self._supervisor.stop(reason, grace)
        if not started:
            phase = "Cancelled" if reason is StopReason.CANCELLED else "Drained"
            self._end(Result(phase, reason.value, "it had not started"))

    def forget(self) -> None:
        """Nothing of it is needed any more; its directory goes when its log is out."""
        self._forgotten.set()
        if not self._working:
            remove(self._directory)

    # -- for the report --------------------------------------------------------------------------------------------

    def entry(self) -> Object | None:
        """What the server has to hear of it, None where that is nothing."""
        with self._lock:
            stage, result = self._stage, self._result
        if stage is Stage.ENDED and result is not None:
            return {**self._identity(), **result.entry()}
        if stage is Stage.ANNOUNCED:
            return {**self._identity(), "phase": "Running"}
        progress = read_progress(self._directory / environment.PROGRESS) if stage is Stage.RUNNING else None
        if progress is None or progress == self._progress:
            return None
        return {**self._identity(), "phase": "Running", "progress": progress}

    def answered(self, entry: Object, code: int, message: str) -> bool:
        """Takes the server's answer to an entry; False where it has to be said again."""
        if entry["phase"] == "Running":
            return self._running_answered(entry, code, message)
        return self._result_answered(code, message)

    # -- steps -----------------------------------------------------------------------------------------------------

    def _running_answered(self, entry: Object, code: int, message: str) -> bool:
        if code == 200:
            self._progress = entry.get("progress", self._progress)
            self._launch()
        elif code in _OVER:
            self._supervisor.stop(StopReason.WITHDRAWN)
            self._drop(Stage.ANNOUNCED)
        elif code == 422:
            _log.warning("job %s: the server does not take its progress: %s", self.assignment.path, message)
            self._progress = entry.get("progress")
            self._drop(Stage.ANNOUNCED)
        return code in (200, 422) or code in _OVER

    def _result_answered(self, code: int, message: str) -> bool:
        if code == 422 and self._result is not None and self._result.reason != "ReportRefused":
            refused = f"the server does not take its result: {message}"
            self._result = replace(self._result, phase="Failed", reason="ReportRefused", message=refused, outputs=None)
            return False
        if code in (200, 422) or code in _OVER:
            self._drop(Stage.ENDED)
            results.discard(self._directory)
            return True
        return False

    def _drop(self, stage: Stage) -> None:
        with self._lock:
            if self._stage is stage:
                self._stage = Stage.DELIVERED
        self._changed()

    def _launch(self) -> None:
        with self._lock:
            if self._stage is not Stage.ANNOUNCED:
                return
            self._stage, self._working = Stage.RUNNING, True
        threading.Thread(target=self._work, name=f"job-{self.assignment.name}", daemon=True).start()

    def _work(self) -> None:
        """The life of the attempt's thread; it is the one that starts the processes, and outlives them."""
        shipper: LogShipper | None = None
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._job_log = JobLog(self._directory / "output.log")
            send, closed = self._workshop.log_of(self.assignment), self._workshop.closed
            shipper = LogShipper(self._job_log, send, self.assignment.name, closed)
            result = self._run(self._job_log)
            if self._supervisor.reason is not StopReason.WITHDRAWN:
                shipper.finished(LOG_WAIT)
        except Exception as error:
            _log.exception("job %s: the agent failed to run it", self.assignment.path)
            result = Result("Failed", "AgentError", f"the agent failed to run it: {error}")
        self._end(result)
        if shipper is not None:
            shipper.finished()
        self._forgotten.wait()
        remove(self._directory)

    def _run(self, log: JobLog) -> Result:
        begun = time.monotonic()
        with contextlib.closing(log):
            with self._timeout(), self._fenced():
                run = Run(self.assignment, self._directory, self._workshop, self._supervisor, log)
                result = replace(execute(run), finished=results.now_text())
            return self._with_files(result, log, time.monotonic() - begun)

    def _with_files(self, result: Result, log: JobLog, elapsed: float) -> Result:
        """The result once the files that the job left are at the server, or can't get there."""
        left = artifacts.Left.look(self._directory / environment.ARTIFACTS)
        # Of what begins elsewhere no files are kept.
        is_gone = result.phase in ("Drained", "Lost") or self._supervisor.reason is StopReason.WITHDRAWN
        if is_gone or not left:
            return result
        left = left.within(*self._limit())
        self._keep(artifacts.noted(result, dict.fromkeys(left.sizes, artifacts.INTERRUPTED)))
        seconds = artifacts.patience(_seconds(self.assignment, "timeout", "0s"), elapsed)
        deadline = artifacts.Deadline(seconds, self._supervisor, self._workshop.closed)
        return artifacts.noted(result, left.send(self._workshop.artifacts_of(self.assignment), deadline, log))

    def _limit(self) -> tuple[int, str]:
        """How large all files may be together. What is not known here is the server's to say."""
        with contextlib.suppress(ApiError, Unreachable):
            return rules.limit(self._workshop.workflow(self.assignment))
        return rules.limit({})

    def _end(self, result: Result) -> None:
        withdrawn = self._supervisor.reason is StopReason.WITHDRAWN
        if not withdrawn:
            self._keep(result)
        with self._lock:
            if self._stage in LIVE:
                self._stage = Stage.DELIVERED if withdrawn else Stage.ENDED
                self._result = result
        self._changed()

    def _keep(self, result: Result) -> None:
        """On disk, for the agent that comes after this one. One that can't be kept is reported all the same."""
        try:
            if self._directory.exists():
                results.save(self._directory, self.assignment, result)
        except (OSError, TypeError) as error:  # a full disk; text that is no UTF-8
            _log.warning("job %s: its result can't be kept on disk: %s", self.assignment.path, error)

    @contextlib.contextmanager
    def _timeout(self) -> Iterator[None]:
        seconds = _seconds(self.assignment, "timeout", "0s")
        if seconds <= 0:
            yield
            return
        timer = Timer(seconds, lambda: self._supervisor.stop(StopReason.TIMEOUT))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def _fenced(self) -> Iterator[None]:
        """Ends it before the server takes it for lost, where the job asks for that."""
        about = self.assignment
        if not ((about.spec or {}).get("retry") or {}).get("selfFence"):
            yield
            return
        lost_after, grace = (_seconds(about, *field) for field in (("lostAfter", "2m"), ("gracePeriod", DEFAULT_GRACE)))
        fence = Fence(self._workshop.contact, lost_after, grace, self._end_alone)
        fence.begin()
        try:
            yield
        finally:
            fence.cancel()

    def _end_alone(self, grace: float) -> None:
        silence = self._workshop.contact.silence()
        _log.warning("job %s: no word to the server for %.0f s; ended (selfFence)", self.assignment.path, silence)
        self._supervisor.stop(StopReason.FENCED, grace)

    def _print(self, data: bytes) -> None:
        self._job_log.write(data)

    def _note(self, child: Child) -> None:
        with contextlib.suppress(OSError):  # a full disk ends no job; what is left behind is found by its mark, too
            leftovers.record(self._directory, child.pid, child.created)

    def _identity(self) -> Object:
        about = self.assignment
        return {"namespace": about.namespace, "name": about.name, "uid": about.uid, "attempt": about.attempt}


def _seconds(assignment: Assignment, field: str, default: str) -> float:
    return parse_duration(str((assignment.spec or {}).get(field) or default)).total_seconds()
