"""How does runner `python` run a workflow? `source` as a file or a module, in an interpreter that has what
`python.requirements` asks for: the robot's own Python, or a virtual environment kept for each set of requirements."""

from __future__ import annotations

import sys

from casare_agent import venvs
from casare_agent.process import Command
from casare_agent.runners.programs import locate
from casare_agent.runners.protocol import Task, TaskError

# What is printed is in the log at once, and in UTF-8 whatever the computer's own encoding is.
_DEFAULTS = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


class PythonRunner:
    """Python files and modules."""

    inline_name = "main.py"

    def command(self, task: Task) -> Command:
        target = _target(task)
        return Command((_interpreter(task), *target, *task.args), {**_DEFAULTS, **task.env}, task.work)


def _target(task: Task) -> tuple[str, ...]:
    if task.script is not None:
        return (str(task.script),)
    module = (task.spec.get("source") or {}).get("module")
    if not module:
        raise TaskError("InvalidWorkflow", "runner python needs a source: file, inline or module")
    return ("-m", str(module))


def _interpreter(task: Task) -> str:
    python = task.spec.get("python") or {}
    named = python.get("interpreter")
    interpreter = locate(str(named), task) if named else sys.executable
    requirements = [str(each) for each in python.get("requirements") or []]
    if not requirements:
        return interpreter
    try:
        return str(task.venvs.python(interpreter, requirements, task.run, task.pause))
    except venvs.BuildFailed as error:
        raise TaskError("RequirementsFailed", str(error)) from None
