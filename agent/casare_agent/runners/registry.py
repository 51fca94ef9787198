"""Which runner has this name?"""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points

from casare_agent.runners.command import CommandRunner
from casare_agent.runners.protocol import Runner, TaskError
from casare_agent.runners.python import PythonRunner

GROUP = "casare.runners"
BUILT_IN: dict[str, Runner] = {"command": CommandRunner(), "python": PythonRunner()}


def find(name: str) -> Runner:
    """The runner. Raises TaskError for a name that nothing installed here has, and for a plug-in that is broken."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    plug_ins = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in plug_ins:
        has = ", ".join(sorted({*BUILT_IN, *plug_ins}))
        raise TaskError("UnknownRunner", f'this robot has no runner "{name}"; it has {has}')
    return _load(plug_ins[name])


@functools.cache
def _load(entry: EntryPoint) -> Runner:
    """The plug-in: its entry point names a class without arguments, or a function, that gives a Runner."""
    try:
        runner: Runner = entry.load()()
    except Exception as error:  # whatever a plug-in does wrong must fail its jobs, not the agent
        raise TaskError("BrokenRunner", f'runner "{entry.name}" does not load: {error}') from error
    return runner
