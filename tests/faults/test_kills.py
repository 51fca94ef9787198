"""kill -9 of anything, while jobs run: every job ends exactly once and none is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import psycopg
import pytest

from casare_api.kinds.job import FINAL
from casare_api.machinery.errors import ApiError
from casare_client import Client, Unreachable

from ..conftest import until
from .killable import Killable, started

JOBS = 200
API = "fleet.casare.net/v1"


class Fleet(Killable):
    """A server with two robots, any part of which can be killed."""

    def kill_and_restart(self, what: str) -> None:
        if what == "postgres":
            self.restart_postgres()
            return
        self.kill(what)
        if what == "apiserver":
            self.run("apiserver", "-m", "casare_apiserver")
        elif what == "controller":
            self.run("controller", "-m", "casare_controller")
        else:
            self.start_agent(what, CASARE_MAX_CONCURRENT_JOBS="4")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with started(Fleet, tmp_path) as found:
        for name in ("one", "two"):
            found.start_agent(name, CASARE_MAX_CONCURRENT_JOBS="4")
        yield found


def phases(client: Client) -> Counter[str]:
    """How many jobs are in which phase; nothing while a killed part is not back yet."""
    try:
        return Counter(job["status"]["phase"] for job in client.list("Job")["items"])
    except (ApiError, Unreachable) as error:
        assert getattr(error, "status", 503) == 503, "while something is down there is one honest answer"
        return Counter()


def submit(client: Client) -> None:
    client.create(
        {
            "apiVersion": API,
            "kind": "Workflow",
            "metadata": {"name": "short"},
            "spec": {
                "runner": "command",
                "args": ["sh", "-c", "sleep 0.05"],
                "retry": {"robotLostLimit": 100},
                "lostAfter": "15s",
            },
        }
    )
    for number in range(JOBS):
        client.create(
            {
                "apiVersion": API,
                "kind": "Job",
                "metadata": {"name": f"job-{number}"},
                "spec": {"workflowRef": {"name": "short"}},
            }
        )


def ended(client: Client) -> int:
    return sum(count for phase, count in phases(client).items() if phase in FINAL)


def state_of(fleet: Fleet, client: Client) -> str:
    """What hangs, for whoever reads the failure: jobs that have not ended, robots, and the end of every log."""
    try:
        hanging = [job["status"] for job in client.list("Job")["items"] if job["status"]["phase"] not in FINAL]
        robots = [(robot["metadata"]["name"], robot["status"]) for robot in client.list("Robot")["items"]]
    except (ApiError, Unreachable) as error:
        hanging, robots = [], [str(error)]
    logs = "".join(f"\n--- {name}, {process.poll()}\n{fleet.log(name)}" for name, process in fleet.processes.items())
    return f"{phases(client)}; {hanging[:3]}; {robots}{logs}"


def test_kill_9_of_everything_one_at_a_time_loses_and_doubles_no_job(fleet: Fleet) -> None:
    with fleet.client() as client:
        submit(client)
        for step, victim in enumerate(["apiserver", "controller", "one", "postgres"], start=1):
            until(
                lambda step=step: ended(client) >= step * 30,
                lambda step=step: f"{step * 30} jobs have ended; {state_of(fleet, client)}",
                120,
            )
            fleet.kill_and_restart(victim)
            until(fleet.is_ready, f"the apiserver answers after the death of {victim}", 60)
        until(lambda: ended(client) == JOBS, lambda: f"all {JOBS} jobs end; {state_of(fleet, client)}", 180)
        assert phases(client) == {"Succeeded": JOBS}, "no job failed because something was killed"
    assert_each_ended_once(fleet.database)


def assert_each_ended_once(url: str) -> None:
    """The whole history of every job: attempts only grow, it becomes final once and then never changes again."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT name, object FROM changes WHERE kind = 'Job' ORDER BY rv").fetchall()
    history: dict[str, list[tuple[str, int]]] = {}
    for name, text in rows:
        status = orjson.loads(text)["status"]
        history.setdefault(name, []).append((status["phase"], status["attempt"]))
    assert len(history) == JOBS
    for name, steps in history.items():
        finals = [phase for phase, _ in steps if phase in FINAL]
        assert finals == [steps[-1][0]], f"{name} became final more than once, or changed after: {steps}"
        attempts = [attempt for _, attempt in steps]
        assert attempts == sorted(attempts), f"{name}: attempts went back: {steps}"
