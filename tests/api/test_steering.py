"""Pause, resume, drain, restart and maintenance, as people see them: by command and over plain HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from casare_api.decisions import skew

from ..conftest import until
from .commands import Casare, Run, ran
from .conftest import Api, Object, Robot, in_phase, is_status, work

Robots = Callable[..., Robot]


@pytest.fixture
def casare(api: Api, capsys: pytest.CaptureFixture[str]) -> Casare:
    """Runs a command in this test's namespace."""

    def run(*words: str) -> Run:
        return ran(capsys, "--server", api.server.url, "--key", api.key, *words, "-n", api.namespace)

    return run


def condition(api: Api, name: str, type_: str) -> Object:
    found = api.get("Robot", name)["status"].get("conditions") or []
    return next((one for one in found if one["type"] == type_), {"status": "", "reason": ""})


def shown(casare: Casare, name: str) -> str:
    """The robot's STATUS."""
    return casare("get", "robot", name, "--no-headers").out.split()[1]


def test_pause_and_resume_by_name_by_label_and_all(api: Api, robot: Robots, casare: Casare) -> None:
    rob, other = robot(), robot("other")
    rob.report()
    until(lambda: (rob.report(), shown(casare, rob.name))[1] == "Idle", "it is there")
    assert casare("pause", f"robot/{rob.name}").out == f"robot/{rob.name} is paused: it finishes the jobs it has\n"
    assert shown(casare, rob.name) == "Idle,Paused" and shown(casare, other.name) == "Pending"
    until(lambda: condition(api, rob.name, "Schedulable")["reason"] == "Paused", "it says so")
    api.changed("Robot", other.name, {"metadata": {"labels": {"site": "berlin"}}})
    assert casare("pause", "-l", "site=berlin").lines == [f"robot/{other.name} is paused: it finishes the jobs it has"]
    refused = casare("resume", "--all")
    assert refused.code == 1 and refused.err.endswith("Nobody is there to ask: add --yes\n")
    assert sorted(casare("resume", "--all", "--yes").lines) == sorted(
        f"robot/{each.name} is resumed" for each in (rob, other)
    )
    assert shown(casare, other.name) == "Pending" and api.get("Robot", rob.name)["spec"]["desiredState"] == "Active"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pause"], "which robots? for example: casare pause robot/NAME, or -l site=berlin, or --all"),
        (["drain", "a", "--all"], "names, -l and --all exclude each other"),
        (["drain", "a", "--deadline", "soon"], "--deadline: "),
        (["restart", "job/a"], "job/a is no robot"),
    ],
)
def test_what_cannot_be_meant_is_one_line(casare: Casare, words: list[str], said: str) -> None:
    run = casare(*words)
    assert run.code == 2 and said in run.err and run.err.count("\n") == 1


def test_a_robot_that_is_not_there_is_told_and_the_others_are_done(api: Api, robot: Robots, casare: Casare) -> None:
    rob = robot()
    run = casare("pause", "nobody", rob.name)
    assert run.code == 1 and 'robots.fleet.casare.net "nobody" not found' in run.err
    assert api.get("Robot", rob.name)["spec"]["desiredState"] == "Paused"


def test_drain_waits_until_nothing_runs(api: Api, robot: Robots, casare: Casare) -> None:
    rob = robot(maxConcurrentJobs=2)
    api.create("Job", "long", work(rob))
    long = rob.assigned(api, "long")
    assert rob.say(long, "Running") == 200
    assert shown(casare, rob.name) == "Busy"
    over = threading.Event()

    def ends() -> None:
        until(lambda: api.get("Robot", rob.name)["spec"]["desiredState"] == "Drained", "it is asked")
        seen.append(shown_by_server(api, rob.name))
        rob.say(long, "Succeeded")
        over.set()

    seen: list[str] = []
    thread = threading.Thread(target=ends)
    thread.start()
    run = casare("drain", rob.name, "--deadline", "10m", "--then", "cancel", "--wait")
    thread.join()
    assert over.is_set() and seen == ["Busy,Draining"]
    assert run.code == 0 and run.lines == [
        f"robot/{rob.name} is being drained: what runs may go on for 10m, then it is cancelled",
        f"robot/{rob.name} is drained",
    ]
    assert in_phase(api, "long", "Succeeded") and shown(casare, rob.name) == "Idle,Drained"
    api.create("Job", "next", work(rob))
    said = api.call("GET", api.path("Job", "next", "why")).json()
    assert said["message"] == "no robot that has all it asks for can take it: 1 is drained"
    assert f"resume robot {rob.name}" in said["nearest"][0]["changes"]
    assert casare("resume", rob.name).out == f"robot/{rob.name} is resumed\n"
    assert rob.assigned(api, "next")


def shown_by_server(api: Api, name: str) -> str:
    accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    return str(api.call("GET", api.path("Robot", name), headers=accept).json()["rows"][0]["cells"][1])


def test_a_window_of_maintenance_is_seen_explained_and_over_when_it_is_taken_away(
    api: Api, robot: Robots, casare: Casare
) -> None:
    rob = robot()
    begun = datetime.now(UTC) - timedelta(minutes=5)
    window = {"name": "patches", "cron": f"{begun.minute} {begun.hour} * * *", "duration": "1h"}
    api.changed("Robot", rob.name, {"spec": {"maintenanceWindows": [window]}})
    until(lambda: (rob.report(), shown(casare, rob.name))[1] == "Idle,Maintenance", "it begins")
    api.create("Job", "waits", work(rob))
    end = api.get("Robot", rob.name)["status"]["maintenance"]["until"]
    words = end[:16].replace("T", " ")

    def explained() -> bool:
        rob.report()
        reasons = api.get("Job", "waits")["status"].get("reasons") or []
        return any(f"is in maintenance until {words}" in each["message"] for each in reasons)

    until(explained, "the job says until when")
    assert "Maintenance:  patches until" in casare("describe", "robot", rob.name).out
    assert f"it is in maintenance until {end}" in casare("resume", rob.name).out
    api.changed("Robot", rob.name, {"spec": {"maintenanceWindows": None}})
    assert rob.assigned(api, "waits")


def test_a_window_that_lasts_no_time_is_refused(api: Api) -> None:
    window = {"name": "none", "cron": "0 2 * * *", "duration": "0s"}
    made = api.call("POST", api.path("Robot"), {"metadata": {"name": "r"}, "spec": {"maintenanceWindows": [window]}})
    assert is_status(made, 422) and "spec.maintenanceWindows[0].duration: Invalid value" in made.json()["message"]
    assert "must be longer than 0" in made.json()["message"]


def test_an_agent_that_the_server_does_not_understand_is_told_what_to_upgrade_and_the_robot_says_why(
    api: Api, robot: Robots, casare: Casare
) -> None:
    rob = robot()
    too_new = {"agent": {"version": "9.9.9", "protocol": skew.NEWEST + 1}}
    for _ in range(2):  # it keeps trying
        refused = rob.api.call("POST", rob.path, {"jobs": [], **too_new})
        assert is_status(refused, 426, "UpgradeRequired") and "upgrade the server" in refused.json()["message"]
    assert is_status(rob.api.call("POST", rob.path, {"jobs": []}), 426), "it is the same agent still"
    until(lambda: condition(api, rob.name, "VersionSkew")["reason"] == "TooNew", "the robot says why")
    assert shown(casare, rob.name) == "Pending,Refused"
    answer = rob.report(agent={"version": "0.0.1"})  # one of a release that says no number
    assert answer["protocol"] == {"min": skew.OLDEST, "max": skew.NEWEST}
    until(lambda: condition(api, rob.name, "VersionSkew")["reason"] == "OtherVersion", "it works, and is shown")
    assert casare("get", "robots", "-o", "wide", "--no-headers").out.split()[-2] == "0.0.1"
    api.create("Job", "a", work(rob))
    assert rob.assigned(api, "a")


def test_a_restart_keeps_jobs_away_until_the_agent_says_that_it_was_done(
    api: Api, robot: Robots, casare: Casare
) -> None:
    rob = robot()
    about = {"version": "1", "protocol": 2}
    rob.report(agent=about)
    assert casare("restart", rob.name).out == f"robot/{rob.name} restarts as soon as it has no job\n"
    wanted = until(lambda: rob.report().get("restartRequestedAt"), "its agent hears of it with the log")
    until(lambda: (rob.report(), shown(casare, rob.name))[1] == "Idle,Restarting", "it waits for that")
    api.create("Job", "a", work(rob))
    until(lambda: condition(api, rob.name, "Schedulable")["reason"] == "Restarting", "it says so")
    assert api.get("Job", "a")["status"]["phase"] == "Queued"
    rob.report(agent={**about, "restartedFor": wanted})
    assert rob.assigned(api, "a") and shown(casare, rob.name) == "Busy"
