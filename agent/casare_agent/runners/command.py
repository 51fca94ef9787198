"""How does runner `command` run a workflow? Without a source, `args` is the program and its arguments; with one, the
file is a script, run by what its first line or its suffix says, otherwise by the system's shell."""

from __future__ import annotations

import os
from pathlib import Path

from casare_agent.process import Command
from casare_agent.runners.programs import locate
from casare_agent.runners.protocol import Task, TaskError

_SHELL = "/bin/sh"


class CommandRunner:
    """Programs and shell scripts."""

    inline_name = "script.cmd" if os.name == "nt" else "script.sh"

    def command(self, task: Task) -> Command:
        if task.script is not None:
            return Command((*_interpreter(task.script, task), str(task.script), *task.args), task.env, task.work)
        if not task.args:
            raise TaskError("InvalidWorkflow", "runner command needs args (the program and its arguments) or a source")
        return Command((locate(task.args[0], task), *task.args[1:]), task.env, task.work)


def _interpreter(script: Path, task: Task) -> tuple[str, ...]:
    """The words before a script's path."""
    suffix = script.suffix.lower()
    if suffix == ".ps1":
        shell = locate("powershell" if os.name == "nt" else "pwsh", task)
        return (shell, "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File")
    if os.name == "nt":
        return (locate(task.env.get("COMSPEC", "cmd.exe"), task), "/d", "/c")
    if _names_its_interpreter(script):
        script.chmod(0o700)
        return ()
    return (_SHELL,)


def _names_its_interpreter(script: Path) -> bool:
    with script.open("rb") as file:
        return file.read(2) == b"#!"
