"""Does ./dev set up a checkout, whatever state it finds it in?

Tried on a small checkout of its own, which builds without a network: its `casare`, its linters and its pytest say
what they were called with.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="./dev is a shell script")

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import os, sys, zipfile
def build_editable(directory, config_settings=None, metadata_directory=None):
    info = "tiny-1.dist-info"
    with zipfile.ZipFile(f"{directory}/tiny-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.pth", os.getcwd())
        extras = "Provides-Extra: all\\nProvides-Extra: test\\n"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n{extras}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        names = ["casare", "ruff", "mypy", "lint-imports"]
        lines = "".join(f"{name} = tools:main\\n" for name in names)
        wheel.writestr(f"{info}/entry_points.txt", f"[console_scripts]\\n{lines}")
        wheel.writestr(f"{info}/RECORD", "")
    with open("installs", "a") as count:
        count.write("x")
    return "tiny-1-py3-none-any.whl"
"""
TOOLS = """
import os, sys
def main():
    name = os.path.basename(sys.argv[0])
    print(name, *sys.argv[1:])
    return int(os.environ.get("FAIL_" + name.replace("-", "_"), "0"))
"""
PYTEST = "import os, sys\nprint('pytest', *sys.argv[1:])\nsys.exit(int(os.environ.get('FAIL_pytest', '0')))"


# A python3 that makes its first virtual environment, and copies that wherever it is to make another.
PYTHON = """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {python} "$@"
[ ! -d {kept} ] || exec cp -a {kept}/. "$3"
{python} "$@" && cp -a "$3" {kept}
"""


class Tiny:
    """A checkout with ./dev in it; its path holds a space. Environments are kept in `kept`."""

    def __init__(self, place: Path, kept: Path) -> None:
        self.path = place / "a check out"
        self.path.mkdir()
        shutil.copy(CHECKOUT / "dev", self.path)
        (self.path / "bench").mkdir()
        files = {"pyproject.toml": PYPROJECT, "backend.py": BACKEND, "tools.py": TOOLS, "pytest.py": PYTEST}
        files["bench/store.py"] = "import sys; print('bench', *sys.argv[1:])"
        for name, text in files.items():
            (self.path / name).write_text(text)
        self.home = place / "home"
        self.home.mkdir()
        names = {"python": shlex.quote(str(shutil.which("python3"))), "kept": shlex.quote(str(kept))}
        programs = {"python3": PYTHON.format(**names)}
        programs |= {"chromium": "", "uname": "#!/bin/sh\necho Elsewhere\n"}  # so neither it nor kubectl is installed
        for name, text in programs.items():
            (self.home / name).write_text(text)
            (self.home / name).chmod(0o755)

    @property
    def venv(self) -> Path:
        return self.path / ".venv"

    @property
    def installs(self) -> int:
        return len((self.path / "installs").read_text())

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in ("PYENV_ROOT", "LANG")}
        return {**kept, "PATH": f"{self.home}{os.pathsep}{os.environ['PATH']}", "HOME": str(self.home), "PYTHON": "python3"}

    def dev(self, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.path / "dev"), *arguments],
            env=self.env | env,
            cwd=cwd or "/",
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept") / "venv"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, kept: Path) -> Tiny:
    made = Tiny(tmp_path_factory.mktemp("dev"), kept)
    done = made.dev("up")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def path_without_python(tmp_path: Path) -> Iterator[Path]:
    """A PATH with what a shell script needs and no Python at all."""
    for name in ("sh", "dirname", "sed", "cat", "cksum", "rm", "mkdir", "id"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    yield tmp_path


def test_up_installs_and_starts_with_the_manifests(tiny: Tiny) -> None:
    done = tiny.dev("up", "--port", "9000")
    assert done.stdout == f"casare up --apply {tiny.path}/manifests --port 9000\n"


def test_it_works_from_anywhere_and_the_arguments_are_the_callers(tiny: Tiny, tmp_path: Path) -> None:
    shown = tiny.dev("up", "--apply", "own.yaml", cwd=tmp_path).stdout
    assert shown.endswith("--apply own.yaml\n")


def test_nothing_is_installed_twice(tiny: Tiny) -> None:
    assert tiny.dev("up").returncode == 0  # whatever another test has left
    before = tiny.installs
    assert tiny.dev("up").stderr == ""
    assert tiny.installs == before


def test_a_changed_pyproject_is_installed_again(tiny: Tiny) -> None:
    before = tiny.installs
    with (tiny.path / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")
    assert "installing casare-fleet[all]" in tiny.dev("up").stderr
    assert tiny.installs == before + 1


def test_an_interrupted_installation_starts_afresh(tiny: Tiny) -> None:
    (tiny.venv / ".casare-unfinished").touch()
    (tiny.venv / "left-over").touch()
    done = tiny.dev("up")
    assert done.returncode == 0
    assert "making .venv" in done.stderr
    assert not (tiny.venv / "left-over").exists()


def test_a_broken_python_is_replaced(tiny: Tiny) -> None:
    (tiny.venv / "bin" / "python").unlink()
    (tiny.venv / "bin" / "python").symlink_to("/nowhere")
    done = tiny.dev("up")
    assert done.returncode == 0, done.stderr
    assert "making .venv" in done.stderr


def test_a_checkout_that_was_moved_is_installed_anew(tiny: Tiny) -> None:
    moved = tiny.path.with_name("moved")
    tiny.path.rename(moved)
    try:
        tiny.path, old = moved, tiny.path
        done = tiny.dev("up")
        assert done.stdout == f"casare up --apply {moved}/manifests\n"
    finally:
        moved.rename(old)
        tiny.path = old


def test_tests_run_after_the_linters_which_all_run(tiny: Tiny) -> None:
    done = tiny.dev("test", FAIL_ruff="1")
    assert [line.split()[0] for line in done.stderr.splitlines() if not line.startswith("dev:")] == [
        "ruff",
        "mypy",
        "lint-imports",
    ]
    assert re.fullmatch(r"pytest -n [2-8] --dist worksteal\n", done.stdout), "several processes share the whole suite"
    assert done.returncode == 1
    assert tiny.dev("check", FAIL_mypy="1").returncode == 1
    assert tiny.dev("check").returncode == 0


def test_the_exit_code_is_that_of_pytest(tiny: Tiny) -> None:
    done = tiny.dev("test", "-k", "one or two", FAIL_pytest="5", FAIL_ruff="1")
    assert (done.returncode, done.stdout) == (5, "pytest -k one or two\n")


def test_what_a_benchmark_compares_with_is_installed_for_it_alone_and_once(tiny: Tiny) -> None:
    tiny.dev("up")
    before = tiny.installs
    program = tiny.path / "bench" / "peers.py"
    program.write_text("print('peers')")
    try:
        assert tiny.dev("bench", "store").stdout == "bench\n"
        assert tiny.installs == before
        assert [tiny.dev("bench", "peers").stdout for _ in range(2)] == ["peers\n", "peers\n"]
        assert tiny.installs == before + 1
    finally:
        program.unlink()


def test_a_benchmark_runs_by_its_name(tiny: Tiny) -> None:
    assert tiny.dev("bench", "store", "--clients", "16").stdout == "bench --clients 16\n"
    done = tiny.dev("bench", "stroe")
    assert (done.returncode, done.stderr) == (1, "dev: which benchmark? There are: store \n")


def test_an_unknown_command_shows_the_usage(tiny: Tiny) -> None:
    done = tiny.dev("upp")
    assert done.returncode == 2
    assert "usage: ./dev up" in done.stderr


def test_without_a_python_there_is_one_line(tmp_path: Path, kept: Path, path_without_python: Path) -> None:
    (tmp_path / "place").mkdir()
    fresh = Tiny(tmp_path / "place", kept)
    done = fresh.dev("up", PATH=str(path_without_python))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "dev: Python 3.11 or newer is needed and was not found (Debian: apt-get install python3 python3-venv)"
    ]


def test_without_venv_and_uv_the_command_that_helps_is_named(
    tmp_path: Path, kept: Path, path_without_python: Path
) -> None:
    """Debian's Python without python3-venv: the module is there and fails."""
    python = path_without_python / "python3"
    python.write_text(f'#!/bin/sh\n[ "$2" != venv ] || exit 1\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "place").mkdir()
    fresh = Tiny(tmp_path / "place", kept)
    done = fresh.dev("up", PATH=str(path_without_python))
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr.splitlines()[-1]
    assert not fresh.venv.exists()


def test_an_installation_that_fails_is_tried_again(tmp_path: Path, kept: Path) -> None:
    fresh = Tiny(tmp_path, kept)
    backend = fresh.path / "backend.py"
    backend.write_text("raise SystemExit('no network')")
    done = fresh.dev("up")
    assert done.returncode == 1
    assert "the installation failed" in done.stderr.splitlines()[-1]
    backend.write_text(BACKEND)
    assert fresh.dev("up").returncode == 0


def test_continuous_integration_calls_the_same(tiny: Tiny) -> None:
    (tiny.path / ".ci").mkdir(exist_ok=True)
    shutil.copy(CHECKOUT / ".ci" / "run", tiny.path / ".ci")
    done = subprocess.run([tiny.path / ".ci" / "run"], capture_output=True, text=True, check=False, env=tiny.env)
    assert done.returncode == 0 and done.stdout.startswith("pytest -n ")
