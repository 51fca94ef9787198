"""With which Python does a peer run? This one where it has the library; else a newer one with an environment of its own.

Always holds: what to install stands in pyproject.toml alone (the extra `bench`), nothing is installed into the Python of
this process, and an environment made here lives in this one's directory, so it goes when .venv goes.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from system import HERE, BenchmarkError

_NEWEST = 20  # minor version up to which names are tried
_INSTALL_WITHIN = 180.0  # seconds
_ASK_WITHIN = 10.0


def python_for(package: str) -> str:
    """The Python that can import `package`. Raises BenchmarkError with the reason when there is none."""
    if importlib.util.find_spec(package) is not None:
        return sys.executable
    requirement, least = _requirement(package)
    if sys.version_info[:2] >= least:
        raise BenchmarkError(f"{package} is not installed; ./dev bench jobs installs it")
    return _environment(package, requirement, least)


def _requirement(package: str) -> tuple[str, tuple[int, int]]:
    """What the extra `bench` says of a package: its name with the range, and the least Python by its marker."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    for line in project["optional-dependencies"].get("bench", ()):
        requirement, _, marker = line.partition(";")
        if re.match(r"[\w.-]+", requirement)[0].lower() == package:  # type: ignore[index]
            least = re.search(r"python_version\s*>=\s*['\"](\d+)\.(\d+)", marker)
            return requirement.strip(), (int(least[1]), int(least[2])) if least else (3, 0)
    raise BenchmarkError(f"{package} is not among the extra 'bench' of pyproject.toml")


def _environment(package: str, requirement: str, least: tuple[int, int]) -> str:
    """Its Python; made and filled once, and again when the range in pyproject.toml changes."""
    directory = Path(sys.prefix) / f"bench-{package}"
    python, stamp = directory / "bin" / "python", directory / "installed"
    if not (stamp.exists() and stamp.read_text() == requirement and _is_at_least(str(python), least)):
        shutil.rmtree(directory, ignore_errors=True)
        found = next((name for name in _pythons(least) if _is_at_least(name, least)), None)
        if found is None:
            raise BenchmarkError(f"{package} needs Python {least[0]}.{least[1]} or newer; none was found")
        _run([found, "-m", "venv", str(directory)], package)
        _run([str(python), "-m", "pip", "install", "--quiet", requirement], package)
        stamp.write_text(requirement)
    return str(python)


def _pythons(least: tuple[int, int]) -> Iterator[str]:
    """Where Pythons can be, the likely ones first: on PATH by version, and with pyenv those it keeps off PATH."""
    yield from (f"python{least[0]}.{minor}" for minor in range(_NEWEST, least[1] - 1, -1))
    yield "python3"
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, timeout=_ASK_WITHIN).stdout.strip()
        yield from map(str, sorted(Path(root).glob("versions/*/bin/python3"), reverse=True))


def _is_at_least(python: str, least: tuple[int, int]) -> bool:
    try:
        code = f"import sys, venv; sys.exit(sys.version_info < {least})"
        return subprocess.run([python, "-c", code], capture_output=True, timeout=_ASK_WITHIN).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _run(argv: list[str], package: str) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_INSTALL_WITHIN, env=env)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{package} could not be installed within {_INSTALL_WITHIN:.0f} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise BenchmarkError(f"{package} could not be installed: {said}")
