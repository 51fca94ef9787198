"""A request with any head, path, method and options is answered, or hung up on.

No answer is a 500, and (checked when the shared server stops) no traceback is in its log.
"""

from __future__ import annotations

import contextlib
import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .conftest import MANY, Api, answered, dumps, is_status, sample


def test_the_head_of_a_request_is_bounded(api: Api) -> None:
    """An endless path or header ends the connection before it fills the memory."""
    for head in (b"GET /" + b"a" * 2_000_000, b"GET / HTTP/1.1\r\nhost: " + b"a" * 2_000_000):
        with socket.create_connection(("127.0.0.1", api.server.port), timeout=20) as connection:
            answer = b""
            try:
                connection.sendall(head)
                while data := connection.recv(4096):
                    answer += data
            except ConnectionError:
                pass
            assert answer == b"" or b" 400 " in answer.splitlines()[0]


def ends(connection: socket.socket) -> bool:
    """Whether the server ends the connection, once it has sent what it had to say."""
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


CHUNKED = b"POST /api/v1/namespaces HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "piece"),
    [(b"0\r\n", b"a000001: b\r\n"), (b"0\r\na: ", b"b" * 10), (b"5;a=", b"b" * 10)],
    ids=["trailers", "a trailer", "an extension"],
)
def test_what_surrounds_a_body_is_bounded(api: Api, begin: bytes, piece: bytes) -> None:
    """Nobody reads trailers and extensions, with a key or without."""
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(CHUNKED + begin)
            for _ in range(20):
                connection.sendall(piece * 10_000)
        assert ends(connection)


def test_a_body_in_many_small_chunks_is_taken(api: Api) -> None:
    """Their frames are longer than a head may be."""
    body = dumps(sample("Workflow", "w", annotations={"a": "x" * 100_000}))
    pieces = (body[start : start + 5] for start in range(0, len(body), 5))
    assert api.call("POST", api.path("Workflow"), content=pieces).status_code == 201
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body.replace(b'"w"', b'"v"'))
    head = f"POST {api.path('Workflow')} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nx-api-key: {api.key}\r\n"
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"connection: close\r\n\r\n" + chunks + b"0\r\nx-api-key: other\r\n\r\n")
        assert connection.recv(65536).split(b" ")[1] == b"201"


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [b"GET / HTTP/1.1\r\nhost: x\r\n"],
        [b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n"],
        [b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"GET / HT"],
        [b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET / HT"],
        [CHUNKED, b"5\r\nab"],
    ],
)
def test_who_sends_no_whole_head_is_hung_up_on(api: Api, pieces: list[bytes]) -> None:
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=10) as connection:
        for number, piece in enumerate(pieces):
            if number:
                assert connection.recv(65536), "the request before is answered"
            connection.sendall(piece)
        assert ends(connection)


def test_a_head_that_comes_in_pieces_is_taken(api: Api) -> None:
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=10) as connection:
        for _ in range(2):
            for piece in (b"GET /hea", b"lthz HTTP/1.1\r\nho", b"st: x\r\n\r\n"):
                connection.sendall(piece)
            answer = b""
            while not answer.endswith(b"\r\n\r\nok"):
                answer += connection.recv(65536)


def test_a_body_that_does_not_come_is_not_waited_for(api: Api) -> None:
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=20) as connection:
        head = f"host: x\r\nauthorization: Bearer {api.key}\r\ncontent-length: 100\r\n"
        connection.sendall(f"POST {api.path('Robot')} HTTP/1.1\r\n{head}\r\n{{".encode())
        answer = b""
        while b"did not come" not in answer and (part := connection.recv(65536)):  # head and body may come apart
            answer += part
    assert answer.split(b" ")[1] == b"408" and b"did not come within 2 seconds" in answer


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 100,
        b"POST /apis HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /api/v1/namespaces HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
def test_what_is_no_http_is_hung_up_on(api: Api, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=20) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(4096):
                pass
        except ConnectionError:
            pass


PATCHES = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"


@pytest.mark.parametrize(
    ("method", "type_", "allowed"),
    [
        ("POST", "text/plain", "application/json, application/yaml"),
        ("PUT", "application/xml", "application/json, application/yaml"),
        ("PATCH", "application/json", PATCHES),
        ("PATCH", "application/strategic-merge-patch+json", PATCHES),
        ("PATCH", "", PATCHES),
    ],
)
def test_other_media_types_are_refused_with_those_there_are(api: Api, method: str, type_: str, allowed: str) -> None:
    path = api.path("Workflow", None if method == "POST" else "w")
    answer = api.call(method, path, content=b"{}", headers={"content-type": type_})
    assert is_status(answer, 415, "UnsupportedMediaType")
    assert answer.json()["message"].endswith(f"accepted media types include: {allowed}")


def test_a_body_without_a_media_type_is_json(api: Api) -> None:
    assert api.call("POST", api.path("Workflow"), content=dumps(sample("Workflow", "w"))).status_code == 201


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "MKCOL", "PROPFIND"])
def test_other_methods_are_refused(api: Api, method: str) -> None:
    for path in (api.path("Workflow"), api.path("Workflow", "w"), api.path("Workflow", "w", "status")):
        assert is_status(api.call(method, path), 405, "MethodNotAllowed")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "robots/x"),
        ("PUT", "robots"),
        ("PATCH", "robots"),
        ("POST", "robots/x/status"),
        ("DELETE", "robots/x/status"),
        ("GET", "robots/x/report"),
        ("PUT", "jobs/x/log"),
        ("GET", "apikeys/x/token"),
        ("GET", "apikeys/x/rotate"),
        ("DELETE", "workflows/x/revisions/y"),
        ("POST", "blobs/x"),
        ("GET", "blobs"),
        ("DELETE", "blobs/x"),
    ],
)
def test_what_a_route_can_not_do_is_refused(api: Api, method: str, path: str) -> None:
    assert is_status(api.call(method, f"/apis/fleet.casare.net/v1/namespaces/{api.namespace}/{path}"), 405)


@pytest.mark.parametrize(
    "path",
    [
        "/apis/fleet.casare.net/v1/namespaces/{ns}/frobs",
        "/apis/fleet.casare.net/v1/namespaces/{ns}/robots/x/frob",
        "/apis/fleet.casare.net/v1/namespaces/{ns}/robots/x/status/y",
        "/apis/fleet.casare.net/v1/namespaces/{ns}/jobs/x/log/1",
        "/apis/fleet.casare.net/v1/namespaces//robots",
        "/apis/fleet.casare.net/v1/namespaces/{ns}//robots",
        "/apis/fleet.casare.net/v1/namespaces/{ns}/robots/x/y/z/w",
        "/apis/fleet.casare.net/v2/robots",
        "/apis/nobody.example.com",
        "/nope",
        "/api/v1/namespaces/{ns}/namespaces/x",
        "/api/v1/namespaces/{ns}/events/x/status",
        "/api/v1/pods",
        "/apis/fleet.casare.net/v1/namespaces/{ns}/workflows/x/revisions",
    ],
)
def test_paths_that_there_are_not_are_not_found(api: Api, path: str) -> None:
    answer = api.call("GET", path.format(ns=api.namespace))
    if answer.headers["content-type"].startswith("text/plain"):  # below /apis, as Kubernetes has it
        assert (answer.status_code, answer.text) == (404, "404 page not found\n")
    else:
        assert is_status(answer, 404, "NotFound")


@pytest.mark.parametrize(
    "name",
    [
        "%00",
        "a%00b",
        "%2e%2e",
        "..%2f..%2fetc",
        "%ff%fe",
        "a%0d%0aX-Evil:1",
        "%252e",
        "%F0%9F%A4%96",
        "x" * 5000,
        "'; DROP TABLE robots; --",
        "%25",
        "a b",
        "a%2Fstatus",
    ],
)
def test_weird_names_are_looked_up_or_refused_and_never_believed(api: Api, name: str) -> None:
    root = f"/apis/fleet.casare.net/v1/namespaces/{api.namespace}"
    for path in (
        f"{root}/robots/{name}",
        f"{root}/robots/{name}/status",
        f"/api/v1/namespaces/{name}",
        f"/apis/fleet.casare.net/v1/namespaces/{name}/robots/x",
        f"{root}/workflows/w/revisions/{name}",
        f"{root}/jobs/{name}/log",
        f"{root}/blobs/{name}",
    ):
        assert answered(api.call("GET", path)) in (400, 404)
    keys = [(f"{root}/apikeys/{name}/{word}", {}) for word in ("token", "rotate")]
    for path, body in ((f"{root}/robots/{name}/report", {}), *keys):
        assert answered(api.call("POST", path, body)) in (400, 404, 405)
    for method, media in (("PUT", "application/json"), ("PATCH", "application/merge-patch+json"), ("DELETE", "")):
        answer = api.call(method, f"{root}/robots/{name}", content=b"{}", headers={"content-type": media})
        assert answered(answer) in (400, 404, 405, 422)
    answer = api.call("GET", f"/apis/fleet.casare.net/v1/namespaces/{name}/robots")
    assert answered(answer) in (200, 400, 404) and "x-evil" not in answer.headers


@MANY
@given(
    query=st.dictionaries(
        st.sampled_from(
            [
                "labelSelector",
                "fieldSelector",
                "limit",
                "continue",
                "resourceVersion",
                "resourceVersionMatch",
                "timeoutSeconds",
                "allowWatchBookmarks",
                "sendInitialEvents",
                "dryRun",
                "fieldValidation",
                "pretty",
                "propagationPolicy",
                "attempt",
                "follow",
                "watch",
            ]
        ),
        st.text(max_size=12)
        | st.integers().map(str)
        | st.just("9" * 5000)
        | st.sampled_from(
            [
                "true",
                "All",
                "Strict",
                "a=b",
                "a in (b)",
                "status.phase=x",
                "metadata.name=\x00",
                "a>1",
                "%",
                "&=",
                "\ud800"[:0],
            ]
        ),
        max_size=4,
    )
)
def test_any_options_at_all_are_answered(api: Api, query: dict[str, str]) -> None:
    query.pop("watch", None)
    answered(api.call("GET", api.path("Robot"), params=query))
    answered(api.call("POST", api.path("Robot"), {"metadata": {"generateName": "r-"}}, params=query))
    answered(api.call("DELETE", api.path("Robot", "nobody"), params=query))
    answered(api.call("GET", api.path("Job", "nobody", "log"), params=query))
    answered(api.call("GET", api.path("Robot"), params={**query, "watch": "true", "resourceVersion": "999999999999"}))


@pytest.mark.parametrize(
    "raw", ["%", "%zz", "a=%ff&limit=%c3%28", "limit=1&limit=2", "&&&=&=", "limit", "\\", "x" * 20_000]
)
def test_any_query_string_at_all_is_answered(api: Api, raw: str) -> None:
    with socket.create_connection(("127.0.0.1", api.server.port), timeout=20) as connection:
        head = f"host: x\r\nauthorization: Bearer {api.key}\r\nconnection: close\r\n"
        connection.sendall(f"GET {api.path('Robot')}?{raw} HTTP/1.1\r\n{head}\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    assert answer.split(b" ")[1] in (b"200", b"400")


def test_json_of_an_answer_is_one_line(api: Api) -> None:
    text = api.call("GET", api.path("Robot")).text
    assert text.endswith("\n") and text.count("\n") == 1 and json.loads(text)
