"""What `kubectl` waits for: get -w, events -w and wait, which end when what they want is there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from casare_api.kinds import GROUP

from ..api.conftest import SAMPLES, Api
from ..conftest import until
from .conftest import NEWEST, Kubectl

READY = {"type": "Ready", "status": "True", "reason": "Heard", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}


class Output:
    """What a running command prints, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def next(self) -> list[str]:
        """The next line's words; fails where the command ends instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended: {self.rest()}"
        return line.split()

    def rest(self) -> tuple[str, str]:
        """What it printed up to its end, and its complaints."""
        return self.process.communicate(timeout=60)


def watchers(api: Api) -> float:
    """How many watches the server holds open."""
    lines = api.http.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith("casare_watchers ")).split()[1])


@contextmanager
def running(kubectl: Kubectl, *args: str) -> Iterator[Output]:
    """A command that runs until it ends by itself or is not needed any more."""
    process = kubectl.start(*args)
    try:
        yield Output(process)
    finally:
        process.kill()
        process.communicate(timeout=60)


def tell(api: Api, name: str, reason: str, type_: str = "Normal", robot: str = "pc-01") -> None:
    """An event of a robot."""
    involved = {"kind": "Robot", "apiVersion": f"{GROUP}/v1", "namespace": api.namespace, "name": robot}
    api.create("Event", name, {"involvedObject": involved, "reason": reason, "type": type_, "message": f"it is {reason}"})


# -- get -w ----------------------------------------------------------------------------------------------------------


def test_a_list_is_watched(kubectl: Kubectl, api: Api) -> None:
    api.create("Robot", "a")
    with running(kubectl, "get", "robots", "-w") as shown:
        assert shown.next()[0] == "NAME" and shown.next()[:2] == ["a", "Pending"]
        api.create("Robot", "b", {"spec": {"maxConcurrentJobs": 5}})
        assert shown.next()[:3] == ["b", "Pending", "0/5"]
        api.changed("Robot", "a", {"spec": {"desiredState": "Paused"}})
        assert shown.next()[:2] == ["a", "Pending,Paused"]


@NEWEST
def test_what_happens_is_shown_beside_each_row(kubectl: Kubectl, api: Api) -> None:
    api.create("Robot", "a")
    with running(kubectl, "get", "robots", "-w", "--output-watch-events", "-o", "wide") as shown:
        assert shown.next()[:2] == ["EVENT", "NAME"] and shown.next()[:2] == ["ADDED", "a"]
        api.changed("Robot", "a", {"spec": {"tags": ["sap"]}})
        assert (row := shown.next())[:2] == ["MODIFIED", "a"] and row[-1] == "sap"
        api.delete("Robot", "a")
        assert shown.next()[:2] == ["DELETED", "a"]


@NEWEST
def test_only_changes_are_shown_to_who_wants_no_list(kubectl: Kubectl, api: Api) -> None:
    api.create("Robot", "old")
    until(lambda: watchers(api) == 0, "those of other tests are forgotten")
    with running(kubectl, "get", "robots", "--watch-only", "-o", "name") as shown:
        until(lambda: watchers(api) == 1, "it watches")
        api.create("Robot", "new")
        assert shown.next() == [f"robot.{GROUP}/new"]


def test_a_selection_is_watched_as_it_comes_and_goes(newest_kubectl: Kubectl, api: Api) -> None:
    api.create("Robot", "a", labels={"site": "berlin"})
    with running(newest_kubectl, "get", "robots", "-w", "-l", "site=berlin", "--output-watch-events") as shown:
        assert shown.next()[0] == "EVENT" and shown.next()[:2] == ["ADDED", "a"]
        api.create("Robot", "b", labels={"site": "paris"})
        api.changed("Robot", "a", {"metadata": {"labels": {"site": "rome"}}})
        assert shown.next()[:2] == ["DELETED", "a"]
        api.changed("Robot", "b", {"metadata": {"labels": {"site": "berlin"}}})
        assert shown.next()[:2] == ["ADDED", "b"]


@NEWEST
def test_one_object_is_watched(kubectl: Kubectl, api: Api) -> None:
    api.create("Robot", "a")
    with running(kubectl, "get", "robot", "a", "-w", "-o", "jsonpath={.metadata.labels.n}{\"\\n\"}") as shown:
        assert shown.next() == []
        api.create("Robot", "another", labels={"n": "no"})
        for number in ("1", "2"):
            api.changed("Robot", "a", {"metadata": {"labels": {"n": number}}})
            assert shown.next() == [number]


def test_all_namespaces_are_watched(newest_kubectl: Kubectl, api: Api) -> None:
    api.create("Robot", "a", labels={"of": api.namespace})
    with running(newest_kubectl, "get", "robots", "-A", "-w", "-l", f"of={api.namespace}") as shown:
        assert shown.next()[:2] == ["NAMESPACE", "NAME"] and shown.next()[:2] == [api.namespace, "a"]
        api.changed("Robot", "a", {"spec": {"desiredState": "Drained"}})
        assert shown.next()[:3] == [api.namespace, "a", "Pending,Drained"]


def test_a_secrets_row_is_watched_without_its_values(newest_kubectl: Kubectl, api: Api) -> None:
    api.create("Secret", "a", {"stringData": {"x": "hunter2"}})
    with running(newest_kubectl, "get", "secrets", "-w") as shown:
        assert shown.next()[0] == "NAME" and shown.next()[:3] == ["a", "Opaque", "1"]
        api.changed("Secret", "a", {"stringData": {"y": "hunter3"}})
        assert shown.next()[:3] == ["a", "Opaque", "2"]


# -- events ----------------------------------------------------------------------------------------------------------


def test_events_are_listed_chosen_and_watched(kubectl: Kubectl, api: Api) -> None:
    tell(api, "e1", "Online")
    tell(api, "e2", "Lost", "Warning", "pc-02")
    listed = kubectl("events")
    assert listed.lines[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert {tuple(line.split()[1:4]) for line in listed.lines[1:]} == {
        ("Normal", "Online", "Robot/pc-01"), ("Warning", "Lost", "Robot/pc-02")
    }  # fmt: skip
    assert "Online" not in (lost := kubectl("events", "--for", f"robot.{GROUP}/pc-02", "--no-headers").out) and "Lost" in lost
    assert [line.split()[2] for line in kubectl("events", "--types=Warning", "--no-headers").lines] == ["Lost"]


@NEWEST
def test_events_are_watched(kubectl: Kubectl, api: Api) -> None:
    tell(api, "e1", "Online")
    with running(kubectl, "events", "-w", "--for", "robot/pc-01") as shown:
        assert shown.next()[0] == "LAST" and shown.next()[2] == "Online"
        tell(api, "e2", "Gone", robot="pc-02")
        tell(api, "e3", "Offline")
        assert shown.next()[2] == "Offline"


# -- wait ------------------------------------------------------------------------------------------------------------


@contextmanager
def waiting(kubectl: Kubectl, api: Api, *args: str) -> Iterator[Output]:
    """`kubectl wait`, as soon as it watches."""
    until(lambda: watchers(api) == 0, "those of other tests are forgotten")
    with running(kubectl, "wait", "--timeout=30s", *args) as shown:
        until(lambda: watchers(api) == 1, "it watches")
        yield shown


def test_it_waits_for_a_condition(kubectl: Kubectl, api: Api) -> None:
    api.create("Robot", "a")
    with waiting(kubectl, api, "robot/a", "--for=condition=Ready") as shown:
        api.changed("Robot", "a", {"metadata": {"labels": {"n": "1"}}})
        api.changed("Robot", "a", {"status": {"conditions": [READY]}}, "status")
        assert shown.next() == [f"robot.{GROUP}/a", "condition", "met"]
        assert shown.rest() == ("", "") and shown.process.returncode == 0


@NEWEST
def test_it_waits_for_a_value(kubectl: Kubectl, api: Api) -> None:
    api.create("Job", "j", SAMPLES["Job"])
    with waiting(kubectl, api, "job/j", "--for=jsonpath={.status.phase}=Cancelled") as shown:
        api.changed("Job", "j", {"spec": {"cancel": True}})
        assert shown.next() == [f"job.{GROUP}/j", "condition", "met"]


def test_it_waits_for_what_is_to_come(kubectl: Kubectl, api: Api) -> None:
    with running(kubectl, "wait", "robot/later", "--for=create", "--timeout=30s", "-v=6") as shown:
        assert shown.process.stderr is not None
        while "/robots/later" not in (line := shown.process.stderr.readline()):
            assert line, "it ended before it asked"
        api.create("Robot", "later")
        assert shown.next() == [f"robot.{GROUP}/later", "condition", "met"]


@NEWEST
def test_it_waits_for_what_is_to_go(kubectl: Kubectl, api: Api) -> None:
    api.create("Robot", "a", finalizers=["example.com/hold"])
    with waiting(kubectl, api, "robot/a", "--for=delete") as shown:
        api.delete("Robot", "a")
        api.changed("Robot", "a", {"metadata": {"finalizers": []}})
        assert shown.next() == [f"robot.{GROUP}/a", "condition", "met"]


@NEWEST
def test_it_waits_for_all_that_labels_select(kubectl: Kubectl, api: Api) -> None:
    for name in ("a", "b"):
        api.create("Robot", name, labels={"site": "berlin"})
    with waiting(kubectl, api, "robots", "-l", "site=berlin", "--for=jsonpath={.metadata.labels.done}") as shown:
        for name in ("a", "b"):
            api.changed("Robot", name, {"metadata": {"labels": {"done": "yes"}}})
        assert {shown.next()[0], shown.next()[0]} == {f"robot.{GROUP}/a", f"robot.{GROUP}/b"}


@NEWEST
def test_what_is_so_already_is_not_waited_for(kubectl: Kubectl, api: Api) -> None:
    api.create("Robot", "a")
    assert kubectl("wait", "robot/a", "--for=jsonpath={.status.phase}=Pending").lines == [f"robot.{GROUP}/a condition met"]
    assert kubectl("wait", "robot/gone", "--for=delete").err == ""


@pytest.mark.parametrize("for_", ["condition=Ready", "delete"])
@NEWEST
def test_what_does_not_come_is_given_up(kubectl: Kubectl, api: Api, for_: str) -> None:
    api.create("Robot", "a")
    gave_up = kubectl("wait", "robot/a", f"--for={for_}", "--timeout=1s", code=1)
    assert gave_up.err.endswith("error: timed out waiting for the condition on robots/a\n")


@NEWEST
def test_what_there_is_not_has_no_condition(kubectl: Kubectl) -> None:
    refused = kubectl("wait", "robot/nope", "--for=condition=Ready", "--timeout=1s", code=1)
    assert refused.err == f'Error from server (NotFound): robots.{GROUP} "nope" not found\n'
