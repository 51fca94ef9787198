"""Where are the packages that a Python workflow asks for? In a virtual environment kept for each set of requirements.

An environment is usable only when its `ready` file is there, which is written last: what was interrupted is built
again. One job builds, others that want the same wait for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from casare_agent import environment
from casare_agent.process import Command, Exit

KEPT = 30 * 24 * 3600.0  # seconds an environment stays that no job has used
_READY = "ready"
_LOOK = 0.2  # seconds between two looks whether another job has built it; a stopped job must not wait for it

Run = Callable[[Command], Exit]
Pause = Callable[[float], None]


class BuildFailed(Exception):
    """The environment could not be built; the job's log says more."""


class VenvCache:
    """Virtual environments in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def python(self, interpreter: str, requirements: Sequence[str], run: Run, pause: Pause) -> Path:
        """The Python of the environment that has these requirements, built by `run` where there is none yet.

        `pause(seconds)` waits while another job builds it. What `run` and `pause` raise ends this.
        """
        key = _key(interpreter, requirements)
        venv = self._directory / key
        with self._held(key, pause):
            if not (venv / _READY).exists():
                self._build(venv, interpreter, requirements, run)
            os.utime(venv / _READY)
        return _python_of(venv)

    def prune(self, older_than: float = KEPT) -> int:
        """Removes environments that were not used for so many seconds; how many."""
        before, removed = time.time() - older_than, 0
        for venv in self._directory.iterdir() if self._directory.exists() else ():
            with contextlib.suppress(FileNotFoundError):
                if (venv / _READY).stat().st_mtime < before:
                    shutil.rmtree(venv, ignore_errors=True)
                    removed += 1
        return removed

    @contextlib.contextmanager
    def _held(self, key: str, pause: Pause) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        while not lock.acquire(blocking=False):
            pause(_LOOK)
        try:
            yield
        finally:
            lock.release()

    def _build(self, venv: Path, interpreter: str, requirements: Sequence[str], run: Run) -> None:
        shutil.rmtree(venv, ignore_errors=True)
        venv.mkdir(parents=True)
        env = environment.for_pip(os.environ)
        pip_or_not = () if requirements else ("--without-pip",)
        _step("python -m venv", Command((interpreter, "-m", "venv", *pip_or_not, str(venv)), env, venv), run)
        if requirements:
            pip = (str(_python_of(venv)), "-m", "pip", "install", "--disable-pip-version-check", "--no-input")
            _step("pip install", Command((*pip, *requirements), env, venv), run)
        (venv / _READY).touch()


def _step(what: str, command: Command, run: Run) -> None:
    try:
        ended = run(command)
    except OSError as error:
        raise BuildFailed(f"{what} can't be started: {error.strerror or error}") from None
    if ended.code != 0:
        raise BuildFailed(f"{what} failed with exit code {ended.code}; the log says why")


def _key(interpreter: str, requirements: Sequence[str]) -> str:
    """The same for the same set, in any order; the interpreter is the file it really is."""
    asked = [os.path.realpath(interpreter), interpreter, *sorted(set(requirements))]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]


def _python_of(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"
