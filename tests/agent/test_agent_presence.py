"""Presence: when a report is due, what a failure costs, and what people are told of an outage."""

from __future__ import annotations

import logging
import time

import pytest

from casare_agent.presence import Malformed, Presence
from casare_api.kinds import Object
from casare_api.machinery.errors import ApiError
from casare_client import Unreachable

AWAY = Unreachable("cannot reach http://fleet:8000: connection refused")


class Server:
    """Answers as it is told to, with the last answer for ever."""

    def __init__(self, *answers: Object | Exception) -> None:
        self.answers = list(answers)

    def __call__(self, body: Object) -> Object:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_heartbeat_is_due_in_the_interval_the_server_gave_and_news_at_once() -> None:
    presence = Presence(Server({"intervalSeconds": 10, "jobs": []}))
    assert presence.pause(urgent=False) == 0
    assert presence.report({}, 0) == []
    assert 9 < presence.pause(urgent=False) <= 10
    assert presence.pause(urgent=True) == 0


@pytest.mark.parametrize("interval", [0, -5, None, 10**9])
def test_an_interval_out_of_reason_is_not_followed(interval: float | None) -> None:
    presence = Presence(Server({"intervalSeconds": interval}))
    presence.report({}, 0)
    assert 0 < presence.pause(urgent=False) <= 60


def test_a_failed_report_is_not_repeated_at_once_however_urgent() -> None:
    presence = Presence(Server(AWAY))
    for _ in range(8):
        assert presence.report({}, 0) is None
        presence.settled(True)
        assert presence.pause(urgent=True) > 0.05
    assert presence.pause(urgent=True) <= 6


def test_what_was_not_answered_is_not_said_again_at_once() -> None:
    presence = Presence(Server({"intervalSeconds": 10}))
    presence.report({}, 1)
    presence.settled(False)
    assert 0 < presence.pause(urgent=True) < 1
    presence.report({}, 1)
    presence.settled(True)
    assert presence.pause(urgent=True) == 0


def test_an_outage_is_said_when_it_begins_when_it_changes_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "casare.agent")
    logging.getLogger("casare.agent").propagate = True
    unauthorized = ApiError.unauthorized()
    presence = Presence(Server(AWAY, AWAY, AWAY, unauthorized, unauthorized, {"intervalSeconds": 3}))
    for _ in range(8):
        presence.report({}, 2)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert said[0] == f"{AWAY}; trying on, 2 running meanwhile"
    assert "does not accept this robot's API key" in said[1]
    assert said[2].startswith("the server is back after")


def test_a_refused_key_is_tried_again_slowly() -> None:
    presence = Presence(Server(ApiError.unauthorized()))
    presence.report({}, 0)
    assert presence.pause(urgent=True) > 10


def test_a_robot_that_is_gone_or_was_made_anew_is_noticed() -> None:
    deleted = Presence(Server(ApiError(404, "NotFound", "robot gone")))
    assert deleted.report({}, 0) is None
    assert deleted.gone
    replaced = Presence(Server({"robotUID": "a"}, {}, {"robotUID": "b"}))
    replaced.robot_uid = "a"
    replaced.report({}, 0)
    replaced.report({}, 0)
    assert not replaced.gone
    replaced.report({}, 0)
    assert replaced.gone


def test_a_report_that_the_server_does_not_take_is_told_apart() -> None:
    with pytest.raises(Malformed):
        Presence(Server(ApiError(422, "Invalid", "the report is wrong at jobs.0.outputs"))).report({}, 0)


def test_nobody_answering_is_told_once_somebody_does_and_a_refusal_is_an_answer() -> None:
    told: list[float] = []
    busy = ApiError(503, "ServiceUnavailable", "starting")
    presence = Presence(Server({}, AWAY, busy, AWAY, {}, busy, {}), returned=told.append)
    begun = time.monotonic()
    for _ in range(7):
        presence.report({}, 0)
    assert len(told) == 1, "once, and not for a server that was there and busy"
    assert begun <= told[0] <= time.monotonic()


def test_an_agent_that_is_not_understood_says_so_once_and_tries_on_slowly(caplog: pytest.LogCaptureFixture) -> None:
    why = "the agent (version 9) speaks protocol 9, this server takes 1 to 2: upgrade the server"
    refused = ApiError(426, "UpgradeRequired", why)
    presence = Presence(Server(refused, refused, refused, {"intervalSeconds": 3}))
    with caplog.at_level(logging.INFO, "casare.agent"):
        for _ in range(3):
            assert presence.report({}, 0) is None and presence.pause(urgent=True) > 5
        assert [record.message for record in caplog.records] == [f"the server refuses this robot: {why}; trying on"]
        assert presence.report({}, 0) == [] and not presence.gone


def test_the_wish_to_restart_is_heard_of_a_server_that_waits_for_it_alone() -> None:
    asked = {"intervalSeconds": 3, "restartRequestedAt": "a"}
    presence = Presence(Server(asked, {**asked, "protocol": {"min": 1, "max": 2}}, {"intervalSeconds": 3}))
    heard = [(presence.report({}, 0), presence.restart)[1] for _ in range(3)]
    assert heard == [None, "a", None]
