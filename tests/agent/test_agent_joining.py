"""Agents that join by a token, several on one computer, and robots that were deleted: real processes."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from casare_agent import keyring
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

    def token(self, **spec: Any) -> str:
        name = f"token-{secrets.token_hex(3)}"
        self.admin.create({"apiVersion": API, "kind": "JoinToken", "metadata": {"name": name}, "spec": spec})
        return self.admin.issue_key(name, kind="JoinToken")

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        env = {
            **os.environ, "CASARE_ORCHESTRATOR_URL": self.server.url, "CASARE_ROBOT_ID": self.name,
            "CASARE_AGENT_DIR": str(self.directory), **settings,
        }  # fmt: skip
        with (self.directory / "agent.log").open("ab") as log:
            command = [sys.executable, "-m", "casare_agent", *arguments]
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
    token, files = place.token(uses=2), []
    for letter in "ab":
        file = place.directory / f"{letter}.env"
        file.write_text(f"CASARE_JOIN_TOKEN={token}\nCASARE_ROBOT_ID={place.name}-{letter}\n")
        files += ["--config", str(file)]
    crew = place.start(*files)
    for letter in "ab":
        place.is_idle(f"{place.name}-{letter}")
    crew.kill()
    for letter in "ab":
        place.until(lambda letter=letter: place.phase(f"{place.name}-{letter}") == "Offline", "it has left")
        assert f"{place.name}-{letter}: ending: nothing new is taken" in place.said


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
