"""Agents that join by a token, several on one computer, and robots that were deleted: real processes."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import pytest

from casare_agent import keyring, memory
from casare_api.kinds import dig
from casare_api.machinery import credentials
from casare_api.machinery.errors import ApiError
from casare_client import Client, Config

pytestmark = pytest.mark.skipif(os.name == "nt", reason="agents in here are ended with POSIX signals")

API = "fleet.casare.net/v1"
Until = Callable[..., None]


class Server(Protocol):
    url: str

    def is_ready(self) -> bool: ...


@dataclass
class Place:
    """A computer: a directory, and the agents that were started on it."""

    server: Server
    admin: Client
    directory: Path
    until: Until
    name: str = field(default_factory=lambda: f"pc-{secrets.token_hex(3)}")
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def said(self) -> str:
        return (self.directory / "agent.log").read_text()

    def kept(self) -> dict[str, str]:
        """What its agent keeps of who it is."""
        return {name: (self.directory / self.name / name).read_text() for name in (keyring.FILE, memory.FILE)}

    def token(self, **spec: Any) -> str:
        name = f"token-{secrets.token_hex(3)}"
        self.admin.create({"apiVersion": API, "kind": "JoinToken", "metadata": {"name": name}, "spec": spec})
        return self.admin.issue_key(name, kind="JoinToken")

    def files(self, letters: str) -> list[str]:
        """A file of settings for each of several robots."""
        token, files = self.token(uses=len(letters)), []
        for letter in letters:
            file = self.directory / f"{letter}.env"
            said = {"ORCHESTRATOR_URL": self.server.url, "JOIN_TOKEN": token, "ROBOT_ID": f"{self.name}-{letter}"}
            file.write_text("".join(f"CASARE_{name}={value}\n" for name, value in {**said, "AGENT_DIR": "robots"}.items()))
            files.append(str(file))
        return files

    def restart(self, robot: str) -> None:
        """As `casare restart` does."""
        self.admin.patch("Robot", robot, {"spec": {"restartRequestedAt": "2026-11-22T20:00:00Z"}})

    def start(
        self, *arguments: str, python: str | Path = sys.executable, **settings: str
    ) -> subprocess.Popen[bytes]:
        env = {
            **os.environ, "CASARE_ORCHESTRATOR_URL": self.server.url, "CASARE_ROBOT_ID": self.name,
            "CASARE_AGENT_DIR": str(self.directory), **settings,
        }  # fmt: skip
        with (self.directory / "agent.log").open("ab") as log:
            command = [str(python), "-m", "casare_agent", *arguments]
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def phase(self, name: str | None = None) -> str:
        try:
            return str(dig(self.admin.get("Robot", name or self.name), "status", "phase"))
        except ApiError as error:
            return error.reason

    def is_idle(self, name: str | None = None) -> None:
        self.until(lambda: self.phase(name) == "Idle", lambda: f"{name or self.name} is there: {self.said}")

    def run(self, robot: str) -> str:
        """A job of this robot alone; its phase at the end."""
        spec = {"workflow": {"runner": "command", "args": ["true"]}, "requirements": {"robotName": robot}}
        job = {"apiVersion": API, "kind": "Job", "metadata": {"generateName": "job-"}, "spec": spec}
        name = self.admin.create(job)["metadata"]["name"]
        self.until(lambda: self.admin.get("Job", name)["status"]["phase"] in ("Succeeded", "Failed"), "the job ends")
        return str(self.admin.get("Job", name)["status"]["phase"])


@pytest.fixture
def place(server: Server, client: Client, tmp_path: Path, until: Until) -> Iterator[Place]:
    until(server.is_ready, "the apiserver is ready")
    found = Place(server, client, tmp_path, until)
    yield found
    for process in found.processes:
        process.kill()
        process.wait()


def test_an_agent_swaps_its_token_for_a_key_once(place: Place) -> None:
    token = place.token(uses=1, environment="production", labels={"site": "berlin"})
    first = place.start(CASARE_JOIN_TOKEN=token)
    place.is_idle()
    robot = place.admin.get("Robot", place.name)
    assert (robot["spec"]["environment"], robot["metadata"]["labels"]) == ("production", {"site": "berlin"})
    assert place.run(place.name) == "Succeeded"
    late = place.start(CASARE_JOIN_TOKEN=token, CASARE_ROBOT_ID=f"{place.name}-b")
    assert late.wait(timeout=60) == 1, "the token is used up"
    (line,) = [line for line in place.said.splitlines() if "used up" in line]
    assert line.startswith("casare agent: the server does not let this computer join: join token ")
    first.kill()
    first.wait()
    more = {"CASARE_ROBOT_TAGS": "sap", "CASARE_ENVIRONMENT": "staging"}
    again = place.start("--enlist-again", CASARE_JOIN_TOKEN=token, **more)  # it is there: nothing to do
    place.until(lambda: "changed to this agent's settings" in place.said, "it has its key still")
    spec = place.admin.get("Robot", place.name)["spec"]
    assert (spec["tags"], spec["environment"]) == (["sap"], "production")
    again.terminate()
    assert again.wait(timeout=60) == 0
    kept = {each.name for each in (place.directory / place.name).iterdir()}
    assert "key.json" in kept and "joining.json" not in kept
    assert token not in place.said and "crpa_" not in place.said and "Traceback" not in place.said


def test_an_agent_that_lost_the_answer_joins_with_its_key_and_waits_for_approval(place: Place) -> None:
    token, key, own = place.token(uses=1, approval="Manual"), credentials.new(), place.directory / place.name
    keyring.save(own, token, key, "joining.json")
    with Client(Config(place.server.url, token)) as client:
        client.enrol({"robotId": place.name, "keyHash": credentials.digest(key)})  # and it crashed
    place.start(CASARE_JOIN_TOKEN=token)
    place.until(lambda: "waits until somebody approves it" in place.said, "it says so")
    assert place.phase() == "Pending" and keyring.load(own, token) == key
    place.admin.patch("Robot", place.name, {"metadata": {"annotations": {"fleet.casare.net/approved": "true"}}})
    place.is_idle()
    assert place.said.count("waits until somebody") == place.said.count("this robot was approved") == 1


@pytest.mark.parametrize("by", ["token", "key"])
def test_a_deleted_robot_does_not_come_back_by_a_restart(place: Place, by: str) -> None:
    if by == "token":
        settings = {"CASARE_JOIN_TOKEN": place.token(uses=9)}
    else:
        spec = {"role": "robot", "robotName": place.name}
        place.admin.create({"apiVersion": API, "kind": "ApiKey", "metadata": {"name": place.name}, "spec": spec})
        settings = {"CASARE_ORCHESTRATOR_API_KEY": place.admin.issue_key(place.name)}
    process = place.start("--enlist-again", **settings)
    place.is_idle()
    place.admin.delete("Robot", place.name)
    assert process.wait(timeout=60) == 4
    assert place.start(**settings).wait(timeout=60) == 4, "a restart of its service does not bring it back"
    assert place.said.count("was deleted: this agent ends and does not make it again") == 2
    assert place.phase() == "NotFound"
    place.start("--enlist-again", **settings)
    place.is_idle()


def test_a_key_that_was_only_taken_back_is_not_given_away(place: Place) -> None:
    """Another one could not have it: the robot is there, and what its key was is all that its computer knows of it."""
    settings = {"CASARE_JOIN_TOKEN": place.token(uses=9)}
    first = place.start(**settings)
    place.is_idle()
    first.terminate()
    assert first.wait(timeout=60) == 0
    before = place.kept()
    (key,) = (one for one in place.admin.list("ApiKey")["items"] if one["spec"].get("robotName") == place.name)
    place.admin.patch("ApiKey", key["metadata"]["name"], {"spec": {"revoked": True}})
    again = place.start("--enlist-again", **settings)
    place.until(lambda: "does not accept this robot's API key" in place.said, lambda: f"it tries on: {place.said}")
    assert place.kept() == before
    assert "does not say that the robot was deleted: nothing is forgotten" in place.said
    assert again.poll() is None and place.admin.get("Robot", place.name)["metadata"]["uid"] in before[memory.FILE]


@contextmanager
def listening() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The address of a server that is not ready, and what it was asked: (path, Authorization)."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization", "")))
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.parametrize("lost", ["its key", "the token of its key"])
def test_a_join_token_is_shown_where_one_joins_and_nowhere_else(place: Place, lost: str) -> None:
    token, own = "cjt_" + "0123456789" * 4, place.directory / place.name
    memory.save(own, memory.Memory("a-uid", "default"))
    if lost != "its key":
        keyring.save(own, "cjt_another", "crpa_of-another-token")
    with listening() as (url, asked):
        place.start("--enlist-again", CASARE_ORCHESTRATOR_URL=url, CASARE_JOIN_TOKEN=token)
        place.until(lambda: any(path.endswith("/enroll") for path, _ in asked), lambda: f"it joins: {place.said}")
    assert set(asked) == {(f"/apis/{API}/enroll", f"Bearer {token}")}


def test_several_robots_on_one_computer_never_mix(place: Place) -> None:
    token, names = place.token(uses=2), [f"{place.name}-{letter}" for letter in "abc"]
    files = []
    for name in names:
        file = place.directory / f"{name}.yaml"
        secret = token if name != names[2] else "cjt_this-is-no-token-of-this-server-0123456789012"
        file.write_text(f"orchestrator: {{url: '{place.server.url}', joinToken: {secret}}}\nrobot: {{id: {name}}}\n"
                        "agent: {directory: robots}\n")  # fmt: skip
        files += ["--config", str(file)]
    crew = place.start(*files, CASARE_ORCHESTRATOR_API_KEY="crpa_of-somebody-else")
    for name in names[:2]:
        place.is_idle(name)
        assert place.run(name) == "Succeeded"
    place.until(lambda: f"the agent of {names[2]} has ended (1); 2 go on" in place.said, "one fails for itself")
    assert f"{names[0]}: robot {names[0]} is ready" in place.said, "lines say whose they are"
    keys = {(place.directory / "robots" / name / "key.json").read_text() for name in names[:2]}
    assert len(keys) == 2
    crew.send_signal(signal.SIGTERM)
    assert crew.wait(timeout=60) == 1, "the worst of them"
    for name in names[:2]:
        assert f"{name}: ending: nothing new is taken" in place.said


def test_the_robots_of_a_process_that_was_killed_end_by_themselves(place: Place) -> None:
    crew = place.start(*(word for file in place.files("ab") for word in ("--config", file)))
    for letter in "ab":
        place.is_idle(f"{place.name}-{letter}")
    crew.kill()
    for letter in "ab":
        place.until(lambda letter=letter: place.phase(f"{place.name}-{letter}") == "Offline", "it has left")
        assert f"{place.name}-{letter}: ending: nothing new is taken" in place.said


def test_a_wish_to_end_that_comes_while_they_are_started_ends_all(place: Place) -> None:
    """The moment in which the first process is there, and nobody has written that down."""
    script = """
        import os, signal, subprocess, sys
        from pathlib import Path
        from casare_agent import crew
        popen = subprocess.Popen

        def started(*args, **more):
            member = popen(*args, **more)
            os.kill(os.getpid(), signal.SIGTERM)
            return member

        subprocess.Popen = started
        raise SystemExit(crew.Crew([Path(name) for name in sys.argv[1:]]).run())
    """
    files = place.files("abc")
    crew = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), *files])
    place.processes.append(crew)
    assert crew.wait(timeout=60) == 0
    assert place.phase(f"{place.name}-c") == "NotFound", "what was not started then is not started at all"


def another_python(place: Path) -> Path:
    """The interpreter of the tests with its packages, at an address of its own."""
    (place / "bin").mkdir(parents=True)
    (place / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (place / "lib").symlink_to(Path(sys.prefix) / "lib")
    python = place / "bin" / "python"
    python.symlink_to(Path(sys.executable).resolve())
    return python


def test_several_robots_are_not_begun_anew_because_one_of_them_could_not_be(place: Place, tmp_path: Path) -> None:
    python, files = another_python(tmp_path / "venv"), place.files("ab")
    crew = place.start(*(word for file in files for word in ("--config", file)), python=python)
    for letter in "ab":
        place.is_idle(f"{place.name}-{letter}")
    target = python.readlink()
    python.unlink()
    place.restart(f"{place.name}-a")
    place.until(lambda: f"the agent of {place.name}-a has ended (5); 1 go on" in place.said, lambda: place.said)
    python.symlink_to(target)
    crew.send_signal(signal.SIGTERM)
    assert crew.wait(timeout=60) == 5, place.said
    assert place.said.count(f"{place.name}-b: robot {place.name}-b is ready") == 1


def test_an_agent_that_begins_anew_within_its_process_hears_that_it_shall_end(place: Place) -> None:
    """As on Windows, where no process becomes another one: what it was told by its crew once is heard by the second."""
    (file,) = place.files("a")
    script = "from casare_agent.__main__ import main; raise SystemExit(main(may_exec=False))"
    with (place.directory / "agent.log").open("ab") as log:
        member = subprocess.Popen(
            [sys.executable, "-c", script, "--config", file, "--member"], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    place.processes.append(member)
    name = f"{place.name}-a"
    place.is_idle(name)
    place.restart(name)
    place.until(lambda: place.said.count(f"robot {name} is ready") == 2, lambda: f"it is there again: {place.said}")
    assert member.stdin is not None
    member.stdin.write(b"\n")
    member.stdin.flush()
    assert member.wait(timeout=60) == 0
    assert place.said.count("ending: nothing new is taken") == 1


def test_a_mistake_in_one_file_starts_none(place: Place) -> None:
    good, bad = place.directory / "good.env", place.directory / "bad.env"
    good.write_text("CASARE_JOIN_TOKEN=cjt_x\n")
    bad.write_text("CASARE_JOIN_TOKEN=cjt_x\nCASARE_MAX_CONCURRENT_JOBS=many\nCASARE_ROBOT_ID=other\n")
    assert place.start("--config", str(good), "--config", str(bad)).wait(timeout=60) == 2
    assert place.said.count("\n") == 1 and "CASARE_MAX_CONCURRENT_JOBS" in place.said


def test_a_copy_of_a_robots_disk_runs_none_of_its_jobs(place: Place) -> None:
    settings = {"CASARE_JOIN_TOKEN": place.token()}
    first = place.start(**settings)
    place.is_idle()
    copy = place.directory / "copy"
    shutil.copytree(place.directory / place.name, copy / place.name)
    place.start(**settings, CASARE_AGENT_DIR=str(copy))
    place.until(lambda: "is run by another agent on" in place.said, "it is told")
    assert place.run(place.name) == "Succeeded", "the first one goes on"
    first.kill()
    first.wait()
    again = place.start(**settings)
    place.until(lambda: place.said.count("is ready at") == 3)
    assert place.run(place.name) == "Succeeded" and again.poll() is None, "one that crashed is back at once"
    assert dig(place.admin.get("Robot", place.name), "status", "agent", "pid") == again.pid
