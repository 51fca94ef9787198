"""kubectl waits for a job that it deletes until its robot has ended it, and does not with --force."""

from __future__ import annotations

import secrets
from typing import Any

from ..api.conftest import Api, Robot, work
from ..conftest import until
from .conftest import Kubectl


def running(api: Api) -> tuple[Robot, dict[str, Any]]:
    """A job that runs, and its robot."""
    robot = Robot(api, "rob-" + secrets.token_hex(3))
    api.create("Job", "j", work(robot))
    job = robot.assigned(api, "j")
    assert robot.say(job, "Running") == 200
    return robot, job


def shown(kubectl: Kubectl) -> str:
    return kubectl("get", "job.fleet.casare.net", "j").rows()[0][1]


def test_delete_returns_when_the_robot_has_ended_the_job(kubectl: Kubectl, api: Api) -> None:
    robot, job = running(api)
    with kubectl.start("delete", "job.fleet.casare.net", "j") as waiting:
        until(lambda: shown(kubectl) == "Terminating", "the job is asked to end")
        assert waiting.stdout is not None and waiting.stdout.readline().startswith('job.fleet.casare.net "j" deleted')
        assert waiting.poll() is None, "it waits"
        assert robot.say(job, "Cancelled") == 200
        assert waiting.wait(30) == 0
    assert api.find("Job", "j") is None


def test_delete_by_force_waits_for_nobody(kubectl: Kubectl, api: Api) -> None:
    robot, job = running(api)
    kubectl("delete", "job.fleet.casare.net", "j", "--wait=false")
    assert shown(kubectl) == "Terminating"
    said = kubectl("delete", "job.fleet.casare.net", "j", "--force", "--grace-period=0")
    assert "does not wait for confirmation" in said.err
    assert api.find("Job", "j") is None and robot.say(job, "Cancelled") == 404


def test_the_finalizer_is_not_kubectls_to_take_away(kubectl: Kubectl, api: Api) -> None:
    robot, job = running(api)
    kubectl("delete", "job.fleet.casare.net", "j", "--wait=false")
    patch = '{"metadata":{"finalizers":null}}'
    refused = kubectl("patch", "job.fleet.casare.net", "j", "--type=merge", "-p", patch, code=1)
    assert 'only the server adds and removes "fleet.casare.net/running"' in refused.err
    assert robot.say(job, "Cancelled") == 200 and api.find("Job", "j") is None
