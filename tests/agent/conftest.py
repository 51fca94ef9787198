"""What the agent's tests share: a workshop whose server is away, commands to start, processes to look at."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from casare_agent.assignment import Assignment
from casare_agent.process import Command
from casare_agent.workshop import Workshop
from casare_api.kinds import Object
from casare_client import Client, Config


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A robot's directory; its server does not answer (nothing listens on port 1)."""
    with Client(Config("http://127.0.0.1:1", timeout=2.0)) as client:
        shop = Workshop(tmp_path / "robot", client)
        yield shop
        shop.close()


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., Command]:
    """A command that runs Python text in the tests' own interpreter."""

    def command(text: str, **variables: str) -> Command:
        env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **variables}
        return Command((sys.executable, "-c", text), env, tmp_path)

    return command


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not buried does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(name="alive")
def _alive() -> Callable[[int], bool]:
    return alive


@pytest.fixture
def job() -> Callable[..., Assignment]:
    """An assignment with an inline workflow."""

    def make(workflow: Object, uid: str = "u-1", attempt: int = 1, **spec: object) -> Assignment:
        return Assignment("default", "job-1", uid, attempt, spec={"workflow": workflow, **spec})

    return make
