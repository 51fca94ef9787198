"""Where is a program that a workflow names? Found before it is started, so that a typo gets a plain answer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from casare_agent.runners.protocol import Task, TaskError


def locate(name: str, task: Task) -> str:
    """The program's path: a bare name is looked up in the job's PATH, a relative path in its work directory."""
    if os.path.dirname(name):
        path = Path(name) if os.path.isabs(name) else task.work / name
        found = shutil.which(path)
    else:
        found = shutil.which(name, path=task.env.get("PATH"))
    if found is None:
        raise TaskError("ProgramNotFound", f'"{name}" is not a program on this robot')
    return found
