"""The agent against a real server: Postgres, apiserver, controller and agents are processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from casare_api.kinds import Object, dig
from casare_api.machinery.errors import ApiError
from casare_api.machinery.names import robot_name
from casare_client import Client, Config

pytestmark = pytest.mark.skipif(os.name == "nt", reason="agents in here are ended with POSIX signals")

API = "fleet.casare.net/v1"
FINAL = ("Succeeded", "Failed", "Cancelled")
SLEEP: Object = {"runner": "command", "args": ["sleep", "600"]}
Until = Callable[..., None]
Alive = Callable[[int], bool]


class Server(Protocol):
    """What the `server` fixture of all tests gives: real processes on one database."""

    url: str
    processes: dict[str, subprocess.Popen[bytes]]

    def run(self, name: str, *argv: str, **env: str) -> subprocess.Popen[bytes]: ...
    def is_ready(self) -> bool: ...


@dataclass
class Robot:
    """A robot that may have an agent. Each test has one of its own."""

    server: Server
    admin: Client
    directory: Path
    id: str
    until: Until
    key: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return robot_name(self.id)

    @property
    def said(self) -> str:
        return (self.directory / "agent.log").read_text()

    def issue_key(self) -> None:
        spec = {"role": "robot", "robotName": self.name}
        self.admin.create({"apiVersion": API, "kind": "ApiKey", "metadata": {"name": self.name}, "spec": spec})
        self.key = self.admin.issue_key(self.name)

    def start(self, **settings: str) -> subprocess.Popen[bytes]:
        env = {
            **os.environ, "CASARE_ORCHESTRATOR_URL": self.server.url, "CASARE_ORCHESTRATOR_API_KEY": self.key,
            "CASARE_ROBOT_ID": self.id, "CASARE_AGENT_DIR": str(self.directory), **settings,
        }  # fmt: skip
        with (self.directory / "agent.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "casare_agent"], env=env, stdout=log, stderr=log)
        return self.process

    def submit(self, workflow: Object, **spec: object) -> str:
        """A job that only this robot may run; its name."""
        wanted = {"workflow": workflow, "requirements": {"robotName": self.name}, **spec}
        metadata = {"generateName": "job-"}
        made = self.admin.create({"apiVersion": API, "kind": "Job", "metadata": metadata, "spec": wanted})
        return str(made["metadata"]["name"])

    def status(self, job: str) -> Object:
        return dict(self.admin.get("Job", job)["status"])

    def condition(self, type_: str) -> Object:
        """The robot's condition of a type, with an empty status where there is none."""
        found = dig(self.admin.get("Robot", self.name), "status", "conditions") or ()
        return next((one for one in found if one["type"] == type_), {"status": ""})

    def reaches(self, job: str, *phases: str, attempt: int = 1) -> Object:
        """The job's status once it is in one of the phases."""

        def there() -> bool:
            status = self.status(job)
            return status["phase"] in phases and status["attempt"] >= attempt

        self.until(there, f"{job} is {' or '.join(phases)}")
        return self.status(job)


@pytest.fixture
def robot(
    server: Server, client: Client, tmp_path: Path, until: Until, request: pytest.FixtureRequest
) -> Iterator[Robot]:
    """A robot with a key; its agent is not started."""
    until(server.is_ready, "the apiserver is ready")
    robot = Robot(server, client, tmp_path, f"PC_{request.node.name[5:40]}.{secrets.token_hex(2)}", until)
    robot.issue_key()
    yield robot
    if robot.process is not None:
        robot.process.kill()
        robot.process.wait()
    with contextlib.suppress(ApiError):
        client.delete("Robot", robot.name)


# -- registration --------------------------------------------------------------------------------------------------


def test_an_agent_makes_its_robot_and_keeps_it_to_its_settings(robot: Robot) -> None:
    robot.start(CASARE_ROBOT_TAGS="sap,finance", CASARE_MAX_CONCURRENT_JOBS="3", CASARE_ROBOT_NAME="PC one")
    robot.until(lambda: "is ready" in robot.said)
    spec = robot.admin.get("Robot", robot.name)["spec"]
    assert (spec["robotId"], spec["displayName"], spec["tags"]) == (robot.id, "PC one", ["sap", "finance"])
    assert robot.process is not None
    robot.process.terminate()
    assert robot.process.wait(timeout=30) == 0
    robot.start(CASARE_ROBOT_TAGS="", CASARE_MAX_CONCURRENT_JOBS="2")
    robot.until(lambda: "changed to this agent's settings" in robot.said)
    spec = robot.admin.get("Robot", robot.name)["spec"]
    assert (spec["displayName"], spec.get("tags") or [], spec["maxConcurrentJobs"]) == (robot.id, [], 2)


def test_a_robot_that_people_declared_is_left_as_it_is(robot: Robot) -> None:
    spec = {"robotId": robot.id, "maxConcurrentJobs": 5, "tags": ["theirs"]}
    robot.admin.create({"apiVersion": API, "kind": "Robot", "metadata": {"name": robot.name}, "spec": spec})
    robot.start(CASARE_ROBOT_TAGS="mine")
    robot.until(lambda: dig(robot.admin.get("Robot", robot.name), "status", "phase") == "Idle", "it is there")
    stored = robot.admin.get("Robot", robot.name)
    assert (stored["spec"]["tags"], stored["spec"]["maxConcurrentJobs"]) == (["theirs"], 5)
    assert stored["status"]["agent"]["pid"] == (robot.process.pid if robot.process else 0)


def test_a_robot_that_is_deleted_stays_deleted_and_its_jobs_end(robot: Robot, alive: Alive) -> None:
    process = robot.start()
    job = robot.submit({"runner": "command", "source": {"inline": "echo $$; exec sleep 600"}})
    robot.reaches(job, "Running")
    robot.until(lambda: "".join(robot.admin.read_log("default", job)).strip(), "it says its pid")
    pid = int("".join(robot.admin.read_log("default", job)))
    robot.admin.delete("Robot", robot.name)
    assert process.wait(timeout=30) == 4
    assert not alive(pid)
    assert robot.said.count("was deleted") == 1
    with pytest.raises(ApiError) as gone:
        robot.admin.get("Robot", robot.name)
    assert gone.value.status == 404


def test_a_key_that_is_not_accepted_is_said_once_and_waited_out(robot: Robot) -> None:
    key, robot.key = robot.key, "crpa_this-is-not-a-key-of-this-server-0123456789"
    process = robot.start()
    robot.until(lambda: "does not accept this robot's API key" in robot.said)
    assert process.poll() is None
    assert robot.said.count("\n") == 1 and robot.key not in robot.said and key not in robot.said


def test_a_key_that_is_due_is_rotated_by_the_robot_and_survives_its_agent(robot: Robot) -> None:
    robot.admin.patch("ApiKey", robot.name, {"spec": {"rotation": {"every": "1s", "overlap": "1s"}}})
    process = robot.start()
    kept = robot.directory / robot.name / "key.json"
    robot.until(kept.exists, "it keeps a new key")
    robot.admin.patch("ApiKey", robot.name, {"spec": {"rotation": {"every": "90d"}}})
    with Client(Config(robot.server.url, robot.key)) as given:
        robot.until(lambda: refused(given, robot.name), "the key that it was given is not good any more")
    assert robot.reaches(robot.submit({"runner": "command", "args": ["true"]}), *FINAL)["phase"] == "Succeeded"
    process.terminate()
    assert process.wait(timeout=30) == 0
    robot.start()
    assert robot.reaches(robot.submit({"runner": "command", "args": ["true"]}), *FINAL)["phase"] == "Succeeded"
    assert json.loads(kept.read_text())["key"] not in robot.said and robot.key not in robot.said


def refused(client: Client, name: str) -> bool:
    try:
        client.get("Robot", name)
    except ApiError as error:
        return error.status == 401
    return False


# -- jobs ----------------------------------------------------------------------------------------------------------


def test_a_workflow_with_files_runs_and_its_log_outputs_and_progress_are_at_the_server(robot: Robot) -> None:
    script = b"""
import csv, json, os, sys
rows = list(csv.reader(open("data/in.csv")))
json.dump({"percent": 100, "message": f"{len(rows)} rows"}, open(os.environ["CASARE_PROGRESS_FILE"], "w"))
json.dump({"rows": len(rows), "month": sys.argv[1]}, open(os.environ["CASARE_OUTPUTS_FILE"], "w"))
print("read \xc3\xbc", len(rows)); print("to stderr", file=sys.stderr)
"""
    spec = {
        "runner": "python",
        "source": {"file": "scripts/count.py", "sha256": robot.admin.put_blob("default", script)},
        "files": [{"name": "data/in.csv", "path": "in.csv", "sha256": robot.admin.put_blob("default", b"a\nb\nc\n")}],
        "args": ["{{ parameters.month }}"],
    }
    robot.admin.create({"apiVersion": API, "kind": "Workflow", "metadata": {"name": "count"}, "spec": spec})
    robot.start()
    wanted = {"workflowRef": {"name": "count"}, "parameters": {"month": "2026-10"},
              "requirements": {"robotName": robot.name}}
    robot.admin.create({"apiVersion": API, "kind": "Job", "metadata": {"name": "count-1"}, "spec": wanted})
    status = robot.reaches("count-1", *FINAL)
    assert status["phase"] == "Succeeded", status
    assert status["outputs"] == {"rows": 3, "month": "2026-10"}
    assert (status["message"], status["exitCode"]) == ("3 rows", 0)
    assert "".join(robot.admin.read_log("default", "count-1")) == "read ü 3\nto stderr\n"


def test_many_short_jobs_run_exactly_once_each(robot: Robot) -> None:
    robot.start(CASARE_MAX_CONCURRENT_JOBS="8")
    counter = robot.directory / "counter"
    once = {"runner": "command", "source": {"inline": f"echo x >> {counter}"}}
    jobs = [robot.submit(once) for _ in range(40)]
    assert {robot.reaches(job, *FINAL)["phase"] for job in jobs} == {"Succeeded"}
    assert counter.read_text() == "x\n" * 40
    attempts = next((robot.directory / robot.name).glob("attempts"))
    robot.until(lambda: not list(attempts.iterdir()), "nothing of them is left on disk")


def test_cancelling_a_job_ends_its_tree(robot: Robot, alive: Alive) -> None:
    robot.start()
    text = "import subprocess, sys, time\n" \
           "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n" \
           "print(p.pid); time.sleep(600)"
    job = robot.submit({"runner": "python", "source": {"inline": text}}, gracePeriod="5s")
    robot.until(lambda: "\n" in "".join(robot.admin.read_log("default", job)), "it has started its own")
    pid = int("".join(robot.admin.read_log("default", job)))
    robot.admin.patch("Job", job, {"spec": {"cancel": True}})
    assert robot.reaches(job, *FINAL)["phase"] == "Cancelled"
    assert not alive(pid)


def test_a_deleted_job_keeps_its_key_until_its_process_has_ended(robot: Robot, tmp_path: Path) -> None:
    robot.start(CASARE_MAX_CONCURRENT_JOBS="2")
    stubborn = f"trap 'touch {tmp_path}/asked; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; " \
               f"touch {tmp_path}/over; exit 0' TERM; while :; do sleep 0.05; done"
    shared = {"concurrency": {"key": robot.name}, "gracePeriod": "5m"}
    first = robot.submit({"runner": "command", "source": {"inline": stubborn}}, **shared)
    robot.reaches(first, "Running")
    held = robot.admin.delete("Job", first)
    assert held["kind"] == "Job" and held["metadata"]["deletionTimestamp"]
    second = robot.submit({"runner": "command", "args": ["test", "-e", str(tmp_path / "over")]}, **shared)
    robot.until((tmp_path / "asked").exists, "its process is asked to end")
    other = robot.submit({"runner": "command", "args": ["true"]})
    assert robot.reaches(other, *FINAL)["phase"] == "Succeeded"
    assert robot.status(second)["phase"] == "Queued"
    (tmp_path / "go").touch()
    assert robot.reaches(second, *FINAL)["phase"] == "Succeeded", "it found what the first one left at its end"
    with pytest.raises(ApiError) as gone:
        robot.admin.get("Job", first)
    assert gone.value.status == 404


def test_outputs_that_the_server_refuses_fail_their_job_and_nothing_else(robot: Robot) -> None:
    robot.start(CASARE_MAX_CONCURRENT_JOBS="2")
    nested = "import os; open(os.environ['CASARE_OUTPUTS_FILE'], 'w').write('{\"a\":' * 99 + '1' + '}' * 99)"
    jobs = [robot.submit({"runner": "python", "source": {"inline": nested}}), robot.submit({**SLEEP, "args": ["true"]})]
    refused, good = (robot.reaches(job, *FINAL) for job in jobs)
    assert (refused["phase"], refused["reason"]) == ("Failed", "ReportRefused")
    assert good["phase"] == "Succeeded"


def test_files_that_a_job_leaves_are_at_the_server_before_it_has_ended(robot: Robot) -> None:
    text = """
import os, pathlib
left = pathlib.Path(os.environ["CASARE_ARTIFACTS"])
(left / "data.bin").write_bytes(bytes(range(256)) * 2000)
(left / "Übersicht (neu).csv").write_text("a;b")
(left / "large").write_bytes(b"x" * 700_000)
(left / "folder").mkdir()
"""
    job = robot.submit({"runner": "python", "source": {"inline": text}, "limits": {"artifactSize": "1Mi"}})
    robot.start()
    status = robot.reaches(job, *FINAL)
    names = [one["name"] for one in robot.admin.artifacts(job)]
    assert names == ["data.bin", "Übersicht (neu).csv"]
    assert b"".join(robot.admin.read_artifact(job, "data.bin")) == bytes(range(256)) * 2000
    assert b"".join(robot.admin.read_artifact(job, names[1])) == b"a;b"
    assert (status["phase"], status["message"]) == ("Succeeded", "not kept: folder, large (its log says why)")
    assert "large is not kept: the files of this job may have 1Mi in all" in "".join(robot.admin.read_log("default", job))


# -- ending --------------------------------------------------------------------------------------------------------


def test_an_agent_that_is_told_to_end_lets_jobs_finish(robot: Robot, tmp_path: Path) -> None:
    process = robot.start()
    text = f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo done"
    job = robot.submit({"runner": "command", "source": {"inline": text}})
    robot.reaches(job, "Running")
    process.send_signal(signal.SIGTERM)
    robot.until(lambda: "nothing new is taken; 1 running" in robot.said)
    (tmp_path / "go").touch()
    assert process.wait(timeout=30) == 0
    assert robot.status(job)["phase"] == "Succeeded"
    assert "".join(robot.admin.read_log("default", job)) == "done\n"


@pytest.mark.parametrize("impatience", ["grace", "signal"])
def test_what_does_not_finish_goes_back_to_the_queue(robot: Robot, impatience: str) -> None:
    process = robot.start(CASARE_SHUTDOWN_GRACE="0.2" if impatience == "grace" else "600")
    job = robot.submit(SLEEP)
    robot.reaches(job, "Running")
    process.send_signal(signal.SIGTERM)
    robot.until(lambda: "ending" in robot.said)
    if impatience == "signal":
        process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    status = robot.status(job)
    assert status["phase"] in ("Queued", "Assigned")
    assert [one["phase"] for one in status["attempts"]] == ["Drained"]


# -- drained and restarted -------------------------------------------------------------------------------------------


def test_a_drain_gives_back_what_runs_at_its_deadline_and_the_robot_says_so(robot: Robot, alive: Alive) -> None:
    robot.start()
    job = robot.submit({"runner": "command", "source": {"inline": "echo $$; exec sleep 600"}})
    robot.until(lambda: "\n" in "".join(robot.admin.read_log("default", job)), "it runs")
    pid = int("".join(robot.admin.read_log("default", job)))
    drain = {"desiredState": "Drained", "drain": {"deadline": "1s", "then": "Requeue"}}
    robot.admin.patch("Robot", robot.name, {"spec": drain})
    status = robot.reaches(job, "Queued")
    assert [(one["phase"], one["reason"]) for one in status["attempts"]] == [("Drained", "RobotDrained")]
    robot.until(lambda: not alive(pid), "its process is gone")
    robot.until(lambda: robot.condition("Drained")["status"] == "True", "the robot is drained")
    assert robot.condition("Schedulable")["reason"] == "Drained" and robot.condition("Ready")["status"] == "True"
    said = dig(robot.admin.why(job), "message")
    assert said == "no robot that has all it asks for can take it: 1 is drained"
    robot.admin.patch("Robot", robot.name, {"spec": {"desiredState": "Active"}})
    robot.reaches(job, "Running", attempt=2)


def test_an_agent_restarts_when_its_job_is_over_takes_nothing_until_then_and_does_it_once(
    robot: Robot, tmp_path: Path
) -> None:
    process = robot.start()
    text = f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    first = robot.submit({"runner": "command", "source": {"inline": text}})
    robot.reaches(first, "Running")
    robot.admin.patch("Robot", robot.name, {"spec": {"maxConcurrentJobs": 2, "restartRequestedAt": "2020-01-01T00:00:00Z"}})
    robot.until(lambda: "asked to restart" in robot.said)
    second = robot.submit({"runner": "command", "args": ["true"]})
    robot.until(lambda: "restarting" in dig(robot.admin.why(second), "message"), "there is room, but nothing is placed")
    assert robot.said.count("is ready at") == 1 and robot.status(first)["phase"] == "Running"
    (tmp_path / "go").touch()
    robot.reaches(second, "Succeeded")
    assert robot.status(first)["phase"] == "Succeeded" and robot.status(second)["attempt"] == 1
    assert process.poll() is None and robot.said.count("is ready at") == 2, "the same process, started anew"
    agent = robot.admin.get("Robot", robot.name)["status"]["agent"]
    assert (agent["pid"], agent["restartedFor"]) == (process.pid, "2020-01-01T00:00:00Z")
    third = robot.submit({"runner": "command", "args": ["true"]})
    robot.reaches(third, "Succeeded")
    assert robot.said.count("is ready at") == 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


# -- losing the server, losing the agent -----------------------------------------------------------------------------


def test_a_job_goes_on_without_the_server_and_its_result_is_delivered_afterwards(robot: Robot, tmp_path: Path) -> None:
    robot.start()
    text = f"echo before; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo after > $CASARE_ARTIFACTS/f; " \
           f"echo after; touch {tmp_path}/gone"
    job = robot.submit({"runner": "command", "source": {"inline": text}})
    robot.until(lambda: "before" in "".join(robot.admin.read_log("default", job)))
    apiserver = robot.server.processes.pop("apiserver")
    apiserver.terminate()
    apiserver.wait(timeout=30)
    robot.until(lambda: "cannot reach" in robot.said, "it notices")
    (tmp_path / "go").touch()
    robot.until((tmp_path / "gone").exists, "the job ended meanwhile")
    robot.server.run("apiserver", "-m", "casare_apiserver")
    robot.until(robot.server.is_ready)
    status = robot.reaches(job, *FINAL)
    assert (status["phase"], status["attempt"], status["message"]) == ("Succeeded", 1, "")
    assert b"".join(robot.admin.read_artifact(job, "f")) == b"after\n"
    robot.until(lambda: "".join(robot.admin.read_log("default", job)) == "before\nafter\n", "the log is whole")
    assert robot.said.count("cannot reach") == 1
    assert robot.said.count("the server is back") == 1


def test_a_job_that_asks_for_it_ends_where_the_server_is_away_for_long(robot: Robot, alive: Alive) -> None:
    robot.start()
    policy = {"onRobotLost": "Fail", "selfFence": True}
    work = {"runner": "command", "source": {"inline": "echo $$; exec sleep 600"}, "retry": policy, "lostAfter": "1s"}
    job = robot.submit(work)
    robot.until(lambda: "\n" in "".join(robot.admin.read_log("default", job)), "it runs")
    pid = int("".join(robot.admin.read_log("default", job)))
    apiserver = robot.server.processes.pop("apiserver")
    apiserver.terminate()
    apiserver.wait(timeout=30)
    robot.until(lambda: not alive(pid), "its agent ended it")
    robot.server.run("apiserver", "-m", "casare_apiserver")
    robot.until(robot.server.is_ready)
    status = robot.reaches(job, *FINAL)
    assert (status["phase"], status["reason"], status["attempt"]) == ("Failed", "SelfFenced", 1)
    assert status["message"] == "its robot could not reach the server and ended it"


def test_after_a_crash_of_the_agent_the_job_is_run_again_and_only_once_at_a_time(robot: Robot, alive: Alive) -> None:
    process = robot.start()
    job = robot.submit({"runner": "command", "source": {"inline": "echo $$; exec sleep 600"}})
    robot.until(lambda: "\n" in "".join(robot.admin.read_log("default", job)), "it runs")
    first = int("".join(robot.admin.read_log("default", job, attempt=1)))
    process.kill()
    process.wait()
    robot.start()
    robot.reaches(job, "Running", attempt=2)
    assert not alive(first)
    (past,) = robot.status(job)["attempts"]
    assert (past["phase"], past["reason"]) == ("Lost", "AgentRestarted")


def test_a_second_agent_for_the_same_robot_does_not_start(robot: Robot) -> None:
    robot.start()
    robot.until(lambda: "is ready" in robot.said)
    first, robot.process = robot.process, None
    assert first is not None
    assert robot.start().wait(timeout=30) == 1
    assert f"another agent (pid {first.pid})" in robot.said
    robot.process = first
    assert first.poll() is None
