"""The agent's main loop: what does it do all day?

Every turn looks at how things stand and moves them on: what the server wants here (kept by the watch) against what
this process holds gives a plan, the plan is carried out, and what the server has not heard yet goes out in one report
together with the heartbeat. A turn is woken by the watch, by an attempt that has news, by a signal, or by the clock;
a wake-up that is lost costs the time until the next heartbeat, nothing else.
"""

from __future__ import annotations

import logging
import secrets
from functools import partial

from casare_agent import memory, recovery, registration, report, telemetry
from casare_agent.assignments import Assignments
from casare_agent.attempt import Attempt
from casare_agent.config import Settings
from casare_agent.drain import Drain
from casare_agent.outage import Outage, longest
from casare_agent.plan import Action, Begin, Cancel, Forget, Held, Intake, Return, Settle, Withdraw, plan
from casare_agent.presence import Malformed, Presence, is_orphaned
from casare_agent.restart import Restart
from casare_agent.result import Result
from casare_agent.rotation import Rotation
from casare_agent.supervisor import StopReason
from casare_agent.wake import Wake
from casare_agent.workshop import Workshop
from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_client import Client, Unreachable

_log = logging.getLogger("casare.agent")
ENDED, REFUSED, DELETED, RESTART = 0, 1, 4, 5  # exit codes
_HOPELESS = frozenset({400, 422})  # answers to a registration that trying again does not change


class Agent:
    """One robot. `run` is called once; `end` by anybody, from signal handlers too."""

    def __init__(self, settings: Settings, client: Client, workshop: Workshop, capabilities: list[str]) -> None:
        self._settings, self._client, self._workshop = settings, client, workshop
        self._wake = Wake()
        self._drain = Drain(settings.shutdown_grace)
        contact = workshop.contact
        self._assignments = Assignments(client, self._wake.set, workshop.closed, lambda: longest(contact.interval))
        self._instance = secrets.token_hex(8)
        send = partial(client.report, settings.namespace, settings.name, instance=self._instance)
        self._rotation = Rotation.of(client, settings)
        self._presence = Presence(self._rotation.after(send), contact, self._assignments.renew)
        self._attempts: dict[str, Attempt] = {}
        self._capabilities = capabilities
        self._restart = Restart(workshop.directory)
        self._about: Object | None = self._who_i_am()

    def run(self) -> int:
        """Until it is told to end (0), is refused for good (1), its robot is deleted (4) or it is to restart (5)."""
        self._attempts = recovery.recover(self._workshop, self._wake.set)
        exit_code = self._enlist()
        while exit_code is None:
            intake = self._intake()
            for action in plan(self._assignments.wanted(), self._held(), intake):
                self._do(action)
            if self._until_report() <= 0:
                self._report()
            exit_code = self._exit_code(intake)
            if exit_code is None:
                self._wake.wait(min(self._until_report(), self._drain.pause()))
        return exit_code

    def end(self) -> None:
        """Asks it to end; asked twice it does not wait for what runs."""
        self._drain.ask()
        self._presence.hurry()
        self._wake.set()

    @property
    def is_ending(self) -> bool:
        """Whether somebody has asked it to end."""
        return self._drain.asked

    # -- one turn --------------------------------------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        match action:
            case Begin(assignment):
                _log.info("job %s: attempt %d", assignment.path, assignment.attempt)
                self._attempts[assignment.uid] = Attempt(assignment, self._workshop, self._wake.set)
            case Settle(assignment, phase, reason, message):
                result = Result(phase, reason, message)
                self._attempts[assignment.uid] = Attempt.settled(assignment, result, self._workshop, self._wake.set)
            case Cancel(uid):
                self._attempts[uid].stop(StopReason.CANCELLED)
            case Return(uid):
                self._attempts[uid].stop(StopReason.RETURNED)
            case Withdraw(uid):
                _log.info("job %s: not ours any more, stopped", self._attempts[uid].assignment.path)
                self._attempts[uid].stop(StopReason.WITHDRAWN)
            case Forget(uid):
                self._attempts.pop(uid).forget()

    def _report(self) -> None:
        """Heartbeat and news in one; the answers move the attempts on."""
        entries = report.entries(self._attempts.values())
        try:
            settled = self._say(entries)
        except Malformed:  # one entry must not cost the others, and the heartbeat, their hearing
            settled = [done for entry in entries for done in self._say_alone(entry)]
        self._presence.settled(all(settled))

    def _say(self, entries: list[Object]) -> list[bool]:
        """Sends a report with these entries; which of them need not be said again. Raises Malformed."""
        measured = telemetry.measure(self._workshop.directory, self._live())
        answers = self._presence.report(report.body(entries, measured, self._about, self._drain.asked), self._live())
        if answers is None:
            self._about = self._who_i_am()  # the next one may be for a server that has to hear it again
            return []
        self._about = None
        self._restart.hear(self._presence.restart)
        said = {(answer.get("uid"), answer.get("attempt")): answer for answer in answers}
        return [self._answered(entry, said.get((entry["uid"], entry["attempt"]))) for entry in entries]

    def _say_alone(self, entry: Object) -> list[bool]:
        try:
            return self._say([entry])
        except Malformed as error:
            return [self._answered(entry, {"code": 422, "message": str(error)})]

    def _answered(self, entry: Object, answer: Object | None) -> bool:
        if answer is None:
            return False
        code, message = int(answer.get("code") or 0), str(answer.get("message") or "")
        if entry["phase"] != "Running" and code == 200:
            why = f": {entry['message']}" if entry.get("message") else ""
            _log.info("job %s/%s: %s%s", entry["namespace"], entry["name"], entry["phase"], why)
        return self._attempts[entry["uid"]].answered(entry, code, message)

    # -- beginning and ending ------------------------------------------------------------------------------------------

    def _enlist(self) -> int | None:
        """Registers the robot and begins to watch; an exit code where that is not to be."""
        wanted, outage = registration.declared(self._settings, self._capabilities), Outage()
        while self._drain.intake(0) is Intake.OPEN:
            try:
                known = memory.load(self._workshop.directory)
                robot, remembered = registration.register(self._client, wanted, known)
                memory.save(self._workshop.directory, remembered)
            except registration.Deleted:
                return self._deleted()
            except (ApiError, Unreachable) as error:
                if is_orphaned(error):
                    return self._deleted()
                if isinstance(error, ApiError) and error.status in _HOPELESS:
                    _log.error("the server does not take this robot: %s", error)
                    return REFUSED
                self._rotation.refused(error)
                self._wake.wait(outage.failed(error))
                continue
            outage.over()
            self._presence.robot_uid = robot["metadata"]["uid"]
            self._assignments.start(robot)
            words = ", ".join(self._capabilities) or "no capabilities"
            _log.info("robot %s is ready at %s (%s)", self._settings.name, self._client.config.server, words)
            return None
        return ENDED

    def _intake(self) -> Intake:
        """What becomes of new jobs; where the agent is ending, the old ones are told."""
        if self._presence.gone:
            self._stop_all(StopReason.WITHDRAWN)
            return Intake.CLOSED
        intake = self._drain.intake(self._live())
        if intake is Intake.RETURNED:
            self._stop_all(StopReason.DRAINED, 0.0 if self._drain.at_once else None)
        if intake is Intake.OPEN and self._restart.is_wanted:
            return Intake.RETURNED  # what runs may finish
        return intake

    def _exit_code(self, intake: Intake) -> int | None:
        """None while there is something to do."""
        if self._live():
            return None
        if self._presence.gone:
            return self._deleted()
        undelivered = sum(one.urgent for one in self._attempts.values())
        if intake is not Intake.RETURNED:
            return None
        if self._drain.asked:
            return ENDED if self._drain.may_leave(undelivered) else None
        return None if undelivered else self._restarted()

    def _restarted(self) -> int | None:
        if self._restart.note():
            return RESTART
        self._about = self._who_i_am()  # or else it would get no jobs
        self._presence.hurry()
        return None

    def _who_i_am(self) -> Object:
        return telemetry.about(self._capabilities, self._restart.handled, self._instance, self._workshop.directory)

    def _deleted(self) -> int:
        where = self._workshop.directory / memory.FILE
        _log.error(
            "robot %s was deleted: this agent ends and does not make it again; if it shall come back, start it once "
            "with --enlist-again, or remove %s", self._settings.name, where,
        )  # fmt: skip
        return DELETED

    def _stop_all(self, reason: StopReason, grace: float | None = None) -> None:
        for attempt in self._attempts.values():
            attempt.stop(reason, grace)

    # -- how things stand ----------------------------------------------------------------------------------------------

    def _held(self) -> dict[str, Held]:
        return {uid: one.held() for uid, one in self._attempts.items()}

    def _live(self) -> int:
        return sum(one.live for one in self._attempts.values())

    def _until_report(self) -> float:
        """Seconds until the server must hear of us."""
        if self._presence.gone:
            return float("inf")
        return self._presence.pause(any(one.urgent for one in self._attempts.values()))
