"""The files that jobs leave behind: whole or not at all, from the robot that has the attempt, to people alone."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx2
import psycopg
import pytest

from casare_store.artifacts import PART

from ..conftest import until
from .conftest import Api, Object, Robot, in_phase, is_status, message, work

Robots = Callable[..., Robot]
LARGE = b"".join(number.to_bytes(4, "big") for number in range((2 * PART + 1000) // 4))  # three parts, all different


def path(api: Api, name: str | None = None, job: str = "j") -> str:
    return api.path("Job", job, "artifacts") + (f"/{quote(name, safe='')}" if name is not None else "")


def limited(rob: Robot, size: str, **spec: Any) -> Object:
    """A job's body whose files may have so much in all."""
    body = work(rob, **spec)
    body["spec"]["workflow"]["limits"] = {"artifactSize": size}
    return body


def put(rob: Robot, job: Object, name: str, content: Any = b"x", **more: Any) -> httpx2.Response:
    """A robot's file, of the job's attempt as it was when the job was read."""
    params = {"uid": job["metadata"]["uid"], "attempt": str(job["status"]["attempt"]), **more.pop("params", {})}
    return rob.api.call("PUT", path(rob.api, name, job["metadata"]["name"]), content=content, params=params, **more)


def listed(api: Api, **params: Any) -> list[Object]:
    found = api.call("GET", path(api), params=params)
    assert found.status_code == 200 and found.json()["kind"] == "ArtifactList", found.text
    return list(found.json()["items"])


def names(api: Api, **params: Any) -> list[str]:
    return [one["name"] for one in listed(api, **params)]


def get(api: Api, name: str, **params: Any) -> bytes:
    found = api.call("GET", path(api, name), params=params)
    assert found.status_code == 200, found.text
    return bytes(found.content)


def parts(api: Api) -> int:
    """How many parts the server keeps, of all tests' jobs."""
    with psycopg.connect(api.server.database) as connection:
        row = connection.execute("SELECT count(*) FROM artifact_parts").fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def rob(api: Api, robot: Robots) -> Robot:
    return robot()


@pytest.fixture
def job(api: Api, rob: Robot) -> Object:
    """A job that the robot has."""
    api.create("Job", "j", work(rob))
    return rob.assigned(api, "j")


def test_a_file_of_several_parts_comes_back_as_it_went(api: Api, rob: Robot, job: Object) -> None:
    digest = hashlib.sha256(LARGE).hexdigest()
    kept = put(rob, job, "data.bin", LARGE, headers={"x-sha256": digest})
    assert kept.status_code == 201, kept.text
    assert kept.json() | {"createdTime": ""} == {
        "name": "data.bin", "size": len(LARGE), "sha256": digest, "attempt": 1, "createdTime": "",
    }  # fmt: skip
    assert listed(api) == [kept.json()]
    assert get(api, "data.bin") == LARGE


def test_an_empty_file_is_a_file(api: Api, rob: Robot, job: Object) -> None:
    assert put(rob, job, "empty", b"").status_code == 201
    assert get(api, "empty") == b"" and [one["size"] for one in listed(api)] == [0]


def test_a_browser_saves_a_file_and_shows_nothing_of_it(api: Api, rob: Robot, job: Object) -> None:
    name = 'Übersicht "Okt".html'
    assert put(rob, job, name, b"<script>").status_code == 201
    found = api.call("GET", path(api, name))
    assert found.headers["content-type"] == "application/octet-stream"
    assert found.headers["content-disposition"] == (
        "attachment; filename=\"_bersicht _Okt_.html\"; filename*=UTF-8''%C3%9Cbersicht%20%22Okt%22.html"
    )
    assert found.headers["x-content-type-options"] == "nosniff" and found.headers["content-length"] == "8"
    assert found.headers["etag"] == f'"{hashlib.sha256(b"<script>").hexdigest()}"'


def test_a_head_says_how_long_a_file_is_and_sends_nothing_of_it(api: Api, rob: Robot, job: Object) -> None:
    put(rob, job, "data.bin", LARGE)
    head = api.call("HEAD", path(api, "data.bin"))
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(LARGE)))
    assert head.headers["etag"] == f'"{hashlib.sha256(LARGE).hexdigest()}"'


def test_a_file_sent_again_replaces_the_one_before(api: Api, rob: Robot, job: Object) -> None:
    before = parts(api)
    assert [put(rob, job, "f", content).status_code for content in (LARGE, b"new")] == [201, 200]
    assert get(api, "f") == b"new" and len(listed(api)) == 1
    assert parts(api) == before + 1, "nothing of the old one is left"


def test_a_file_that_is_not_what_its_digest_says_is_not_kept(api: Api, rob: Robot, job: Object) -> None:
    before = parts(api)
    assert is_status(put(rob, job, "f", LARGE, headers={"x-sha256": "0" * 64}), 422, "Invalid")
    assert is_status(put(rob, job, "f", b"x", headers={"x-sha256": "zero"}), 400)
    assert names(api) == [] and parts(api) == before


def test_a_file_that_is_cut_off_leaves_nothing_and_the_old_one_stays(api: Api, rob: Robot, job: Object) -> None:
    put(rob, job, "f", b"old")
    before = parts(api)
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        query = f"uid={job['metadata']['uid']}&attempt=1"
        head = f"PUT {path(api, 'f')}?{query} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {rob.api.key}\r\n"
        connection.sendall(f"{head}content-length: {len(LARGE)}\r\n\r\n".encode() + LARGE[:-1])
        until(lambda: parts(api) == before + 2, "the first parts have arrived")
    until(lambda: parts(api) == before, "they go")
    assert get(api, "f") == b"old"


def test_the_limit_of_the_workflow_holds_for_all_files_together(api: Api, rob: Robot) -> None:
    api.create("Job", "j", limited(rob, "1Ki"))
    job, before = rob.assigned(api, "j"), parts(api)
    assert put(rob, job, "a", b"x" * 1000).status_code == 201
    words = 'job "j", file "b": the files of this job may have 1Ki in all (spec.limits.artifactSize of its workflow)'
    assert message(put(rob, job, "b", b"x" * 25), 413) == words
    assert put(rob, job, "b", b"x" * 24).status_code == 201
    assert put(rob, job, "a", b"y" * 1000).status_code == 200, "what it replaces does not count"
    assert parts(api) == before + 2


def test_a_limit_of_a_workflow_of_its_own_holds_too(api: Api, rob: Robot) -> None:
    spec = {"runner": "command", "args": ["true"], "limits": {"artifactSize": "3"}, "requirements": {"tags": [rob.name]}}
    api.create("Workflow", "w", {"spec": spec})
    api.create("Job", "j", {"spec": {"workflowRef": {"name": "w"}}})
    job = rob.assigned(api, "j")
    assert [put(rob, job, name, b"xx").status_code for name in ("a", "b")] == [201, 413]


def test_what_is_too_large_is_noticed_while_it_comes(api: Api, rob: Robot) -> None:
    """Nobody said how long it would be, and it would never end."""
    api.create("Job", "j", limited(rob, "300Ki"))
    job, before = rob.assigned(api, "j"), parts(api)
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        query = f"uid={job['metadata']['uid']}&attempt=1"
        head = f"PUT {path(api, 'f')}?{query} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {rob.api.key}\r\n"
        connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        for _ in range(10):
            connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        connection.settimeout(20)
        assert b" 413 " in connection.recv(1000).split(b"\r\n")[0]
    assert names(api) == [] and parts(api) == before


def test_only_the_robot_of_the_current_attempt_adds_files(api: Api, robot: Robots) -> None:
    rob, other = robot(), robot("other")
    api.create("Job", "j", work(rob, retry={"limit": 1, "backoff": {"initial": "0s"}}))
    first = rob.assigned(api, "j")
    assert is_status(put(other, first, "f"), 409)
    assert is_status(put(rob, first, "f", params={"attempt": "2"}), 409)
    assert is_status(put(rob, first, "f", params={"uid": "00000000-0000-4000-8000-000000000000"}), 404)
    rob.say(first, "Failed")
    second = rob.assigned(api, "j")
    assert is_status(put(rob, first, "f"), 409), "its first attempt is over"
    assert put(rob, second, "f").status_code == 201
    for params in ({"attempt": "2"}, {"uid": second["metadata"]["uid"]}):
        said = rob.api.call("PUT", path(api, "f"), content=b"x", params=params)
        assert is_status(said, 400), "who it means must be said"


def test_an_attempt_that_ends_while_its_file_comes_does_not_keep_it(api: Api, rob: Robot) -> None:
    api.create("Job", "j", work(rob, retry={"limit": 1, "backoff": {"initial": "0s"}}))
    job, before = rob.assigned(api, "j"), parts(api)

    def content() -> Iterator[bytes]:
        yield LARGE
        until(lambda: parts(api) == before + 2, "the first parts have arrived")
        rob.say(job, "Failed")
        in_phase(api, "j", "Queued", "Assigned")
        yield b"the end"

    assert is_status(put(rob, job, "f", content()), 409)
    assert names(api) == [] and parts(api) == before


def test_reading_is_for_people(api: Api, robot: Robots, rob: Robot, job: Object) -> None:
    put(rob, job, "f", b"for people")
    viewer = api.of(api.issue_key("eye", "viewer"))
    assert get(viewer, "f") == b"for people" and names(viewer) == ["f"]
    for key in (rob.api.key, robot("other").api.key, api.issue_key("far", "viewer", "default")):
        for name in (None, "f"):
            assert is_status(api.call("GET", path(api, name), key=key), 403)
        assert api.call("HEAD", path(api, "f"), key=key).status_code == 403


def test_people_who_run_the_fleet_add_files_to_a_job_at_any_time(api: Api) -> None:
    api.create("Job", "j", work())
    operator, viewer = api.of(api.issue_key("op", "operator")), api.of(api.issue_key("eye", "viewer"))
    assert operator.call("PUT", path(api, "note.txt"), content=b"see me").status_code == 201
    assert is_status(viewer.call("PUT", path(api, "note.txt"), content=b"x"), 403)
    assert [(one["name"], one["attempt"]) for one in listed(api)] == [("note.txt", 0)]
    assert is_status(operator.call("PUT", path(api, "n"), content=b"x", params={"attempt": "1"}), 409)


def test_the_newest_attempts_file_is_the_one_that_is_shown(api: Api, rob: Robot) -> None:
    api.create("Job", "j", work(rob, retry={"limit": 1, "backoff": {"initial": "0s"}}))
    first = rob.assigned(api, "j")
    assert [put(rob, first, name, b"first").status_code for name in ("a", "b")] == [201, 201]
    rob.say(first, "Failed")
    assert put(rob, rob.assigned(api, "j"), "b", b"second").status_code == 201
    assert [(one["name"], one["attempt"]) for one in listed(api)] == [("a", 1), ("b", 2)]
    assert (get(api, "a"), get(api, "b"), get(api, "b", attempt=1)) == (b"first", b"second", b"first")
    assert [names(api, attempt=number) for number in (1, 2, 3)] == [["a", "b"], ["b"], []]
    assert is_status(api.call("GET", path(api, "a"), params={"attempt": "2"}), 404)


def test_files_of_earlier_attempts_make_room_for_those_of_the_newest(api: Api, rob: Robot) -> None:
    api.create("Job", "j", limited(rob, "1Ki", retry={"limit": 1, "backoff": {"initial": "0s"}}))
    first = rob.assigned(api, "j")
    assert [put(rob, first, name, b"1" * 500).status_code for name in ("a", "b")] == [201, 201]
    rob.say(first, "Failed")
    second, before = rob.assigned(api, "j"), parts(api)
    assert put(rob, second, "c", b"2" * 500).status_code == 201
    assert [(one["name"], one["attempt"]) for one in listed(api)] == [("a", 1), ("c", 2)]
    assert put(rob, second, "d", b"2" * 524).status_code == 201
    assert names(api) == ["c", "d"] and parts(api) == before
    assert is_status(put(rob, second, "e", b"2"), 413), "its own files stay"


@pytest.mark.parametrize("name", [".hidden", "..", "a\\b", "a" * 254, "tab\t"])
def test_a_name_that_is_not_safe_is_refused_in_words(api: Api, rob: Robot, job: Object, name: str) -> None:
    where = path(api) + "/" + quote(name, safe="").replace(".", "%2E")
    query = {"uid": job["metadata"]["uid"], "attempt": "1"}
    assert is_status(rob.api.call("PUT", where, content=b"x", params=query), 400)
    assert names(api) == []


def test_a_name_with_a_slash_is_no_file(api: Api, rob: Robot, job: Object) -> None:
    assert [put(rob, job, name).status_code for name in ("a/b", "../../j2/log")] == [404, 404]
    assert names(api) == []


def test_what_there_is_not(api: Api, rob: Robot, job: Object) -> None:
    assert is_status(api.call("GET", path(api, "f")), 404)
    for name in ("f", None):
        assert is_status(api.call("GET", path(api, name, "other")), 404)
    assert is_status(api.call("GET", path(api), params={"attempt": "first"}), 400)
    for method in ("POST", "DELETE", "PATCH"):
        assert is_status(api.call(method, path(api, "f"), content=b"{}"), 405)
        assert is_status(api.call(method, path(api), content=b"{}"), 405)


def test_a_job_that_ended_some_time_ago_takes_no_more_files(api: Api, robot: Robots) -> None:
    rob = robot(maxConcurrentJobs=2)
    for name, minutes in (("just-now", 9), ("long-ago", 11)):
        api.create("Job", name, work(rob))
        job = rob.assigned(api, name)
        rob.say(job, "Running")
        moment = (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
        ended = api.changed("Job", name, {"status": {"phase": "Succeeded", "finishedTime": moment}}, "status")
        assert put(rob, ended, "f").status_code == (201 if minutes < 10 else 409)


def test_a_new_job_of_the_same_name_has_none_of_the_old_ones_files(api: Api, rob: Robot, job: Object) -> None:
    put(rob, job, "f")
    api.delete("Job", "j")
    api.create("Job", "j", work())
    assert names(api) == [] and is_status(api.call("GET", path(api, "f")), 404)


def test_a_client_that_does_not_read_a_file_is_cut_off(api: Api, rob: Robot, job: Object) -> None:
    assert put(rob, job, "f", LARGE * 40).status_code == 201
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect(("127.0.0.1", api.server.port))
        client.sendall(f"GET {path(api, 'f')} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.key}\r\n\r\n".encode())
        until(lambda: "a job's file was cut" in api.server.log("apiserver"), "the server hung up")
