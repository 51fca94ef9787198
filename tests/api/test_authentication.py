"""Who has no good key is nobody, from the moment on that the key is not good any more."""

from __future__ import annotations

import hashlib
import secrets
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from ..conftest import until
from .conftest import Api, Robot, is_status, message, work

RFC3339 = "%Y-%m-%dT%H:%M:%SZ"


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime(RFC3339)


def test_a_key_is_shown_once_and_works_at_once(api: Api) -> None:
    api.create("ApiKey", "k", {"spec": {"role": "viewer"}})
    token = api.call("POST", api.path("ApiKey", "k", "token"))
    assert token.status_code == 201 and token.json()["kind"] == "KeyToken"
    key = token.json()["key"]
    assert key.startswith("crpa_") and len(key) > 40
    assert api.call("GET", api.path("Robot"), key=key).status_code == 200
    stored = api.call("GET", api.path("ApiKey", "k")).text
    assert key not in stored and key[10:] not in stored, "the key itself is never kept"
    assert api.get("ApiKey", "k")["status"]["hint"] == f"{key[:5]}...{key[-4:]}"
    assert is_status(api.call("POST", api.path("ApiKey", "k", "token")), 409, "Conflict")
    assert is_status(api.call("POST", api.path("ApiKey", "nope", "token")), 404, "NotFound")


def test_a_key_made_offline_works_by_its_hash(api: Api) -> None:
    key = "my own key " + secrets.token_hex(16)
    hashed = "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    api.create("ApiKey", "k", {"spec": {"role": "viewer", "hash": hashed}})
    assert api.call("GET", api.path("Robot"), key=key).status_code == 200


@pytest.mark.parametrize("header", ["authorization", "Authorization", "X-Api-Key", "x-api-key"])
def test_both_headers_carry_a_key(api: Api, header: str) -> None:
    value = api.key if header.lower() == "x-api-key" else f"Bearer {api.key}"
    assert api.http.get(api.path("Robot"), headers={header: value}).status_code == 200
    assert api.http.get(api.path("Robot"), headers={header: value[:-1]}).status_code == 401


def reached(api: Api) -> list[str]:
    """Paths of all rooms of the API."""
    one = [api.path("Robot"), api.path("Robot", "x", "report"), api.path("Job", "x", "log"), "/api/v1/namespaces"]
    return [*one, "/api", "/apis", "/openapi/v3", api.path("Secret")]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer crpa_nobody"},
        {"x-api-key": "crpa_nobody"},
        {"authorization": b"Bearer \xff\xfe\x80"},
        {"authorization": "Bearer " + "x" * 10_000},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_without_a_good_key_there_is_nothing(api: Api, headers: dict[str, str], method: str) -> None:
    for path in reached(api):
        refused = api.http.request(method, path, headers=headers, content=b"{}")
        assert is_status(refused, 401, "Unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["message"] == "Unauthorized", "and not a word about why"


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer"}, {"authorization": "Basic YWRtaW46YWRtaW4="}, {"x-api-key": ""}]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "PATCH"])
def test_without_any_key_one_is_nobody_and_may_nothing(api: Api, headers: dict[str, str], method: str) -> None:
    for path in reached(api):
        refused = api.http.request(method, path, headers=headers, content=b"{}")
        assert is_status(refused, 403, "Forbidden") and '"system:anonymous"' in refused.json()["message"]


def test_the_probes_need_no_key(api: Api) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/version", "/metrics", "/openapi.json", "/docs"):
        assert api.http.get(path).status_code == 200, path
    assert "crpa_" not in api.http.get("/openapi.json").text


@pytest.mark.parametrize("how", ["revoked", "deleted", "expired", "re-hashed"])
def test_a_key_that_is_taken_back_is_refused_at_once(api: Api, how: str) -> None:
    key = api.issue_key("k", "operator")
    assert api.call("GET", api.path("Robot"), key=key).status_code == 200
    if how == "revoked":
        assert api.changed("ApiKey", "k", {"spec": {"revoked": True}})["status"]["phase"] == "Revoked"
    elif how == "deleted":
        assert api.delete("ApiKey", "k").status_code == 200
    elif how == "expired":
        assert api.changed("ApiKey", "k", {"spec": {"expiresAt": in_seconds(-1)}})["status"]["phase"] == "Expired"
    else:
        api.changed("ApiKey", "k", {"spec": {"hash": "sha256:" + "0" * 64}})
    until(lambda: is_refused(api, key), "the key is refused", 0.5)
    for header in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}):
        assert is_status(api.http.get(api.path("Robot"), headers=header), 401)


def is_refused(api: Api, key: str) -> bool:
    return api.call("GET", api.path("Robot"), key=key).status_code == 401


def test_a_key_runs_out_by_itself_and_can_be_prolonged(api: Api) -> None:
    key = api.issue_key("k", "viewer", expiresAt=in_seconds(2))
    assert not is_refused(api, key)
    until(lambda: is_refused(api, key), "it runs out", 40)
    until(lambda: api.get("ApiKey", "k")["status"]["phase"] == "Expired", "it says so")
    api.changed("ApiKey", "k", {"spec": {"expiresAt": in_seconds(60)}})
    assert api.get("ApiKey", "k")["status"]["phase"] == "Active"
    until(lambda: not is_refused(api, key), "it is good again")


def test_a_revocation_can_be_taken_back(api: Api) -> None:
    key = api.issue_key("k", "viewer")
    api.changed("ApiKey", "k", {"spec": {"revoked": True}})
    until(lambda: is_refused(api, key), "it is refused")
    api.changed("ApiKey", "k", {"spec": {"revoked": False}})
    until(lambda: not is_refused(api, key), "it is good again")


@pytest.mark.parametrize("how", ["revoked", "deleted", "expired", "another role"])
def test_what_is_open_under_a_key_ends_with_it(api: Api, how: str) -> None:
    key = api.issue_key("k", "viewer", **({"expiresAt": in_seconds(2)} if how == "expired" else {}))
    api.create("Job", "j", work())
    seen: dict[str, str] = {}

    def follow() -> None:
        mine = api.of(key)
        with mine.http.stream(
            "GET", api.path("Job", "j", "log"), params={"follow": "true"}, timeout=20, headers={"x-api-key": key}
        ) as response:
            seen["log"] = "open"
            response.read()
        seen["log"] = "ended"
        mine.close()

    thread = threading.Thread(target=follow)
    with api.of(key).watch("Job", resourceVersion=api.rv()) as watch:
        thread.start()
        until(lambda: seen.get("log") == "open", "the log is followed")
        if how == "revoked":
            api.changed("ApiKey", "k", {"spec": {"revoked": True}})
        elif how == "deleted":
            api.delete("ApiKey", "k")
        elif how == "another role":
            api.changed("ApiKey", "k", {"spec": {"role": "robot", "robotName": "pc-01"}})
        assert watch.rest() == []
    thread.join(20)
    assert seen["log"] == "ended"


def test_what_is_open_under_a_key_ends_when_it_runs_out_also_without_a_controller(api: Api) -> None:
    key = api.issue_key("k", "viewer", expiresAt=in_seconds(3))
    controller = api.server.processes["controller"]
    with api.of(key).watch("Job", resourceVersion=api.rv()) as watch:
        controller.send_signal(signal.SIGSTOP)
        try:
            assert watch.rest() == []
        finally:
            controller.send_signal(signal.SIGCONT)
    assert is_refused(api, key)


def test_other_changes_of_a_key_end_nothing(api: Api) -> None:
    key = api.issue_key("k", "viewer")
    with api.of(key).watch("Workflow", resourceVersion=api.rv()) as watch:
        api.changed("ApiKey", "k", {"spec": {"description": "for the auditors"}, "metadata": {"labels": {"a": "b"}}})
        api.changed("ApiKey", "k", {"spec": {"expiresAt": in_seconds(600)}})
        api.create("Workflow", "w")
        assert watch.take(1) == [("ADDED", "w")]


def test_a_key_that_exists_twice_is_good_as_long_as_one_of_them_is(api: Api) -> None:
    hashed = "sha256:" + hashlib.sha256(b"the same key").hexdigest()
    for name in ("one", "two"):
        made = api.call(
            "POST", api.path("ApiKey"), {"metadata": {"name": name}, "spec": {"role": "viewer", "hash": hashed}}
        )
        assert made.status_code in (201, 409, 422), made.text
    api.delete("ApiKey", "two")
    assert api.call("GET", api.path("Robot"), key="the same key").status_code == 200


def test_a_robots_key_ends_with_its_revocation_also_for_reports(api: Api, robot: Callable[..., Robot]) -> None:
    rob = robot()
    rob.report()
    api.changed("ApiKey", rob.name, {"spec": {"revoked": True}})
    until(lambda: rob.api.call("POST", rob.path, {}).status_code == 401, "its reports are refused")


def test_a_key_of_role_robot_names_its_robot(api: Api) -> None:
    body = {"metadata": {"name": "k"}, "spec": {"role": "robot"}}
    assert "spec.robotName: Required value" in message(api.call("POST", api.path("ApiKey"), body), 422)
