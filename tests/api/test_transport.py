"""What may a connection do to a server? Over which TLS it comes, how slow or many it may be, what every answer says."""

from __future__ import annotations

import contextlib
import http.client
import re
import secrets
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from casare_store import embedded

from ..conftest import Server, drop_database, free_port, new_database, until
from .conftest import Api, Robot, is_status

MOST_CONNECTIONS = 30
REFUSED = r"(?i)alert|closed \(EOF\)"  # by the server: a client that finds nothing to offer says something else


class Strict(Server):
    """A server with little patience, and limits that a test can reach."""

    @property
    def env(self) -> dict[str, str]:
        return {
            **super().env, "CASARE_HEAD_SECONDS": "1",
            "CASARE_LIMIT_PER_SECOND": "2", "CASARE_LIMIT_REPORTS_PER_SECOND": "2",
            "CASARE_LIMIT_STRANGERS_PER_SECOND": "2", "CASARE_CONNECTIONS_PER_ADDRESS": str(MOST_CONNECTIONS),
        }  # fmt: skip


@pytest.fixture(scope="module")
def strict(postgres: embedded.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strict]:
    found = Strict(new_database(postgres), tmp_path_factory.mktemp("strict"), tls_port=free_port())
    try:
        found.start()
        yield found
    finally:
        found.stop()
        drop_database(postgres, found.database)
    assert "Traceback" not in (found.directory / "apiserver.log").read_text()


@pytest.fixture
def admin(strict: Strict) -> Iterator[Api]:
    found = Api(strict)
    yield found
    found.close()


def trusting(server: Server, **versions: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that trusts the server's authority and would speak anything at all."""
    found = ssl.create_default_context(cafile=str(server.directory / "pki" / "ca.crt"))
    found.set_ciphers("ALL:@SECLEVEL=0")
    for name, version in versions.items():
        setattr(found, f"{name}_version", version)
    return found


@contextlib.contextmanager
def connected(server: Server, context: ssl.SSLContext | None = None) -> Iterator[socket.socket]:
    port = server.tls_port if context else server.port
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        if context is None:
            yield plain
            return
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            yield secure


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_is_refused(strict: Strict, version: ssl.TLSVersion) -> None:
    context = trusting(strict, minimum=version, maximum=version)
    with pytest.raises(ssl.SSLError, match=REFUSED), connected(strict, context):
        pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_new_tls_is_served_with_forward_secrecy(strict: Strict, version: ssl.TLSVersion) -> None:
    with connected(strict, trusting(strict, minimum=version, maximum=version)) as connection:
        assert isinstance(connection, ssl.SSLSocket)
        name, _, bits = connection.cipher() or ("", "", 0)
        assert name.startswith(("ECDHE-", "TLS_")) and bits >= 128 and connection.compression() is None


@pytest.mark.parametrize("weak", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "NULL"])
def test_a_weak_cipher_is_refused(strict: Strict, weak: str) -> None:
    context = trusting(strict, maximum=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"{weak}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=REFUSED), connected(strict, context):
        pass


def test_a_handshake_that_does_not_come_is_cut_off(strict: Strict) -> None:
    with socket.create_connection(("127.0.0.1", strict.tls_port), timeout=20) as connection:
        connection.sendall(b"\x16\x03\x01")  # the beginning of one
        assert ended(connection)


# -- what is slow, or too much (heads and bodies that stall: see test_bad_requests, and unit/test_wire) ------------------------------------


def ended(connection: socket.socket) -> bool:
    """Whether the server ends a connection; waits for that."""
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(65_536):
            pass
    return True


def posting(server: Server, length: int) -> bytes:
    return (
        f"POST /api/v1/namespaces HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {server.admin_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


def test_a_body_that_is_too_large_is_refused_before_it_comes(strict: Strict) -> None:
    with connected(strict) as connection:
        connection.sendall(posting(strict, 4 * 1024 * 1024))
        assert b" 413 " in connection.recv(65_536)


def test_one_address_can_not_hold_all_connections(strict: Strict, admin: Api) -> None:
    admin.list("Namespace")
    held: list[socket.socket] = []
    try:
        held = [socket.create_connection(("127.0.0.1", strict.port), timeout=20) for _ in range(MOST_CONNECTIONS + 5)]
        cut = [connection for connection in held if is_cut(connection)]
        assert 5 <= len(cut) <= 10
        assert admin.list("Namespace")  # whoever is in stays in
    finally:
        for connection in held:
            connection.close()
    until(lambda: is_served(strict), "the address gets in again")


def is_cut(connection: socket.socket) -> bool:
    """Whether a connection was ended without a word; one that is served answers, or waits for a head."""
    try:
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        return connection.recv(65_536) == b""
    except ConnectionError:
        return True


def is_served(server: Server) -> bool:
    with contextlib.suppress(OSError), connected(server) as connection:
        return not is_cut(connection)
    return False


# -- limits of callers -----------------------------------------------------------------------------------------------


def loud(api: Api, path: str, **more: Any) -> Any:
    """The first answer that is no 200 of someone who asks as fast as he can."""
    for _ in range(200):
        answer = api.call("GET", path, **more)
        if answer.status_code != 200:
            return answer
    pytest.fail("nobody stopped him")


def test_a_loud_caller_is_told_when_to_come_back_and_nobody_else_is(admin: Api) -> None:
    robot = Robot(admin, f"rob-{secrets.token_hex(3)}")
    ann, bob = (admin.of(admin.issue_key(f"{name}-{secrets.token_hex(3)}", "viewer")) for name in ("ann", "bob"))
    told = loud(ann, ann.path("Robot"))
    assert is_status(told, 429, "TooManyRequests") and int(told.headers["retry-after"]) >= 1
    assert re.search(r'"ann-\w+" asks more than 2 times a second: try again in \d+ s', told.json()["message"])
    assert bob.call("GET", bob.path("Robot")).status_code == 200
    assert robot.report()["jobs"] == []
    assert admin.list("Robot")  # the admin key has no limit
    until(lambda: ann.call("GET", ann.path("Robot")).status_code == 200, "she gets in again")
    own = admin.path("Robot", robot.name)
    assert is_status(loud(robot.api, own), 429)  # a robot that asks too much goes on reporting
    assert robot.report()["jobs"] == []
    for one in (ann, bob, robot.api):
        one.close()


def test_whoever_tries_keys_is_slowed_down_by_address_and_good_keys_are_not(admin: Api) -> None:
    ann = admin.of(admin.issue_key(f"ann-{secrets.token_hex(3)}", "viewer"))
    codes = {admin.call("GET", ann.path("Robot"), key=f"crpa_{number}").status_code for number in range(30)}
    assert codes == {401, 429}
    assert is_status(admin.call("GET", ann.path("Robot"), key="crpa_one_more"), 429)
    assert admin.http.get("/openapi.json").status_code == 429 and admin.http.get("/healthz").status_code == 200
    assert ann.call("GET", ann.path("Robot")).status_code == 200
    ann.close()


# -- headers ---------------------------------------------------------------------------------------------------------

ALWAYS = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer"}


def ask(server: Server, path: str, secure: bool = False, method: str = "GET") -> http.client.HTTPResponse:
    """One answer, with all its headers."""
    if secure:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "localhost", server.tls_port, timeout=20, context=trusting(server)
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(method, path, headers={"authorization": f"Bearer {server.admin_key}"})
    answer = connection.getresponse()
    connection.close()
    return answer


ANSWERS = {
    "/healthz": 200, "/version": 200, "/docs": 200, "/redoc": 200, "/metrics": 200, "/nowhere": 404,
    "/api": 200, "/apis/fleet.casare.net/v1/robots": 200, "/apis/fleet.casare.net/v1/robots?watch=true": 200,
    "/apis/fleet.casare.net/v1/namespaces/default/robots/nobody": 404, "/apis/fleet.casare.net/v1/audit": 200,
    "/apis/fleet.casare.net/v1/namespaces/default/jobs/nobody/log": 404, "/openapi/v3": 200,
}  # fmt: skip


@pytest.mark.parametrize("path", ANSWERS)
def test_every_answer_says_what_a_browser_must_not_do_with_it(shared: Server, path: str) -> None:
    answer = ask(shared, path)
    assert answer.status == ANSWERS[path]
    assert {name: answer.headers.get_all(name) for name in ALWAYS} == {name: [value] for name, value in ALWAYS.items()}
    for once in ("cache-control", "audit-id", "content-security-policy"):
        assert len(answer.headers.get_all(once) or ()) == 1, once
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy and policy.startswith("default-src 'none';")
    assert ("script-src" in policy) == (path in ("/docs", "/redoc"))
    assert answer.headers["strict-transport-security"] is None


def test_over_tls_browsers_are_told_to_stay_there(strict: Strict) -> None:
    for path in ("/healthz", "/apis/fleet.casare.net/v1/robots", "/apis/fleet.casare.net/v1/nowhere"):
        assert ask(strict, path, secure=True).headers["strict-transport-security"] == "max-age=86400"


def test_what_is_no_http_is_answered_with_the_same_headers(shared: Server) -> None:
    with connected(shared) as connection:
        connection.sendall(b"HELO there\r\n\r\n")
        answer = connection.recv(65_536).lower()
    assert b" 400 " in answer and all(f"{name}: {value}".lower().encode() in answer for name, value in ALWAYS.items())


def test_the_certificates_key_is_for_its_owner_alone(strict: Strict) -> None:
    place = Path(strict.directory / "pki")
    assert {(place / name).stat().st_mode & 0o077 for name in ("ca.key", "server.key")} == {0}


# -- refused attempts in the audit log -----------------------------------------------------------------------------------


def refusals(admin: Api, name: str) -> list[dict[str, Any]]:
    """What the audit log says of refused attempts to reach a robot of this name."""
    found = admin.call("GET", "/apis/fleet.casare.net/v1/audit", params={"limit": "1000"}).json()["items"]
    return [row for row in found if row["effect"] == "refused" and row.get("name") == name]


def test_refused_attempts_are_told_once_and_counted(admin: Api, strict: Strict) -> None:
    name, secret = f"r-{secrets.token_hex(3)}", "crpa_" + secrets.token_hex(20)
    eve = admin.of(admin.issue_key(f"eve-{name}", "viewer"))
    codes = [eve.call("DELETE", admin.path("Robot", name)).status_code for _ in range(30)]
    until(lambda: admin.call("GET", admin.path("Robot", name), key=secret).status_code == 401, "his bucket has one left")
    until(lambda: len({row["actor"] for row in refusals(admin, name)}) == 2, "both are written")
    told = {(row["actor"], row["code"], row["verb"], row["kind"]) for row in refusals(admin, name)}
    assert told == {(f"eve-{name}", 403, "delete", "Robot"), ("system:unknown", 401, "get", "Robot")}
    eves = [row for row in refusals(admin, name) if row["code"] == 403]
    assert len(eves) <= 2 and sum(row["count"] for row in eves) <= codes.count(403) < 30
    assert (eves[0]["from"], eves[0]["role"]) == ("127.0.0.1", "viewer") and eves[0]["keyUID"]
    with psycopg.connect(strict.database) as connection:
        text = "\n".join(str(row) for row in connection.execute("SELECT audit::text FROM audit"))
    assert secret not in text and eve.key not in text and strict.admin_key not in text
    eve.close()
