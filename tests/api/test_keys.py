"""Keys from day to day: a new one in place of the old, when each was last used, and what a revocation cuts."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..conftest import until
from .conftest import Api, QuickServer, Robot, is_status, message, work

RFC3339 = "%Y-%m-%dT%H:%M:%SZ"


def rotate(api: Api, name: str, **body: Any) -> Any:
    return api.call("POST", api.path("ApiKey", name, "rotate"), body)


def opens(api: Api, key: str) -> bool:
    return bool(api.call("GET", api.path("Robot"), key=key).status_code != 401)


# -- rotation --------------------------------------------------------------------------------------------------------


def test_old_and_new_are_good_until_the_overlap_ends_and_only_the_old_one_is_cut(api: Api) -> None:
    old = api.issue_key("k", "viewer")
    made = rotate(api, "k", overlap="2s")
    assert made.status_code == 201, made.text
    new = made.json()["key"]
    assert new != old and opens(api, old) and opens(api, new)
    assert new.startswith("crpa_") and len(base64.urlsafe_b64decode(new[5:] + "=")) * 8 == 256
    now = api.rv()
    with (
        api.of(old).watch("Workflow", resourceVersion=now) as dying,
        api.of(new).watch("Workflow", resourceVersion=now) as living,
    ):
        assert dying.rest() == [], "what was opened with the old one ends with it"
        assert not opens(api, old) and opens(api, new)
        api.create("Workflow", "w")
        assert living.take(1) == [("ADDED", "w")]
    assert api.get("ApiKey", "k")["status"]["hint"] == f"{new[:5]}...{new[-4:]}"


def test_what_was_opened_before_a_rotation_goes_on_within_the_overlap(api: Api) -> None:
    old = api.issue_key("k", "viewer")
    with api.of(old).watch("Workflow", resourceVersion=api.rv()) as watch:
        assert rotate(api, "k").status_code == 201
        api.create("Workflow", "w")
        assert watch.take(1) == [("ADDED", "w")]
        again = rotate(api, "k")
        assert "has two keys already" in message(again, 409)
        assert rotate(api, "k", overlap="0").status_code == 201
        assert watch.rest() == []
    assert not opens(api, old)


@pytest.mark.parametrize(
    ("body", "why"),
    [({"overlap": "soon"}, "is not a duration"), ({"overlap": 3}, "is not a duration"), ({"hash": "x"}, "says nothing"),
     ([1], "says nothing"), ({"overlap": "-1h"}, "is not a duration")],
)  # fmt: skip
def test_a_rotation_that_nobody_understands_is_refused_in_words(api: Api, body: Any, why: str) -> None:
    key = api.issue_key("k", "viewer")
    assert why in message(api.call("POST", api.path("ApiKey", "k", "rotate"), body), 400)
    assert opens(api, key)


def test_a_key_is_not_replaced_all_the_time(api: Api) -> None:
    body = {"metadata": {"name": "k"}, "spec": {"role": "viewer", "rotation": {"every": "0"}}}
    assert "every: must be at least 1s" in message(api.call("POST", api.path("ApiKey"), body), 422)


def test_what_can_not_be_rotated_says_why(api: Api) -> None:
    api.create("ApiKey", "none", {"spec": {"role": "viewer"}})
    assert "has no key yet" in message(rotate(api, "none"), 409)
    api.issue_key("gone", "viewer")
    api.changed("ApiKey", "gone", {"spec": {"revoked": True}})
    assert "is Revoked" in message(rotate(api, "gone"), 409)
    assert is_status(rotate(api, "nobody"), 404, "NotFound")


def test_only_the_server_writes_what_a_rotation_leaves(api: Api) -> None:
    api.issue_key("k", "viewer")
    forged = "sha256:" + hashlib.sha256(b"forged").hexdigest()
    until_then = (datetime.now(UTC) + timedelta(days=1)).strftime(RFC3339)
    said = {"previousHash": forged, "previousUntil": until_then, "lastUsedIP": "6.6.6.6", "rotatedBy": "Robot",
            "restoredTime": "9999-01-01T00:00:00Z", "goodSince": until_then}  # fmt: skip
    assert api.patch("ApiKey", "k", {"status": said}, "status").status_code == 200
    assert api.patch("ApiKey", "k", {"status": said}).status_code == 200
    assert api.get("ApiKey", "k")["status"].keys().isdisjoint(said)
    assert not opens(api, "forged")


def test_a_viewer_rotates_nothing(api: Api) -> None:
    for role in ("viewer", "operator"):
        holder = api.of(api.issue_key(role, role))
        assert is_status(rotate(holder, role), 403, "Forbidden")


def test_a_robot_rotates_its_own_key_when_it_is_told_to_and_no_other(api: Api, robot: Callable[..., Robot]) -> None:
    rob, other = robot("a"), robot("b")
    old = rob.api.key
    assert "rotateKey" not in rob.report() and "is not rotated" in message(rotate(rob.api, rob.name), 409)
    api.changed("ApiKey", rob.name, {"spec": {"rotation": {"every": "1s", "overlap": "1h"}}})
    until(lambda: rob.report().get("rotateKey") == rob.name, "it is told that its key is due")
    for name in (other.name, "nobody"):
        assert is_status(rotate(rob.api, name), 403, "Forbidden")
    assert is_status(rotate(rob.api, rob.name, overlap="30d"), 400)
    assert is_status(rob.api.call("POST", api.path("ApiKey", rob.name, "token")), 403)
    first = rotate(rob.api, rob.name).json()["key"]
    assert rob.report().get("rotateKey") == rob.name, "it still uses the old one: the answer may have been lost"
    second = rotate(rob.api, rob.name).json()["key"]
    assert not opens(api, first) and opens(api, second) and opens(api, old)
    api.changed("ApiKey", rob.name, {"spec": {"rotation": {"every": "90d"}}})
    rob.api.key = second
    assert "rotateKey" not in rob.report()


# -- last use --------------------------------------------------------------------------------------------------------


def test_a_key_says_when_it_was_last_used_and_from_where(api: Api) -> None:
    key = api.issue_key("k", "viewer")
    seen = api.get("ApiKey", "k")
    assert "lastUsedTime" not in seen["status"]
    assert opens(api, key)
    used = until(lambda: api.get("ApiKey", "k")["status"].get("lastUsedTime"), "its use is written")
    assert abs((datetime.now(UTC) - datetime.strptime(used, RFC3339).replace(tzinfo=UTC)).total_seconds()) < 60
    listed = next(one for one in api.list("ApiKey")["items"] if one["metadata"]["name"] == "k")
    assert listed["status"]["lastUsedIP"] == "127.0.0.1" and listed["status"]["phase"] == "Active"
    assert listed["metadata"]["resourceVersion"] == seen["metadata"]["resourceVersion"], "it is no part of history"
    listed["spec"]["description"] = "x"
    changed = api.call("PUT", api.path("ApiKey", "k"), listed)
    assert changed.status_code == 200, "what is shown may come back"
    assert api.get("ApiKey", "k")["status"]["lastUsedTime"] == used


# -- revocation cuts -------------------------------------------------------------------------------------------------

LARGE = 24 * 1024 * 1024  # bytes: more than all buffers on the way hold


@contextlib.contextmanager
def connected(api: Api, head: str, key: str, length: int | None = None) -> Iterator[socket.socket]:
    """A request on a connection of its own, whose answer is read, or body sent, at leisure."""
    address = urlsplit(api.server.url)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        sock.settimeout(10)
        sock.connect((address.hostname, address.port))
        more = "" if length is None else f"Content-Length: {length}\r\n"
        sock.sendall(f"{head} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{more}\r\n".encode())
        yield sock


def trickled(sock: socket.socket) -> bytes:
    """What comes, read slowly enough that the whole would take much longer than a second."""
    found = b""
    pause = threading.Event()
    with contextlib.suppress(ConnectionError):
        while data := sock.recv(64 * 1024):
            found += data
            pause.wait(0.02)
    return found


def stored(api: Api, kind: str) -> str:
    """The path of a large file."""
    data = bytes(LARGE)
    if kind == "blob":
        digest = hashlib.sha256(data).hexdigest()
        path = f"/apis/fleet.casare.net/v1/namespaces/{api.namespace}/blobs/{digest}"
    else:
        api.create("Job", "j", work())
        path = api.path("Job", "j", "artifacts/large.bin")
    assert api.call("PUT", path, content=data).status_code == 201
    return path


@pytest.mark.parametrize("kind", ["blob", "artifact"])
def test_a_file_on_its_way_to_somebody_is_cut(api: Api, kind: str) -> None:
    path, key = stored(api, kind), api.issue_key("k", "operator")
    with connected(api, f"GET {path}", key) as sock:
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
        api.changed("ApiKey", "k", {"spec": {"revoked": True}})
        assert len(trickled(sock)) < LARGE
    assert not opens(api, key)


@pytest.mark.parametrize("kind", ["blob", "artifact", "job"])
def test_what_somebody_sends_is_cut_and_nothing_of_it_is_kept(api: Api, kind: str) -> None:
    key = api.issue_key("k", "operator")
    blob = f"/apis/fleet.casare.net/v1/namespaces/{api.namespace}/blobs/{'0' * 64}"
    api.create("Job", "j", work())
    head = {"blob": f"PUT {blob}", "artifact": f"PUT {api.path('Job', 'j', 'artifacts/f')}",
            "job": f"POST {api.path('Job')}"}[kind]  # fmt: skip
    pause = threading.Event()

    def sent(sock: socket.socket) -> bool:
        """Whether the server still takes it."""
        pause.wait(0.05)
        try:
            sock.sendall(b"x" * 100)
            sock.setblocking(False)
            return bool(sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        finally:
            sock.setblocking(True)

    with connected(api, head, key, 1024 * 1024) as sock:
        assert all(sent(sock) for _ in range(3))
        api.changed("ApiKey", "k", {"spec": {"revoked": True}})
        until(lambda: not sent(sock), "the connection is cut", 10)
    assert not opens(api, key)
    assert api.names("Job") == ["j"]
    assert api.call("GET", api.path("Job", "j", "artifacts")).json()["items"] == []


def test_a_robot_whose_key_is_revoked_is_offline_and_its_job_goes_to_another(
    api: Api, robot: Callable[..., Robot]
) -> None:
    first = robot("first", tags=["both"])
    spec = {"workflow": {"runner": "command", "args": ["true"], "requirements": {"tags": ["both"]}}}
    api.create("Job", "j", {"spec": spec})
    assert first.say(first.assigned(api, "j"), "Running") == 200
    second = robot("second", tags=["both"])
    second.report()
    api.changed("ApiKey", first.name, {"spec": {"revoked": True}})
    job = second.assigned(api, "j")
    assert (job["status"]["attempt"], job["status"]["attempts"][0]["reason"]) == (2, "KeyRevoked")
    until(lambda: api.get("Robot", first.name)["status"]["phase"] == "Offline", "it is offline", 8)
    assert not opens(api, first.api.key) and second.say(job, "Running") == 200


def test_a_deleted_key_of_a_robot_goes_and_what_is_open_under_it_ends(api: Api, robot: Callable[..., Robot]) -> None:
    rob = robot()
    fields = {"fieldSelector": f"status.robotUID={rob.uid}"}
    with rob.api.watch("Job", resourceVersion=api.rv(), **fields) as watch:
        assert api.delete("ApiKey", rob.name).status_code == 200
        assert watch.rest() == []
    assert not opens(rob.api, rob.api.key)
    until(lambda: api.find("ApiKey", rob.name) is None, "it is gone")


@pytest.fixture
def other(api: Api, tmp_path: Path) -> Iterator[Api]:
    """The same namespace by way of another apiserver."""
    server = QuickServer(api.server.database, tmp_path, api.server.admin_key)
    try:
        server.run("apiserver", "-m", "casare_apiserver")
        until(server.is_ready, "the second apiserver is ready")
        found = Api(server, api.namespace)
        yield found
        found.close()
    finally:
        server.stop()


def test_the_end_of_an_overlap_cuts_at_every_apiserver(api: Api, other: Api) -> None:
    old = api.issue_key("k", "viewer")
    with other.of(old).watch("Workflow", resourceVersion=api.rv()) as watch:
        new = rotate(api, "k", overlap="1s").json()["key"]
        assert opens(other, new)
        assert watch.rest() == []
    assert not opens(other, old) and opens(other, new)
    until(lambda: not opens(api, old), "the clocks of two apiservers are not the same to the millisecond")
