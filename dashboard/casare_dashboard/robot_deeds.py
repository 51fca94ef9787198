"""What can a person do to a robot as it stands? Pause and resume it, drain it, have its agent restart."""

from __future__ import annotations

from datetime import UTC, datetime

from casare_api.kinds import Object, dig
from casare_api.machinery import times
from casare_dashboard.deeds import Deed

_WANTED = {"Active": "resumed", "Paused": "paused", "Drained": "drained"}


def deeds(robot: Object) -> list[Deed]:
    """Those that change something now."""
    wanted = dig(robot, "spec", "desiredState") or "Active"
    running = int(dig(robot, "status", "slots", "used") or 0)
    possible = {
        "Paused": _state("pause", "Pause", "Paused"),
        "Active": _state("resume", "Resume", "Active"),
        "Drained": _state("drain", "Drain", "Drained", _question(robot, running), "Yes, drain it"),
    }
    restart = Deed("restart", "Restart", "asked to restart", _restart)
    return [*(deed for state, deed in possible.items() if state != wanted), restart]


def _state(key: str, label: str, state: str, question: str = "", yes: str = "") -> Deed:
    return Deed(key, label, _WANTED[state], lambda: {"spec": {"desiredState": state}}, question, yes)


def _question(robot: Object, running: int) -> str:
    """What draining does to the jobs it runs; nothing to ask where it runs none."""
    if not running:
        return ""
    drain = dig(robot, "spec", "drain") or {}
    fate = {"Wait": "go on to their end", "Cancel": "are cancelled"}.get(drain.get("then", ""), "go back to the queue")
    jobs = "its job" if running == 1 else f"its {running} jobs"
    return f"It takes nothing new. Of {jobs}, those that still run after {drain.get('deadline', '15m')} {fate}."


def _restart() -> Object:
    """A moment that was not written there before: the agent restarts once for each."""
    return {"spec": {"restartRequestedAt": times.to_text(datetime.now(UTC))}}
