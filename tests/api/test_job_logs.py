"""What a job prints is kept in numbered chunks, whole and once, and can be followed to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ..conftest import until
from .conftest import Api, Object, Robot, is_status, work

Robots = Callable[..., Robot]


def send(rob: Robot, job: Object, seq: int, text: str | bytes, attempt: int | None = None) -> int:
    """One chunk; the code of the answer."""
    params = {"uid": job["metadata"]["uid"], "attempt": str(attempt or job["status"]["attempt"]), "seq": str(seq)}
    content = text.encode() if isinstance(text, str) else text
    answer = rob.api.call("POST", rob.api.path("Job", job["metadata"]["name"], "log"), content=content, params=params)
    assert answer.status_code < 400 or is_status(answer, answer.status_code)
    return answer.status_code


def read(api: Api, name: str = "j", **params: Any) -> str:
    found = api.call("GET", api.path("Job", name, "log"), params=params)
    assert found.status_code == 200 and found.headers["content-type"].startswith("text/plain"), found.text
    return found.text


class Follower:
    """Somebody who follows a log in a thread of his own."""

    def __init__(self, api: Api, **params: str) -> None:
        self.text, self.ended = "", False
        self.api, self.params = api.of(api.key), {"follow": "true", **params}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        headers = {"x-api-key": self.api.key}
        with self.api.http.stream(
            "GET", self.api.path("Job", "j", "log"), params=self.params, headers=headers
        ) as answer:
            for part in answer.iter_text():
                self.text += part
        self.ended = True
        self.api.close()


def test_chunks_are_kept_once_and_read_in_order(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    job = rob.assigned(api, "j")
    assert [send(rob, job, 1, "one\n"), send(rob, job, 3, "three\n"), send(rob, job, 2, "zwö\n")] == [204, 204, 204]
    assert [send(rob, job, 1, "one\n"), send(rob, job, 2, "another two\n")] == [204, 204], "sent again"
    assert read(api) == "one\nzwö\nthree\n"


def test_a_log_takes_any_bytes(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    job = rob.assigned(api, "j")
    assert send(rob, job, 1, b"ab\x00cd\xff\xfe\xc3\n") == 204
    assert read(api) == "ab\ufffdcd\ufffd\ufffd\ufffd\n"
    assert send(rob, job, 2, b"") == 204
    assert send(rob, job, 3, b"x" * 256 * 1024) == 204
    assert send(rob, job, 4, b"x" * (256 * 1024 + 1)) == 413


def test_following_ends_with_the_job(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    follower = Follower(api)
    job = rob.assigned(api, "j")
    rob.say(job, "Running")
    send(rob, job, 1, "begun\n")
    until(lambda: follower.text == "begun\n", "it comes as it is written")
    send(rob, job, 2, "done\n")
    assert not follower.ended
    rob.say(job, "Succeeded")
    until(lambda: follower.ended, "it ends", 40)
    assert follower.text == "begun\ndone\n"
    assert read(api, follow="true") == "begun\ndone\n", "following what is over ends at once"


def test_following_goes_on_with_the_next_attempt(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob, retry={"limit": 1, "backoff": {"initial": "0s"}}))
    first = rob.assigned(api, "j")
    follower, only_first = Follower(api), Follower(api, attempt="1")
    send(rob, first, 1, "no luck\n")
    rob.say(first, "Failed")
    second = rob.assigned(api, "j")
    send(rob, second, 1, "luck\n")
    rob.say(second, "Succeeded")
    until(lambda: follower.ended and only_first.ended, "both end", 40)
    assert follower.text == "no luck\n--- attempt 2 ---\nluck\n"
    assert only_first.text == "no luck\n"
    assert read(api) == "luck\n" and read(api, attempt="1") == "no luck\n", "the last attempt, or the one asked for"
    assert read(api, attempt="3") == ""


def test_only_the_robot_of_an_attempt_writes_to_its_log(api: Api, robot: Robots) -> None:
    rob, other = robot(), robot("other")
    api.create("Job", "j", work(rob, retry={"limit": 1, "backoff": {"initial": "0s"}}))
    job = rob.assigned(api, "j")
    assert send(other, job, 1, "not mine") == 409
    assert send(rob, job, 1, "later", attempt=2) == 409
    rob.say(job, "Failed")
    second = rob.assigned(api, "j")
    assert send(rob, job, 2, "last words of the first") == 204, "what was under way still arrives"
    stranger = {**second, "metadata": {**second["metadata"], "uid": "00000000-0000-4000-8000-000000000000"}}
    assert send(rob, stranger, 1, "another life") == 404
    assert is_status(rob.api.call("GET", api.path("Job", "j", "log")), 403), "reading is for people"


def test_a_log_is_closed_some_time_after_its_job_ended(api: Api, robot: Robots) -> None:
    rob = robot(maxConcurrentJobs=2)

    def ended(name: str, minutes: int) -> Object:
        api.create("Job", name, work(rob))
        rob.say(rob.assigned(api, name), "Running")
        moment = (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return api.changed("Job", name, {"status": {"phase": "Succeeded", "finishedTime": moment}}, "status")

    assert send(rob, ended("just-now", minutes=9), 1, "what was under way\n") == 204
    assert send(rob, ended("long-ago", minutes=11), 1, "too late\n") == 409
    assert [read(api, name) for name in ("just-now", "long-ago")] == ["what was under way\n", ""]


def test_a_log_has_so_many_chunks_and_no_more(api: Api, robot: Robots) -> None:
    rob = robot()
    api.create("Job", "j", work(rob))
    job = rob.assigned(api, "j")
    assert [send(rob, job, seq, "x") for seq in (1_000_000, 1_000_001)] == [204, 400]


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"uid": "x"},
        {"uid": "x", "attempt": "1"},
        {"uid": "x", "attempt": "a", "seq": "1"},
        {"uid": "x", "attempt": "1", "seq": "-1"},
        {"uid": "x", "attempt": "1", "seq": "9" * 30},
    ],
)
def test_a_chunk_without_an_address_is_refused(api: Api, params: dict[str, str]) -> None:
    api.create("Job", "j")
    assert is_status(api.call("POST", api.path("Job", "j", "log"), content=b"x", params=params), 400)


def test_the_log_of_a_job_that_is_gone(api: Api) -> None:
    assert is_status(api.call("GET", api.path("Job", "j", "log")), 404)
    api.create("Job", "j")
    follower = Follower(api)
    until(lambda: api.http.get("/healthz").status_code == 200, "the server is there")
    api.delete("Job", "j")
    api.create("Job", "j")
    until(lambda: follower.ended, "another job of this name is another log", 40)
    assert read(api) == ""
    assert is_status(api.call("GET", api.path("Job", "j", "log"), params={"attempt": "first"}), 400)
