"""What did the agent before this one leave behind? Its processes are ended, its undelivered results taken over.

Runs before anything else. A job that was Running and left no result is reported Lost as soon as the watch shows it:
that is the plan's business, here it is only made sure that nothing of it still runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from casare_agent import leftovers
from casare_agent import result as results
from casare_agent.attempt import Attempt
from casare_agent.leftovers import Mark
from casare_agent.workshop import Workshop, remove

_log = logging.getLogger("casare.agent")


def recover(workshop: Workshop, changed: Callable[[], None]) -> dict[str, Attempt]:
    """The attempts that only have to be reported, by job uid."""
    workshop.prune()
    taken_over: dict[str, Attempt] = {}
    for directory in sorted(workshop.attempts.iterdir()):
        mark = _mark_of(directory)
        if mark is None:
            continue
        if killed := leftovers.kill_recorded(directory, mark):
            _log.warning("%d processes of an earlier agent's attempt %s-%d were ended", killed, *mark)
        kept = results.load(directory)
        if kept is None:
            remove(directory)
        else:
            taken_over[mark.uid] = Attempt.settled(*kept, workshop, changed)
    return taken_over


def _mark_of(directory: Path) -> Mark | None:
    uid, dash, number = directory.name.rpartition("-")
    return Mark(uid, int(number)) if dash and number.isdecimal() else None
