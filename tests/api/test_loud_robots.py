"""One robot that reports from many connections at once: it does not fill the queue of writes, where others wait."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from casare_apiserver.sharing import MOST

from ..conftest import until
from ..history import nothing_is_written
from .conftest import Api, Robot, is_status

Said = Callable[[int], dict[str, Any]]
LOUD = 30  # reports at a time
BUDGET = {"cpuPercent": 77}


def transitions(number: int) -> dict[str, Any]:
    of = {"namespace": "default", "uid": "u-1", "attempt": 1, "phase": "Running"}
    return {"jobs": [{**of, "name": f"gone-{number}-{each}"} for each in range(500)]}


def about_itself(number: int) -> dict[str, Any]:
    return {"agent": {"version": str(number)}}


class Crowd:
    """Reports that are sent at once, each by a connection of its own, and their answers as they come."""

    def __init__(self, robot: Robot, said: Said, count: int) -> None:
        self.answers: list[httpx2.Response] = []
        self._robot, self._said = robot, said
        self._threads = [threading.Thread(target=self._send, args=[number], daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int) -> None:
        caller = self._robot.api.of(self._robot.api.key)
        self.answers.append(caller.call("POST", self._robot.path, self._said(number)))
        caller.close()

    def codes(self) -> Counter[int]:
        return Counter(one.status_code for one in self.answers)

    def all(self) -> Counter[int]:
        for thread in self._threads:
            thread.join(timeout=60)
        return self.codes()


@pytest.mark.parametrize("said", [transitions, about_itself])
def test_a_robot_has_a_few_reports_waiting_to_be_written_and_no_more(
    api: Api, robot: Callable[..., Robot], said: Said
) -> None:
    loud, other = robot("loud"), robot("other")
    for each in (loud, other):  # they are known: what follows is about writes alone
        each.report()
    with nothing_is_written(api.server.database):
        crowd = Crowd(loud, said, LOUD)
        until(lambda: len(crowd.answers) == LOUD - MOST, lambda: f"the others are refused: {crowd.codes()}")
        for refused in crowd.answers:
            assert is_status(refused, 429, "TooManyRequests") and refused.headers["retry-after"] == "1"
            assert loud.name in refused.json()["message"]
        neighbour = Crowd(other, said, 1)
        assert loud.report(telemetry=BUDGET)["robotUID"] == loud.uid, "a sign of life writes nothing"
        until(lambda: api.get("Robot", loud.name)["status"].get("telemetry") == BUDGET, "and counts")
    assert crowd.all() == {200: MOST, 429: LOUD - MOST} and neighbour.all() == {200: 1}
    assert Crowd(loud, said, 1).all() == {200: 1}, "it may go on"


def test_a_refused_report_is_a_sign_of_life(api: Api, robot: Callable[..., Robot]) -> None:
    loud = robot("loud")
    loud.report()
    with nothing_is_written(api.server.database):
        crowd = Crowd(loud, transitions, MOST + 1)
        until(lambda: crowd.codes() == {429: 1}, lambda: f"one is too many: {crowd.codes()}")
        last = loud.api.call("POST", loud.path, {**transitions(99), "telemetry": BUDGET})
        assert is_status(last, 429, "TooManyRequests")
        until(lambda: api.get("Robot", loud.name)["status"].get("telemetry") == BUDGET, "it is there")
    crowd.all()
