"""Robots that fall silent, and robots that only lost their server: real agents, a cut network, kill -9."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from casare_api.kinds import Object
from casare_api.kinds.job import FINAL
from casare_client import Client
from casare_store import embedded
from casare_store.heartbeats import grace

from ..conftest import Server, running, until
from .cable import Cable, cable

API = "fleet.casare.net/v1"
ROBOTS = ("killed", "cut", "other")
# When a robot was called Offline, and for how long nobody had heard of it.
OFFLINE = """
SELECT c.name, extract(epoch FROM c.at - l.last_seen)::float8 FROM changes c JOIN leases l ON l.robot_uid = c.uid
WHERE c.kind = 'Robot' AND c.rv > %s AND c.object::json #>> '{status,phase}' = 'Offline' ORDER BY c.rv"""


class Fleet(Server):
    """A server, and a robot behind a cable."""

    cable: Cable

    def query(self, statement: str, *args: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database) as connection:
            return connection.execute(statement, args).fetchall()

    def head(self) -> int:
        return int(self.query("SELECT rv FROM heads")[0][0])

    def offline(self, since: int) -> dict[str, float]:
        """The robots that were called Offline after a revision: seconds after their last sign of life."""
        return dict(self.query(OFFLINE, since))


@pytest.fixture(scope="module")
def fleet(postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running(postgres, tmp_path_factory.mktemp("fleet")) as server, cable(server.port) as found:
        made = Fleet(server.database, server.directory, server.admin_key, server.port, 0, server.processes)
        made.cable = found
        for name in ROBOTS:
            start(made, name)
        with made.client() as client:
            until(lambda: phases(client) == dict.fromkeys(ROBOTS, "Idle"), lambda: f"they are there: {phases(client)}", 90)
        yield made


def phases(client: Client) -> dict[str, str]:
    return {one["metadata"]["name"]: one["status"]["phase"] for one in client.list("Robot")["items"]}


def start(fleet: Fleet, name: str) -> None:
    url = {"CASARE_ORCHESTRATOR_URL": f"http://127.0.0.1:{fleet.cable.port}"} if name == "cut" else {}
    fleet.start_agent(name, CASARE_MAX_CONCURRENT_JOBS="2" if name == "other" else "1", **url)


def submit(client: Client, name: str, place: Path) -> None:
    """A job that says its pid and goes on until it may end; it is lost as soon as its robot is offline."""
    text = f"echo $$ > {place}/{name}-$CASARE_ATTEMPT; while [ ! -e {place}/go ]; do sleep 0.05; done"
    spec = {"workflow": {"runner": "command", "source": {"inline": text}}, "lostAfter": "1s"}
    client.create({"apiVersion": API, "kind": "Job", "metadata": {"name": name}, "spec": spec})


def status(client: Client, job: str) -> Object:
    return dict(client.get("Job", job)["status"])


def is_alive(place: Path, job: str, attempt: int) -> bool:
    try:
        pid = int((place / f"{job}-{attempt}").read_text())
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_kill_9_and_a_cut_network_are_offline_in_the_bound_and_their_jobs_run_elsewhere(
    fleet: Fleet, tmp_path: Path
) -> None:
    with fleet.client() as client:
        client.patch("Robot", "other", {"spec": {"desiredState": "Paused"}})
        for name in ("a", "b"):
            submit(client, name, tmp_path)
        until(lambda: (tmp_path / "a-1").exists() and (tmp_path / "b-1").exists(), "both jobs run")
        of = {status(client, job)["robotName"]: job for job in ("a", "b")}
        assert set(of) == {"killed", "cut"}
        before = fleet.head()
        fleet.cable.cut()
        fleet.kill("killed")
        client.patch("Robot", "other", {"spec": {"desiredState": "Active"}})
        until(lambda: len(fleet.offline(before)) == 2, lambda: f"both are offline; {phases(client)}", 60)
        silences = fleet.offline(before)
        assert set(silences) == {"killed", "cut"}
        assert all(silence >= grace(3).total_seconds() for silence in silences.values()), silences
        for job in of.values():
            until(lambda job=job: (tmp_path / f"{job}-2").exists(), lambda job=job: f"{job} again: {status(client, job)}")
            assert status(client, job)["robotName"] == "other"
            assert [one["reason"] for one in status(client, job)["attempts"]] == ["RobotOffline"]
        assert is_alive(tmp_path, of["cut"], 1), "nobody could tell it"
        fleet.cable.mend()
        until(lambda: not is_alive(tmp_path, of["cut"], 1), lambda: f"it is told; {fleet.log('cut')}", 60)
        assert "not ours any more, stopped" in fleet.log("cut")
        start(fleet, "killed")
        until(lambda: not is_alive(tmp_path, of["killed"], 1), "what its agent left is ended by the next one")
        (tmp_path / "go").touch()
        for job in of.values():
            until(lambda job=job: status(client, job)["phase"] == "Succeeded", f"{job} ends")
        until(lambda: set(phases(client).values()) == {"Idle"}, lambda: f"all are back: {phases(client)}")
        ends = fleet.query("SELECT name, object::json #>> '{status,phase}' FROM changes WHERE kind = 'Job'")
        assert sorted(name for name, phase in ends if phase in FINAL) == ["a", "b"], "each ended once"


def test_agents_that_lose_their_server_come_back_within_their_lease(fleet: Fleet) -> None:
    with fleet.client() as client:
        before, begun = fleet.head(), {name: fleet.log(name).count("is ready") for name in ROBOTS}
        said = {name: fleet.log(name).count("the server is back") for name in ROBOTS}
        fleet.kill("apiserver")
        until(lambda: all(fleet.log(name).count("cannot reach") > said[name] for name in ROBOTS), "each has noticed")
        ((restarted,),) = fleet.query("SELECT clock_timestamp()")
        fleet.run("apiserver", "-m", "casare_apiserver")
        fresh = "SELECT count(*) FROM leases WHERE last_seen > %s"
        until(lambda: fleet.query(fresh, restarted) == [(len(ROBOTS),)], "all are back", 60)
        assert fleet.offline(before) == {}
        until(lambda: all(fleet.log(name).count("server is back") > said[name] for name in ROBOTS), "each says so")
        assert {name: fleet.log(name).count("is ready") for name in ROBOTS} == begun, "none began anew"
        assert set(phases(client).values()) == {"Idle"}
