"""Does `casare up` bring up the whole system, look after it, and leave nothing behind? Tried with the real parts."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from casare_store import embedded
from tests.conftest import database_url, drop_database, free_port, until

CHECKOUT = Path(__file__).resolve().parents[2]
ROOTS = ("api", "store", "apiserver", "controller", "client", "agent", "dashboard", "cli", "migrations")
NOBODY = 65534
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
    pytest.mark.timeout(300),
]

MANIFEST = """
apiVersion: fleet.casare.net/v1
kind: Workflow
metadata: {name: hello}
spec: {runner: command, args: [echo, hello from a robot]}
---
apiVersion: fleet.casare.net/v1
kind: Job
metadata: {name: hello-1}
spec: {workflowRef: {name: hello}}
"""


class Home:
    """A data directory with free ports, the account that uses it, and `casare` for it."""

    def __init__(self, user: int | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="casare-test-"))  # pytest's tmp_path is shut to Postgres' account
        self.path.chmod(0o755)
        self.data = self.path / "data"
        self.user = user
        if user:
            os.chown(self.path, user, user)
        self.ports = dict(zip(("--port", "--tls-port", "--dashboard-port"), free_ports(3), strict=True))
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.path), "PYTHONPATH": os.pathsep.join(_python_path())}

    @property
    def options(self) -> list[str]:
        return [f"--data-dir={self.data}", *(f"{option}={port}" for option, port in self.ports.items())]

    @property
    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.data / "up.json").read_text()))

    @property
    def pids(self) -> dict[str, Any]:
        return dict(self.record["pids"])

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """`casare` with these arguments, running."""
        return subprocess.Popen(
            [_interpreter(self.user), "-P", "-m", "casare_cli", *arguments],
            env=self.env | env,
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
        )

    def casare(self, *arguments: str, **env: str) -> tuple[int, str]:
        """The exit code and the output of a command."""
        process = self.start(*arguments, **env)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    @contextlib.contextmanager
    def up(self, *arguments: str, **env: str) -> Iterator[Up]:
        """`casare up`, ready; ended with Ctrl-C where it still runs."""
        process = self.start("up", *self.options, *arguments, **env)
        running = Up(process)
        try:
            running.read_until("stop")
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            running.text += process.communicate(timeout=120)[0]

    def log(self, name: str) -> str:
        return (self.data / "log" / f"{name}.log").read_text()


class Up:
    """A running `casare up` and what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.text = ""

    def read_until(self, word: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.text += line
            if word in line:
                return
        raise AssertionError(f"it ended: {self.text}")


def free_ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def _python_path() -> list[str]:
    return [*(str(CHECKOUT / root) for root in ROOTS), *(p for p in sys.path if p.endswith("site-packages"))]


def _interpreter(user: int | None) -> str:
    if user is None:
        return sys.executable
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            found = subprocess.run(
                [python, "-c", "import casare_cli.main, psycopg"],
                env={"PYTHONPATH": os.pathsep.join(_python_path())},
                user=user, group=user, extra_groups=[], check=False, capture_output=True,
            )  # fmt: skip
        except OSError:
            continue
        if found.returncode == 0:
            return python
    pytest.skip("an ordinary user can reach no Python of this version, or not this checkout")


def runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def flat(pids: dict[str, Any]) -> list[int]:
    return [pid for pid in [*(v for k, v in pids.items() if k != "agents"), *pids["agents"]] if pid]


@pytest.fixture
def home() -> Iterator[Home]:
    made = Home()
    yield made
    shutil.rmtree(made.path)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Home, Up]]:
    """One system that several tests look at and crash; each leaves it whole."""
    home = Home()
    (home.path / "hello.yaml").write_text(MANIFEST)
    with home.up("--robots=2", "--apply=hello.yaml", API_SECRET="the-admin-key") as up:
        yield home, up
    shutil.rmtree(home.path)


def test_ready_means_that_a_job_runs(running: tuple[Home, Up]) -> None:
    home, up = running
    assert "2 created" in up.text
    assert "ready in" in up.text
    until(lambda: "Succeeded" in home.casare("--data-dir", str(home.data), "get", "job/hello-1")[1])
    assert home.casare("--data-dir", str(home.data), "logs", "job/hello-1") == (0, "hello from a robot\n")


def test_up_json_says_where_everything_is(running: tuple[Home, Up]) -> None:
    home, _ = running
    record = home.record
    pids = record.pop("pids")
    assert record == {
        "api": f"http://127.0.0.1:{home.ports['--port']}",
        "tls": f"https://127.0.0.1:{home.ports['--tls-port']}",
        "dashboard": f"http://127.0.0.1:{home.ports['--dashboard-port']}",
        "kubeconfig": str(home.data / "kubeconfig"),
        "adminKeyFile": str(home.data / "admin.key"),
        "caFile": str(home.data / "ca.crt"),
    }
    assert sorted(pids) == ["agents", "apiserver", "controller", "dashboard", "postgres"]
    assert len(pids["agents"]) == 2
    assert all(runs(pid) for pid in flat(pids))


def test_secrets_are_in_private_files_and_on_no_command_line(running: tuple[Home, Up]) -> None:
    home, up = running
    private = ("admin.key", "kubeconfig", "agents/local-1.yaml", "postgres.pass", "secret.key")
    files = [home.data / name for name in private]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    robot = next(line.split('"')[1] for line in files[2].read_text().splitlines() if "apiKey" in line)
    public = up.text + "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in flat(home.pids))
    public += "".join(log.read_text() for log in (home.data / "log").iterdir())
    passwords = [line.split(":")[-1] for line in files[3].read_text().splitlines()]
    for secret in ("the-admin-key", robot, files[4].read_text().strip(), *passwords):
        assert secret not in public


def test_robots_get_neither_the_admin_key_nor_the_database(running: tuple[Home, Up]) -> None:
    home, _ = running
    for pid in home.pids["agents"]:
        seen = Path(f"/proc/{pid}/environ").read_text()
        assert "the-admin-key" not in seen and "SECRET_KEY" not in seen
        assert "DATABASE_URL" not in seen


def test_the_kubeconfig_is_known_as_ours_and_works(running: tuple[Home, Up]) -> None:
    home, _ = running
    assert "hello-1" in home.casare("get", "jobs", KUBECONFIG=str(home.data / "kubeconfig"))[1]


def test_status_shows_that_all_is_well(running: tuple[Home, Up]) -> None:
    home, _ = running
    code, shown = home.casare("status", f"--data-dir={home.data}")
    assert code == 0, shown
    assert [line.split()[0] for line in shown.splitlines()[1:8]] == [
        "up", "postgres", "apiserver", "controller", "dashboard", "local-1", "local-2",
    ]  # fmt: skip


def test_the_same_directory_is_not_started_twice(running: tuple[Home, Up]) -> None:
    home, up = running
    code, said = home.casare("up", f"--data-dir={home.data}")
    assert code == 1
    assert said == (f"error: {home.data} is in use: it is up already (pid {up.process.pid}); 'casare down' stops it\n")


@pytest.mark.parametrize("option", ["--port", "--tls-port", "--dashboard-port"])
def test_a_port_that_is_taken_is_one_line_that_names_the_option(
    running: tuple[Home, Up], home: Home, option: str
) -> None:
    other, _ = running
    code, said = home.casare("up", *home.options, f"{option}={other.ports[option]}")
    assert code == 1
    assert said == f"error: port {other.ports[option]} on 127.0.0.1 is taken: choose another with {option}\n"


@pytest.mark.parametrize("name", ["apiserver", "controller", "postgres", "dashboard"])
def test_what_crashes_is_started_again(running: tuple[Home, Up], name: str) -> None:
    home, _ = running
    before = home.pids[name]
    os.kill(before, signal.SIGKILL)
    until(lambda: home.pids[name] not in (before, None))
    until(lambda: home.casare("status", f"--data-dir={home.data}")[0] == 0)


def test_a_robot_that_crashes_is_started_again(running: tuple[Home, Up]) -> None:
    home, _ = running
    before = home.pids["agents"]
    os.kill(before[1], signal.SIGKILL)
    until(lambda: home.pids["agents"][1] not in (before[1], None))
    assert home.pids["agents"][0] == before[0]
    until(lambda: home.casare("status", f"--data-dir={home.data}")[0] == 0)


def test_ctrl_c_ends_everything_and_the_next_start_knows_all(home: Home) -> None:
    (home.path / "hello.yaml").write_text(MANIFEST)
    with home.up("--no-dashboard", "--apply=hello.yaml") as up:
        pids, key = home.pids, (home.data / "admin.key").read_text()
        robot = (home.data / "agents" / "local-1.yaml").read_text()
        assert home.record["dashboard"] is None is pids["dashboard"]
    assert up.process.returncode == 0
    assert up.text.endswith("stopped\n")
    assert not any(runs(pid) for pid in flat(pids))
    assert "database system is shut down" in home.log("postgres").splitlines()[-1]
    assert home.casare("status", f"--data-dir={home.data}")[0] == 3
    with (home.data / "agents" / "local-1.yaml").open("a") as file:
        file.write("# my own words\n")
    home.ports["--port"], home.ports["--tls-port"] = free_ports(2)
    with home.up("--no-dashboard", "--apply=hello.yaml") as up:
        assert "2 unchanged" in up.text
        assert (home.data / "admin.key").read_text() == key
        kept = (home.data / "agents" / "local-1.yaml").read_text()
        assert kept.endswith("# my own words\n")
        assert f":{home.ports['--port']}" in kept
        assert next(line for line in robot.splitlines() if "apiKey" in line) in kept


def test_the_key_of_secrets_is_rotated(home: Home) -> None:
    (home.path / "s.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {pw: hunter2}\n")
    where, old = f"--data-dir={home.data}", home.data / "secret.key.old"
    with home.up("--no-dashboard", "--robots=0", "--apply=s.yaml") as up:
        assert "old key" not in up.text
        first = (home.data / "secret.key").read_text()

    def shown() -> bool:
        return "aHVudGVyMg==" in home.casare(where, "get", "secret", "s", "-o", "yaml")[1]

    with home.up("--no-dashboard", "--robots=0", "--new-secret-key") as up:
        assert f"{old}: " in up.text and "secrets reseal" in up.text
        assert old.read_text() == first != (home.data / "secret.key").read_text()
        assert {stat.S_IMODE(file.stat().st_mode) for file in (old, home.data / "secret.key")} == {0o600}
        assert shown()
        code, said = home.casare(where, "secrets", "reseal")
        assert code == 0 and "1 Secret and 1 entry of the log are sealed anew" in said, said
        old.unlink()
        pid = home.pids["apiserver"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: home.pids["apiserver"] not in (pid, None), "the apiserver was started again")
        until(shown, lambda: f"it opens the Secret without the old key; {home.log('apiserver')[-2000:]}")
    with home.up("--no-dashboard", "--robots=0") as up:
        assert "old key" not in up.text and shown()


def test_detached_it_stays_until_down(home: Home) -> None:
    code, said = home.casare("up", *home.options, "--no-dashboard", "--detach")
    assert code == 0, said
    assert "ready in" in said
    pids = home.pids
    assert home.casare("status", f"--data-dir={home.data}")[0] == 0
    code, said = home.casare("down", f"--data-dir={home.data}")
    assert (code, said.splitlines()[-1]) == (0, "stopped")
    assert not any(runs(pid) for pid in flat(pids))
    assert home.casare("down", f"--data-dir={home.data}") == (0, f"nothing runs in {home.data}\n")
    assert "stopped" in home.log("up")


def test_down_waits_for_no_process_for_ever(home: Home) -> None:
    from casare_cli.failures import Failure
    from casare_cli.up.down import down

    stubborn = """
import signal, sys
from pathlib import Path
from casare_cli.up.data_dir import DataDir, claimed
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with claimed(DataDir(Path(sys.argv[1]))):
    print("up", flush=True)
    signal.pause()
"""
    command = [sys.executable, "-c", stubborn, str(home.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "up\n"
        with pytest.raises(Failure, match=f"^process {process.pid} still runs after 0 s: "):
            down(home.path, patience=0.1)
        process.kill()


def test_on_windows_it_says_where_the_servers_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from casare_cli.main import main

    monkeypatch.setattr(sys, "platform", "win32")
    assert main(["up"]) == 1
    assert capsys.readouterr().err == (
        "error: the servers run on Linux and macOS only: start them there, and on Windows run 'casare agent'\n"
    )


def test_kill_9_leaves_nothing_and_the_next_start_works(home: Home) -> None:
    with home.up("--no-dashboard") as up:
        pids = flat(home.pids)
        up.process.kill()
        up.process.wait()
        until(lambda: not any(runs(pid) for pid in pids))
    assert home.casare("status", f"--data-dir={home.data}")[0] == 3
    with home.up("--no-dashboard"):
        assert home.casare("status", f"--data-dir={home.data}")[0] == 0


def test_a_wish_to_end_during_the_start_leaves_nothing(home: Home) -> None:
    process = home.start("up", *home.options)
    up = Up(process)
    up.read_until("postgres")
    process.send_signal(signal.SIGTERM)
    up.text += process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert up.text.endswith("stopped\n")
    assert not (home.data / "up.json").exists()


@pytest.fixture
def empty(postgres: embedded.Server) -> Iterator[str]:
    """The URL of a database with nothing in it, of a server that runs."""
    url = database_url(postgres.url, f"t_{secrets.token_hex(6)}")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {psycopg.conninfo.conninfo_to_dict(url)['dbname']}")
    yield url
    drop_database(postgres, url)


def test_a_database_of_ones_own_is_used(home: Home, postgres: embedded.Server, empty: str) -> None:
    with home.up("--no-dashboard", DATABASE_URL=empty):
        assert home.pids["postgres"] is None
        assert home.casare("status", f"--data-dir={home.data}")[0] == 0
    assert postgres.ready()


def test_a_database_that_is_not_there_is_one_line(home: Home) -> None:
    url = f"postgresql://somebody:secret@127.0.0.1:{free_port()}/none"
    code, said = home.casare("up", *home.options, "--no-dashboard", DATABASE_URL=url)
    assert code == 1
    assert said.splitlines()[-1].startswith("error: the database can't be used")
    assert "secret" not in said


def test_a_manifest_that_is_wrong_does_not_stop_the_rest(home: Home) -> None:
    (home.path / "hello.yaml").write_text(f"{MANIFEST}---\napiVersion: fleet.casare.net/v1\nkind: Robt\n")
    with home.up("--no-dashboard", "--apply=hello.yaml") as up:
        assert "2 created, not all" in up.text
        assert "Robt" in up.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users at once")
def test_root_and_an_ordinary_user_run_side_by_side(home: Home) -> None:
    other = Home(user=NOBODY)
    try:
        with home.up("--no-dashboard"), other.up("--no-dashboard"):
            for each in (home, other):
                assert each.casare("status", f"--data-dir={each.data}")[0] == 0
            owners = {os.stat(f"/proc/{pid}").st_uid for pid in flat(other.pids)}
            assert owners == {NOBODY}
    finally:
        shutil.rmtree(other.path)


def test_no_permission_is_one_line(home: Home) -> None:
    shut = Home(user=NOBODY if os.geteuid() == 0 else None)
    os.chown(shut.path, os.geteuid(), os.getegid())
    shut.path.chmod(0o555)
    try:
        code, said = shut.casare("up", *shut.options)
        assert (code, said) == (1, f"error: {shut.data}: Permission denied: take another --data-dir\n")
    finally:
        shutil.rmtree(shut.path)


def test_the_supervisor_loads_nothing_heavy() -> None:
    code = "import sys, casare_cli.up.up\nprint([n for n in sys.argv[1:] if n in sys.modules])"
    heavy = ["sqlalchemy", "psycopg", "fastapi", "pydantic", "httpx2", "pandas", "streamlit", "rich"]
    shown = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_the_default_directory_is_the_one_the_client_looks_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from casare_cli.up import data_dir
    from casare_client import connection

    monkeypatch.delenv("CASARE_DATA_DIR", raising=False)
    assert data_dir.default() == connection.default_data_dir()
    monkeypatch.setenv("CASARE_DATA_DIR", "~/fleet")
    assert data_dir.default() == connection.default_data_dir()
