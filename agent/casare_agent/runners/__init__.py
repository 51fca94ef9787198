"""Runners: each turns a workflow and a prepared work directory into the one command that runs it.

Belongs here: the protocol that plug-ins implement (`protocol`), finding a runner by its name (`registry`), and the
runners that come with the agent, one a file.
Never: starting the job's process, its log, its timeout or its result: the agent owns those for every runner alike.
A plug-in is an entry point in the group `casare.runners`, named as workflows name it in `spec.runner`.
"""

from casare_agent.runners.protocol import Runner, Task, TaskError
from casare_agent.runners.registry import find

__all__ = ["Runner", "Task", "TaskError", "find"]
